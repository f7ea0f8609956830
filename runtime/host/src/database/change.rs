//! `torhost jobs retry`, `cancel` and `purge`: by the coordinator that has the database, or without one by this process.
use super::asking::Asked;
use super::error::Error;
use super::jobs_commands::Change;
use super::offline::Offline;
use super::reading::each;
use super::text::counted;
use crate::coordinator::{ADDRESS, EPOCH};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use torhost_journal::{self as journal, Access, Query, Store};
use torhost_protocol::{JobId, State};

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Retry,
    Cancel,
    Purge,
}

/// What became of it.
pub(super) struct Done {
    pub(super) job: JobId,
    /// The state that it had; none if there is no such job.
    pub(super) before: Option<State>,
    /// The state that it has; of a job that was purged, the state that it had. Or why nothing was done.
    pub(super) after: Result<State, String>,
}

/// Who does it. What became of each job is told once it is kept, in the order in which they were given.
pub(super) trait Keeper {
    fn change(&mut self, action: Action, jobs: &[JobId], tell: &mut dyn FnMut(&Done)) -> Result<(), Error>;
}

impl Action {
    /// The states in which it can be done.
    fn states(self) -> &'static [State] {
        match self {
            Action::Retry => &[State::Failed, State::Cancelled, State::Expired],
            Action::Cancel => &[State::Queued, State::Delayed, State::Held, State::Running],
            Action::Purge => &[State::Completed, State::Failed, State::Cancelled, State::Expired],
        }
    }

    fn word(self) -> &'static str {
        match self {
            Action::Retry => "retried",
            Action::Cancel => "cancelled",
            Action::Purge => "purged",
        }
    }

    /// Whether it was done, and a sentence on it.
    fn outcome(self, done: &Done) -> (bool, String) {
        let job = done.job;
        let Some(before) = done.before else {
            return (false, format!("{job}: no such job, or it is forgotten"));
        };
        if !self.states().contains(&before) {
            return (
                false,
                match self {
                    Action::Cancel => format!("{job} has ended already: it is {before}"),
                    Action::Retry => {
                        format!("{job} is {before}: only what failed, expired or was cancelled is retried")
                    }
                    Action::Purge => format!("{job} is {before}: cancel it first"),
                },
            );
        }
        match (self, &done.after) {
            (_, Err(why)) if why.starts_with(&job.to_string()) => (false, why.clone()),
            (_, Err(why)) => (false, format!("{job}: {why}")),
            (Action::Cancel, Ok(State::Cancelled)) => (true, format!("{job} is cancelled; it was {before}")),
            (Action::Cancel, Ok(state)) => (false, format!("{job} has ended meanwhile: it is {state}")),
            (Action::Retry, Ok(State::Failed)) => {
                let why = "what it is after has not completed";
                (false, format!("{job} has failed again at once: {why}"))
            }
            (Action::Retry, Ok(state)) => (true, format!("{job} is {state} again; it was {before}")),
            (Action::Purge, Ok(_)) => (true, format!("{job} is purged; it was {before}")),
        }
    }
}

/// Does it to the jobs that are meant.
pub(super) fn change(action: Action, what: &Change) -> Result<ExitCode, Error> {
    let jobs = match what.selection.query() {
        None => what.selection.jobs.clone(),
        Some(query) => chosen(action, what, query)?,
    };
    if jobs.is_empty() {
        say("no job is meant by that");
        return Ok(ExitCode::SUCCESS);
    }
    let mut keeper = keeper(what)?;
    let (mut done, mut failed) = (0, 0);
    keeper.change(action, &jobs, &mut |one| {
        let (is_done, text) = action.outcome(one);
        *(if is_done { &mut done } else { &mut failed }) += 1;
        say(&text);
    })?;
    if what.selection.jobs.is_empty() {
        say(&format!("{} {}", counted(done, "job"), action.word()));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The jobs that the database has of a kind.
fn chosen(action: Action, what: &Change, mut query: Query) -> Result<Vec<JobId>, Error> {
    let states = action.states();
    if let Some(&state) = query.states.iter().find(|state| !states.contains(state)) {
        let states: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
        return Err(Error::State {
            state,
            word: action.word(),
            states: states.join(", "),
        });
    }
    if action == Action::Cancel && query.ended_before.is_some() {
        return Err(Error::Age);
    }
    if query.states.is_empty() {
        query.states = states.to_vec();
    }
    let (_, store) = what.place.read()?;
    let mut jobs = Vec::new();
    each(&store, &query, |job| {
        jobs.push(job.id);
        ControlFlow::Continue(())
    })?;
    Ok(jobs)
}

/// Whoever has the database.
fn keeper(what: &Change) -> Result<Box<dyn Keeper>, Error> {
    if let Some(address) = &what.coordinator {
        return Ok(Box::new(Asked::at(address, None)?));
    }
    let path = what.place.path()?;
    match Store::open(&path, Access::Write) {
        Ok(store) => Ok(Box::new(Offline::new(store)?)),
        Err(journal::Error::InUse { holder, .. }) => Ok(Box::new(coordinator_of(&path, holder)?)),
        Err(error) => Err(error.into()),
    }
}

/// The coordinator that has a database open.
fn coordinator_of(path: &Path, holder: String) -> Result<Asked, Error> {
    let store = Store::open(path, Access::Read)?;
    let address = store.setting(ADDRESS)?.filter(|address| !address.is_empty());
    let Some(address) = address else {
        return Err(Error::InUse {
            path: path.into(),
            holder,
            why: "it listens nowhere, so that it cannot be asked; stop it first",
        });
    };
    Asked::at(&address, store.setting(EPOCH)?.as_deref())
}

/// Writes a line to standard output. Nobody may read it any more (`torhost jobs purge … | head`); what is being done is done all the same.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
