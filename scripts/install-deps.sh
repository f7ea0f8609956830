#!/usr/bin/env bash
# Installs what building and running torhost needs and is missing: on Debian and Ubuntu by itself, elsewhere it says what.
#
# Usage: scripts/install-deps.sh [PACKAGE]...     further packages, by their Debian names, are installed with the rest
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# libclang reads Tcl's headers, gcc links, tclsh runs the client.
needed=(build-essential ca-certificates libc6-dev libclang-dev pkg-config tcl tcl-dev "$@")
rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$here/Cargo.toml")

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    missing=()
    for tool in cc pkg-config tclsh cargo; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    pkg-config --exists tcl 2>/dev/null || missing+=("Tcl 8.6 headers")
    if ((${#missing[@]})); then
        echo "Missing here: ${missing[*]}." >&2
        echo "Install a C compiler, pkg-config, Tcl 8.6 with its headers, libclang, and Rust $rust or newer" >&2
        echo "(https://rustup.rs), then run this again." >&2
        exit 1
    fi
else
    is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }
    as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }
    missing=()
    for package in "${needed[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    # Debian's own rustup, when there is no cargo at all; a cargo that is there is left as it is.
    command -v cargo >/dev/null || [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]] || missing+=(rustup)
    if ((${#missing[@]})); then
        if ((EUID != 0)) && ! command -v sudo >/dev/null; then
            echo "Missing here: ${missing[*]}. Install them as root: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        echo "Installing ${missing[*]}"
        as_root apt-get update -q
        if [[ " ${missing[*]} " == *" rustup "* && -z $(apt-cache search --names-only '^rustup$') ]]; then
            echo "This system has no package rustup: install Rust $rust or newer from https://rustup.rs, then run this again." >&2
            exit 1
        fi
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    fi
fi

export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
# In the project's folder, where rust-toolchain.toml has rustup fetch the toolchain that it names.
have=$(cd "$here" && cargo --version | sed 's/^cargo \([0-9.]*\).*/\1/')
if [[ $(printf '%s\n' "$rust" "$have" | sort -V | head -n 1) != "$rust" ]]; then
    echo "cargo is $have here, and torhost needs $rust or newer: run \`rustup update\`, or install Rust from https://rustup.rs." >&2
    exit 1
fi
