#!/usr/bin/env bash
# Builds torhost and the benchmark in release mode, and compares torhost with tclsh under the unmodified classic
# coordinator. Options are passed on: see --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v tclsh >/dev/null || { echo "bench-classic: no tclsh: install the package tcl" >&2; exit 2; }
cargo build --quiet --release -p torhost -p torhost-benches
target=${CARGO_TARGET_DIR:-target}
exec "$target/release/classic" --torhost "$target/release/torhost" "$@"
