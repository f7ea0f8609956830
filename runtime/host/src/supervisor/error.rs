//! What can go wrong, in sentences for the person at the terminal.
use std::io;
use std::path::PathBuf;

/// Why a subcommand of the supervisor could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The topology cannot be used; the text is complete, with its own carets and places.
    #[error("{0}")]
    Topology(String),
    #[error("cannot {action} {path}: {error}", path = path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error(
        "{path} is not a folder that belongs to you alone, so nobody's control socket is trusted there: remove it, or set \
         XDG_RUNTIME_DIR to a folder of your own",
        path = .0.display()
    )]
    UnsafeFolder(PathBuf),
    #[error(
        "node {node} wants {address}:{port}, and something else listens there already: stop that, or change the node's port \
         (`ss -ltnp 'sport = :{port}'` tells who it is)"
    )]
    PortTaken {
        node: String,
        address: String,
        port: u16,
    },
    #[error(
        "node {node} has the script {script}, and there is no such file: correct the node's `script` in {topology}",
        script = script.display(),
        topology = topology.display()
    )]
    NoScript {
        node: String,
        script: PathBuf,
        topology: PathBuf,
    },
    #[error(
        "{path} has no node to start here: none has both a script and an address of this machine",
        path = .0.display()
    )]
    NothingToStart(PathBuf),
    #[error("the system of {path} is not running: start it with `torhost up {path}`", path = .0.display())]
    NotRunning(PathBuf),
    #[error("the supervisor did not answer: {reason}", reason = unanswered(.0))]
    NoAnswer(io::Error),
    #[error("cannot {action}: {error}")]
    System { action: &'static str, error: io::Error },
    #[error("the supervisor ended before the system was up; its log is {log}{tail}", log = log.display())]
    EndedEarly { log: PathBuf, tail: String },
}

/// What an error of the control socket means to a person.
fn unanswered(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            "it is silent, as a process is that was stopped: `kill -CONT` lets it go on".to_owned()
        }
        io::ErrorKind::UnexpectedEof => "it ended meanwhile".to_owned(),
        _ => error.to_string(),
    }
}

impl Error {
    /// For `map_err`: what was being done to which file.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { action, path, error }
    }

    /// For `map_err`: what was being done.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { action, error }
    }
}
