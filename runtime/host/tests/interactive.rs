//! `torhost` on a terminal, as one who types at it sees it. The terminal is that of `script` from util-linux, which every
//! Debian has.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const TAB: &str = "\t";
const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// A home folder of its own, gone at the end of the test.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("torhost-shell-{}-{count}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn shell(&self) -> Shell {
        self.shell_on("xterm", "exec \"$TORHOST\"")
    }

    /// A terminal of a kind, and what is run on it.
    fn shell_on(&self, terminal: &str, run: &str) -> Shell {
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command"])
            .arg(format!("stty rows 24 cols 80; {run}"))
            .arg("/dev/null")
            .current_dir(&self.0)
            .env("SHELL", "/bin/sh")
            .env("TORHOST", env!("CARGO_BIN_EXE_torhost"))
            .env("TERM", terminal)
            .env("HOME", &self.0)
            .env("TORHOST_HISTORY", self.0.join("history"))
            .env_remove("RUST_LOG")
            .env_remove("TOR_SUPERVISOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` is there");
        let keys = child.stdin.take().unwrap();
        let mut screen = child.stdout.take().unwrap();
        let (show, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                // Lines end in one return or, as Tcl's own output on a terminal, in two.
                let visible = bytes[..count].iter().copied().filter(|&byte| byte != b'\r');
                let _ = show.send(visible.collect::<Vec<u8>>());
            }
        });
        Shell {
            child,
            keys,
            shown,
            unread: Vec::new(),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !thread::panicking() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

struct Shell {
    child: Child,
    keys: ChildStdin,
    shown: Receiver<Vec<u8>>,
    unread: Vec<u8>,
}

impl Shell {
    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for a text on the screen, and returns what came before it; the next look begins after it.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let found = self
                .unread
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let before = self.unread.drain(..at + text.len()).collect::<Vec<u8>>();
                return String::from_utf8_lossy(&before[..at]).into_owned();
            }
            let left = give_up.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(more) => self.unread.extend(more),
                Err(_) => panic!("no {text:?} in {:?}", String::from_utf8_lossy(&self.unread)),
            }
        }
    }

    /// Waits for the prompt. The editor shows it again when it draws its line anew, so this tells no more than that it reads.
    #[track_caller]
    fn prompts(&mut self) {
        self.sees("% ");
    }

    /// Types a command, and waits for what it shows and the next prompt. The text must not be in the command, which is shown too.
    #[track_caller]
    fn answers(&mut self, command: &str, text: &str) {
        assert!(!command.contains(text));
        self.press(command);
        self.press("\r");
        self.sees(&format!("\n{text}"));
        self.prompts();
    }

    #[track_caller]
    fn ends(mut self, code: i32) {
        let give_up = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < give_up,
                "it goes on; unread: {:?}",
                String::from_utf8_lossy(&self.unread)
            );
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(code));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // With it goes the terminal, and with that the shell. It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn results_errors_and_continued_commands() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.answers("expr {6 * 7}", "42\n");
    shell.answers("set nobody", "can't read \"nobody\": no such variable\n");
    shell.answers("break", "invoked \"break\" outside of a loop\n");
    shell.answers("proc twice {x} {\rexpr {2 * $x}\r}\rtwice 21", "42\n");
    // A text that does not end its line is not lost under the prompt.
    shell.answers("puts -nonewline [format %s%s un ended]", "unended");
    let long = "x".repeat(5000);
    shell.answers(&format!("string length {long}"), "5000\n");
    shell.press("exit 7\r");
    shell.ends(7);
}

#[test]
fn ctrl_c_drops_the_line_and_ctrl_d_leaves() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.press("puts {never");
    shell.press(CTRL_C);
    shell.prompts();
    shell.press("puts {\rnever");
    shell.sees("never");
    shell.press(CTRL_C);
    shell.prompts();
    shell.answers("expr {6 * 7}", "42\n");
    shell.press(CTRL_D);
    shell.ends(0);
}

#[test]
fn ctrl_c_ends_a_command_that_computes() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.press("puts [format %s%s work ing]; while 1 {}\r");
    shell.sees("working");
    shell.press(CTRL_C);
    // As it ends tclsh: 128 and the number of SIGINT.
    shell.ends(130);
}

#[test]
fn the_history_outlives_the_session() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.answers("set answer [expr {6 * 7}]", "42\n");
    // The last one too, although it ends the process.
    shell.press("exit 3\r");
    shell.ends(3);
    let mut shell = home.shell();
    shell.prompts();
    shell.press(UP);
    shell.sees("exit 3");
    shell.press(UP);
    shell.sees("set answer");
    shell.press("\r");
    shell.sees("\n42\n");
    shell.prompts();
    shell.press(CTRL_D);
    shell.ends(0);
}

#[test]
fn events_fire_while_one_types() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.answers(
        "set n 0; proc tick {} {puts tick[incr ::n]; if {$::n < 3} {after 20 tick}}; after 20 tick",
        "after#",
    );
    // Half a command is on the line meanwhile.
    shell.press("expr {$n");
    shell.sees("tick3");
    shell.press(" + 39}\r");
    shell.sees("\n42\n");
    shell.prompts();
    shell.press("after 0 {error [format %s%s oo ps]}\r");
    shell.sees("oops\n    while executing");
    shell.press("\r");
    shell.prompts();
    shell.answers("expr {6 * 7}", "42\n");
}

#[test]
fn an_event_that_ends_the_process_gives_the_terminal_back() {
    let home = Home::new();
    let mut shell = home.shell_on("xterm", "\"$TORHOST\"; echo \"code $?\"; stty -a; echo END");
    shell.prompts();
    shell.press("after 100 {exit 5}\r");
    shell.sees("code 5");
    let modes = shell.sees("END");
    assert!(modes.contains(" icanon") && modes.contains(" echo "), "{modes}");
}

#[test]
fn tab_completes_commands_and_variables() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.answers(
        "proc unheard_of {} {return heard}; set unmistakable [expr {6 * 7}]",
        "42\n",
    );
    shell.press("unhea");
    shell.press(TAB);
    shell.sees("unheard_of");
    shell.press("\r");
    shell.sees("\nheard\n");
    shell.prompts();
    shell.press("puts $unmis");
    shell.press(TAB);
    shell.sees("unmistakable");
    shell.press("\r");
    shell.sees("\n42\n");
}

#[test]
fn prompts_are_the_scripts() {
    let home = Home::new();
    fs::write(
        home.0.join(".tclshrc"),
        "set tcl_prompt1 {puts -nonewline \"first[incr count]> \"}; set tcl_prompt2 {puts -nonewline {more> }}",
    )
    .unwrap();
    let mut shell = home.shell();
    shell.sees("first1> ");
    shell.press("string cat {a\r");
    shell.sees("more> ");
    shell.press("b}\r");
    shell.sees("first2> ");
    shell.press("set tcl_prompt1 {error [format %s%s bad ness]}\r");
    shell.sees("badness\n    (script that generates prompt)");
    shell.prompts();
    shell.answers("expr {6 * 7}", "42\n");
}

#[test]
fn unknown_commands_run_programs_and_standard_input_is_the_terminal() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.answers("printf %s%s\\\\n from program", "fromprogram");
    shell.press("puts [string toupper <[gets stdin]>]\r");
    // The editor has let go of the terminal once it has ended the line.
    shell.sees("]\x1b[?2004l\n");
    shell.press("typed at gets\n");
    shell.sees("<TYPED AT GETS>");
    shell.prompts();
    shell.answers("expr {6 * 7}", "42\n");
}

#[test]
fn a_pasted_text_is_run_line_by_line() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.press("\x1b[200~expr {6 * 7}\nproc f {} {\n  return f[expr {1 + 1}]\n}\nf\n\x1b[201~");
    shell.press("\r");
    shell.sees("\n42\n");
    shell.sees("f2\n");
    shell.prompts();
}

#[test]
fn a_terminal_without_cursor_does() {
    let home = Home::new();
    let mut shell = home.shell_on("dumb", "exec \"$TORHOST\"");
    shell.prompts();
    shell.press("expr {6 * 7}\r");
    shell.sees("42");
    shell.prompts();
    shell.press("exit 4\r");
    shell.ends(4);
}

#[test]
fn the_interpreter_cannot_be_deleted_under_the_shell() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.answers("interp delete {}", "cannot delete the current interpreter\n");
    shell.press(CTRL_D);
    shell.ends(0);
}

#[test]
fn what_is_typed_ahead_is_kept_for_the_next_prompt() {
    let home = Home::new();
    let mut shell = home.shell();
    shell.prompts();
    shell.press("set a 20\rset b 22\rexpr {$a + $b}\r");
    shell.sees("\n42\n");
    shell.prompts();
}
