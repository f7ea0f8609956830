#!/usr/bin/env bash
# Installs what the tests need and is missing, then runs all of them: formatting, lints, unit and property tests, memcheck on the
# unsafe code, the scripts' own tests under tclsh and torhost, and a system deployed with scripts/deploy.sh.
#
# Usage: scripts/test.sh [STEP]...     only these steps: fmt lint unit memcheck scripts mixed deployed
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
scripts/install-deps.sh strace tcl-thread tcl-tls tcllib valgrind
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

step_fmt() {
    cargo fmt --all --check
}

step_lint() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
}

step_unit() {
    cargo test --workspace --locked --quiet
}

step_memcheck() {
    scripts/valgrind.sh
}

# The program as users have it. The tests of scripts start every node with it, or with tclsh.
torhost() {
    cargo build --release --locked --package torhost
    torhost=$PWD/target/release/torhost
}

step_scripts() {
    torhost
    tclsh tests/scripts/all.tcl
    "$torhost" tests/scripts/all.tcl
    # The coordinator in Rust, and workers on it, are held to the same tests.
    TOR_COORDINATOR=tests/scripts/hosted.tor TOR_SHELL_COORDINATOR=$torhost tclsh tests/scripts/all.tcl
    TOR_COORDINATOR=tests/scripts/hosted.tor TOR_WORKERS=nodes "$torhost" tests/scripts/all.tcl -file "system.test worker.test hosted.test"
}

step_mixed() {
    torhost
    TOR_SHELL_COORDINATOR=$torhost TOR_SHELL_WORKER=tclsh tclsh tests/scripts/all.tcl
    TOR_SHELL_COORDINATOR=tclsh TOR_SHELL_WORKER=$torhost tclsh tests/scripts/all.tcl
    TOR_WORKERS=nodes TOR_SHELL_WORKER=$torhost tclsh tests/scripts/all.tcl -file "system.test worker.test hosted.test"
}

step_deployed() {
    torhost
    tclsh tests/deployed/all.tcl
}

steps=("$@")
((${#steps[@]})) || steps=(fmt lint unit memcheck scripts mixed deployed)
for step in "${steps[@]}"; do
    declare -F "step_$step" >/dev/null || { echo "test.sh: there is no step \"$step\"" >&2; exit 2; }
done
for step in "${steps[@]}"; do
    echo "== $step"
    started=$SECONDS
    "step_$step"
    echo "== $step passed in $((SECONDS - started)) s"
done
echo "All steps passed."
