//! Queued jobs that are not in memory.
//!
//! When more jobs wait than [`Config::max_resident`](crate::Config::max_resident), those at the end of the queues are spilled: the engine keeps their
//! places and who waits for them, and the host, which has stored them, the rest. Before their turn comes it is asked for them by
//! [`Output::Load`]. Spilled are only jobs that have never been with a worker, that wait for nothing else, and that need not end at
//! a certain time.
use super::{AnswerError, Engine};
use crate::class::{ClassId, Place};
use crate::job::{Job, Outcome, State, Submission};
use crate::jobs::Spilled;
use crate::output::{Client, Output};
use crate::stored::{Stored, StoredState};
use crate::worker::WorkerKey;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use torhost_protocol::JobId;

/// So many of the first jobs of each queue are here, so that workers need not wait for the host.
const AHEAD: usize = 8192;
/// So many jobs that cannot be spilled are passed over, to find some that can.
const MOST_UNFIT: usize = 64;

/// What is spilled, and what could be.
#[derive(Default)]
pub(super) struct Spilling {
    /// How many records there were.
    recorded: u64,
    /// How many of them are stored.
    written: u64,
    /// The last rank that had been given when that was last told.
    last_rank: u64,
    /// How many jobs are spilled.
    count: usize,
    /// Who waits for a spilled job, beside the first.
    waiting: HashMap<JobId, Vec<Client>>,
}

impl Engine {
    /// How many jobs are spilled: of the queued ones, those that [`Engine::job`] does not know.
    pub fn spilled_jobs(&self) -> usize {
        self.spilling.count
    }

    /// Whether a job is spilled. The host that wants to know more of it, or to [cancel](Engine::cancel) it, brings it back first, by
    /// [`Engine::loaded`].
    pub fn is_spilled(&self, id: JobId) -> bool {
        self.jobs.spilled(id).is_some()
    }

    /// So many of all [`Output::Record`] that there were are stored, the first of them: what they say can be brought back.
    pub fn written(&mut self, now: Duration, records: u64) {
        self.spilling.written = records;
        let rank = std::mem::replace(&mut self.spilling.last_rank, self.last_rank);
        if self.spilling.count > 0 || self.counts.queued > self.config.max_resident {
            self.spill_all(now, rank);
        }
    }

    /// Jobs that [`Output::Load`] has asked for, or others that are spilled, as they were stored.
    pub fn loaded(&mut self, now: Duration, jobs: impl IntoIterator<Item = Stored>) {
        let classes: BTreeSet<ClassId> = jobs
            .into_iter()
            .filter_map(|stored| self.bring_back(stored))
            .collect();
        for class in classes {
            self.hand_out(now, class);
        }
    }

    /// A job that [`Output::Load`] has asked for cannot be read, and never will be: it has failed, for this reason.
    pub fn not_loaded(&mut self, now: Duration, id: JobId, reason: &str) {
        let Some(spilled) = self.jobs.spilled(id) else {
            return;
        };
        let place = spilled.place();
        let stored = Stored {
            id,
            submission: Submission {
                priority: place.priority(),
                ..Submission::new([])
            },
            submitted: now,
            state: StoredState::Queued,
            rank: place.rank(),
            attempt: 0,
            failures: 0,
            failed_attempt: 0,
            info: None,
            losses: 0,
            worker: None,
        };
        let class = self.bring_back(stored);
        self.end(now, id, Outcome::Failed, reason.as_bytes().into());
        if let Some(class) = class {
            self.hand_out(now, class);
        }
    }

    /// The number of a record of the job.
    pub(super) fn next_record(&mut self) -> u64 {
        self.spilling.recorded += 1;
        self.spilling.recorded
    }

    /// Spills what is too many, while jobs are restored.
    pub(super) fn spill_restored(&mut self, now: Duration, slack: usize) {
        if self.counts.queued - self.spilling.count > self.config.max_resident.saturating_add(slack) {
            self.spill_all(now, u64::MAX);
        }
    }

    fn spill_all(&mut self, now: Duration, rank: u64) {
        let classes: Vec<ClassId> = self.classes.keys().copied().collect();
        for class in classes {
            self.spill(class, rank);
            if self.refill(class) {
                self.hand_out(now, class);
            }
        }
    }

    /// How many jobs of a queue should be here.
    fn ahead(&self) -> usize {
        AHEAD.min(self.config.max_resident / 2).max(1)
    }

    /// Spills jobs from the end of a queue: all that are after others which are spilled, and further ones if too many are here. Only up to
    /// this rank, after which none is stored yet.
    fn spill(&mut self, id: ClassId, rank: u64) {
        let ahead = self.ahead();
        let here = self.counts.queued - self.spilling.count;
        let mut excess = here.saturating_sub(self.config.max_resident);
        let Some(class) = self.classes.get(&id) else {
            return;
        };
        let mut spare = class.waiting.len().saturating_sub(ahead);
        let (mut behind, mut before) = (Vec::new(), Vec::new());
        let mut unfit = 0;
        let mut last = class.waiting.last_key_value().map(|(&place, _)| place);
        'queue: while let Some(place) = last {
            let first = place.first_of_priority();
            for (&place, &job) in class.waiting.range(first..=place.at_most(rank)).rev() {
                let is_behind = class.spilled.are_before(place);
                if !is_behind && (excess == 0 || spare == 0) {
                    break 'queue;
                }
                if self.can_be_spilled(job) {
                    (excess, spare) = (excess.saturating_sub(1), spare.saturating_sub(1));
                    let end = if is_behind { &mut behind } else { &mut before };
                    end.push((place, job));
                } else {
                    unfit += 1;
                    if unfit > MOST_UNFIT {
                        break 'queue;
                    }
                }
            }
            last = class.waiting.range(..first).next_back().map(|(&place, _)| place);
        }
        // At either end of what is spilled, from there outwards.
        for (place, job) in behind.into_iter().rev().chain(before) {
            self.spill_job(id, place, job);
        }
    }

    fn can_be_spilled(&self, id: JobId) -> bool {
        self.jobs.get(id).is_some_and(|job| {
            job.handed == 0
                && job.record <= self.spilling.written
                && job.submission.deadline.is_none()
                && self.asked != Some(id)
        })
    }

    fn spill_job(&mut self, class: ClassId, place: Place, id: JobId) {
        let (Some(class), Some(job)) = (self.classes.get_mut(&class), self.jobs.get_mut(id)) else {
            return;
        };
        if !class.spilled.push(place, id) {
            return;
        }
        class.waiting.remove(&place);
        let spilled = Spilled::of(job);
        if job.waiting.len() > 1 {
            self.spilling.waiting.insert(id, job.waiting.split_off(1));
        }
        self.jobs.spill(id, spilled);
        self.spilling.count += 1;
    }

    /// Has the next jobs of a queue brought back, if few are here. Whether nothing of it is spilled any more, against the looks.
    pub(super) fn refill(&mut self, id: ClassId) -> bool {
        let ahead = self.ahead();
        let Some(class) = self.classes.get_mut(&id) else {
            return false;
        };
        let is_enough = class.waiting.len() >= ahead && class.head().is_some();
        if class.spilled.is_used_up() || !class.spilled.coming.is_empty() || is_enough {
            return false;
        }
        while class.spilled.coming.len() < ahead.div_ceil(2)
            && let Some((place, job)) = class.spilled.pop()
        {
            // Otherwise it was brought back on its own.
            if self
                .jobs
                .spilled(job)
                .is_some_and(|spilled| spilled.place() == place)
            {
                class.spilled.coming.insert(place, job);
            }
        }
        if class.spilled.is_empty() {
            return true;
        }
        let jobs = class.spilled.coming.values().copied().collect();
        self.outputs.push_back(Output::Load { jobs });
        false
    }

    /// Has the next jobs brought back that a worker could do.
    pub(super) fn refill_for(&mut self, now: Duration, worker: WorkerKey) {
        let Some(worker) = self.workers.get(&worker) else {
            return;
        };
        for id in self.with_spilled(worker.classes.iter().copied()) {
            if self.refill(id) {
                self.dispatch(now, id);
            }
        }
    }

    /// Has the next jobs of all queues brought back.
    pub(super) fn refill_all(&mut self) {
        for id in self.with_spilled(self.classes.keys().copied()) {
            self.refill(id);
        }
    }

    fn with_spilled(&self, classes: impl Iterator<Item = ClassId>) -> Vec<ClassId> {
        let has_some = |id: &ClassId| {
            let class = self.classes.get(id);
            class.is_some_and(|class| !class.spilled.is_empty())
        };
        classes.filter(has_some).collect()
    }

    /// Why an answer to a job is not taken that is not here. One that is spilled is with nobody.
    pub(super) fn not_here(&self, id: JobId) -> AnswerError {
        if self.is_spilled(id) {
            AnswerError::StaleAttempt
        } else {
            AnswerError::UnknownJob
        }
    }

    /// The class of the job, if it was spilled.
    fn bring_back(&mut self, stored: Stored) -> Option<ClassId> {
        let id = stored.id;
        let spilled = *self.jobs.spilled(id)?;
        let mut job = Job::from(stored);
        let place = job.place();
        // What was read may be of before it was brought back and spilled again.
        if place != spilled.place() {
            return None;
        }
        job.class = spilled.class;
        job.state = State::Queued(place);
        job.waiting.extend(spilled.client);
        job.waiting
            .extend(self.spilling.waiting.remove(&id).into_iter().flatten());
        self.jobs.bring_back(id, job);
        self.spilling.count -= 1;
        let class = self.classes.get_mut(&spilled.class)?;
        class.spilled.coming.remove(&place);
        class.waiting.insert(place, id);
        Some(spilled.class)
    }

    /// Has a client told of the end of a spilled job.
    pub(super) fn wait_for_spilled(&mut self, id: JobId, client: Client) {
        let Some(spilled) = self.jobs.spilled_mut(id) else {
            return;
        };
        let first = spilled.client.get_or_insert(client);
        if *first != client {
            let others = self.spilling.waiting.entry(id).or_default();
            if !others.contains(&client) {
                others.push(client);
            }
        }
    }

    /// Who waits for a spilled job.
    pub(super) fn waiting_for_spilled(&self, id: JobId) -> usize {
        let first = self.jobs.spilled(id).and_then(|spilled| spilled.client);
        usize::from(first.is_some()) + self.spilling.waiting.get(&id).map_or(0, Vec::len)
    }

    /// Leaves only those waiting for a spilled job who are wanted.
    pub(super) fn keep_waiting_for_spilled(&mut self, id: JobId, wanted: &mut impl FnMut(&Client) -> bool) {
        if let Some(others) = self.spilling.waiting.get_mut(&id) {
            others.retain(&mut *wanted);
        }
        if let Some(spilled) = self.jobs.spilled_mut(id) {
            spilled.client = spilled.client.filter(wanted);
        }
    }
}
