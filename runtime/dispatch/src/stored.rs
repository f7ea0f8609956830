//! What is kept of a job, for an engine that goes on after its host was stopped.
use crate::job::{Job, Outcome, State, Submission};
use std::sync::Arc;
use std::time::Duration;
use torhost_protocol::JobId;

/// All of a job that must be kept to restore it: see [`crate::Engine::restore`]. Cheap to make, since data and results are shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its id.
    pub id: JobId,
    /// As it was submitted.
    pub submission: Submission,
    /// When it was submitted.
    pub submitted: Duration,
    /// Where it stands.
    pub state: StoredState,
    /// Its place among the jobs of its priority: lower is sooner.
    pub rank: u64,
    /// The last attempt that has begun; 0 before the first.
    pub attempt: u32,
    /// How many attempts have failed.
    pub failures: u32,
    /// The last attempt that has failed; 0 if none has.
    pub failed_attempt: u32,
    /// Where the last failure came from, if the worker said so.
    pub info: Option<Arc<str>>,
    /// How many workers were lost while they had it.
    pub losses: u32,
    /// The name of the worker of the last attempt.
    pub worker: Option<Arc<str>>,
}

/// Where a stored job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredState {
    /// It waits for the jobs that it is after. One of those that is not stored had completed.
    Held,
    /// It waits for its time.
    Delayed {
        /// When that is.
        until: Duration,
    },
    /// It waits for a worker.
    Queued,
    /// A worker has it; when the engine is restored, it is queued.
    Running,
    /// It is over.
    Ended {
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: Duration,
        /// The result, or why there is none.
        result: Arc<[u8]>,
    },
}

impl Stored {
    /// What is to be kept of a job as it is now.
    pub fn of(id: JobId, job: &Job) -> Stored {
        let state = match &job.state {
            State::Held { .. } => StoredState::Held,
            State::Delayed { until } => StoredState::Delayed { until: *until },
            State::Queued(_) | State::Prefetched { .. } => StoredState::Queued,
            State::Running { .. } => StoredState::Running,
            State::Ended { outcome, at, result } => StoredState::Ended {
                outcome: *outcome,
                at: *at,
                result: result.clone(),
            },
        };
        Stored {
            id,
            submission: job.submission.clone(),
            submitted: job.submitted,
            state,
            rank: job.rank,
            attempt: job.attempt,
            failures: job.failures,
            failed_attempt: job.failed_attempt,
            info: job.info.clone(),
            losses: job.losses,
            worker: job.worker.clone(),
        }
    }
}

impl StoredState {
    /// The state's name on the wire.
    pub fn name(&self) -> torhost_protocol::State {
        match self {
            StoredState::Held => torhost_protocol::State::Held,
            StoredState::Delayed { .. } => torhost_protocol::State::Delayed,
            StoredState::Queued => torhost_protocol::State::Queued,
            StoredState::Running => torhost_protocol::State::Running,
            StoredState::Ended { outcome, .. } => outcome.name(),
        }
    }
}
