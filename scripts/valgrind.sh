#!/usr/bin/env bash
# Runs the tests of runtime/tcl, the crate with the unsafe code, under valgrind's memcheck: no invalid access, no use of what
# was never written, and no definite leak.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-deps.sh valgrind tcl-thread

# Properties are about values, not about memory: a few cases each are enough here.
export PROPTEST_CASES="${PROPTEST_CASES:-8}"
export RUST_BACKTRACE=0
mapfile -t programs < <(cargo test --package torhost-tcl --tests --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
[ "${#programs[@]}" -ge 3 ] || { echo "valgrind.sh: expected at least 3 test programs, found ${#programs[@]}" >&2; exit 1; }
for program in "${programs[@]}"; do
    echo "memcheck: ${program##*/}"
    # A forked child leaves without cleaning up, so only what the parent does is of interest.
    valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
        --child-silent-after-fork=yes --fair-sched=yes "$program" --test-threads=1 "$@"
done
