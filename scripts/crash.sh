#!/usr/bin/env bash
# Kills coordinator and workers at random moments, a hundred times, while a client submits, and sees that no accepted job is lost.
#
# Usage: scripts/crash.sh [ROUNDS [SEED]]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
scripts/install-deps.sh
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
export CRASH_ROUNDS=${1:-100} CRASH_SEED=${2:-$RANDOM}
exec cargo test --release --locked --package torhost --test crash -- --nocapture
