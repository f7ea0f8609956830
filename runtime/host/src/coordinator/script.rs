//! What a script does with a coordinator of its own: it submits, and works, without a connection.
use super::hooks::Question;
use super::{Coordinator, Link, MULTILINE, Way, unknown};
use crate::reactor::Io;
use crate::tor::{Callback, failure};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use torhost_dispatch::{AnswerError, Joining, Progress, WorkerKey};
use torhost_protocol::{Handle, JobId, JobsQuery, Refusal, SubmitOptions};
use torhost_tcl::Obj;

/// How a worker in the script is told what to do.
#[derive(Debug, Clone)]
pub(crate) struct OwnWorker {
    /// Called with a handle and the data.
    pub(crate) assign: Callback,
    /// Called with a handle.
    pub(crate) cancel: Option<Callback>,
}

/// A worker of that name is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerTaken;

impl OwnWorker {
    /// Has the script do an attempt. An error of the callback fails it.
    pub(super) fn assign(&self, io: &Io, worker: WorkerKey, handle: Handle, data: Arc<[u8]>) {
        let question = Question::new(
            io,
            move |coordinator: &mut Coordinator, io, error: Option<String>| {
                if let Some(error) = error {
                    // It may have answered before the error.
                    let _ = coordinator.engine.failed(
                        coordinator.now(io),
                        worker,
                        handle,
                        error.as_bytes(),
                        None,
                    );
                    coordinator.act(io);
                }
            },
        );
        let args = move || {
            let data = Obj::from(String::from_utf8_lossy(&data).into_owned());
            vec![Obj::from(handle.to_string()), data]
        };
        self.assign.call_then(args, move |interp, outcome| {
            if let Err(error) = outcome {
                let failure = failure("-assign of a worker", &error);
                interp.background_error(&failure);
                question.answer(failure.message().to_owned());
            }
        });
    }

    pub(super) fn cancel(&self, handle: Handle) {
        if let Some(cancel) = &self.cancel {
            cancel.call(move || vec![Obj::from(handle.to_string())]);
        }
    }
}

impl Coordinator {
    /// Takes a job of the script's.
    ///
    /// # Errors
    /// When too much waits already, or it cannot be kept; if a job that it is after is not known.
    pub(crate) fn submit(
        &mut self,
        io: &mut Io,
        data: Vec<u8>,
        options: SubmitOptions,
    ) -> Result<JobId, Refusal> {
        let accepted = self.take(io, data.into(), options, None)?;
        self.act(io);
        Ok(accepted.job)
    }

    /// Adds a worker in the script. It counts as alive until it is removed.
    ///
    /// # Errors
    /// If there is a worker of that name.
    pub(crate) fn add_worker(
        &mut self,
        io: &mut Io,
        mut joining: Joining,
        own: OwnWorker,
    ) -> Result<(), WorkerTaken> {
        if self.engine.worker_named(&joining.name).is_some() {
            return Err(WorkerTaken);
        }
        let link = Link {
            way: Way::Script(own),
            kind: "script".to_owned(),
            capabilities: joining.capabilities.clone(),
            weight: joining.weight,
            clock: String::new(),
            interp_ms: None,
        };
        joining.capabilities.push(MULTILINE.into());
        let worker = self.engine.worker_joined(self.now(io), joining);
        self.own.push(worker);
        self.add_link(io, worker, link);
        self.act(io);
        Ok(())
    }

    /// Removes a worker of the script's; its jobs go to others. Whether there was one of that name.
    pub(crate) fn remove_worker(&mut self, io: &mut Io, name: &str) -> bool {
        let worker = self.engine.worker_named(name);
        let Some(worker) = worker.filter(|worker| self.own.contains(worker)) else {
            return false;
        };
        self.own.retain(|&other| other != worker);
        self.links.remove(&worker);
        self.engine.worker_gone(self.now(io), worker, "removed");
        self.act(io);
        true
    }

    /// The worker of the script that has an attempt.
    fn holder(&self, handle: Handle) -> Result<WorkerKey, AnswerError> {
        let holds = |worker: &&WorkerKey| {
            let worker = self.engine.worker(**worker);
            worker.is_some_and(|worker| worker.running.contains(&handle))
        };
        let missing = match self.state_of(handle.job) {
            Some(_) => AnswerError::StaleAttempt,
            None => AnswerError::UnknownJob,
        };
        self.own.iter().find(holds).copied().ok_or(missing)
    }

    /// The script has the result of an attempt.
    ///
    /// # Errors
    /// If the attempt does not count, or is with no worker of the script.
    pub(crate) fn complete(
        &mut self,
        io: &mut Io,
        handle: Handle,
        result: Vec<u8>,
    ) -> Result<(), AnswerError> {
        let worker = self.holder(handle)?;
        let answer = self.engine.completed(self.now(io), worker, handle, result.into());
        self.act(io);
        answer
    }

    /// The script could not do an attempt.
    ///
    /// # Errors
    /// As [`Coordinator::complete`].
    pub(crate) fn fail(&mut self, io: &mut Io, handle: Handle, message: &str) -> Result<(), AnswerError> {
        let worker = self.holder(handle)?;
        let answer = self
            .engine
            .failed(self.now(io), worker, handle, message.as_bytes(), None);
        self.act(io);
        answer
    }

    /// The script says how far it is with an attempt.
    ///
    /// # Errors
    /// As [`Coordinator::complete`].
    pub(crate) fn progress(
        &mut self,
        io: &mut Io,
        handle: Handle,
        progress: Progress,
    ) -> Result<(), AnswerError> {
        let worker = self.holder(handle)?;
        let answer = self.engine.progress(self.now(io), worker, handle, progress);
        self.act(io);
        answer
    }

    /// What `STATUS` answers.
    pub(crate) fn status_value(&self, io: &Io) -> Value {
        self.status(self.now(io))
    }

    /// What `JOB` answers.
    ///
    /// # Errors
    /// If the job is not known.
    pub(crate) fn job_dict(&mut self, id: JobId) -> Result<Value, Refusal> {
        Ok(Self::job_value(id, &*self.known(id)?, false))
    }

    /// What `JOBS` answers.
    pub(crate) fn jobs_dict(&mut self, query: &JobsQuery) -> Value {
        self.jobs_page(query)
    }

    /// Cancels a job, and tells what it is now.
    ///
    /// # Errors
    /// If the job is not known.
    pub(crate) fn cancel(&mut self, io: &mut Io, id: JobId) -> Result<&'static str, Refusal> {
        self.bring_back(io, id)?;
        self.engine.cancel(self.now(io), id).map_err(|_| unknown(id))?;
        self.act(io);
        Ok(self.state_of(id).unwrap_or("cancelled"))
    }

    /// Hands out no more jobs, or hands them out again.
    pub(crate) fn pause(&mut self, io: &mut Io, is_paused: bool) {
        if is_paused {
            self.engine.pause();
        } else {
            self.resume(self.now(io));
        }
        self.act(io);
    }

    /// Hands out jobs again, unless it is to stop.
    pub(super) fn resume(&mut self, now: Duration) {
        if !self.is_draining {
            self.engine.resume(now);
        }
    }

    /// Has all workers take no more jobs, also those that come later, and finish what they have. How many jobs that is.
    pub(crate) fn drain(&mut self, io: &mut Io) -> usize {
        self.is_draining = true;
        self.engine.pause();
        let links = std::mem::take(&mut self.links);
        for (&worker, link) in &links {
            self.drain_worker(io, worker, link);
        }
        self.links = links;
        self.act(io);
        self.engine.counts().running
    }

    pub(super) fn drain_worker(&mut self, io: &mut Io, worker: WorkerKey, link: &Link) {
        self.engine.worker_draining(worker);
        if let Way::Line(conn) = link.way {
            io.send(conn, |out| out.extend_from_slice(b"DRAIN\n"));
        }
    }
}
