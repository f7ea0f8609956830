#!/usr/bin/env bash
# Installs beanstalkd and gearmand, builds torhost and the benchmark in release mode, and compares them under one load. Nothing
# that runs already is touched: all programs are started on free ports. Options are passed on: see --help.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
scripts/install-deps.sh beanstalkd gearman-job-server
# Where Debian puts servers.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin"

cargo build --quiet --release --locked -p torhost -p torhost-benches
target=${CARGO_TARGET_DIR:-target}
exec "$target/release/peers" --torhost "$target/release/torhost" "$@"
