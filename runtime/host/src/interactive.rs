//! The interactive shell: a `tclsh` prompt with line editing, history and completion.
//!
//! The line editor has a thread of its own, so that timers and sockets go on while one types, as they do in `wish`.
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::{Config, Context, Editor, Helper, Highlighter, Hinter, Validator, history::FileHistory};
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;
use torhost_tcl::{Interp, Obj, Result, StdChannel, ThreadHandle, do_one_event, shell};

/// How long the editor waits for completions while the shell is busy with an event; it does nothing else meanwhile.
const COMPLETION_WAIT: Duration = Duration::from_millis(500);
/// Tells a terminal to send pasted text as if it were typed, as it does unless an editor asked otherwise.
const BRACKETED_PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// What the shell's thread hears from the editor's.
enum Heard {
    /// What was typed up to Enter: several lines if they were pasted, or recalled from the history.
    Typed(String),
    /// Ctrl-C: what was typed so far is dropped.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    Ended,
    /// The words that could stand at the end of a line are wanted.
    Complete(String, Sender<Vec<String>>),
}

/// What the editor's thread is told.
enum Tell {
    Read {
        prompt: String,
    },
    /// A command for the history, and whom to tell that it is written: the command may end the process.
    Remember(String, Sender<()>),
}

/// Reads and evaluates commands until end of file or `exit`; `args` are the process's own.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let interp = match shell::interactive(args) {
        Ok(interp) => interp,
        Err(error) => {
            eprintln!("torhost: cannot start Tcl: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = restore_terminal_on_exit(&interp) {
        log::warn!("`exit` may leave the terminal as the editor has set it: {error}");
    }
    shell::source_rc_file(&interp);
    let (tell, told) = mpsc::channel();
    let (hear, heard) = mpsc::channel();
    let here = ThreadHandle::current();
    thread::spawn(move || edit(&told, &hear, &here));
    converse(&interp, &tell, &heard);
    // The terminal may be gone.
    let _ = writeln!(io::stdout());
    shell::exit(&interp, 0)
}

fn converse(interp: &Interp, tell: &Sender<Tell>, heard: &Receiver<Heard>) {
    let mut command = String::new();
    while !interp.is_deleted() {
        let prompt = prompt(interp, command.is_empty());
        begin_line(interp);
        if tell.send(Tell::Read { prompt }).is_err() {
            return;
        }
        let typed = match next(interp, heard) {
            Heard::Typed(typed) => typed,
            Heard::Interrupted => {
                command.clear();
                continue;
            }
            Heard::Ended | Heard::Complete(..) => return,
        };
        // Line by line, as tclsh reads: each command of a pasted text shows its result.
        for line in typed.lines().chain(typed.is_empty().then_some("")) {
            command.push_str(line);
            command.push('\n');
            if shell::is_complete(&command) && !interp.is_deleted() {
                evaluate(interp, std::mem::take(&mut command).trim_end_matches('\n'), tell);
            }
        }
    }
}

fn evaluate(interp: &Interp, script: &str, tell: &Sender<Tell>) {
    if !script.trim().is_empty() {
        let (written, is_written) = mpsc::channel();
        // An editor that is gone is noticed at the next prompt.
        let _ = tell.send(Tell::Remember(script.to_owned(), written));
        let _ = is_written.recv();
    }
    match interp.record_and_eval(script) {
        Ok(result) if result.to_text_lossy().is_empty() => {}
        Ok(result) => interp.print(StdChannel::Stdout, &result),
        Err(error) => interp.print(StdChannel::Stderr, &Obj::from(error.message())),
    }
}

/// Writes what waits in standard output, and goes to the beginning of a line: the editor clears the one that it begins on.
///
/// Where the cursor is only the terminal knows. A line's width of spaces, less one, brings it to the next line unless it was at
/// the beginning of this one.
fn begin_line(interp: &Interp) {
    // A script may have closed it.
    let _ = interp.call(&["flush", "stdout"].map(Obj::from));
    let wraps = env::var_os("TERM").is_some_and(|terminal| terminal != "dumb");
    if let Ok(size) = tcgetwinsize(io::stdout())
        && wraps
        && size.ws_col > 1
    {
        let mut out = io::stdout();
        let _ = write!(out, "{:1$}\r", "", usize::from(size.ws_col) - 1).and_then(|()| out.flush());
    }
}

/// Has `exit` give the terminal back as it was, when an event calls it while the editor reads.
fn restore_terminal_on_exit(interp: &Interp) -> Result<()> {
    const COMMAND: &str = "::tcl::restore_terminal";
    let Ok(before) = tcgetattr(io::stdin()) else {
        return Ok(());
    };
    interp.create_command(COMMAND, move |_, _| {
        restore_terminal(&before);
        Ok(Obj::empty())
    })?;
    interp.eval_global(format!("trace add execution exit enter {COMMAND}"))?;
    Ok(())
}

fn restore_terminal(before: &Termios) {
    let is_edited = tcgetattr(io::stdin()).is_ok_and(|now| !now.local_modes.contains(LocalModes::ICANON));
    if is_edited {
        // The process ends; there is nobody to tell that the terminal went first.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
        let mut out = io::stdout();
        let _ = out.write_all(BRACKETED_PASTE_OFF).and_then(|()| writeln!(out));
    }
}

/// Serves events until the editor has a line; completion is answered on the way.
fn next(interp: &Interp, heard: &Receiver<Heard>) -> Heard {
    loop {
        match heard.try_recv() {
            Ok(Heard::Complete(word, answer)) => {
                // The editor may have gone meanwhile, which the next round finds out.
                let _ = answer.send(candidates(interp, &word));
            }
            Ok(other) => return other,
            Err(mpsc::TryRecvError::Disconnected) => return Heard::Ended,
            Err(mpsc::TryRecvError::Empty) => {
                do_one_event(true);
            }
        }
    }
}

/// What `tcl_prompt1` or, amid a command, `tcl_prompt2` prints: the editor must know it to draw its line, so it is caught on
/// its way to standard output.
fn prompt(interp: &Interp, first: bool) -> String {
    const CATCH: &str = r"apply {script {
        variable prompt {}
        chan push stdout [list apply {{command args} {
            variable prompt
            switch -- $command {
                initialize {return {initialize finalize write flush}}
                write {append prompt [lindex $args 1]; return}
            }
        } ::tcl::prompt}]
        set failed [catch {uplevel #0 $script; chan flush stdout} result options]
        chan pop stdout
        if {$failed} {return -options $options $result}
        encoding convertfrom [chan configure stdout -encoding] $prompt
    } ::tcl::prompt}";
    let Some(script) = interp.global(if first { "tcl_prompt1" } else { "tcl_prompt2" }) else {
        return if first { "% ".to_owned() } else { String::new() };
    };
    let caught = interp
        .eval_global("namespace eval ::tcl::prompt {}")
        .and_then(|_| interp.eval_global(format!("{CATCH} {}", Obj::list([script]))));
    match caught {
        Ok(text) => text.to_text_lossy(),
        Err(error) => {
            interp.print(StdChannel::Stderr, &Obj::from(error.message()));
            interp.print(
                StdChannel::Stderr,
                &Obj::from("    (script that generates prompt)"),
            );
            "% ".to_owned()
        }
    }
}

/// The commands, or after `$` the variables, that begin with a word.
fn candidates(interp: &Interp, word: &str) -> Vec<String> {
    let escape = |text: &str| {
        text.chars()
            .flat_map(|c| "*?[]\\".contains(c).then_some('\\').into_iter().chain([c]))
            .collect::<String>()
    };
    let (sigil, name) = match word.strip_prefix('$') {
        Some(name) => ("$", name),
        None => ("", word),
    };
    let pattern = Obj::from(format!("{}*", escape(name)));
    let asked: &[&[&str]] = if sigil.is_empty() {
        &[&["info", "commands"], &["namespace", "children", "::"]]
    } else {
        &[&["info", "globals"]]
    };
    let mut found: Vec<String> = asked
        .iter()
        .filter_map(|words| {
            let call: Vec<Obj> = words
                .iter()
                .map(|&word| Obj::from(word))
                .chain([pattern.clone()])
                .collect();
            interp.call(&call).and_then(|list| list.to_list()).ok()
        })
        .flatten()
        .map(|name| format!("{sigil}{name}"))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn edit(told: &Receiver<Tell>, hear: &Sender<Heard>, shell: &ThreadHandle) {
    let say = |what| {
        // An empty job: it has the shell's event loop look at the channel.
        let _ = hear.send(what).map(|()| shell.post(|| ()));
    };
    let config = Config::builder()
        .auto_add_history(false)
        .history_ignore_space(true)
        .build();
    let mut editor = match Editor::<Completion, FileHistory>::with_config(config) {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("torhost: cannot use this terminal: {error}");
            return say(Heard::Ended);
        }
    };
    editor.set_helper(Some(Completion {
        hear: hear.clone(),
        shell: shell.clone(),
        files: FilenameCompleter::new(),
    }));
    let history = history_file();
    if let Some(file) = &history {
        // There is none the first time.
        let _ = editor.load_history(file);
    }
    for tell in told {
        match tell {
            Tell::Read { prompt } => say(match editor.readline(&prompt) {
                Ok(typed) => Heard::Typed(typed),
                Err(ReadlineError::Interrupted) => Heard::Interrupted,
                Err(_) => Heard::Ended,
            }),
            Tell::Remember(command, written) => {
                let added = editor.add_history_entry(command).and_then(|_| match &history {
                    Some(file) => editor.append_history(file),
                    None => Ok(()),
                });
                if let Err(error) = added {
                    log::warn!("cannot write the history of commands: {error}");
                }
                // The shell waits for this.
                let _ = written.send(());
            }
        }
    }
}

/// Where the history of commands is kept: `$TORHOST_HISTORY`, else `~/.torhost_history`; nowhere if the variable is empty.
fn history_file() -> Option<PathBuf> {
    env::var_os("TORHOST_HISTORY")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".torhost_history")))
        .filter(|file| !file.as_os_str().is_empty())
}

/// Completes commands, variables and file names.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Completion {
    hear: Sender<Heard>,
    shell: ThreadHandle,
    files: FilenameCompleter,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let start = line[..at]
            .rfind([' ', '\t', '[', '{', ';', '"', '\n'])
            .map_or(0, |before| before + 1);
        let word = &line[start..at];
        let (answer, answered) = mpsc::channel();
        let asked = self.hear.send(Heard::Complete(word.to_owned(), answer)).is_ok()
            && self.shell.post(|| ()).is_ok();
        let found = if asked {
            answered.recv_timeout(COMPLETION_WAIT).unwrap_or_default()
        } else {
            Vec::new()
        };
        if found.is_empty() || word.is_empty() {
            return self.files.complete(line, at, context);
        }
        Ok((
            start,
            found
                .into_iter()
                .map(|name| Pair {
                    display: name.clone(),
                    replacement: name,
                })
                .collect(),
        ))
    }
}
