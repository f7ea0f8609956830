//! The engine: what happened in, what is to be done out.
mod dependents;
mod prefetching;
mod purge;
mod spilling;

use crate::balance::{self, Free, Standing};
use crate::class::{Class, ClassId};
use crate::config::{Config, Policy};
use crate::job::{Job, Outcome, Progress, State, Submission};
use crate::jobs::Jobs;
use crate::output::{Client, Event, Output};
use crate::random::Random;
use crate::stored::Stored;
use crate::worker::{Joining, Room, Worker, WorkerKey};
use dependents::{Dependencies, Dependents};
use prefetching::Prefetching;
pub use purge::PurgeError;
use rustc_hash::{FxHashMap, FxHashSet};
use spilling::Spilling;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use torhost_protocol::{Handle, JobId, MAX_AFTER};

/// What a worker's virtual time grows by for a job, if its weight is 1.
const STRIDE: u64 = 1 << 20;
/// How many attempts of a job may have been handed out without that being stored.
const UNSTORED: u32 = 1000;
/// Classes without jobs that are kept, since the next job is likely to be of one of them.
const SPARE_CLASSES: usize = 64;
/// So many jobs are spilled at a time while jobs are restored.
const SPILLED_AT_ONCE: usize = 1000;

/// A dispatch engine.
pub struct Engine {
    config: Config,
    jobs: Jobs,
    last_job: u64,
    last_rank: u64,
    /// By submission key. What others choose is hashed so that they cannot choose collisions.
    keys: HashMap<Arc<str>, JobId>,
    /// Ended jobs, in the order in which they ended.
    ended: VecDeque<(Duration, JobId)>,
    dependents: Dependents,
    spilling: Spilling,
    prefetching: Prefetching,
    /// When the timer for forgetting them is set for.
    forgets_at: Option<Duration>,
    classes: FxHashMap<ClassId, Class>,
    by_requirement: HashMap<Vec<String>, ClassId>,
    last_class: u32,
    workers: BTreeMap<WorkerKey, Worker>,
    by_name: HashMap<Arc<str>, WorkerKey>,
    last_worker: u64,
    /// The worker that got the last job, and how many jobs were given out in all.
    last_assigned: WorkerKey,
    assignments: u64,
    /// The virtual time of the last worker chosen by weight.
    pass: u64,
    /// The job that the host was asked for a worker for.
    asked: Option<JobId>,
    timers: BTreeSet<(Duration, Timer)>,
    counts: Counts,
    paused: bool,
    events: bool,
    records: bool,
    outputs: VecDeque<Output>,
    random: Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A delay is over.
    Due(JobId),
    /// An attempt may have taken too long.
    Attempt(Handle),
    /// A job has taken too long in all.
    Deadline(JobId),
    /// A worker may have been silent for too long.
    Health(WorkerKey),
    /// The oldest result may be forgotten.
    Forget,
    /// Prefetched jobs may have waited for too long.
    Prefetched,
}

/// How many jobs there are: now, for those that live, and ever, for outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Wait for other jobs to complete.
    pub held: usize,
    /// Wait for their time.
    pub delayed: usize,
    /// Wait for a worker, or with one for a slot.
    pub queued: usize,
    /// Are with a worker.
    pub running: usize,
    /// Have a result.
    pub completed: u64,
    /// Were given up.
    pub failed: u64,
    /// Were cancelled.
    pub cancelled: u64,
    /// Took too long.
    pub expired: u64,
}

/// A job that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub job: JobId,
    /// False if it was submitted before, with the same key.
    pub is_new: bool,
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// [`Config::max_queued`] jobs wait.
    #[error("{0} jobs are waiting; try again later")]
    QueueFull(usize),
    /// Jobs of [`Config::max_classes`] different requirements are there.
    #[error("too many different combinations of requires")]
    TooManyClasses,
    /// It is after more than [`MAX_AFTER`] jobs.
    #[error("a job can be after {MAX_AFTER} others at most, not {0}")]
    TooManyDependencies(usize),
    /// A job that it is after is not known, or forgotten.
    #[error("no such job: {0}")]
    UnknownDependency(JobId),
}

/// There is no such job, or it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such job")]
pub struct UnknownJob;

/// Why a job was not queued again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// There is no such job, or it is forgotten.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// Too much waits already.
    #[error(transparent)]
    NotTaken(#[from] SubmitError),
}

/// Why a worker's answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no such job, or it is forgotten.
    #[error("no such job")]
    UnknownJob,
    /// The attempt does not count any more, or was never this worker's.
    #[error("this attempt does not count")]
    StaleAttempt,
}

impl Engine {
    /// An engine without jobs and workers. All its random choices follow from `seed`.
    pub fn new(config: Config, seed: u64) -> Engine {
        Engine {
            config,
            jobs: Jobs::default(),
            last_job: 0,
            last_rank: 0,
            keys: HashMap::new(),
            ended: VecDeque::new(),
            dependents: Dependents::default(),
            spilling: Spilling::default(),
            prefetching: Prefetching::default(),
            forgets_at: None,
            classes: FxHashMap::default(),
            by_requirement: HashMap::new(),
            last_class: 0,
            workers: BTreeMap::new(),
            by_name: HashMap::new(),
            last_worker: 0,
            last_assigned: WorkerKey(0),
            assignments: 0,
            pass: 0,
            asked: None,
            timers: BTreeSet::new(),
            counts: Counts::default(),
            paused: false,
            events: false,
            records: false,
            outputs: VecDeque::new(),
            random: Random(seed),
        }
    }

    /// An engine that goes on with the jobs of an earlier one. Those that were with a worker are queued, where they stood before. `now` is
    /// measured from the same origin as the stored times, so a host that keeps them chooses one that outlives it, such as 1970.
    ///
    /// The jobs come in the order of their numbers. It records, as after [`Engine::record`]. `last_job` is the highest number that may
    /// have been given. A job whose acceptance was not recorded may still be with a worker, so its number must not be given to another
    /// job.
    pub fn restore(
        config: Config,
        seed: u64,
        now: Duration,
        last_job: u64,
        jobs: impl IntoIterator<Item = Stored>,
    ) -> Engine {
        let mut engine = Engine::new(config, seed);
        let mut held = Vec::new();
        for job in jobs {
            let id = job.id;
            if let Some(dependencies) = engine.restore_job(now, job) {
                held.push((id, dependencies));
            }
            engine.spill_restored(now, SPILLED_AT_ONCE);
        }
        engine.spill_restored(now, 0);
        engine.last_job = engine.last_job.max(last_job);
        engine.ended.make_contiguous().sort_unstable();
        engine.records = true;
        // Only now, as it changes what is kept, and may forget what others are after.
        for (id, dependencies) in held {
            engine.settle(now, id, dependencies);
        }
        engine.forget(now);
        engine
    }

    /// What its dependencies mean for it, if the job is held.
    fn restore_job(&mut self, now: Duration, stored: Stored) -> Option<Dependencies> {
        let id = stored.id;
        (self.last_job, self.last_rank) = (self.last_job.max(id.0), self.last_rank.max(stored.rank));
        if let Some(key) = &stored.submission.key {
            self.keys.insert(key.as_str().into(), id);
        }
        let mut job = Job::from(stored);
        if let State::Ended { outcome, at, .. } = job.state {
            self.jobs.insert(id, job);
            self.ended.push_back((at, id));
            *self.ended_count(outcome) += 1;
            return None;
        }
        // What was accepted is kept, however many different requirements are allowed by now.
        job.class = self.class_of(&job.submission.requires);
        let is_held = matches!(job.state, State::Held { .. });
        let until = match job.state {
            State::Delayed { until } => until,
            _ => now,
        };
        self.jobs.insert(id, job);
        self.count_as_delayed(id);
        if is_held {
            return Some(self.hold(id));
        }
        if until > now {
            self.delay(id, until);
        } else {
            self.enqueue(now, id);
        }
        None
    }

    // ------------------------------------------------------------------------------------------------------- the host

    /// The next thing to do, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Engine::handle_timeout`], unless something happens before that changes it.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some(&(at, timer)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            match timer {
                Timer::Due(id) => self.due(now, id),
                Timer::Attempt(handle) => self.attempt_timer(now, handle),
                Timer::Deadline(id) => self.deadline_timer(now, id),
                Timer::Health(worker) => self.health_timer(now, worker),
                Timer::Forget => {
                    self.forgets_at = None;
                    self.forget(now);
                }
                Timer::Prefetched => self.look_after_prefetched(now),
            }
        }
    }

    /// Whether every [`Output::Event`] is wanted. At first only the rare ones are: of workers, and of attempts that failed or were
    /// lost.
    pub fn report_events(&mut self, wanted: bool) {
        self.events = wanted;
    }

    /// Whether [`Output::Record`] is wanted. At first it is not.
    pub fn record(&mut self, wanted: bool) {
        self.records = wanted;
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many jobs there are.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A job that is known, and not [spilled](Engine::is_spilled).
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// The number of the newest job; 0 before the first.
    pub fn last_job(&self) -> u64 {
        self.last_job
    }

    /// How many jobs are known, ended ones with them.
    pub fn known_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// A worker that is connected.
    pub fn worker(&self, worker: WorkerKey) -> Option<&Worker> {
        self.workers.get(&worker)
    }

    /// The worker of a name.
    pub fn worker_named(&self, name: &str) -> Option<WorkerKey> {
        self.by_name.get(name).copied()
    }

    /// All workers, in the order in which they joined.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerKey, &Worker)> {
        self.workers.iter().map(|(&key, worker)| (key, worker))
    }

    // ----------------------------------------------------------------------------------------------------------- jobs

    /// Takes a job, in memory; [`Output::Record`] tells when a client may be told of it. `client` is told how it ends; so is the one who
    /// submits a job whose key is known, of the job of that key.
    ///
    /// A job that is after others is held until all of them have completed; its delay begins then. It fails when one of them ends
    /// otherwise, or has.
    ///
    /// # Errors
    /// When too much waits already; if it is after too many jobs, or one that is not known: only jobs that are there can be named, so that
    /// none can wait for itself.
    pub fn submit(
        &mut self,
        now: Duration,
        mut submission: Submission,
        client: Option<Client>,
    ) -> Result<Accepted, SubmitError> {
        if let Some(key) = &submission.key
            && let Some(&job) = self.keys.get(key.as_str())
        {
            if let Some(client) = client {
                self.tell_at_end(job, client);
            }
            return Ok(Accepted { job, is_new: false });
        }
        submission.requires.sort_unstable();
        submission.requires.dedup();
        submission.after.sort_unstable();
        submission.after.dedup();
        self.check_after(&submission.after)?;
        let class = self.room_in_class(&submission.requires)?;
        self.last_job += 1;
        let id = JobId(self.last_job);
        if let Some(key) = &submission.key {
            self.keys.insert(key.as_str().into(), id);
        }
        let wait = submission.wait(now);
        let job = Job {
            submission,
            state: State::Delayed { until: now },
            attempt: 0,
            handed: 0,
            failures: 0,
            failed_attempt: 0,
            info: None,
            losses: 0,
            worker: None,
            progress: None,
            submitted: now,
            class,
            record: 0,
            rank: 0,
            waiting: client.into_iter().collect(),
        };
        self.jobs.insert(id, job);
        self.event("submitted", |event| event.job = Some(id));
        self.begin(now, id, wait);
        Ok(Accepted {
            job: id,
            is_new: true,
        })
    }

    /// Has `client` told how a job ends, or how it has ended.
    ///
    /// # Errors
    /// If the job is not known.
    pub fn wait(&mut self, id: JobId, client: Client) -> Result<(), UnknownJob> {
        if !self.jobs.knows(id) {
            return Err(UnknownJob);
        }
        self.tell_at_end(id, client);
        Ok(())
    }

    /// Cancels a job that has not ended; the worker of a running one is told. An ended job stays as it is.
    ///
    /// # Errors
    /// If the job is not known, or [spilled](Engine::is_spilled).
    pub fn cancel(&mut self, now: Duration, id: JobId) -> Result<(), UnknownJob> {
        let job = self.jobs.get(id).ok_or(UnknownJob)?;
        if !matches!(job.state, State::Ended { .. }) {
            self.tell_worker_to_stop(id);
            self.end(now, id, Outcome::Cancelled, (*b"cancelled by a client").into());
        }
        Ok(())
    }

    /// Queues a job that has failed, expired or was cancelled once more, with all its attempts before it. Any other job stays as
    /// it is.
    ///
    /// If none of its attempts ever began, what it is after counts as for a submission: it is held again, fails again at once, or is
    /// queued. Those that failed because this job did stay as they are.
    ///
    /// # Errors
    /// As [`Engine::submit`]; if the job is not known.
    pub fn retry(&mut self, now: Duration, id: JobId) -> Result<(), RetryError> {
        if self.is_spilled(id) {
            return Ok(());
        }
        let job = self.jobs.get(id).ok_or(UnknownJob)?;
        let State::Ended { outcome, .. } = job.state else {
            return Ok(());
        };
        if outcome == Outcome::Completed {
            return Ok(());
        }
        if job.attempt == 0 {
            self.check_after(&job.submission.after)?;
        }
        let requires = job.submission.requires.clone();
        let class = self.room_in_class(&requires)?;
        *self.ended_count(outcome) -= 1;
        if let Some(job) = self.jobs.get_mut(id) {
            (job.failures, job.losses, job.class) = (0, 0, class);
            // Nobody may answer for an attempt of before, nor begin one that it was sent beforehand.
            (job.attempt, job.worker, job.progress) = (job.handed, None, None);
            // Its time in all begins anew, or it would expire at once.
            job.submitted = now;
            job.state = State::Delayed { until: now };
        }
        self.begin(now, id, Duration::ZERO);
        Ok(())
    }

    /// Hands out no more jobs, until [`Engine::resume`]. Those that workers have not begun are [recalled](Output::Recall).
    pub fn pause(&mut self) {
        self.paused = true;
        let workers: Vec<WorkerKey> = self.workers.keys().copied().collect();
        for worker in workers {
            self.recall_all(worker);
        }
    }

    /// Hands out jobs again.
    pub fn resume(&mut self, now: Duration) {
        self.paused = false;
        self.feed_all(now);
    }

    /// Chooses workers in another way from now on.
    pub fn set_policy(&mut self, now: Duration, policy: Policy) {
        let workers: Vec<WorkerKey> = self.workers.keys().copied().collect();
        for &worker in &workers {
            self.unlist(worker);
        }
        self.config.policy = policy;
        for class in self.classes.values_mut() {
            (class.free, class.spare) = (Free::new(policy), Free::new(policy));
        }
        for worker in workers {
            self.list(worker);
        }
        // What was asked before is answered in vain.
        self.asked = None;
        self.feed_all(now);
    }

    /// The host has chosen the worker for a job that it was asked about, or has no answer. If the worker is not free any more, or
    /// never was, the next in turn gets the job; if none is free, it waits on.
    pub fn chosen(&mut self, now: Duration, id: JobId, worker: Option<WorkerKey>) {
        if self.asked != Some(id) {
            return;
        }
        self.asked = None;
        if let Some(worker) = self.free_worker(id, worker)
            && !self.paused
            // A job that has come meanwhile may go first.
            && self.first_for(worker) == Some(id)
        {
            self.unlist(worker);
            self.give(now, id, worker);
            self.list(worker);
        }
        self.ask();
    }

    // -------------------------------------------------------------------------------------------------------- workers

    /// A worker is there. One of the same name is gone: its connection is dead, even if nobody has noticed yet. What it still does of
    /// before goes on, if nobody else has it meanwhile; or else it is told to stop that.
    pub fn worker_joined(&mut self, now: Duration, joining: Joining) -> WorkerKey {
        let name: Arc<str> = joining.name.into();
        self.last_worker += 1;
        let key = WorkerKey(self.last_worker);
        let mut kept = FxHashSet::default();
        if let Some(old) = self.by_name.get(&name).copied() {
            kept = self.keep_running(now, old, key, &joining.running);
            self.worker_gone(now, old, "registered again");
        }
        let mut worker = Worker {
            name: name.clone(),
            capabilities: joining.capabilities,
            slots: joining.slots.max(1),
            prefetch: joining.prefetch,
            running: kept,
            prefetched: VecDeque::new(),
            since: now,
            heard: now,
            completed: 0,
            failed: 0,
            suspect: false,
            draining: false,
            is_behind: false,
            detector: Default::default(),
            stride: STRIDE / u64::from(joining.weight.max(1)),
            standing: Standing {
                pass: self.pass,
                ..Standing::default()
            },
            listed: None,
            classes: Vec::new(),
        };
        for (&id, class) in &mut self.classes {
            if worker.offers(&class.requires) {
                worker.classes.push(id);
                class.workers.insert(key);
            }
        }
        worker.classes.sort_unstable();
        self.workers.insert(key, worker);
        self.by_name.insert(name.clone(), key);
        let check = now.saturating_add(self.config.health_check_interval);
        self.timers.insert((check, Timer::Health(key)));
        self.event("worker-up", |event| event.worker = Some(name));
        for handle in joining.running {
            self.take_back(now, key, handle);
        }
        self.feed(now, key);
        key
    }

    /// What a worker still does of what it had as `old`, it has as `new` from now on.
    fn keep_running(
        &mut self,
        now: Duration,
        old: WorkerKey,
        new: WorkerKey,
        running: &[Handle],
    ) -> FxHashSet<Handle> {
        let mut kept = FxHashSet::default();
        for handle in running {
            self.begin_prefetched(now, old, *handle);
            let Some(old_worker) = self.workers.get_mut(&old) else {
                continue;
            };
            if let Some(job) = self.jobs.get_mut(handle.job)
                && let State::Running { worker, .. } = &mut job.state
                && *worker == old
                && job.attempt == handle.attempt
                && old_worker.running.remove(handle)
            {
                *worker = new;
                kept.insert(*handle);
            }
        }
        kept
    }

    /// A worker that has come again still has an attempt, or its answer. If the job waits to be handed out again, it need not.
    fn take_back(&mut self, now: Duration, key: WorkerKey, handle: Handle) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        // Its slot is taken in any case.
        if !worker.running.insert(handle) {
            return;
        }
        if !self.claim(now, key, handle) {
            self.outputs.push_back(Output::Cancel { worker: key, handle });
        }
    }

    /// A worker has begun an attempt that the engine did not know to have begun, or has given to nobody since. If no other has begun the job
    /// since, it is that one's. Whether it is.
    fn claim(&mut self, now: Duration, key: WorkerKey, handle: Handle) -> bool {
        let (Some(worker), Some(job)) = (self.workers.get(&key), self.jobs.get_mut(handle.job)) else {
            return false;
        };
        // That it was handed out may not have been stored before a crash.
        let is_newer = handle.attempt > job.attempt && handle.attempt - job.attempt <= UNSTORED;
        let is_last = job.attempt == handle.attempt
            && job.failed_attempt != job.attempt
            && job.worker.as_ref() == Some(&worker.name);
        match job.state {
            State::Queued(place) if is_last || is_newer => {
                if let Some(class) = self.classes.get_mut(&job.class) {
                    class.waiting.remove(&place);
                }
                self.counts.queued -= 1;
            }
            State::Prefetched { worker, .. } if is_last || is_newer => {
                if worker != key {
                    self.recall(handle.job);
                }
                self.unstick(handle.job);
                self.counts.queued -= 1;
            }
            State::Delayed { until } if is_newer => {
                self.timers.remove(&(until, Timer::Due(handle.job)));
                self.counts.delayed -= 1;
            }
            _ => return false,
        }
        if is_last && let Some(job) = self.jobs.get_mut(handle.job) {
            // It was not lost after all.
            job.losses = job.losses.saturating_sub(1);
        }
        self.run(now, key, handle);
        true
    }

    /// A worker's connection is no more: its jobs go to others at once, at the head of their priority.
    pub fn worker_gone(&mut self, now: Duration, key: WorkerKey, reason: &str) {
        self.unlist(key);
        let Some(worker) = self.workers.remove(&key) else {
            return;
        };
        self.by_name.remove(&worker.name);
        for class in &worker.classes {
            if let Some(class) = self.classes.get_mut(class) {
                class.workers.remove(&key);
            }
        }
        self.lose(
            now,
            key,
            worker.running.into_iter().collect(),
            worker.prefetched,
            reason,
        );
        let name = worker.name;
        self.event("worker-down", |event| {
            (event.worker, event.reason) = (Some(name), Some(reason.to_owned()));
        });
    }

    /// A worker has said something else than what the other methods are for. All of them count as signs of life.
    pub fn worker_heard(&mut self, now: Duration, key: WorkerKey) {
        if self.heard(now, key) {
            self.feed(now, key);
        }
    }

    /// Whether a worker was suspect until now. It gets jobs only when all that it said is taken in: a job of its own, whose
    /// result it brings, must not be handed out again just before.
    fn heard(&mut self, now: Duration, key: WorkerKey) -> bool {
        let Some(worker) = self.workers.get_mut(&key) else {
            return false;
        };
        worker.heard = now;
        let was_suspect = std::mem::take(&mut worker.suspect);
        if was_suspect {
            let name = worker.name.clone();
            let check = now.saturating_add(self.config.health_check_interval);
            self.timers.insert((check, Timer::Health(key)));
            self.event("worker-up", |event| event.worker = Some(name));
        }
        was_suspect
    }

    /// A worker's regular sign of life has arrived.
    pub fn worker_beat(&mut self, now: Duration, key: WorkerKey) {
        self.worker_heard(now, key);
        let detection = self.config.detection;
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.detector.beat(detection, now);
        }
    }

    /// A worker wants no more jobs, or is to get none. What it has not begun is [recalled](Output::Recall).
    pub fn worker_draining(&mut self, key: WorkerKey) {
        self.unlist(key);
        self.recall_all(key);
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.draining = true;
        }
    }

    /// A worker has a result.
    ///
    /// # Errors
    /// If the attempt does not count. Its slot is free again in any case.
    pub fn completed(
        &mut self,
        now: Duration,
        key: WorkerKey,
        handle: Handle,
        result: Arc<[u8]>,
    ) -> Result<(), AnswerError> {
        self.answer(now, key, handle, |engine| {
            if let Some(worker) = engine.workers.get_mut(&key) {
                worker.completed += 1;
            }
            engine.recall(handle.job);
            engine.end(now, handle.job, Outcome::Completed, result);
        })
    }

    /// A worker could not do an attempt: it is made again, behind the others and after a while, until its attempts are used up. `info`
    /// is where in its script the failure came from.
    ///
    /// # Errors
    /// As [`Engine::completed`].
    pub fn failed(
        &mut self,
        now: Duration,
        key: WorkerKey,
        handle: Handle,
        message: &[u8],
        info: Option<&str>,
    ) -> Result<(), AnswerError> {
        self.answer(now, key, handle, |engine| {
            if let Some(job) = engine.jobs.get_mut(handle.job) {
                job.info = info.map(Arc::from);
            }
            engine.attempt_failed(now, handle.job, message.into(), Outcome::Failed);
        })
    }

    /// Takes in an answer that ends an attempt, and has `take` act on it if it counts. The worker's slot is free in any case.
    fn answer(
        &mut self,
        now: Duration,
        key: WorkerKey,
        handle: Handle,
        take: impl FnOnce(&mut Engine),
    ) -> Result<(), AnswerError> {
        self.heard(now, key);
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.is_behind = false;
        }
        let counts = self.answered(now, key, handle);
        // Its slot is taken again before a job can be handed out because of this answer.
        let again = self.promote(now, key, handle.job);
        if counts == Ok(true) {
            take(self);
        }
        if let Some(again) = again {
            self.claim(now, key, again);
        }
        self.feed(now, key);
        counts.map(drop)
    }

    /// A worker says how far it is; its time for the attempt begins anew.
    ///
    /// # Errors
    /// If it is not the attempt that counts.
    pub fn progress(
        &mut self,
        now: Duration,
        key: WorkerKey,
        handle: Handle,
        progress: Progress,
    ) -> Result<(), AnswerError> {
        self.worker_heard(now, key);
        self.begin_prefetched(now, key, handle);
        let Some(job) = self.jobs.get_mut(handle.job) else {
            return Err(self.not_here(handle.job));
        };
        let attempt = job.attempt;
        match &mut job.state {
            State::Running {
                worker, times_out, ..
            } if *worker == key && attempt == handle.attempt => {
                if let Some(timeout) = job.submission.timeout {
                    // The timer that is set finds this when it runs out.
                    *times_out = Some(now.saturating_add(timeout));
                }
            }
            _ => return Err(AnswerError::StaleAttempt),
        }
        job.progress = Some(progress.clone());
        let name = job.worker.clone();
        self.event("progress", |event| {
            (event.job, event.worker) = (Some(handle.job), name);
            event.progress = Some((progress.percent, progress.note));
        });
        Ok(())
    }

    // --------------------------------------------------------------------------------------------------------- timers

    fn due(&mut self, now: Duration, id: JobId) {
        let is_due = |job: &&Job| matches!(job.state, State::Delayed { until } if until <= now);
        if self.jobs.get(id).filter(is_due).is_some() {
            self.enqueue(now, id);
        }
    }

    fn attempt_timer(&mut self, now: Duration, handle: Handle) {
        let Some(job) = self.jobs.get(handle.job) else {
            return;
        };
        let State::Running {
            times_out: Some(times_out),
            ..
        } = job.state
        else {
            return;
        };
        if job.attempt != handle.attempt {
            return;
        }
        if times_out > now {
            self.timers.insert((times_out, Timer::Attempt(handle)));
            return;
        }
        let timeout = job.submission.timeout.unwrap_or_default();
        self.tell_worker_to_stop(handle.job);
        let message = format!("no answer within {} ms", timeout.as_millis());
        self.attempt_failed(now, handle.job, message.into_bytes().into(), Outcome::Expired);
    }

    fn deadline_timer(&mut self, now: Duration, id: JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        // A job that was retried has a later deadline than the one that this timer was set for.
        if matches!(job.state, State::Ended { .. }) || job.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let deadline = job.submission.deadline.unwrap_or_default();
        self.tell_worker_to_stop(id);
        let message = format!("not done within {} ms", deadline.as_millis());
        self.end(now, id, Outcome::Expired, message.into_bytes().into());
    }

    fn health_timer(&mut self, now: Duration, key: WorkerKey) {
        let (detection, limit) = (self.config.detection, self.config.health_check_interval);
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        if worker.suspect {
            return;
        }
        let silent = now.saturating_sub(worker.heard);
        let patience = worker.detector.patience(detection, limit);
        if silent < patience {
            // Beats do not set the timer anew, as there are many of them: it runs out, and finds when the last one came.
            let next = worker.heard.saturating_add(patience);
            self.timers.insert((next, Timer::Health(key)));
            return;
        }
        worker.suspect = true;
        let (name, running) = (worker.name.clone(), worker.running.iter().copied().collect());
        let prefetched = worker.prefetched.clone();
        self.unlist(key);
        self.event("worker-suspect", |event| event.worker = Some(name));
        self.recall_all(key);
        self.lose(
            now,
            key,
            running,
            prefetched,
            &format!("silent for {} ms", silent.as_millis()),
        );
    }

    // ---------------------------------------------------------------------------------------------- a job's way along

    /// A job that is new, or new again, is counted and waits.
    fn begin(&mut self, now: Duration, id: JobId, delay: Duration) {
        self.count_as_delayed(id);
        let is_after = |job: &Job| job.attempt == 0 && !job.submission.after.is_empty();
        if !self.jobs.get(id).is_some_and(is_after) {
            self.start_waiting(now, id, delay);
            return;
        }
        self.rank(id);
        let dependencies = self.hold(id);
        self.settle(now, id, dependencies);
    }

    fn count_as_delayed(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        if let Some(deadline) = job.deadline() {
            self.timers.insert((deadline, Timer::Deadline(id)));
        }
        if let Some(class) = self.classes.get_mut(&job.class) {
            class.jobs += 1;
        }
        self.counts.delayed += 1;
    }

    /// A job that is counted as delayed waits, for a time or for a worker.
    fn start_waiting(&mut self, now: Duration, id: JobId, delay: Duration) {
        self.rank(id);
        self.wait_or_enqueue(now, id, delay);
    }

    /// A job is the last of its priority.
    fn rank(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        self.last_rank += 1;
        job.rank = self.last_rank;
        self.note(id);
    }

    fn wait_or_enqueue(&mut self, now: Duration, id: JobId, delay: Duration) {
        if delay.is_zero() {
            self.enqueue(now, id);
        } else {
            self.delay(id, now.saturating_add(delay));
        }
    }

    fn delay(&mut self, id: JobId, until: Duration) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.state = State::Delayed { until };
            self.timers.insert((until, Timer::Due(id)));
        }
    }

    /// A job that is counted as delayed is queued.
    fn enqueue(&mut self, now: Duration, id: JobId) {
        self.counts.delayed -= 1;
        self.counts.queued += 1;
        if let Some(class) = self.queue(id) {
            self.hand_out(now, class);
        }
    }

    /// Puts a job in its queue, of which class this is.
    fn queue(&mut self, id: JobId) -> Option<ClassId> {
        let job = self.jobs.get_mut(id)?;
        let (place, class) = (job.place(), job.class);
        job.state = State::Queued(place);
        self.classes.get_mut(&class)?.waiting.insert(place, id);
        Some(class)
    }

    /// Hands out jobs of a class, or asks the host for whom the first of all jobs is.
    fn hand_out(&mut self, now: Duration, class: ClassId) {
        if self.config.policy == Policy::Asked {
            self.ask();
        } else {
            self.dispatch(now, class);
        }
    }

    /// Hands out jobs of some classes, the first of all of them first.
    fn hand_out_all(&mut self, now: Duration, classes: &BTreeSet<ClassId>) {
        if self.config.policy == Policy::Asked {
            return self.ask();
        }
        let head = |engine: &Engine, id: &ClassId| {
            let class = engine
                .classes
                .get(id)
                .filter(|class| !class.takers().is_empty())?;
            class.head().map(|(&place, _)| (place, *id))
        };
        while let Some((_, first)) = classes.iter().filter_map(|id| head(self, id)).min()
            && self.dispatch_one(now, first)
        {}
        for &class in classes {
            self.dispatch(now, class);
        }
    }

    /// Hands out jobs of a class while there are both jobs and workers.
    fn dispatch(&mut self, now: Duration, id: ClassId) {
        while self.dispatch_one(now, id) || (!self.paused && self.refill(id)) {}
    }

    /// Hands out the first job of a class, if there is one and a worker for it.
    fn dispatch_one(&mut self, now: Duration, id: ClassId) -> bool {
        let Some(class) = self.classes.get(&id).filter(|_| !self.paused) else {
            return false;
        };
        let Some((_, &job)) = class.head() else {
            return false;
        };
        let affinity = self
            .jobs
            .get(job)
            .and_then(|job| job.submission.affinity.as_deref());
        let affinity = affinity.map(balance::hash);
        let chosen = class
            .takers()
            .choose(self.last_assigned, affinity, &mut self.random);
        let Some(worker) = chosen else { return false };
        self.unlist(worker);
        self.give(now, job, worker);
        self.list(worker);
        true
    }

    /// Fills a worker's free slots with what waits, and then what it takes beforehand.
    fn feed(&mut self, now: Duration, key: WorkerKey) {
        self.unlist(key);
        if let Some(worker) = self.workers.get_mut(&key) {
            // One that was away does not get all the jobs that it missed.
            worker.standing.pass = worker.standing.pass.max(self.pass);
        }
        if self.config.policy == Policy::Asked {
            self.list(key);
            self.recall_for(now, key);
            return self.ask();
        }
        while !self.paused
            && let Some(worker) = self.workers.get(&key)
            && worker.room().is_some()
            && let Some(job) = self.first_for(key)
        {
            self.give(now, job, key);
        }
        self.list(key);
        self.refill_for(now, key);
        self.recall_for(now, key);
    }

    fn feed_all(&mut self, now: Duration) {
        let workers: Vec<WorkerKey> = self.workers.keys().copied().collect();
        for worker in workers {
            self.feed(now, worker);
        }
    }

    /// The first of the jobs that a worker could do.
    fn first_for(&self, key: WorkerKey) -> Option<JobId> {
        let classes = &self.workers.get(&key)?.classes;
        let first = |id: &ClassId| self.classes.get(id)?.head();
        classes.iter().filter_map(first).min().map(|(_, &job)| job)
    }

    /// Asks the host for a worker for the first of all jobs that one is free for. One question at a time: what is free for the next
    /// job depends on the answer, and jobs keep their order.
    fn ask(&mut self) {
        if self.paused || self.asked.is_some() {
            return;
        }
        self.refill_all();
        let heads = self.classes.values().filter(|class| !class.takers().is_empty());
        let heads = heads.filter_map(|class| Some((class.head()?, class)));
        if let Some(((_, &job), class)) = heads.min_by_key(|((place, _), _)| **place) {
            let candidates = class.takers().all();
            self.asked = Some(job);
            self.outputs.push_back(Output::Choose { job, candidates });
        }
    }

    /// The worker that gets a queued job: the one that was named, if it is free and can do it, or else the next.
    fn free_worker(&mut self, id: JobId, named: Option<WorkerKey>) -> Option<WorkerKey> {
        let job = self.jobs.get(id)?;
        let State::Queued(_) = job.state else { return None };
        let class = self.classes.get(&job.class)?;
        let is_free = |worker: &WorkerKey| {
            let listed = self.workers.get(worker).and_then(|worker| worker.listed);
            class.workers.contains(worker) && listed == Some(class.room())
        };
        named
            .filter(is_free)
            .or_else(|| class.takers().choose(self.last_assigned, None, &mut self.random))
    }

    /// A worker that can take a job is put among the free ones of its classes, where it now belongs.
    fn list(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        let Some(room) = worker.room() else { return };
        let load = ((worker.running.len() + worker.prefetched.len()) as u64) << 16;
        worker.standing.load = u32::try_from(load / u64::from(worker.slots)).unwrap_or(u32::MAX);
        worker.listed = Some(room);
        for class in &worker.classes {
            if let Some(class) = self.classes.get_mut(class) {
                class.with(room).insert(key, worker.standing);
            }
        }
    }

    fn unlist(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        let Some(room) = worker.listed.take() else { return };
        for class in &worker.classes {
            if let Some(class) = self.classes.get_mut(class) {
                class.with(room).remove(key, worker.standing);
            }
        }
    }

    /// Gives the queued job to a worker that has room, and is not listed meanwhile.
    fn give(&mut self, now: Duration, id: JobId, key: WorkerKey) {
        let (Some(job), Some(worker)) = (self.jobs.get_mut(id), self.workers.get_mut(&key)) else {
            return;
        };
        let State::Queued(place) = job.state else {
            unreachable!("{id} is in a queue, and is {}", job.state.as_str());
        };
        if let Some(class) = self.classes.get_mut(&job.class) {
            class.waiting.remove(&place);
        }
        let room = worker.room();
        let mut handle = Handle {
            job: id,
            attempt: job.handed + 1,
        };
        // It may still do one of that number, if a crash has undone that it was handed out.
        while worker.running.contains(&handle) {
            handle.attempt += 1;
        }
        job.handed = handle.attempt;
        self.assignments += 1;
        self.last_assigned = key;
        self.pass = worker.standing.pass;
        worker.standing.last = self.assignments;
        worker.standing.pass += worker.stride;
        let data = job.submission.data.clone();
        self.outputs.push_back(Output::Assign {
            worker: key,
            handle,
            data,
        });
        if room == Some(Room::Ahead) {
            self.prefetched(now, key, handle, place);
        } else {
            worker.running.insert(handle);
            self.counts.queued -= 1;
            self.run(now, key, handle);
        }
    }

    /// A worker begins an attempt of a job that waited.
    fn run(&mut self, now: Duration, key: WorkerKey, handle: Handle) {
        let (Some(worker), Some(job)) = (self.workers.get(&key), self.jobs.get_mut(handle.job)) else {
            return;
        };
        (job.attempt, job.handed) = (handle.attempt, job.handed.max(handle.attempt));
        (job.worker, job.progress) = (Some(worker.name.clone()), None);
        let times_out = job.submission.timeout.map(|timeout| now.saturating_add(timeout));
        if let Some(times_out) = times_out {
            self.timers.insert((times_out, Timer::Attempt(handle)));
        }
        job.state = State::Running {
            worker: key,
            since: now,
            times_out,
        };
        let name = worker.name.clone();
        self.counts.running += 1;
        self.note(handle.job);
        self.event("assigned", |event| {
            (event.job, event.worker, event.attempt) = (Some(handle.job), Some(name), Some(handle.attempt));
        });
    }

    /// A worker has answered an attempt: its slot is free. Whether the answer counts; an answer to a job that was cancelled
    /// or has expired meanwhile does not, and is no mistake either.
    fn answered(&mut self, now: Duration, key: WorkerKey, handle: Handle) -> Result<bool, AnswerError> {
        self.begin_prefetched(now, key, handle);
        let worker = self.workers.get_mut(&key).ok_or(AnswerError::StaleAttempt)?;
        let held = worker.running.remove(&handle);
        let Some(job) = self.jobs.get(handle.job) else {
            return Err(self.not_here(handle.job));
        };
        let is_last = job.attempt == handle.attempt && job.worker.as_ref() == Some(&worker.name);
        match &job.state {
            State::Running { .. } if held && is_last => Ok(true),
            // A job that lost its worker, or timed out, and waits again, may still be ended by it; not one that it gave back itself.
            State::Queued(_) | State::Prefetched { .. } | State::Delayed { .. }
                if is_last && (held || job.failed_attempt != job.attempt) =>
            {
                Ok(true)
            }
            State::Ended {
                outcome: Outcome::Cancelled | Outcome::Expired,
                ..
            } if held => Ok(false),
            _ => Err(AnswerError::StaleAttempt),
        }
    }

    fn attempt_failed(&mut self, now: Duration, id: JobId, message: Arc<[u8]>, outcome: Outcome) {
        let default = self.config.attempts;
        let Some(job) = self.jobs.get_mut(id) else { return };
        // The worker's answer to an attempt that timed out: it has failed already.
        if std::mem::replace(&mut job.failed_attempt, job.attempt) == job.attempt {
            return;
        }
        job.failures += 1;
        let name = job.worker.clone();
        let worker = name.as_ref().and_then(|name| self.by_name.get(name));
        if let Some(worker) = worker.and_then(|key| self.workers.get_mut(key)) {
            worker.failed += 1;
        }
        let (failures, attempt) = (job.failures, job.attempt);
        let waits = !matches!(job.state, State::Running { .. });
        if failures >= job.submission.attempts.unwrap_or(default) {
            self.recall(id);
            self.end(now, id, outcome, message);
            return;
        }
        self.event("retried", |event| {
            (event.job, event.worker, event.attempt) = (Some(id), name, Some(attempt));
            event.reason = Some(String::from_utf8_lossy(&message).into_owned());
        });
        if waits {
            self.note(id);
        } else {
            self.counts.running -= 1;
            self.counts.delayed += 1;
            let wait = self.backoff(failures);
            self.start_waiting(now, id, wait);
        }
    }

    /// The wait after so many failures: exponential, and somewhere in the upper half, so that jobs which failed together do
    /// not come back together.
    fn backoff(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let wait = self.config.backoff.saturating_mul(1 << doublings);
        wait.min(self.config.max_backoff)
            .mul_f64(0.5 + self.random.fraction() / 2.0)
    }

    /// A worker is gone or silent: its jobs go back to the head of their priority, in their order. A job that has lost too
    /// many workers is more likely the cause than the victim.
    fn lose(
        &mut self,
        now: Duration,
        key: WorkerKey,
        mut running: Vec<Handle>,
        prefetched: VecDeque<Handle>,
        reason: &str,
    ) {
        // All of them are in their queues before the first is handed out.
        let mut classes = self.put_back(key, prefetched);
        running.sort_unstable();
        for handle in running {
            let Some(job) = self.jobs.get_mut(handle.job) else {
                continue;
            };
            if job.attempt != handle.attempt
                || !matches!(job.state, State::Running { worker, .. } if worker == key)
            {
                continue;
            }
            job.losses += 1;
            let name = job.worker.clone();
            let most = if self.config.failover {
                self.config.max_losses
            } else {
                1
            };
            if job.losses >= most {
                let message = format!("gave up after {most} workers were lost while they had this job");
                self.end(now, handle.job, Outcome::Failed, message.into_bytes().into());
                continue;
            }
            self.event("requeued", |event| {
                (event.job, event.worker, event.attempt) = (Some(handle.job), name, Some(handle.attempt));
                event.reason = Some(reason.to_owned());
            });
            // With its old rank it is before all that have not been given out yet.
            self.counts.running -= 1;
            self.counts.queued += 1;
            self.note(handle.job);
            classes.extend(self.queue(handle.job));
        }
        self.hand_out_all(now, &classes);
    }

    fn tell_worker_to_stop(&mut self, id: JobId) {
        if let Some((worker, handle)) = self.with_worker(id) {
            self.outputs.push_back(Output::Cancel { worker, handle });
        }
    }

    /// Which worker has the job, begun or not, and as which attempt.
    fn with_worker(&self, id: JobId) -> Option<(WorkerKey, Handle)> {
        let job = self.jobs.get(id)?;
        let (worker, attempt) = match job.state {
            State::Running { worker, .. } => (worker, job.attempt),
            State::Prefetched { worker, attempt, .. } => (worker, attempt),
            _ => return None,
        };
        Some((worker, Handle { job: id, attempt }))
    }

    /// Ends a job, whatever is held after it.
    fn end_alone(&mut self, now: Duration, id: JobId, outcome: Outcome, result: Arc<[u8]>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let ended = State::Ended {
            outcome,
            at: now,
            result: result.clone(),
        };
        let (before, class) = (std::mem::replace(&mut job.state, ended), job.class);
        let (waiting, name, attempt) = (std::mem::take(&mut job.waiting), job.worker.clone(), job.attempt);
        if let Some(deadline) = job.deadline() {
            self.timers.remove(&(deadline, Timer::Deadline(id)));
        }
        match before {
            State::Held { .. } => {
                self.dependents.forget(id, &job.submission.after);
                self.counts.held -= 1;
            }
            State::Delayed { until } => {
                self.timers.remove(&(until, Timer::Due(id)));
                self.counts.delayed -= 1;
            }
            State::Queued(place) => {
                if let Some(class) = self.classes.get_mut(&class) {
                    class.waiting.remove(&place);
                }
                self.counts.queued -= 1;
            }
            State::Prefetched { place, .. } => {
                if let Some(class) = self.classes.get_mut(&class) {
                    class.stuck.remove(&place);
                }
                self.counts.queued -= 1;
            }
            State::Running { times_out, .. } => {
                // If there was progress it is set for an earlier time, and does nothing when that comes.
                if let Some(times_out) = times_out {
                    let handle = Handle { job: id, attempt };
                    self.timers.remove(&(times_out, Timer::Attempt(handle)));
                }
                self.counts.running -= 1;
            }
            State::Ended { .. } => return,
        }
        *self.ended_count(outcome) += 1;
        self.note(id);
        for client in waiting {
            self.outputs.push_back(Output::Ended {
                client,
                job: id,
                outcome,
                result: result.clone(),
            });
        }
        self.event(outcome.as_str(), |event| {
            (event.job, event.worker) = (Some(id), name)
        });
        self.release_class(class);
        self.ended.push_back((now, id));
        self.forget(now);
    }

    fn ended_count(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Completed => &mut self.counts.completed,
            Outcome::Failed => &mut self.counts.failed,
            Outcome::Cancelled => &mut self.counts.cancelled,
            Outcome::Expired => &mut self.counts.expired,
        }
    }

    fn tell_at_end(&mut self, id: JobId, client: Client) {
        let Some(job) = self.jobs.get_mut(id) else {
            return self.wait_for_spilled(id, client);
        };
        if let State::Ended { outcome, result, .. } = &job.state {
            self.outputs.push_back(Output::Ended {
                client,
                job: id,
                outcome: *outcome,
                result: result.clone(),
            });
        } else if !job.waiting.contains(&client) {
            job.waiting.push(client);
        }
    }

    /// How many are told when a job ends.
    pub fn waiting(&self, id: JobId) -> usize {
        let here = self.jobs.get(id).map(|job| job.waiting.len());
        here.unwrap_or_else(|| self.waiting_for_spilled(id))
    }

    /// Only those are told when a job ends, of those who would be, whom `wanted` names.
    pub fn keep_waiting(&mut self, id: JobId, mut wanted: impl FnMut(&Client) -> bool) {
        match self.jobs.get_mut(id) {
            Some(job) => job.waiting.retain(wanted),
            None => self.keep_waiting_for_spilled(id, &mut wanted),
        }
    }

    /// Forgets ended jobs that are too many or too old, a few at a time.
    fn forget(&mut self, now: Duration) {
        for _ in 0..100 {
            let Some(&(at, id)) = self.ended.front() else {
                return;
            };
            let expires = at.saturating_add(self.config.keep_for);
            if self.ended.len() <= self.config.keep && now < expires {
                // One timer is enough, for the oldest; when it runs out it is set for the one that is oldest then.
                if self.forgets_at.is_none() {
                    self.forgets_at = Some(expires);
                    self.timers.insert((expires, Timer::Forget));
                }
                return;
            }
            self.ended.pop_front();
            // A job that was retried is not over, or has a later entry of its own.
            let is_over = |job: &&Job| matches!(job.state, State::Ended { at: ended, .. } if ended == at);
            if let Some(job) = self.jobs.get(id).filter(is_over) {
                // A job that was forgotten before and came back after a crash may have left its key to another.
                if let Some(key) = &job.submission.key
                    && self.keys.get(key.as_str()) == Some(&id)
                {
                    self.keys.remove(key.as_str());
                }
                self.jobs.remove(id);
                self.note(id);
            }
        }
        // More are left: they go a little later, so that nobody waits for it.
        let later = now.saturating_add(Duration::from_millis(1));
        if self.forgets_at.replace(later) != Some(later) {
            self.timers.insert((later, Timer::Forget));
        }
    }

    // -------------------------------------------------------------------------------------------------------- classes

    /// The class of the requirements, if one more job may wait in it.
    fn room_in_class(&mut self, requires: &Vec<String>) -> Result<ClassId, SubmitError> {
        if self.counts.queued + self.counts.delayed + self.counts.held >= self.config.max_queued {
            return Err(SubmitError::QueueFull(self.config.max_queued));
        }
        let is_new = !self.by_requirement.contains_key(requires);
        if is_new && self.classes.len() >= self.config.max_classes {
            return Err(SubmitError::TooManyClasses);
        }
        Ok(self.class_of(requires))
    }

    fn class_of(&mut self, requires: &Vec<String>) -> ClassId {
        if let Some(&id) = self.by_requirement.get(requires) {
            return id;
        }
        self.last_class += 1;
        let id = ClassId(self.last_class);
        let mut class = Class::new(requires.clone(), self.config.policy);
        // Once for each requirement that is new, not for each job.
        for (&key, worker) in &mut self.workers {
            if worker.offers(requires) {
                class.workers.insert(key);
                worker.classes.push(id);
                if let Some(room) = worker.listed {
                    class.with(room).insert(key, worker.standing);
                }
            }
        }
        self.classes.insert(id, class);
        self.by_requirement.insert(requires.clone(), id);
        id
    }

    /// A job of the class has ended; a class without jobs goes, unless there is room for it.
    fn release_class(&mut self, id: ClassId) {
        let Some(class) = self.classes.get_mut(&id) else {
            return;
        };
        class.jobs -= 1;
        if class.jobs > 0 || self.classes.len() <= SPARE_CLASSES.min(self.config.max_classes / 2) {
            return;
        }
        if let Some(class) = self.classes.remove(&id) {
            self.by_requirement.remove(&class.requires);
            for worker in &class.workers {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.classes.retain(|&other| other != id);
                }
            }
        }
    }

    /// What is kept of a job must change.
    fn note(&mut self, id: JobId) {
        if self.records {
            let record = self.next_record();
            if let Some(job) = self.jobs.get_mut(id) {
                job.record = record;
            }
            self.outputs.push_back(Output::Record(id));
        }
    }

    fn event(&mut self, name: &'static str, fill: impl FnOnce(&mut Event)) {
        if self.events || Event::is_rare(name) {
            let mut event = Event {
                name,
                job: None,
                worker: None,
                attempt: None,
                reason: None,
                progress: None,
            };
            fill(&mut event);
            self.outputs.push_back(Output::Event(event));
        }
    }
}
