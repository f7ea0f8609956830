#!/usr/bin/env bash
# Builds torhost and starts the system of config/system.top on this machine, installing first what is missing.
# Works from any directory, and is safe to run again: a system that runs is left as it is.
#
# Usage: scripts/deploy.sh [TOPOLOGY]
set -euo pipefail
topology=$(realpath -- "${1:-$(dirname -- "${BASH_SOURCE[0]}")/../config/system.top}")
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

scripts/install-deps.sh
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
cargo build --release --locked -p torhost
torhost=${CARGO_TARGET_DIR:-target}/release/torhost

# Prints the processes, their logs, how to start a client and how to stop.
exec "$torhost" up --detach "$topology"
