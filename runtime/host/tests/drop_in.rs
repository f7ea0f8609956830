//! `torhost` is a drop-in `tclsh`: the same script, arguments, input and environment give the same output, the same error
//! output and the same exit code under both programs.
//!
//! Each case runs under the real `tclsh` first, and names a text that must appear there, so that two equal failures (a
//! package that is not installed, a script with a mistake) do not pass for agreement.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Seconds after which a case that hangs is ended, as an exit code of 124.
const TIME_LIMIT: &str = "60";

/// One thing to run under both shells, in an empty directory.
struct Case {
    arguments: Vec<OsString>,
    files: Vec<(&'static str, Vec<u8>)>,
    input: Vec<u8>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Case {
    /// A case without a script: the arguments are those given.
    fn arguments(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(OsString::from).collect(),
            files: Vec::new(),
            input: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// A script, run as `SHELL script.tcl`.
    fn script(text: impl Into<Vec<u8>>) -> Self {
        Self::arguments(&["script.tcl"]).file("script.tcl", text)
    }

    /// A script on standard input, run as `SHELL`.
    fn standard_input(text: impl Into<Vec<u8>>) -> Self {
        Self::arguments(&[]).input(text)
    }

    fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    fn file(mut self, name: &'static str, text: impl Into<Vec<u8>>) -> Self {
        self.files.push((name, text.into()));
        self
    }

    fn input(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = text.into();
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Runs the case under both shells and compares all that can be seen. `shown` is what tclsh must print, on
    /// either channel.
    #[track_caller]
    fn agrees(&self, shown: &str) {
        let expected = self.run(&tclsh());
        assert!(
            expected.output.contains(shown) || expected.errors.contains(shown),
            "tclsh itself does not show {shown:?} (is the package installed?): {expected:#?}"
        );
        let found = self.run(Path::new(env!("CARGO_BIN_EXE_torhost")));
        assert_eq!(found, expected, "left: torhost, right: tclsh");
    }

    fn run(&self, shell: &Path) -> Outcome {
        let directory = Directory::new();
        for (name, bytes) in &self.files {
            let path = directory.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let mut child = Command::new("timeout")
            .arg(TIME_LIMIT)
            .arg(shell)
            .args(&self.arguments)
            .current_dir(&directory.0)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", &directory.0)
            .env("LANG", "C.UTF-8")
            .envs(self.environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", shell.display()));
        let mut input = child.stdin.take().unwrap();
        let bytes = self.input.clone();
        // A shell that ends without reading its input breaks the pipe, which is its right.
        let writer = thread::spawn(move || drop(input.write_all(&bytes)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Outcome::new(output, shell, &directory.0)
    }
}

/// What a run shows, without the names of the program and of the directory.
#[derive(Debug, PartialEq)]
struct Outcome {
    output: String,
    errors: String,
    status: String,
}

impl Outcome {
    fn new(output: Output, shell: &Path, directory: &Path) -> Self {
        let text = |bytes: Vec<u8>| {
            // Bytes that are no UTF-8 stay visible as escapes.
            let text: String = bytes.utf8_chunks().fold(String::new(), |text, chunk| {
                let escapes: String = chunk
                    .invalid()
                    .iter()
                    .map(|byte| format!("\\x{byte:02x}"))
                    .collect();
                text + chunk.valid() + &escapes
            });
            text.replace(shell.to_str().unwrap(), "SHELL")
                .replace(directory.to_str().unwrap(), "DIRECTORY")
        };
        Self {
            output: text(output.stdout),
            errors: text(output.stderr),
            status: output.status.to_string(),
        }
    }
}

/// An empty directory, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("torhost-drop-in-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left in the temporary directory fails no test.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The tclsh to be compared with.
#[track_caller]
fn tclsh() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = ["tclsh8.6", "tclsh"]
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |directory| directory.join(name)))
        .find(|candidate| candidate.is_file());
    found
        .expect("no tclsh8.6 and no tclsh in PATH: install the package tcl (Debian, Ubuntu) to run this test")
}

/// A list of what a script sees of its own start.
const START: &str = "puts [list $argv0 $argc $argv $tcl_interactive [info script]]\n";

// ---- arguments -----------------------------------------------------------------------------------------------

#[test]
fn arguments_reach_the_script() {
    Case::script(START).agrees("script.tcl 0 {} 0 script.tcl");
    Case::script(START)
        .argument("a b")
        .argument("{")
        .argument("")
        .argument("-encoding")
        .argument("--help")
        .argument("ção 日本")
        .agrees("script.tcl 6");
}

#[test]
fn arguments_that_are_not_utf_8() {
    Case::script("puts $argc; puts [scan [lindex $argv 0] %c%c%c]")
        .argument(OsString::from_vec(vec![b'a', 0xe9, b'z']))
        .agrees("1\n");
}

#[test]
fn a_script_in_another_directory() {
    Case::arguments(&["one/two/script.tcl", "x"])
        .file(
            "one/two/script.tcl",
            format!("{START}source [file join [file dirname [info script]] other.tcl]\n{START}"),
        )
        .file("one/two/other.tcl", "puts [info script]\n")
        .agrees("one/two/other.tcl");
}

#[test]
fn a_script_in_an_encoding() {
    let latin_1 = b"puts [string length \"a\xe7\xe3o\"]; puts \"a\xe7\xe3o\"\n";
    Case::arguments(&["-encoding", "iso8859-1", "script.tcl", "x"])
        .file("script.tcl", *latin_1)
        .agrees("4\nação");
    Case::arguments(&["script.tcl", "x"])
        .file("script.tcl", "puts [string length ação]\n")
        .agrees("4");
    Case::arguments(&["-encoding", "utf-8", "script.tcl"])
        .file("script.tcl", START)
        .agrees("script.tcl 0");
    Case::arguments(&["-encoding", "nonesuch", "script.tcl"])
        .file("script.tcl", START)
        .agrees("unknown encoding");
}

#[test]
fn options_are_the_scripts_own() {
    Case::arguments(&["-x", "y"]).input(START).agrees("2 {-x y} 0");
    Case::arguments(&["-encoding", "utf-8"])
        .input(START)
        .agrees("2 {-encoding utf-8} 0");
    Case::arguments(&["-"]).input(START).agrees("1 - 0");
}

#[test]
fn scripts_that_cannot_be_read() {
    Case::arguments(&["missing.tcl"]).agrees("couldn't read file \"missing.tcl\": no such file or directory");
    Case::arguments(&["."]).agrees("couldn't read file");
}

// ---- standard input ------------------------------------------------------------------------------------------

#[test]
fn a_script_on_standard_input() {
    Case::standard_input(START).agrees("0 {} 0");
    Case::standard_input("set a 1\nputs \"a is\\\n$a\"\nproc p {} {\n  return 7\n}\np\nputs [p]")
        .agrees("a is 1\n7");
    Case::standard_input("puts before\nerror oops\nputs after\n").agrees("after");
    Case::standard_input("puts whole\nputs {broken off\n").agrees("whole");
    Case::standard_input("puts before\nexit 9\nputs after\n").agrees("before");
    Case::standard_input("puts [gets stdin]\nthis is data\nputs done\n").agrees("this is data");
    Case::standard_input("").agrees("");
    Case::standard_input("after 1 {puts later; exit 4}\nvwait forever\n").agrees("later");
}

#[test]
fn a_script_reads_standard_input() {
    Case::script("while {[gets stdin line] >= 0} {puts <$line>}\nputs [eof stdin]")
        .input("a\nb\n\nc")
        .agrees("<c>\n1");
    Case::script(
        "fconfigure stdin -blocking 0\n\
         fileevent stdin readable {if {[gets stdin line] >= 0} {puts <$line>} elseif {[eof stdin]} {set done 1}}\n\
         vwait done\nputs end",
    )
    .input("a\nb\n")
    .agrees("<b>\nend");
    Case::script("fconfigure stdin -translation binary\nputs [binary encode hex [read stdin]]")
        .input(*b"\x00\xff\r\n\x1a")
        .agrees("00ff0d0a1a");
}

// ---- errors and the end --------------------------------------------------------------------------------------

#[test]
fn errors_are_shown_in_full() {
    Case::script(
        "proc a {x} {\n    b $x\n}\nproc b {x} {\n    error \"bad $x\"\n}\nputs start\na 1\nputs never",
    )
    .agrees("(file \"script.tcl\" line 8)");
    Case::script("nonesuch").agrees("invalid command name \"nonesuch\"");
    Case::script("puts {unbalanced").agrees("missing close-brace");
    Case::script("error message \"my own\\n    trace\" {A CODE}").agrees("my own\n    trace");
    Case::script("throw {MY CODE} thrown").agrees("thrown");
    Case::script("error {ação\n日本}").agrees("日本");
    Case::script(
        "namespace eval n {proc p {} {expr {1/0}}}\ninterp create i\ni alias p n::p\ni eval {list [p]}",
    )
    .agrees("divide by zero");
    Case::script("proc f n {f [incr n]}\nf 0").agrees("too many nested evaluations (infinite loop?)");
    Case::arguments(&["script.tcl"])
        .file("script.tcl", "source other.tcl")
        .file("other.tcl", "\n\nerror within")
        .agrees("(file \"other.tcl\" line 3)");
}

#[test]
fn codes_at_the_top_level() {
    Case::script("puts before\nreturn value\nputs never").agrees("before");
    Case::script("puts before\nreturn -code error failed").agrees("failed");
    Case::script("puts before\nreturn -code 5 value").agrees("before");
    Case::script("puts before\nbreak").agrees("before");
    Case::script("puts before\ncontinue").agrees("before");
}

#[test]
fn exit_codes() {
    for code in ["0", "1", "3", "255", "256", "-1"] {
        Case::script(format!("puts -nonewline exiting; exit {code}")).agrees("exiting");
    }
    Case::script("exit abc").agrees("expected integer but got \"abc\"");
    Case::script("rename exit leave; proc exit code {puts instead; leave 5}; exit 1").agrees("instead");
    Case::script("proc exit args {puts instead}").agrees("");
    Case::script("puts x; exec kill -TERM [pid]; after 10000").agrees("");
    Case::script("puts x; exec kill -INT [pid]; after 10000").agrees("");
}

#[test]
fn output_is_flushed_at_the_end() {
    Case::script("puts -nonewline {no newline}").agrees("no newline");
    Case::script(
        "fconfigure stdout -buffering full -buffersize 100000\nputs [string repeat x 5000]\nputs stderr e",
    )
    .agrees("xxxxx");
    Case::script("set f [open out w]; puts $f kept; interp create i; exit 0").agrees("");
    Case::script("close stdout; puts stderr gone; puts lost").agrees("gone");
}

#[test]
fn background_errors() {
    Case::script("proc p {} {error behind}\nafter 0 p\nafter 20 {exit 6}\nvwait forever").agrees("behind");
    Case::script("proc bgerror m {puts <$m>; exit 7}\nafter 0 {error behind}\nvwait forever")
        .agrees("<behind>");
}

#[test]
fn texts_and_line_ends() {
    Case::script("puts one\r\nif {1} {\r\n puts two\r\n}\r\n").agrees("two");
    Case::script("puts one\n\x1aputs two\n").agrees("one");
    Case::script("#!/bin/sh\n# the next line is sh's \\\nexec tclsh \"$0\" \"$@\"\nputs shebang\n")
        .agrees("shebang");
    Case::script("fconfigure stdout -translation binary\nputs -nonewline \\x00\\xff\\x80")
        .agrees("\\xff\\x80");
}

// ---- what a script finds ---------------------------------------------------------------------------------------

#[test]
fn the_interpreter_is_a_plain_one() {
    Case::script("puts [join [lsort [info commands]] \\n]").agrees("fileevent");
    Case::script("puts [join [lsort [info globals]] \\n]").agrees("tcl_platform");
    Case::script("puts [lsort [namespace children ::]]").agrees("::tcl");
    Case::script("puts hidden:[lsort [interp hidden]]").agrees("hidden:");
    Case::script(
        "foreach n {tcl_version tcl_patchLevel tcl_library tcl_pkgPath tcl_rcFileName} {puts [set $n]}",
    )
    .agrees(".tclshrc");
    Case::script("puts [info patchlevel]; puts [info library]; foreach n [lsort [array names tcl_platform]] {puts $n=$tcl_platform($n)}")
        .agrees("threaded=1");
    Case::script("puts [lsort [array names env]]; puts [pwd]").agrees("HOME");
    Case::script("puts [info nameofexecutable]").agrees("SHELL");
}

#[test]
fn the_rc_file_is_for_people_only() {
    Case::script("puts ran").file(".tclshrc", "puts rc").agrees("ran");
    Case::standard_input("puts ran\n")
        .file(".tclshrc", "puts rc")
        .agrees("ran");
}

#[test]
fn locales() {
    for locale in ["C", "C.UTF-8", "POSIX", "en_US.ISO-8859-1"] {
        Case::script("puts [encoding system]; puts [fconfigure stdout -encoding]; puts ação; puts [package require msgcat]; puts [msgcat::mclocale]")
            .variable("LC_ALL", locale)
            .agrees("\n1.");
    }
}

#[test]
fn descriptors_signals_and_limits_of_children() {
    Case::script("after 1 {set x 1}; vwait x; puts [exec ls /proc/self/fd]").agrees("0\n1\n");
    Case::script("puts [exec grep ^Sig\\[PBIC\\] /proc/self/status]").agrees("SigIgn");
    Case::script("puts [exec sh -c {ulimit -a}]").agrees("files");
    Case::script("puts [exec yes | head -2]").agrees("y\ny");
}

#[test]
fn children_run_the_same_shell() {
    Case::script("puts [exec [info nameofexecutable] child.tcl a b]")
        .file(
            "child.tcl",
            "puts [list $argv0 $argv [file tail [info script]] [info nameofexecutable]]",
        )
        .agrees("child.tcl {a b} child.tcl SHELL");
    Case::script(
        "set p [open |[list [info nameofexecutable] child.tcl] r+]\nfconfigure $p -buffering line -blocking 0\n\
         fileevent $p readable {if {[gets $p l] >= 0} {puts $l} elseif {[eof $p]} {\n\
         fconfigure $p -blocking 1\nputs [catch {close $p} m o]; puts $m; puts [lindex [dict get $o -errorcode] 0]; set done 1}}\n\
         puts $p one\nputs $p quit\nvwait done",
    )
    .file("child.tcl", "while {[gets stdin l] >= 0} {if {$l eq {quit}} {puts stderr bye; exit 3}; puts got:$l; flush stdout}")
    .agrees("got:one\n1\nbye\nCHILDSTATUS");
    Case::script("puts [catch {exec sh -c {echo out; echo err >&2; exit 2}} m o]; puts $m; puts [lindex $::errorCode 2]").agrees("err");
}

// ---- the event loop ----------------------------------------------------------------------------------------------

#[test]
fn timers_idle_events_and_coroutines() {
    Case::script(
        // A busy machine may take long between two lines, but not that long.
        "after 0 {puts 0}\nafter idle {puts idle}\nupdate\nputs updated\n\
         after 1000 {puts 1000; set done 1}\nafter 10 {puts 10}\nvwait done",
    )
    .agrees("0\nidle\nupdated\n10\n1000");
    Case::script(
        "proc work {} {for {set i 0} {$i < 3} {incr i} {after 1 [info coroutine]; yield; puts $i}; set ::done 1}\n\
         coroutine c work\nvwait done\nputs [info commands c]end",
    )
    .agrees("2\nend");
    Case::script("lassign [chan pipe] r w\nfconfigure $w -blocking 0\nfileevent $w writable {puts $w hi; close $w}\nfileevent $r readable {set l [gets $r]}\nvwait l\nputs $l").agrees("hi");
}

#[test]
fn sockets() {
    Case::script(
        "proc accept {ch host port} {fconfigure $ch -blocking 0 -buffering line; fileevent $ch readable [list echo $ch]}\n\
         proc echo ch {if {[gets $ch l] >= 0} {puts $ch echo:$l} elseif {[eof $ch]} {close $ch; puts closed; set ::done 1}}\n\
         set s [socket -server accept -myaddr 127.0.0.1 0]\n\
         set c [socket -async 127.0.0.1 [lindex [fconfigure $s -sockname] 2]]\n\
         fconfigure $c -buffering line -blocking 0\n\
         fileevent $c writable {fileevent $c writable {}; puts $c [fconfigure $c -error]hello}\n\
         fileevent $c readable {puts [gets $c]; close $c}\nvwait done",
    )
    .agrees("echo:hello\nclosed");
    Case::script(
        "set s [socket -server list -myaddr 127.0.0.1 0]\nset port [lindex [fconfigure $s -sockname] 2]\nclose $s\n\
         puts [catch {socket 127.0.0.1 $port} m]; puts $m; puts [lrange $::errorCode 0 1]",
    )
    .agrees("couldn't open socket: connection refused\nPOSIX ECONNREFUSED");
    Case::script(
        "set s [socket -server list -myaddr 127.0.0.1 0]\nset c [socket 127.0.0.1 [lindex [fconfigure $s -sockname] 2]]\n\
         puts [dict keys [fconfigure $c]]; puts [dict keys [fconfigure $s]]; puts [catch {fconfigure $c -nonesuch} m]; puts $m",
    )
    .agrees("-peername");
}

// ---- packages ----------------------------------------------------------------------------------------------------

#[test]
fn package_http() {
    Case::script(
        "package require http\n\
         proc accept {ch host port} {fconfigure $ch -blocking 0 -translation crlf; fileevent $ch readable [list serve $ch]}\n\
         proc serve ch {if {[gets $ch l] > 0} {puts $l; return}; if {[fblocked $ch]} return\n\
         puts $ch \"HTTP/1.1 200 OK\\nContent-Type: text/plain\\nContent-Length: 5\\nConnection: close\\n\\nhello\"; close $ch}\n\
         set s [socket -server accept -myaddr 127.0.0.1 0]\n\
         http::config -useragent x -accept *\n\
         proc done token {set ::done $token}\n\
         http::geturl http://127.0.0.1:[lindex [fconfigure $s -sockname] 2]/path -headers {Host x} -command done\nvwait done\n\
         puts [list [http::status $done] [http::ncode $done] [http::data $done]]",
    )
    .agrees("ok 200 hello");
}

#[test]
fn package_msgcat() {
    Case::script(
        "package require msgcat\nmsgcat::mclocale pt_BR\nmsgcat::mcset pt Hello Olá\nputs [msgcat::mc Hello]",
    )
    .agrees("Olá");
}

#[test]
fn package_tcltest() {
    Case::script(
        "package require tcltest 2\nnamespace import tcltest::*\n\
         test a-1 {passes} {expr 1+1} 2\ntest a-2 {fails} {expr 1+1} 3\ntest a-3 {skipped} nonesuch {} {}\n\
         test a-4 {output} -body {puts x} -output \"x\\n\"\nputs [interpreter]\ncleanupTests",
    )
    .agrees("Passed\t2\tSkipped\t1\tFailed\t1");
}

#[test]
fn package_thread() {
    Case::script(
        "package require Thread\nset t [thread::create]\n\
         thread::send $t {after 5 {set x 1}; vwait x; info patchlevel} r\nputs $r\n\
         thread::send -async $t {expr 6*7} answer\nvwait answer\nputs $answer\n\
         puts [catch {thread::send $t {error far}} m]:$m\n\
         set pool [tpool::create -maxworkers 2]\n\
         set job [tpool::post $pool {expr 2**10}]\ntpool::wait $pool $job\nputs [tpool::get $pool $job]\n\
         tsv::set shared key value\nputs [thread::send $t {tsv::get shared key}]\nthread::release $t",
    )
    .agrees("42\n1:far\n1024\nvalue");
}

#[test]
fn package_tls() {
    Case::script(
        "package require tls\nexec -ignorestderr openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost 2>@1\n\
         proc accept {ch host port} {fconfigure $ch -blocking 0 -buffering line; fileevent $ch readable [list echo $ch]}\n\
         proc echo ch {if {[gets $ch l] >= 0} {puts $ch echo:$l}}\n\
         set s [tls::socket -server accept -certfile cert.pem -keyfile key.pem -myaddr 127.0.0.1 0]\n\
         set c [tls::socket -cafile cert.pem 127.0.0.1 [lindex [fconfigure $s -sockname] 2]]\n\
         fconfigure $c -buffering line -blocking 0\nputs $c hello\n\
         fileevent $c readable {if {[gets $c l] >= 0} {puts $l; set done 1}}\nvwait done\nputs end",
    )
    .agrees("echo:hello\nend");
}

#[test]
fn package_tcllib() {
    Case::script(
        "package require md5 2\npackage require json\npackage require struct::list\npackage require base64\n\
         puts [md5::md5 -hex abc]\nputs [json::json2dict {{\"a\":[1,2]}}]\nputs [struct::list reverse {1 2 3}]\nputs [base64::encode ação]",
    )
    .agrees("900150983CD24FB0D6963F7D28E17F72\na {1 2}\n3 2 1");
}
