//! The words that a message can hold: the states of jobs, and the forms of answers.
use std::fmt;
use std::str::FromStr;

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for a worker.
    Queued,
    /// Waits until it is due.
    Delayed,
    /// Waits for other jobs to complete.
    Held,
    /// A worker has it.
    Running,
    /// Ended: it has a result.
    Completed,
    /// Ended: its attempts are used up.
    Failed,
    /// Ended by a client.
    Cancelled,
    /// Ended: it took too long.
    Expired,
}

impl State {
    /// All states, in the order in which `STATUS` counts them.
    pub const ALL: [State; 8] = [
        State::Queued,
        State::Delayed,
        State::Held,
        State::Running,
        State::Completed,
        State::Failed,
        State::Cancelled,
        State::Expired,
    ];

    /// As it stands in messages: `queued`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Delayed => "delayed",
            State::Held => "held",
            State::Running => "running",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
        }
    }

    /// Whether the job has ended.
    pub fn is_outcome(self) -> bool {
        !matches!(
            self,
            State::Queued | State::Delayed | State::Held | State::Running
        )
    }
}

/// How structured answers are written on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Format {
    /// JSON, as long as nothing else was asked for.
    #[default]
    Json,
    /// A Tcl dict on one line.
    Tcl,
}

impl Format {
    /// As it stands in messages: `json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Tcl => "tcl",
        }
    }
}

/// A word that is no state, or no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such word")]
pub struct NoSuchWord;

impl FromStr for State {
    type Err = NoSuchWord;

    fn from_str(text: &str) -> Result<State, NoSuchWord> {
        let found = State::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or(NoSuchWord)
    }
}

impl FromStr for Format {
    type Err = NoSuchWord;

    fn from_str(text: &str) -> Result<Format, NoSuchWord> {
        let found = [Format::Json, Format::Tcl]
            .into_iter()
            .find(|format| format.as_str() == text);
        found.ok_or(NoSuchWord)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
