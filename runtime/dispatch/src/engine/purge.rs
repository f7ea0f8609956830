//! Forgetting a job before its time.
use super::{Engine, UnknownJob};
use crate::job::{Outcome, State};
use std::time::Duration;
use torhost_protocol::JobId;

/// Why a job was not purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// There is no such job, or it is forgotten.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// It has not ended.
    #[error("{0} is {1}: cancel it first")]
    NotEnded(JobId, torhost_protocol::State),
}

impl Engine {
    /// Forgets an ended job and its result now. Its key may be used again, and no other job can be after it any more; those that are
    /// after it already have been told how it ended. Returns how that was.
    ///
    /// # Errors
    /// If the job is not known, or has not ended.
    pub fn purge(&mut self, id: JobId) -> Result<Outcome, PurgeError> {
        if self.is_spilled(id) {
            return Err(PurgeError::NotEnded(id, torhost_protocol::State::Queued));
        }
        let job = self.jobs.get(id).ok_or(UnknownJob)?;
        let State::Ended { outcome, at, .. } = job.state else {
            return Err(PurgeError::NotEnded(id, job.state.name()));
        };
        // A job that was forgotten before and came back after a crash may have left its key to another.
        if let Some(key) = &job.submission.key
            && self.keys.get(key.as_str()) == Some(&id)
        {
            self.keys.remove(key.as_str());
        }
        // What is left of it there would count as a job that is remembered.
        if let Some(place) = self.place_among_ended(at, id) {
            self.ended.remove(place);
        }
        self.jobs.remove(id);
        self.note(id);
        Ok(outcome)
    }

    /// Jobs are there in the order in which they ended, unless the clock was set back between two lives of the engine.
    fn place_among_ended(&self, at: Duration, id: JobId) -> Option<usize> {
        let first = self.ended.partition_point(|&(ended, _)| ended < at);
        let same = self.ended.range(first..).take_while(|&&(ended, _)| ended == at);
        let place = same.map(|&(_, job)| job).position(|job| job == id);
        place
            .map(|place| first + place)
            .or_else(|| self.ended.iter().position(|&ended| ended == (at, id)))
    }
}
