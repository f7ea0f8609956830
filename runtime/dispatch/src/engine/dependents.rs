//! Jobs that are held after others, and what the end of those means for them.
//!
//! A job is held from its submission, so it is after older jobs only, and no cycle can be made. It goes on when all that it is after have
//! completed. When one of them ends otherwise it fails, and with it those that are held after it.
use super::{Engine, SubmitError};
use crate::job::{Outcome, State};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use torhost_protocol::{JobId, MAX_AFTER};

/// Which jobs are held after which.
#[derive(Default)]
pub(super) struct Dependents {
    /// A job that has not ended, and one that is held after it.
    pairs: BTreeSet<(JobId, JobId)>,
}

impl Dependents {
    /// The jobs that are held after this one, oldest first. They are not held after it any more.
    fn take(&mut self, id: JobId) -> Vec<JobId> {
        let of = |&(_, dependent): &(JobId, JobId)| dependent;
        let range = (id, JobId(0))..=(id, JobId(u64::MAX));
        let dependents: Vec<JobId> = self.pairs.range(range).map(of).collect();
        for &dependent in &dependents {
            self.pairs.remove(&(id, dependent));
        }
        dependents
    }

    /// A job is not held any more.
    pub(super) fn forget(&mut self, id: JobId, after: &[JobId]) {
        for &dependency in after {
            self.pairs.remove(&(dependency, id));
        }
    }
}

/// What the jobs that a job is after mean for it.
pub(super) enum Dependencies {
    /// So many have not ended yet; if none, it may go on.
    Unmet(u32),
    /// This one has ended otherwise than completed.
    Broken(JobId, Outcome),
}

impl Engine {
    /// Whether a job may be after these.
    pub(super) fn check_after(&self, after: &[JobId]) -> Result<(), SubmitError> {
        if after.len() > MAX_AFTER {
            return Err(SubmitError::TooManyDependencies(after.len()));
        }
        match after.iter().find(|&&id| !self.jobs.knows(id)) {
            Some(&id) => Err(SubmitError::UnknownDependency(id)),
            None => Ok(()),
        }
    }

    /// Holds a job that is counted as delayed, until its dependencies have completed. What they mean for it now.
    pub(super) fn hold(&mut self, id: JobId) -> Dependencies {
        let Some(job) = self.jobs.get(id) else {
            return Dependencies::Unmet(0);
        };
        let (mut unmet, mut broken) = (0, None);
        for &dependency in &job.submission.after {
            if self.is_spilled(dependency) {
                self.dependents.pairs.insert((dependency, id));
                unmet += 1;
                continue;
            }
            match self.jobs.get(dependency).map(|job| &job.state) {
                // One that is forgotten had completed, or this job would have failed before.
                None
                | Some(State::Ended {
                    outcome: Outcome::Completed,
                    ..
                }) => {}
                Some(State::Ended { outcome, .. }) => {
                    broken.get_or_insert((dependency, *outcome));
                }
                Some(_) => {
                    self.dependents.pairs.insert((dependency, id));
                    unmet += 1;
                }
            }
        }
        if let Some(job) = self.jobs.get_mut(id) {
            job.state = State::Held { unmet };
            self.counts.delayed -= 1;
            self.counts.held += 1;
        }
        match broken {
            Some((dependency, outcome)) => Dependencies::Broken(dependency, outcome),
            None => Dependencies::Unmet(unmet),
        }
    }

    /// Has a held job go on, or fail, if its dependencies say so.
    pub(super) fn settle(&mut self, now: Duration, id: JobId, dependencies: Dependencies) {
        match dependencies {
            Dependencies::Unmet(0) => self.let_go(now, id),
            Dependencies::Unmet(_) => {}
            Dependencies::Broken(dependency, outcome) => {
                self.end(now, id, Outcome::Failed, because_of(dependency, outcome));
            }
        }
    }

    /// A held job goes on: its delay begins, in the place among the others that it was given when it was submitted.
    fn let_go(&mut self, now: Duration, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if !matches!(job.state, State::Held { .. }) {
            return;
        }
        job.state = State::Delayed { until: now };
        let wait = job.submission.wait(now);
        self.counts.held -= 1;
        self.counts.delayed += 1;
        self.note(id);
        self.wait_or_enqueue(now, id, wait);
    }

    /// Ends a job. Those that are held after it go on, or fail.
    pub(super) fn end(&mut self, now: Duration, id: JobId, outcome: Outcome, result: Arc<[u8]>) {
        self.end_alone(now, id, outcome, result);
        if self.dependents.pairs.is_empty() {
            return;
        }
        // Not by recursion: a chain of jobs may be long.
        let mut failed = Vec::new();
        let mut ended = Some((id, outcome));
        while let Some((id, outcome)) = ended {
            for dependent in self.dependents.take(id) {
                if outcome == Outcome::Completed {
                    self.dependency_completed(now, dependent);
                } else {
                    self.end_alone(now, dependent, Outcome::Failed, because_of(id, outcome));
                    failed.push((dependent, Outcome::Failed));
                }
            }
            ended = failed.pop();
        }
    }

    fn dependency_completed(&mut self, now: Duration, id: JobId) {
        if let Some(job) = self.jobs.get_mut(id)
            && let State::Held { unmet } = &mut job.state
        {
            *unmet -= 1;
            if *unmet == 0 {
                self.let_go(now, id);
            }
        }
    }
}

/// Why a job failed that was held after another.
fn because_of(dependency: JobId, outcome: Outcome) -> Arc<[u8]> {
    let how = match outcome {
        Outcome::Completed => "completed",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "was cancelled",
        Outcome::Expired => "expired",
    };
    format!("dependency {dependency} {how}").into_bytes().into()
}
