#!/usr/bin/env bash
# Runs Tcl's own test suite under tclsh and under torhost, and prints every test that differs.
#
# The suite is the `tests` directory of Debian's source package of the installed Tcl 8.6, so that the
# tests fit the library. Each test file has a process, a temporary directory and a HOME of its own, and the same
# environment under both shells, as `all.tcl` would run it without -singleproc. The files that differ are run again,
# up to twice: a difference that vanishes, or a test that tclsh itself does not decide the same way twice, is flaky.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/tcl-suite.sh [options]

  --shell PATH      the shell compared with tclsh    (default: target/release/torhost)
  --files "A B …"   only these test files            (default: all; `socket` means socket.test)
  --jobs N          files run at the same time       (default: the number of processors)
  --timeout SECONDS limit for one file in one shell  (default: 300)
  --report FILE     write the comparison as Markdown
  --keep DIR        leave the output of every run in DIR
  --fetch-only      fetch the suite, print where it is, run nothing

exit code: 0 no test that passes under tclsh fails under the other shell; 1 some do; 2 it could not be run
USAGE
}

die() { echo "tcl-suite: $*" >&2; exit 2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
shell=$root/target/release/torhost
jobs=$(nproc) limit=300 files='' report='' keep='' fetch_only=false
while (($#)); do
    case $1 in
        --fetch-only) fetch_only=true; shift; continue ;;
        -h | --help) usage; exit 0 ;;
        --shell | --files | --jobs | --timeout | --report | --keep) (($# > 1)) || die "$1 needs a value" ;;
        *) usage >&2; die "unknown option $1" ;;
    esac
    case $1 in
        --shell) shell=$2 ;;
        --files) files=$2 ;;
        --jobs) jobs=$2 ;;
        --timeout) limit=$2 ;;
        --report) report=$2 ;;
        --keep) keep=$2 ;;
    esac
    shift 2
done

# ---- what must be there ------------------------------------------------------------------------------------

install_packages() {
    local sudo=()
    ((EUID == 0)) || sudo=(sudo)
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -q "$@" >&2 ||
        die "cannot install $*; install it by hand"
}

command -v apt-get >/dev/null || die "this script needs Debian or Ubuntu: it takes the suite from the source package"
command -v tclsh8.6 >/dev/null || install_packages tcl8.6
reference=$(command -v tclsh8.6)

# Fetches the source package of the installed libtcl into the cache, once, and sets `suite` to its tests.
fetch_suite() {
    local version cache work
    version=$(dpkg-query -W -f '${source:Version}' libtcl8.6)
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/torhost/tcl8.6-$version
    suite=$cache/tests
    [[ -f $suite/all.tcl ]] && return

    command -v dpkg-source >/dev/null || install_packages dpkg-dev
    mkdir -p "$(dirname "$cache")"
    work=$(mktemp -d "$cache.XXXXXX")
    mkdir -p "$work/parts" "$work/lists/partial"

    # The machine's own package sources, asked for source packages, in a configuration of our own: the machine's is left
    # alone.
    local source
    for source in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -f $source ]] || continue
        sed -n 's/^deb\(-src\)\?\([[:space:]]\)/deb-src\2/p' "$source" | sort -u >>"$work/parts/torhost.list"
    done
    for source in /etc/apt/sources.list.d/*.sources; do
        [[ -f $source ]] || continue
        sed 's/^Types:.*/Types: deb-src/' "$source" >"$work/parts/$(basename "$source")"
    done
    local apt=(apt-get -q -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$work/parts"
        -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root)

    echo "tcl-suite: fetching the source package tcl8.6 $version" >&2
    (
        cd "$work"
        "${apt[@]}" update >&2
        "${apt[@]}" source --download-only "tcl8.6=$version" >&2
        dpkg-source --no-check -x ./*.dsc unpacked >&2
    ) || die "cannot fetch the source package tcl8.6 $version from this machine's package sources; left in $work"
    rm -rf "$work/lists" "$work/parts"
    rm -rf "$cache"
    mv "$work/unpacked" "$cache"
    rm -rf "$work"
}

# Builds the commands with which Tcl tests its own insides (`testchannel`, `testevent` and many more) as a package, since
# only Tcl's own build has a shell with them; without them a fifth of the suite would be skipped.
build_test_commands() {
    local source config
    source=$(dirname "$suite")
    commands=$source/test-commands
    [[ -f $commands/pkgIndex.tcl ]] && return
    command -v gcc >/dev/null || install_packages gcc libc6-dev
    config=/usr/lib/$(gcc -print-multiarch)/tcl8.6/tclConfig.sh
    [[ -f $config ]] || install_packages tcl8.6-dev
    mkdir -p "$commands"
    (
        # shellcheck source=/dev/null
        . "$config"
        # The settings are quoted for a shell to read once more.
        eval gcc -shared -fPIC -O1 -w "$TCL_DEFS" -DUSE_TCL_STUBS '-I"$source"/{generic,unix,libtommath}' \
            '"$source"/generic/tcl{Test,TestObj,TestProcBodyObj,ThreadTest}.c "$source"/unix/tclUnixTest.c' \
            "$TCL_STUB_LIB_SPEC" '-o "$commands/libTcltest.so"'
    ) || die "cannot build Tcl's test commands from $source"
    echo 'package ifneeded Tcltest [info patchlevel] [list load [file join $dir libTcltest.so] Tcltest]' \
        >"$commands/pkgIndex.tcl"
}

fetch_suite
build_test_commands
if $fetch_only; then
    echo "$suite"
    exit 0
fi
[[ -x $shell ]] || die "no executable $shell: build it with \`cargo build --release -p torhost\`, or name it with --shell"
shell=$(realpath "$shell")
# thread.test is skipped without it.
echo 'package require Thread' | "$reference" >/dev/null 2>&1 || install_packages tcl-thread

# ---- running -----------------------------------------------------------------------------------------------

if [[ -n $keep ]]; then
    mkdir -p "$keep"
    out=$(realpath "$keep")
else
    out=$(mktemp -d)
    trap 'chmod -R u+rwx "$out" 2>/dev/null; rm -rf "$out"' EXIT
fi

# Runs one test file under one shell. The log ends in a line that tells the exit code.
#   $1 shell  $2 directory for the log and the file's temporary files  $3 test file name
run_file() {
    local program=$1 dir=$2 file=$3 code=0
    local tmp=$dir/tmp-$file
    mkdir -p "$tmp/home" "$tmp/work"
    (
        cd "$tmp/work"
        env -i PATH="$PATH" HOME="$tmp/home" TMPDIR="$tmp" LANG=C.UTF-8 TCLLIBPATH="$commands" \
            timeout --kill-after=5 "$limit" "$program" "$dir/tests/$file" \
            -verbose "pass skip start body error" </dev/null >"$dir/$file.log" 2>&1
    ) || code=$?
    printf '\n@@@@ exit %d\n' "$code" >>"$dir/$file.log"
    chmod -R u+rwx "$tmp" 2>/dev/null || true
    rm -rf "$tmp"
}

# Runs one file under both shells, one after the other: some tests use a port of their own.
#   $1 directory of this round  $2 test file name
compare_file() {
    run_file "$reference" "$1/tclsh" "$2"
    run_file "$shell" "$1/torhost" "$2"
    echo "  $2" >&2
}
export -f run_file compare_file
export reference shell limit commands

# Runs the files named on standard input, in a fresh copy of the suite for each shell.
run_round() {
    local dir=$out/round$1
    rm -rf "$dir"
    mkdir -p "$dir"/{tclsh,torhost}
    cp -r "$suite" "$dir/tclsh/tests"
    cp -r "$suite" "$dir/torhost/tests"
    xargs -P "$jobs" -I{} bash -c 'compare_file "$1" "$2"' _ "$dir" {}
    rm -rf "$dir"/{tclsh,torhost}/tests
}

if [[ -z $files ]]; then
    files=$(cd "$suite" && echo *.test)
fi
names=()
for name in $files; do
    name=${name%.test}.test
    [[ -f $suite/$name ]] || die "no test file $name in $suite"
    names+=("$name")
done

rm -rf "$out"/round{1,2,3}
for round in 1 2 3; do
    echo "tcl-suite: round $round, ${#names[@]} files" >&2
    printf '%s\n' "${names[@]}" | run_round "$round"
    mapfile -t names < <("$reference" "$here/tcl-suite/compare.tcl" "$out" --differing "$round")
    ((${#names[@]})) || break
done

"$reference" "$here/tcl-suite/compare.tcl" "$out" ${report:+--report "$report"}
