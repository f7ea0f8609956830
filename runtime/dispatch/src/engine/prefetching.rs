//! Jobs that workers are sent beforehand.
//!
//! A worker whose slots are all taken is sent further jobs if it wants them, so that it need not wait for the next one once it has answered.
//! It begins them in the order in which they were sent, as its slots become free: so an answer tells that the next one has begun. Until
//! then a job is still queued. It keeps its place, its time has not begun, nothing of it is stored, and if the worker goes, no worker was
//! lost to it.
//!
//! A job that is kept waiting so for longer than [`PATIENCE`] while another worker is free is recalled from the one for the other. If it is kept waiting for
//! longer than [`OVERTAKEN`] while another does what came after it, all that its worker has not begun is recalled, and it is sent nothing beforehand until it
//! answers.
use super::{AnswerError, Engine, Timer};
use crate::class::{ClassId, Place};
use crate::job::State;
use crate::output::Output;
use crate::worker::{Room, WorkerKey};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use torhost_protocol::{Handle, JobId};

/// How long a prefetched job waits before another worker may have it. Longer than a job takes that is worth prefetching.
const PATIENCE: Duration = Duration::from_millis(5);

/// How long it waits while jobs from behind it are handed out to others. Much longer, as it is usual to wait for a few others where all prefetch.
const OVERTAKEN: Duration = Duration::from_millis(100);

/// Which jobs are to be looked after.
#[derive(Default)]
pub(super) struct Prefetching {
    /// Those that were prefetched of late, and when.
    sent: VecDeque<(Duration, Handle)>,
    /// When the timer for that is set for.
    looks_at: Option<Duration>,
}

impl Engine {
    /// A worker gives an attempt back that it was sent beforehand and has not begun, as it was [recalled](Output::Recall). The job is where it was
    /// in its queue, and its next attempt has that number. A worker that gives back what was not recalled is sent nothing beforehand from then on:
    /// it would get it again at once.
    ///
    /// # Errors
    /// If the worker had not been sent it beforehand, or must have begun it.
    pub fn returned(&mut self, now: Duration, key: WorkerKey, handle: Handle) -> Result<(), AnswerError> {
        self.heard(now, key);
        let was_there = self.take_prefetched(key, handle);
        if was_there {
            if let Some(job) = self.jobs.get_mut(handle.job)
                && let State::Prefetched {
                    worker,
                    attempt,
                    is_recalled,
                    ..
                } = job.state
                && (worker, attempt) == (key, handle.attempt)
            {
                job.handed = attempt - 1;
                if !is_recalled && let Some(worker) = self.workers.get_mut(&key) {
                    worker.prefetch = 0;
                }
            }
            let classes = self.put_back(key, [handle]);
            self.hand_out_all(now, &classes);
        }
        self.feed(now, key);
        if was_there {
            Ok(())
        } else {
            Err(AnswerError::StaleAttempt)
        }
    }

    /// Notes that a job was sent to a worker beforehand.
    pub(super) fn prefetched(&mut self, now: Duration, key: WorkerKey, handle: Handle, place: Place) {
        if let Some(job) = self.jobs.get_mut(handle.job) {
            job.state = State::Prefetched {
                worker: key,
                attempt: handle.attempt,
                since: now,
                is_recalled: false,
                place,
            };
        }
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.prefetched.push_back(handle);
        }
        self.prefetching.sent.push_back((now, handle));
        if self.prefetching.looks_at.is_none() {
            self.look_at(now.saturating_add(PATIENCE));
        }
    }

    /// A worker begins the next of what it was sent beforehand, if it has a free slot. Returns it if it is another attempt of the job that was just answered:
    /// whether it can be claimed depends on the answer.
    pub(super) fn promote(&mut self, now: Duration, key: WorkerKey, answered: JobId) -> Option<Handle> {
        let mut again = None;
        while let Some(worker) = self.workers.get_mut(&key)
            && worker.running.len() < worker.slots as usize
            && let Some(handle) = worker.prefetched.pop_front()
        {
            worker.running.insert(handle);
            // So it does if it was cancelled, or another has begun it meanwhile.
            if handle.job == answered {
                again = Some(handle);
            } else {
                self.claim(now, key, handle);
            }
        }
        again
    }

    /// A worker says something of an attempt. If it was sent that beforehand, it has begun, whatever came before.
    pub(super) fn begin_prefetched(&mut self, now: Duration, key: WorkerKey, handle: Handle) {
        if self.take_prefetched(key, handle) {
            if let Some(worker) = self.workers.get_mut(&key) {
                worker.running.insert(handle);
            }
            self.claim(now, key, handle);
        }
    }

    /// Whether the worker was sent the attempt beforehand. From now on it was not.
    fn take_prefetched(&mut self, key: WorkerKey, handle: Handle) -> bool {
        let Some(worker) = self.workers.get_mut(&key) else {
            return false;
        };
        if worker.prefetched.is_empty() || worker.running.contains(&handle) {
            return false;
        }
        let at = worker.prefetched.iter().position(|&other| other == handle);
        at.and_then(|at| worker.prefetched.remove(at)).is_some()
    }

    /// Whether the job waits with this worker, for this attempt.
    fn is_prefetched(&self, key: WorkerKey, handle: Handle) -> bool {
        self.jobs.get(handle.job).is_some_and(|job| {
            matches!(job.state, State::Prefetched { worker, attempt, .. } if (worker, attempt) == (key, handle.attempt))
        })
    }

    /// Jobs that a worker was sent beforehand, and will not begin, are where they were in their queues, of which classes these are.
    pub(super) fn put_back(
        &mut self,
        key: WorkerKey,
        handles: impl IntoIterator<Item = Handle>,
    ) -> BTreeSet<ClassId> {
        let mut classes = BTreeSet::new();
        for handle in handles {
            if self.is_prefetched(key, handle) {
                self.unstick(handle.job);
                classes.extend(self.queue(handle.job));
            }
        }
        classes
    }

    /// Asks a worker for all that it was sent beforehand.
    pub(super) fn recall_all(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get(&key) else {
            return;
        };
        for handle in worker.prefetched.clone() {
            if self.is_prefetched(key, handle) {
                self.recall(handle.job);
            } else {
                self.outputs.push_back(Output::Recall { worker: key, handle });
            }
        }
    }

    /// Asks for a job, if it waits with a worker: once.
    pub(super) fn recall(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(id)
            && let State::Prefetched {
                worker,
                attempt,
                is_recalled: is_recalled @ false,
                ..
            } = &mut job.state
        {
            *is_recalled = true;
            let handle = Handle {
                job: id,
                attempt: *attempt,
            };
            self.outputs.push_back(Output::Recall {
                worker: *worker,
                handle,
            });
            self.unstick(id);
        }
    }

    /// A prefetched job waits for nobody to ask for it.
    pub(super) fn unstick(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(id)
            && let State::Prefetched { place, .. } = job.state
            && let Some(class) = self.classes.get_mut(&job.class)
        {
            class.stuck.remove(&place);
        }
    }

    fn look_at(&mut self, at: Duration) {
        self.prefetching.looks_at = Some(at);
        self.timers.insert((at, Timer::Prefetched));
    }

    /// The time may have come to look after prefetched jobs.
    pub(super) fn look_after_prefetched(&mut self, now: Duration) {
        self.prefetching.looks_at = None;
        while let Some(&(sent, handle)) = self.prefetching.sent.front()
            && sent.saturating_add(PATIENCE) <= now
        {
            self.prefetching.sent.pop_front();
            if let Some(job) = self.jobs.get(handle.job)
                && let State::Prefetched {
                    attempt,
                    place,
                    is_recalled: false,
                    ..
                } = job.state
                && attempt == handle.attempt
                && let Some(class) = self.classes.get_mut(&job.class)
            {
                class.stuck.insert(place, handle.job);
            }
        }
        let mut is_more = false;
        let classes: Vec<ClassId> = self.classes.keys().copied().collect();
        for id in classes {
            is_more |= self.recall_stuck(id, usize::MAX);
        }
        let next = self.prefetching.sent.front().map(|&(sent, _)| sent);
        if let Some(at) = next.or(is_more.then_some(now)) {
            self.look_at(at.saturating_add(PATIENCE));
        }
    }

    /// Recalls as many jobs as there are free workers for them, or so many. Whether there are more, and free workers.
    fn recall_stuck(&mut self, id: ClassId, most: usize) -> bool {
        let Some(class) = self.classes.get_mut(&id).filter(|_| !self.paused) else {
            return false;
        };
        let mut recalled = Vec::new();
        for _ in 0..class.free.len().min(most) {
            recalled.extend(class.stuck.pop_first());
        }
        let is_more = !class.stuck.is_empty() && !class.free.is_empty();
        for (_, job) in recalled {
            self.recall(job);
        }
        is_more
    }

    /// A worker has got what there was for it. If it has a free slot left, it may have what another has kept waiting; and if there was enough, what has long been
    /// overtaken by that is to come first.
    pub(super) fn recall_for(&mut self, now: Duration, key: WorkerKey) {
        let is_stuck = |id: &ClassId| self.classes.get(id).is_some_and(|class| !class.stuck.is_empty());
        let Some(worker) = self.workers.get(&key) else {
            return;
        };
        let mut stuck = worker.classes.iter().copied().filter(is_stuck);
        if worker.listed == Some(Room::Slot)
            && let Some(class) = stuck.next()
        {
            let is_more = stuck.next().is_some();
            if (self.recall_stuck(class, 1) || is_more) && self.prefetching.looks_at.is_none() {
                self.look_at(now.saturating_add(PATIENCE));
            }
            return;
        }
        let overtaken = worker.classes.iter().find_map(|id| {
            let class = self.classes.get(id)?;
            let (place, &job) = class.stuck.first_key_value()?;
            let State::Prefetched { worker, since, .. } = self.jobs.get(job)?.state else {
                return None;
            };
            let waits = worker != key && since.saturating_add(OVERTAKEN) <= now;
            (waits && place < class.head()?.0).then_some(worker)
        });
        if let Some(slow) = overtaken.filter(|_| !self.paused) {
            self.unlist(slow);
            self.recall_all(slow);
            if let Some(slow) = self.workers.get_mut(&slow) {
                slow.is_behind = true;
            }
        }
    }
}
