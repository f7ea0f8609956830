#!/usr/bin/env bash
# Builds torhost and starts the system of config/system.top on this machine, installing first what is missing.
# Works from any directory, and is safe to run again: a system that runs is left as it is.
#
# Usage: scripts/deploy.sh [TOPOLOGY]
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
topology=${1:-$root/config/system.top}

"$root/scripts/install-deps.sh"
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
# In the project's folder, where rust-toolchain.toml names the compiler.
(cd -- "$root" && cargo build --release --locked -p torhost)

# From where the user is, so that the commands it prints can be copied: the processes, their logs, how to start a client and how to
# stop.
exec "${CARGO_TARGET_DIR:-$root/target}/release/torhost" up --detach "$topology"
