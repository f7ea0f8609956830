#!/usr/bin/env bash
# Feeds the readers of the line protocol with lines that no one would think of, guided by which code they reach. What breaks
# something is kept in fuzz/artifacts, what reaches new code in fuzz/corpus.
#
# Usage: scripts/fuzz.sh [SECONDS [TARGET]...]     60 seconds for each of: request order lines
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

seconds=${1:-60}
targets=("${@:2}")
((${#targets[@]})) || targets=(request order lines)
[[ $seconds =~ ^[0-9]+$ ]] || { echo "fuzz.sh: expected a number of seconds, not \"$seconds\"" >&2; exit 2; }

missing=()
cargo +nightly --version >/dev/null 2>&1 || missing+=("rustup toolchain install nightly")
cargo fuzz --version >/dev/null 2>&1 || missing+=("cargo install cargo-fuzz --locked")
if ((${#missing[@]})); then
    echo "fuzz.sh: fuzzing needs the nightly compiler and cargo-fuzz. To install what is missing:" >&2
    printf '    %s\n' "${missing[@]}" >&2
    echo "The tests of runtime/protocol try variations of lines too, without either." >&2
    exit 1
fi

# What the tests know is where it begins: a file for each line.
for target in request order; do
    mkdir -p "fuzz/corpus/$target"
    number=0
    while IFS= read -r line; do
        printf '%s' "$line" >"fuzz/corpus/$target/known-$((number += 1))"
    done <"runtime/protocol/tests/${target}s.txt"
done

for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096 -print_final_stats=1
done
