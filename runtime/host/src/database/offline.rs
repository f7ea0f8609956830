//! Changing jobs while no coordinator runs: by the engine that the next one will have, so that they become what it would have made of them.
use super::change::{Action, Done, Keeper};
use super::error::Error;
use crate::coordinator::LAST_JOB;
use std::time::Duration;
use torhost_dispatch::{Config, Engine, Output, RetryError, Stored};
use torhost_journal::{Batch, Store};
use torhost_protocol::{JobId, State};

/// A database that nobody else has open.
pub(super) struct Offline {
    store: Store,
    engine: Engine,
    now: Duration,
}

impl Offline {
    /// Reads all that is in it.
    pub(super) fn new(store: Store) -> Result<Offline, Error> {
        store.check()?;
        let last_job = store.setting(LAST_JOB)?;
        let last_job = last_job.and_then(|number| number.parse().ok()).unwrap_or(0);
        // How much is kept, and how much may wait, is for the coordinator to say.
        let config = Config {
            keep: usize::MAX,
            keep_for: Duration::MAX,
            max_queued: usize::MAX,
            // Those that are to be changed are brought back one by one.
            max_resident: 1000,
            max_classes: usize::MAX,
            ..Config::default()
        };
        let now = torhost_journal::now();
        let engine = store.jobs(|jobs| Engine::restore(config, 0, now, last_job, jobs))?;
        Ok(Offline { store, engine, now })
    }

    fn state(&self, id: JobId) -> Option<State> {
        let here = self.engine.job(id).map(|job| job.state.name());
        here.or_else(|| self.engine.is_spilled(id).then_some(State::Queued))
    }

    fn bring_back(&mut self, id: JobId) -> Result<(), Error> {
        if self.engine.is_spilled(id) {
            self.engine.loaded(self.now, self.store.job(id)?);
        }
        Ok(())
    }

    fn change_one(&mut self, action: Action, id: JobId) -> Result<State, String> {
        match action {
            Action::Cancel => self
                .engine
                .cancel(self.now, id)
                .map_err(|error| error.to_string())?,
            Action::Retry => self.engine.retry(self.now, id).map_err(|error| match error {
                RetryError::UnknownJob(error) => error.to_string(),
                RetryError::NotTaken(error) => error.to_string(),
            })?,
            Action::Purge => {
                let purged = self.engine.purge(id).map_err(|error| error.to_string())?;
                return Ok(purged.name());
            }
        }
        self.state(id).ok_or_else(|| "no such job".to_owned())
    }

    /// Writes what has changed.
    fn keep(&mut self) -> Result<(), Error> {
        let mut changed = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            if let Output::Record(job) = output {
                changed.push(job);
            }
        }
        changed.sort_unstable();
        changed.dedup();
        let mut batch = Batch::default();
        for id in changed {
            match self.engine.job(id) {
                Some(job) => batch.jobs.push(Stored::of(id, job)),
                None => batch.forgotten.push(id),
            }
        }
        Ok(self.store.write(&batch, true)?)
    }
}

impl Keeper for Offline {
    fn change(&mut self, action: Action, jobs: &[JobId], tell: &mut dyn FnMut(&Done)) -> Result<(), Error> {
        let mut done = Vec::with_capacity(jobs.len());
        for &job in jobs {
            self.bring_back(job)?;
            let before = self.state(job);
            let after = self.change_one(action, job);
            done.push(Done { job, before, after });
        }
        self.keep()?;
        done.iter().for_each(tell);
        Ok(())
    }
}
