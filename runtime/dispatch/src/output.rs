//! What an engine wants done.
use crate::job::Outcome;
use crate::worker::WorkerKey;
use std::sync::Arc;
use torhost_protocol::{Handle, JobId};

/// Somebody who is told how jobs end. The number is the host's own; it should not be given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(pub u64);

/// Something for the host to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a worker an attempt, to begin as soon as it has a free slot.
    Assign {
        /// The worker.
        worker: WorkerKey,
        /// What it answers with.
        handle: Handle,
        /// What to process.
        data: Arc<[u8]>,
    },
    /// Keep what [`crate::Stored::of`] says of this job now, or drop what is kept if the engine knows it no more. Only after
    /// [`crate::Engine::record`].
    ///
    /// A host that promises more than it can remember keeps two rules. The acceptance that `submit` returned is told to the
    /// client only when the record that came with it is on disk; and what a later [`Output::Ended`] says is told only when all records
    /// before it are that are of this job or of jobs with lower numbers. Everything else need not wait: an attempt whose beginning was not recorded is made again, and may then have
    /// a handle that was given before, but an answer counts only from the worker that has it now.
    Record(JobId),
    /// Bring back jobs that are spilled, by [`crate::Engine::loaded`], soon: they are the next of their queue. Only if
    /// [`crate::Engine::written`] is called.
    Load {
        /// The jobs, in their order.
        jobs: Vec<JobId>,
    },
    /// Tell a worker to stop an attempt. Its slot is free again when it answers.
    Cancel {
        /// The worker.
        worker: WorkerKey,
        /// The attempt.
        handle: Handle,
    },
    /// Ask a worker for an attempt that it was sent beforehand and has not begun: [`crate::Engine::returned`]. If it has, there is
    /// nothing to do.
    Recall {
        /// The worker.
        worker: WorkerKey,
        /// The attempt.
        handle: Handle,
    },
    /// Say which worker gets a job, by [`crate::Engine::chosen`]. Only under [`crate::Policy::Asked`], and not again before
    /// that is answered.
    Choose {
        /// The job.
        job: JobId,
        /// The workers that could take it now.
        candidates: Vec<WorkerKey>,
    },
    /// Tell a client how a job ended.
    Ended {
        /// Who waited.
        client: Client,
        /// The job.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
        /// Its result, or why there is none.
        result: Arc<[u8]>,
    },
    /// Tell those who watch. See [`crate::Engine::report_events`].
    Event(Event),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What, as `docs/protocol.md` lists it.
    pub name: &'static str,
    /// The job that it happened to.
    pub job: Option<JobId>,
    /// The worker's name.
    pub worker: Option<Arc<str>>,
    /// The number of the attempt.
    pub attempt: Option<u32>,
    /// Why.
    pub reason: Option<String>,
    /// For `progress`: percent, and what the worker notes.
    pub progress: Option<(f64, String)>,
}

impl Event {
    /// Whether an event of this name is rare: of workers, and of attempts that failed or were lost. These are told also when nobody
    /// has asked for all.
    pub fn is_rare(name: &str) -> bool {
        matches!(
            name,
            "requeued" | "retried" | "worker-up" | "worker-down" | "worker-suspect"
        )
    }
}
