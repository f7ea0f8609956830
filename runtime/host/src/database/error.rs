//! What can go wrong, in sentences for the person at the terminal.
use std::io;
use std::path::PathBuf;
use torhost_journal as journal;
use torhost_protocol::State;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The topology cannot be used; the text is complete, with its own carets and places.
    #[error("{0}")]
    Topology(String),
    #[error(
        "there is no database {path}: name one with --db, or the topology with --topology",
        path = .0.display()
    )]
    NoDatabase(PathBuf),
    #[error(
        "{topology} keeps jobs in memory alone (policy persistence, durability none): name a database with --db, if a script says otherwise",
        topology = .0.display()
    )]
    InMemory(PathBuf),
    #[error("{path} is in use by a coordinator{holder}: {why}", path = path.display())]
    InUse {
        path: PathBuf,
        /// " (process 17)", if that is known.
        holder: String,
        /// What that means for what was to be done.
        why: &'static str,
    },
    #[error("jobs that are {state} cannot be {word}: --state is one of {states}")]
    State {
        state: State,
        word: &'static str,
        states: String,
    },
    #[error("--older-than is about jobs that have ended, and those cannot be cancelled")]
    Age,
    #[error(
        "there is no coordinator at {address}: {error}; name another with --coordinator, or start it, or stop the process that has the database"
    )]
    Unreachable { address: String, error: io::Error },
    #[error("the coordinator at {0} is not the one that has this database; name that with --coordinator")]
    OtherCoordinator(String),
    #[error(
        "the coordinator at {address} gave no answer: {error}; what was not told may have been done or not"
    )]
    Silent { address: String, error: io::Error },
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error("cannot write: {0}")]
    Output(io::Error),
    #[error("cannot write {path}: {error}", path = path.display())]
    File { path: PathBuf, error: io::Error },
}

impl Error {
    /// For `map_err`: what it means that a coordinator has the database.
    pub(super) fn in_use(why: &'static str) -> impl FnOnce(journal::Error) -> Error {
        move |error| match error {
            journal::Error::InUse { path, holder } => Error::InUse { path, holder, why },
            error => Error::Journal(error),
        }
    }
}
