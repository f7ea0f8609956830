//! `tor::log`.
use super::{Command, topology};
use log::{Level, LevelFilter};
use std::fmt::Write as _;
use torhost_tcl::{Error, Interp, Obj, Result};

/// What the log's filters (`RUST_LOG`) know scripts' messages by.
const TARGET: &str = "script";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "tor::log error",
        usage: "text ?key value …?",
        help: "Logs a failure that somebody must look at.\n\nA message and the keys and values that go with it become one line on \
               standard error (under `torhost up`, in `logs/NODE.log`). Which levels are written is the topology's \
               `LOG_LEVEL`; `RUST_LOG`, where it is set, has the only say, and knows scripts' messages as `script`.",
        example: "tor::log error \"cannot open the archive\" file data/archive.db reason ENOSPC",
        arguments: (1, None),
        run: |_, args| write(Level::Error, args),
    },
    Command {
        name: "tor::log warn",
        usage: "text ?key value …?",
        help: "Logs something odd that the script got over. Otherwise as `tor::log error`.",
        example: "tor::log warn \"a worker is silent\" worker worker1 seconds 31",
        arguments: (1, None),
        run: |_, args| write(Level::Warn, args),
    },
    Command {
        name: "tor::log info",
        usage: "text ?key value …?",
        help: "Logs a normal event worth knowing. Otherwise as `tor::log error`.",
        example: "tor::log info \"job completed\" job JOB-1 ms 12",
        arguments: (1, None),
        run: |_, args| write(Level::Info, args),
    },
    Command {
        name: "tor::log debug",
        usage: "text ?key value …?",
        help: "Logs what helps to find a mistake. Otherwise as `tor::log error`.",
        example: "tor::log debug \"received\" line PING",
        arguments: (1, None),
        run: |_, args| write(Level::Debug, args),
    },
    Command {
        name: "tor::log trace",
        usage: "text ?key value …?",
        help: "Logs every step. Otherwise as `tor::log error`.",
        example: "tor::log trace \"tick\"",
        arguments: (1, None),
        run: |_, args| write(Level::Trace, args),
    },
    Command {
        name: "tor::log level",
        usage: "?level?",
        help: "Returns the most detailed level that is written, and sets it first if one is given: `off`, `error`, `warn`, `info`, \
               `debug` or `trace`. Without effect on what `RUST_LOG` shuts out.",
        example: "tor::log level debug   ;# → debug",
        arguments: (0, Some(1)),
        run: level,
    },
];

fn write(level: Level, args: &[Obj]) -> Result<Obj> {
    let (text, fields) = (&args[0], &args[1..]);
    if !fields.len().is_multiple_of(2) {
        let last = fields[fields.len() - 1].to_text_lossy();
        let message =
            format!("the key \"{last}\" has no value: the text is followed by keys and values in pairs");
        return Err(Error::new(message).with_code(["TCL", "WRONGARGS"]));
    }
    if log::log_enabled!(target: TARGET, level) {
        let mut line = one_line(&text.to_text_lossy());
        for pair in fields.chunks_exact(2) {
            // As Tcl would list them, so that a script can read its log back.
            let value = Obj::list([&pair[1]]).to_text_lossy();
            let _ = write!(
                line,
                " {}={}",
                one_line(&pair[0].to_text_lossy()),
                one_line(&value)
            );
        }
        log::log!(target: TARGET, level, "{line}");
    }
    Ok(Obj::empty())
}

/// A message stays one line of the log, whatever it quotes.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            c if c.is_control() && c != '\t' => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

fn level(_: &Interp, args: &[Obj]) -> Result<Obj> {
    if let [level] = args {
        log::set_max_level(parse_level(&level.to_text_lossy())?);
    }
    Ok(Obj::from(log::max_level().as_str().to_lowercase()))
}

fn parse_level(text: &str) -> Result<LevelFilter> {
    text.parse().map_err(|_| {
        Error::new(format!(
            "bad level \"{text}\": must be off, error, warn, info, debug, or trace"
        ))
        .with_code(["TOR", "LOG", "LEVEL"])
    })
}

/// Has the log follow the topology's `LOG_LEVEL`, if there is a topology and it has one.
pub(super) fn apply_topology_level() {
    if let Some(level) = topology::log_level() {
        crate::logging::set_level(level);
    }
}
