//! Jobs that are in the database and not in memory.
use super::{Coordinator, unknown};
use crate::reactor::Io;
use std::borrow::Cow;
use std::path::PathBuf;
use torhost_dispatch::{Job, Stored};
use torhost_journal::{Access, Error, Loaded, Loader, Store};
use torhost_protocol::{Code, JobId, Refusal};

/// How what is spilled is read.
#[derive(Default)]
pub(super) struct Spilled {
    /// Reads what the engine will need, once it needs something.
    loader: Option<Loader>,
    /// Reads what somebody asks for, at once.
    reader: Option<Store>,
}

impl Spilled {
    fn read(&mut self, path: PathBuf, id: JobId) -> Result<Stored, Error> {
        if self.reader.is_none() {
            self.reader = Some(Store::open(&path, Access::Again)?);
        }
        let found = self.reader.as_ref().map(|reader| reader.job(id)).transpose()?;
        found
            .flatten()
            .ok_or_else(|| Error::Damaged(format!("{id} is not in it")))
    }
}

impl Coordinator {
    /// Has jobs read that the engine will need soon.
    pub(super) fn load(&mut self, io: &Io, jobs: Vec<JobId>) {
        let Some(path) = self.keeping.path() else { return };
        if self.spilled.loader.is_none() {
            let reach = io.reach::<Coordinator>();
            let tell = move |found| reach.post(move |coordinator, io| coordinator.loaded(io, found));
            match Loader::start(path, tell) {
                Ok(loader) => self.spilled.loader = Some(loader),
                Err(error) => return log::error!("cannot start a thread to read jobs: {error}"),
            }
        }
        if let Some(loader) = &self.spilled.loader {
            loader.load(jobs);
        }
    }

    fn loaded(&mut self, io: &mut Io, found: Vec<Loaded>) {
        let now = self.now(io);
        let mut jobs = Vec::with_capacity(found.len());
        for (id, job) in found {
            match job {
                Ok(job) => jobs.push(job),
                Err(why) => self.engine.not_loaded(now, id, &why),
            }
        }
        self.engine.loaded(now, jobs);
        self.act(io);
    }

    /// A job, wherever it is.
    pub(super) fn known(&mut self, id: JobId) -> Result<Cow<'_, Job>, Refusal> {
        if self.engine.is_spilled(id) {
            return self.read(id).map(|stored| Cow::Owned(stored.into()));
        }
        let job = self.engine.job(id).ok_or_else(|| unknown(id))?;
        Ok(Cow::Borrowed(job))
    }

    /// Brings a job back, if it is spilled.
    pub(super) fn bring_back(&mut self, io: &Io, id: JobId) -> Result<(), Refusal> {
        if self.engine.is_spilled(id) {
            let stored = self.read(id)?;
            self.engine.loaded(self.now(io), [stored]);
        }
        Ok(())
    }

    fn read(&mut self, id: JobId) -> Result<Stored, Refusal> {
        let path = self.keeping.path().unwrap_or_default();
        self.spilled.read(path, id).map_err(|error| {
            log::error!("cannot read {id}: {error}");
            Refusal::new(Code::Overloaded, format!("{id} cannot be read just now: {error}"))
        })
    }

    /// The word for where a job stands.
    pub(super) fn state_of(&self, id: JobId) -> Option<&'static str> {
        let here = self.engine.job(id).map(|job| job.state.as_str());
        let queued = torhost_protocol::State::Queued.as_str();
        here.or_else(|| self.engine.is_spilled(id).then_some(queued))
    }
}
