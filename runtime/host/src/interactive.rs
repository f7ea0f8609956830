//! The interactive shell: a `tclsh` prompt with line editing, history and completion.
//!
//! The line editor has a thread of its own, so that timers and sockets go on while one types, as they do in `wish`.
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::{Config, Context, Editor, Helper, Highlighter, Hinter, Validator, history::FileHistory};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use torhost_tcl::{Interp, Obj, StdChannel, ThreadHandle, do_one_event, shell};

/// What the shell's thread hears from the editor's.
enum Heard {
    Line(String),
    /// Ctrl-C: what was typed so far is dropped.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    Ended,
    /// The words that could stand at the end of a line are wanted.
    Complete(String, Sender<Vec<String>>),
}

/// What the editor's thread is told.
enum Tell {
    Read { prompt: String },
    Remember(String),
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
    shell::source_rc_file(&interp);
    let (tell, told) = mpsc::channel();
    let (hear, heard) = mpsc::channel();
    let here = ThreadHandle::current();
    thread::spawn(move || edit(&told, &hear, &here));
    converse(&interp, &tell, &heard);
    println!();
    shell::exit(&interp, 0)
}

fn converse(interp: &Interp, tell: &Sender<Tell>, heard: &Receiver<Heard>) {
    let mut command = String::new();
    while !interp.is_deleted() {
        let prompt = prompt(interp, command.is_empty());
        if tell.send(Tell::Read { prompt }).is_err() {
            return;
        }
        match next(interp, heard) {
            Heard::Line(line) => {
                command.push_str(&line);
                command.push('\n');
            }
            Heard::Interrupted => {
                command.clear();
                continue;
            }
            Heard::Ended | Heard::Complete(..) => return,
        }
        if !shell::is_complete(&command) {
            continue;
        }
        let script = std::mem::take(&mut command);
        let script = script.trim_end_matches('\n');
        if !script.trim().is_empty() && tell.send(Tell::Remember(script.to_owned())).is_err() {
            return;
        }
        match interp.record_and_eval(script) {
            Ok(result) if result.to_text_lossy().is_empty() => {}
            Ok(result) => interp.print(StdChannel::Stdout, &result),
            Err(error) => interp.print(StdChannel::Stderr, &Obj::from(error.message())),
        }
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
                Ok(line) => Heard::Line(line),
                Err(ReadlineError::Interrupted) => Heard::Interrupted,
                Err(_) => Heard::Ended,
            }),
            Tell::Remember(command) => {
                let added = editor.add_history_entry(command).and_then(|_| match &history {
                    Some(file) => editor.append_history(file),
                    None => Ok(()),
                });
                if let Err(error) = added {
                    log::warn!("cannot write the history of commands: {error}");
                }
            }
        }
    }
}

/// Where the history of commands is kept: `$TORHOST_HISTORY`, else `~/.torhost_history`.
fn history_file() -> Option<PathBuf> {
    env::var_os("TORHOST_HISTORY")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".torhost_history")))
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
            answered.recv().unwrap_or_default()
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
