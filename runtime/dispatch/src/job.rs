//! A job, and what is asked for when it is submitted.
use crate::class::{ClassId, Place};
use crate::output::Client;
use crate::stored::{Stored, StoredState};
use crate::worker::WorkerKey;
use std::sync::Arc;
use std::time::Duration;
use torhost_protocol::JobId;

/// A job as its submitter wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// What to process.
    pub data: Arc<[u8]>,
    /// Jobs of a higher priority go first.
    pub priority: i32,
    /// The capabilities that a worker must have.
    pub requires: Vec<String>,
    /// The jobs that must have completed before: older ones, at most [`torhost_protocol::MAX_AFTER`].
    pub after: Vec<JobId>,
    /// How long the job waits before it is queued, once those have completed.
    pub delay: Duration,
    /// It is not queued before this time of the engine's.
    pub not_before: Duration,
    /// How long an attempt may take without progress.
    pub timeout: Option<Duration>,
    /// How long the job may take in all, from its submission.
    pub deadline: Option<Duration>,
    /// How often it is tried; the engine's setting if it does not say.
    pub attempts: Option<u32>,
    /// A second submission with the same key is the same job.
    pub key: Option<String>,
    /// Jobs with the same one prefer the same worker, under [`crate::Policy::Affinity`].
    pub affinity: Option<String>,
}

impl Submission {
    /// A job of which nothing is asked.
    pub fn new(data: impl Into<Arc<[u8]>>) -> Submission {
        Submission {
            data: data.into(),
            priority: 0,
            requires: Vec::new(),
            after: Vec::new(),
            delay: Duration::ZERO,
            not_before: Duration::ZERO,
            timeout: None,
            deadline: None,
            attempts: None,
            key: None,
            affinity: None,
        }
    }

    /// For how long the job waits from now on before it is queued.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        self.delay.max(self.not_before.saturating_sub(now))
    }
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It waits for other jobs to complete.
    Held {
        /// How many of those have not.
        unmet: u32,
    },
    /// It waits for its time.
    Delayed {
        /// When that is.
        until: Duration,
    },
    /// It waits for a worker.
    Queued(#[doc(hidden)] Place),
    /// It waits with a worker, for a slot of that. To people it is queued; it keeps its place.
    Prefetched {
        /// The worker.
        worker: WorkerKey,
        /// The number that the attempt will have.
        attempt: u32,
        /// Since when.
        since: Duration,
        #[doc(hidden)]
        is_recalled: bool,
        #[doc(hidden)]
        place: Place,
    },
    /// A worker has it.
    Running {
        /// The worker.
        worker: WorkerKey,
        /// Since when.
        since: Duration,
        /// When the attempt has failed for want of progress.
        times_out: Option<Duration>,
    },
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

impl State {
    /// The state's name on the wire.
    pub fn name(&self) -> torhost_protocol::State {
        match self {
            State::Held { .. } => torhost_protocol::State::Held,
            State::Delayed { .. } => torhost_protocol::State::Delayed,
            State::Queued(_) | State::Prefetched { .. } => torhost_protocol::State::Queued,
            State::Running { .. } => torhost_protocol::State::Running,
            State::Ended { outcome, .. } => outcome.name(),
        }
    }

    /// The word for it: `held`, `delayed`, `queued`, `running`, or the outcome.
    pub fn as_str(&self) -> &'static str {
        self.name().as_str()
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A worker gave its result.
    Completed,
    /// All attempts failed, or too many workers were lost: a dead letter.
    Failed,
    /// A client wanted it no more.
    Cancelled,
    /// Its last attempt timed out, or its deadline passed: a dead letter too.
    Expired,
}

impl Outcome {
    /// The outcome's name on the wire.
    pub fn name(self) -> torhost_protocol::State {
        match self {
            Outcome::Completed => torhost_protocol::State::Completed,
            Outcome::Failed => torhost_protocol::State::Failed,
            Outcome::Cancelled => torhost_protocol::State::Cancelled,
            Outcome::Expired => torhost_protocol::State::Expired,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        self.name().as_str()
    }
}

/// What a worker said of the work that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: f64,
    /// What it notes.
    pub note: String,
}

/// A job that is known.
#[derive(Debug, Clone)]
pub struct Job {
    /// As it was submitted.
    pub submission: Submission,
    /// Where it stands.
    pub state: State,
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
    /// The worker of the last attempt.
    pub worker: Option<Arc<str>>,
    /// The last progress of the last attempt.
    pub progress: Option<Progress>,
    /// When it was submitted.
    pub submitted: Duration,
    /// The last number of an attempt that a worker was sent, if only beforehand, and has not given back.
    pub(crate) handed: u32,
    pub(crate) class: ClassId,
    /// The number of its last record; 0 if there was none.
    pub(crate) record: u64,
    /// What it was queued after: jobs of one priority go in this order.
    pub(crate) rank: u64,
    /// Who is told when it ends.
    pub(crate) waiting: Vec<Client>,
}

impl Job {
    /// When the whole job expires.
    pub fn deadline(&self) -> Option<Duration> {
        let deadline = self.submission.deadline?;
        Some(self.submitted.saturating_add(deadline))
    }

    pub(crate) fn place(&self) -> Place {
        Place::new(self.submission.priority, self.rank)
    }
}

/// The job as it was stored. One that was with a worker is queued.
impl From<Stored> for Job {
    fn from(stored: Stored) -> Job {
        let state = match stored.state {
            StoredState::Held => State::Held { unmet: 0 },
            StoredState::Delayed { until } => State::Delayed { until },
            StoredState::Queued | StoredState::Running => {
                State::Queued(Place::new(stored.submission.priority, stored.rank))
            }
            StoredState::Ended { outcome, at, result } => State::Ended { outcome, at, result },
        };
        Job {
            submission: stored.submission,
            state,
            attempt: stored.attempt,
            handed: stored.attempt,
            failures: stored.failures,
            failed_attempt: stored.failed_attempt,
            info: stored.info,
            losses: stored.losses,
            worker: stored.worker,
            progress: None,
            submitted: stored.submitted,
            class: ClassId(0),
            record: 0,
            rank: stored.rank,
            waiting: Vec::new(),
        }
    }
}
