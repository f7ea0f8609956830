#!/usr/bin/env bash
# Lets each operation of a coordinator on its journal's files fail, and takes its power after each, and sees that what was told holds. Some
# minutes; `cargo test` tries a part of it.
#
# Usage: scripts/storage.sh [SEED]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
scripts/install-deps.sh strace
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
export STORAGE_ALL=1 STORAGE_SEED=${1:-$RANDOM}
echo "seed $STORAGE_SEED"
exec cargo test --release --locked --package torhost --test storage -- --nocapture
