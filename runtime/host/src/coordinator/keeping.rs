//! What a coordinator must not forget, and what it says only once that is kept.
//!
//! Jobs that have changed are collected while the journal's thread writes those before them, and go to it at the end of a turn when it
//! has nothing to do: under load many in one transaction, alone each at once. A batch may leave out jobs from a certain number on, which
//! go with the next. What a client is told of jobs waits in [`Keeping`] until they are written. So do the answers to what it has asked
//! after that, so that they keep their order.
use super::Coordinator;
use super::schedules::{Known, schedule_setting};
use crate::reactor::{AT_ONCE, Conn, Io, Service};
use crate::tor::Exit;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use torhost_dispatch::{Accepted, Config, Engine, Event, State, Stored};
use torhost_journal::{Access, Batch, Error, Fate, Journal, Note, Store, Sync};
use torhost_protocol::JobId;

/// The names under which the journal keeps them. A backup has an empty epoch, since its numbers may mean other jobs from then on.
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const LAST_JOB: &str = "last_job";
/// Where it listens, for programs of this machine: addresses with blanks between them; none if it does not.
pub(crate) const ADDRESS: &str = "address";
/// How many jobs may be taken before the first of them is written. Grows to [`MOST_AHEAD`] where that is too few.
const AHEAD: u64 = 1000;
const MOST_AHEAD: u64 = 100_000;
/// How long the answer of a worker is waited for that may come in the same batch as the job's submission: less than a sync takes.
/// Where there are many jobs, [`LINGER`]: they wait for each other's syncs in any case.
const PAUSE: Duration = Duration::from_micros(60);
const LINGER: Duration = Duration::from_micros(1000);
/// How long rows that are to be removed wait for a batch that has something else.
const LULL: Duration = Duration::from_millis(2);
/// So many rows are removed at a time, while there is much else to write.
const REMOVED_AT_ONCE: usize = 500;
/// A batch of so few jobs is looked through for whether there is anything to wait for, and the journal's thread is woken meanwhile.
const FEW: usize = 8;
/// So many are worth a sync of their own. They go to the journal before it has written the batch before, so that it goes on with them at once; and of
/// twice as many that come while it has nothing to do, one half is written and then the other.
const MANY: usize = 100;
/// The job that a line speaks of which speaks of none.
const NOTHING: JobId = JobId(0);
/// Where a batch is cut that leaves nothing out.
const WHOLE: JobId = JobId(u64::MAX);
/// How many events may wait to be written. More are not kept.
const MOST_NOTES: usize = 10_000;

/// Where a coordinator keeps its jobs, and how well.
#[derive(Debug, Clone)]
pub(crate) struct JournalSettings {
    pub(crate) path: PathBuf,
    pub(crate) sync: Sync,
}

/// What an earlier life has left.
pub(super) struct Kept {
    pub(super) engine: Engine,
    pub(super) keeping: Keeping,
    /// Tells the numbers of this database from those of any other.
    pub(super) epoch: String,
}

impl Kept {
    /// Opens a journal, or makes one, and goes on with the jobs in it. `now` is since 1970.
    ///
    /// # Errors
    /// As [`Store::open`], [`Store::jobs`] and [`Store::write`].
    pub(super) fn open(
        settings: JournalSettings,
        config: Config,
        seed: u64,
        now: Duration,
    ) -> Result<Kept, Error> {
        let mut store = Store::open(&settings.path, Access::Write)?;
        store.check()?;
        let (last_job, epoch) = (store.setting(LAST_JOB)?, store.setting(EPOCH)?);
        if last_job.is_some() != epoch.is_some() {
            return Err(Error::Damaged("a setting is missing".to_owned()));
        }
        let is_new = last_job.is_none();
        let last_job = last_job.map_or(0, |number| number.parse().unwrap_or(u64::MAX));
        let engine = store.jobs(|jobs| Engine::restore(config, seed, now, last_job, jobs))?;
        if is_new && engine.known_jobs() > 0 {
            return Err(Error::Damaged("the settings are missing".to_owned()));
        }
        let epoch = epoch.filter(|epoch| !epoch.is_empty());
        let epoch = epoch.unwrap_or_else(|| format!("{:x}", torhost_journal::now().as_micros()));
        let notes = vec![
            Note::Setting(EPOCH.to_owned(), epoch.clone()),
            Note::Setting(ADDRESS.to_owned(), String::new()),
            Note::Setting(LAST_JOB.to_owned(), (last_job + AHEAD).to_string()),
        ];
        let batch = Batch {
            notes,
            ..Batch::default()
        };
        store.write(&batch, true)?;
        log::info!(
            "jobs are kept in {}: {} are there",
            settings.path.display(),
            engine.known_jobs()
        );
        let keeping = Keeping {
            settings: Some(settings),
            store: Some(store),
            reserved: last_job + AHEAD,
            reserving: last_job + AHEAD,
            ahead: AHEAD,
            ..Keeping::default()
        };
        Ok(Kept {
            engine,
            keeping,
            epoch,
        })
    }
}

type Then = Box<dyn FnOnce(&mut Coordinator, &mut Io) + Send>;

/// What waits until a batch is written, besides lines.
enum Promise {
    /// What watchers and the script are to be told.
    Event(Event),
    /// What the script waits for.
    Then(Then),
    /// That all changes up to this one are written.
    Records(u64),
    /// That numbers up to this one may be given.
    Reserved(u64),
}

/// When something may be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// When all is written that the journal has.
    Written,
    /// When the one that has the job is.
    Next,
}

/// What a connection is to be told.
#[derive(Default)]
struct Owed {
    /// By the batch with the journal that it waits for, in their order.
    handed: VecDeque<(u64, Vec<u8>)>,
    /// Later.
    next: Lines,
}

impl Owed {
    /// What waits for this batch, which is the last with the journal.
    fn last(&mut self, batch: u64) -> &mut Vec<u8> {
        if self.handed.back().is_none_or(|(last, _)| *last < batch) {
            self.handed.push_back((batch, Vec::new()));
        }
        let at = self.handed.len() - 1;
        &mut self.handed[at].1
    }

    fn bytes(&self) -> usize {
        self.next.bytes.len() + self.handed.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }
}

/// Lines that wait for jobs which are not with the journal yet.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
}

/// A line.
#[derive(Clone, Copy)]
struct Mark {
    /// The job that it speaks of; 0 if there is none.
    job: JobId,
    /// It has its place among the answers to what the connection has asked.
    is_answer: bool,
    /// Where it ends.
    end: usize,
}

impl Lines {
    fn push(&mut self, job: JobId, is_answer: bool, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        let end = self.bytes.len();
        match self.marks.last_mut() {
            // It waits for the answer before it, and for nothing else.
            Some(last) if is_answer && last.is_answer && job == NOTHING => last.end = end,
            _ => self.marks.push(Mark { job, is_answer, end }),
        }
    }

    /// Takes out what may be told when all jobs before `cut` are kept. Answers keep their order, and a result does not come before the
    /// acceptance of its job.
    fn take_before(&mut self, cut: JobId) -> Vec<u8> {
        if cut == WHOLE {
            return std::mem::take(self).bytes;
        }
        let lines = std::mem::take(self);
        let mut taken = Vec::with_capacity(lines.bytes.len());
        let (mut from, mut answers_wait, mut all_wait) = (0, false, false);
        for Mark { job, is_answer, end } in lines.marks {
            let line = &lines.bytes[from..end];
            from = end;
            if job < cut && !all_wait && !(is_answer && answers_wait) {
                taken.extend_from_slice(line);
                continue;
            }
            answers_wait |= is_answer;
            // The answer waits for another's sake: what comes after it may be of the same job.
            all_wait |= is_answer && job < cut;
            self.push(job, is_answer, |bytes| bytes.extend_from_slice(line));
        }
        taken
    }
}

/// The journal, and what waits for it. Without one, nothing does.
#[derive(Default)]
pub(super) struct Keeping {
    settings: Option<JournalSettings>,
    /// Until the journal runs.
    store: Option<Store>,
    journal: Option<Journal>,
    /// Jobs that have changed since the last batch; may have some twice.
    changed: Vec<JobId>,
    /// How many changes there were ever.
    records: u64,
    /// Jobs that are to be kept no more.
    forgotten: Vec<JobId>,
    /// They are to be removed with the next batch, whatever that costs.
    purges: bool,
    /// How many there were when last none was there twice.
    distinct: usize,
    notes: Vec<Note>,
    /// How many batches the journal was given, and how many of them it has written.
    handed: u64,
    written: u64,
    /// How many jobs the last of them had.
    last_handed: usize,
    /// The journal had nothing to do when the last turn ended.
    is_idle: bool,
    /// It was told that a batch comes.
    is_expected: bool,
    /// Until when rows that are to be removed wait for something else to write.
    lull: Option<Instant>,
    /// Why the journal cannot write.
    failing: Option<String>,
    /// Numbers up to this one may be given to jobs: they are never given again, whatever is lost.
    reserved: u64,
    /// The same, once what is with the journal is written.
    reserving: u64,
    ahead: u64,
    /// By the job that they wait for, in the order in which they were made.
    waiting: Vec<(JobId, Promise)>,
    /// By the batch with the journal that they wait for, in their order.
    promised: VecDeque<(u64, Promise)>,
    /// Connections that have asked for more than they can be told while the journal is not written.
    overdrawn: Vec<Conn>,
    /// What connections are to be told.
    lines: FxHashMap<Conn, Owed>,
}

impl Keeping {
    /// When what is known now of a job may be told.
    fn when(&self, job: JobId) -> When {
        if self.settings.is_none() || job == NOTHING {
            When::Now
        } else if !self.changed.is_empty() {
            When::Next
        } else if self.handed > self.written {
            When::Written
        } else {
            When::Now
        }
    }

    /// Has something wait for all that is with the journal.
    fn promise(&mut self, promise: Promise) {
        self.promised.push_back((self.handed, promise));
    }

    /// How many more jobs may be taken now.
    fn room(&self, last_job: u64) -> u64 {
        match self.settings {
            Some(_) => self.reserved.saturating_sub(last_job),
            None => u64::MAX,
        }
    }

    /// The database.
    pub(super) fn path(&self) -> Option<PathBuf> {
        Some(self.settings.as_ref()?.path.clone())
    }

    /// Why no job can be taken now. Clients' submissions wait where that is only for want of numbers.
    pub(super) fn trouble(&self, last_job: u64) -> Option<String> {
        let path = self.settings.as_ref()?.path.display();
        match &self.failing {
            Some(reason) => Some(format!(
                "jobs cannot be kept in {path}: {reason}; try again later"
            )),
            None if self.room(last_job) == 0 => Some(format!(
                "jobs come faster than they can be kept in {path}; try again later"
            )),
            None => None,
        }
    }

    /// Notes that what is kept of a job must change.
    pub(super) fn changed(&mut self, job: JobId) {
        self.records += 1;
        if self.settings.is_none() || self.changed.last() == Some(&job) {
            return;
        }
        self.changed.push(job);
        // While the journal cannot write, jobs go on changing.
        if self.changed.len() > 1000 + 2 * self.distinct {
            self.changed.sort_unstable();
            self.changed.dedup();
            self.distinct = self.changed.len();
        }
    }

    /// Has the rows removed of all jobs that are forgotten, with the next batch. They would come back after a crash before that.
    pub(super) fn purge(&mut self) {
        self.purges = true;
    }

    /// Notes something else to keep.
    pub(super) fn note(&mut self, note: impl FnOnce() -> Note) {
        if self.settings.is_some() && self.notes.len() < MOST_NOTES {
            self.notes.push(note());
        }
    }

    /// What the journal knows of a schedule.
    pub(super) fn schedule(&self, schedule: &str) -> Option<Known> {
        let name = schedule_setting(schedule);
        // Asked before the journal's thread has the store.
        let found = self.store.as_ref()?.setting(&name);
        let found = found.inspect_err(|error| log::error!("cannot read the journal: {error}"));
        Known::parse(&found.ok()??)
    }

    /// Whether a connection waits for what it is to be told.
    pub(super) fn owes(&self, conn: Conn) -> bool {
        self.lines.contains_key(&conn)
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, conn: Conn) {
        self.lines.remove(&conn);
    }
}

impl Coordinator {
    /// Starts the thread of the journal, if there is one.
    ///
    /// # Errors
    /// If that cannot be.
    pub(crate) fn start_keeping(&mut self, io: &mut Io) -> Result<(), String> {
        let keeping = &mut self.keeping;
        let (Some(store), Some(settings)) = (keeping.store.take(), &keeping.settings) else {
            return Ok(());
        };
        let reach = io.reach::<Coordinator>();
        let tell = move |fate| reach.post(move |coordinator, io| coordinator.written(io, fate));
        let journal = Journal::start(store, settings.sync, tell);
        keeping.journal = Some(journal.map_err(|error| format!("cannot start a thread: {error}"))?);
        self.act(io);
        Ok(())
    }

    /// Gives the journal what has changed, if it has nothing to do. If more may come very soon, it waits for that, and returns
    /// until when.
    pub(super) fn write_batch(&mut self, io: &Io) -> Option<Instant> {
        let keeping = &mut self.keeping;
        keeping.journal.as_ref()?;
        let last_job = self.engine.last_job();
        let is_short = last_job + keeping.ahead / 2 >= keeping.reserved;
        let under_way = keeping.handed - keeping.written;
        if under_way > 1 || under_way == 1 && keeping.changed.len() < MANY {
            return None;
        }
        let engine = &self.engine;
        keeping
            .forgotten
            .extend(keeping.changed.extract_if(.., |id| engine.job(*id).is_none()));
        if keeping.changed.is_empty() && keeping.notes.is_empty() && !is_short && !keeping.purges {
            keeping.is_idle = true;
            if keeping.forgotten.is_empty() || under_way > 0 {
                return None;
            }
            let until = *keeping.lull.get_or_insert_with(|| io.now() + LULL);
            if until > io.now() {
                return Some(until);
            }
        }
        let cut = match self.cut(io) {
            Ok(cut) => cut,
            Err(_) if under_way > 0 => return None,
            Err(until) => return Some(until),
        };
        if under_way > 0 && !self.is_group(cut) {
            return None;
        }
        let keeping = &mut self.keeping;
        if is_short {
            if last_job >= keeping.reserved {
                keeping.ahead = (keeping.ahead * 2).min(MOST_AHEAD);
            }
            keeping.reserving = last_job + keeping.ahead;
        }
        self.write(cut);
        None
    }

    /// Closes the connections that have asked for too much.
    pub(super) fn close_overdrawn(&mut self, io: &mut Io) {
        let reason = "asked for more than it can be told while the journal is not written";
        for conn in std::mem::take(&mut self.keeping.overdrawn) {
            if self.peers.contains_key(&conn) {
                log::warn!("a connection is closed: it has {reason}");
                io.close(conn);
                self.closed(io, conn, reason);
            }
        }
    }

    /// From which job on the next batch leaves out what has changed; or until when there is nothing that should be written yet.
    fn cut(&mut self, io: &Io) -> Result<JobId, Instant> {
        let now = self.now(io);
        let keeping = &mut self.keeping;
        keeping.changed.sort_unstable();
        keeping.changed.dedup();
        let changed = &keeping.changed;
        if changed.is_empty() {
            return Ok(WHOLE);
        }
        let is_few = changed.len() <= FEW;
        let linger = if is_few { PAUSE } else { LINGER };
        // For how long its worker's answer is waited for, so that submission and result are written at once.
        let waits = |id: &JobId| {
            let job = self.engine.job(*id)?;
            let age = now.checked_sub(job.submitted)?;
            linger.checked_sub(age).filter(|rest| !rest.is_zero())
        };
        let runs = |id: &JobId| {
            let job = self.engine.job(*id);
            job.is_some_and(|job| matches!(job.state, State::Running { .. } | State::Prefetched { .. }))
        };
        let old = changed.partition_point(|id| waits(id).is_none());
        let fresh = changed[old..].iter().position(runs).map(|at| old + at);
        // A few of many are not worth a sync of their own.
        if let Some(at) = fresh.filter(|at| at * 4 < changed.len())
            && let Some(rest) = waits(&changed[at])
        {
            if is_few
                && !keeping.is_expected
                && let Some(journal) = &keeping.journal
            {
                journal.expect();
            }
            keeping.is_expected = true;
            keeping.is_idle = true;
            return Err(io.now() + rest);
        }
        if !keeping.notes.is_empty() || keeping.purges {
            return Ok(WHOLE);
        }
        let half = (keeping.is_idle && changed.len() >= 2 * MANY).then_some(changed.len() / 2);
        let at = fresh.into_iter().chain(half).min();
        Ok(at.map_or(WHOLE, |at| changed[at]))
    }

    /// Whether the jobs before `cut` are worth a batch while the journal writes another one: all that are there, or as many as that has.
    fn is_group(&self, cut: JobId) -> bool {
        let keeping = &self.keeping;
        let count = keeping.changed.partition_point(|id| *id < cut);
        let is_alone = keeping.notes.is_empty() && !keeping.purges;
        is_alone && count >= MANY && (cut == WHOLE || count >= keeping.last_handed)
    }

    /// Gives the journal what has changed of jobs before `cut`.
    fn write(&mut self, cut: JobId) {
        let last_job = JobId(self.engine.last_job());
        let keeping = &mut self.keeping;
        let Some(journal) = &keeping.journal else { return };
        if keeping.reserving != keeping.reserved {
            let reserving = keeping.reserving.to_string();
            keeping.notes.push(Note::Setting(LAST_JOB.to_owned(), reserving));
        }
        let mut batch = Batch {
            notes: std::mem::take(&mut keeping.notes),
            ..Batch::default()
        };
        keeping.changed.sort_unstable();
        keeping.changed.dedup();
        let at = keeping.changed.partition_point(|id| *id < cut);
        for id in keeping.changed.drain(..at) {
            match self.engine.job(id) {
                Some(job) => batch.jobs.push(Stored::of(id, job)),
                None => keeping.forgotten.push(id),
            }
        }
        // Many rows that lie together are removed at the price of a few. If they come back after a crash, they are forgotten again.
        let is_due = std::mem::take(&mut keeping.purges);
        if is_due || keeping.forgotten.len() >= REMOVED_AT_ONCE || batch.jobs.len() < FEW {
            keeping.forgotten.sort_unstable();
            batch.forgotten = std::mem::take(&mut keeping.forgotten);
        }
        keeping.distinct = keeping.changed.len();
        keeping.last_handed = batch.jobs.len();
        journal.write(batch);
        (keeping.is_idle, keeping.is_expected, keeping.lull) = (false, false, None);
        keeping.handed += 1;
        let handed = keeping.handed;
        for owed in keeping.lines.values_mut() {
            let lines = owed.next.take_before(cut);
            if !lines.is_empty() {
                owed.handed.push_back((handed, lines));
            }
        }
        let reserved = Promise::Reserved(keeping.reserving);
        keeping.promised.push_back((handed, reserved));
        keeping
            .waiting
            .push((last_job, Promise::Records(keeping.records)));
        for (job, promise) in std::mem::take(&mut keeping.waiting) {
            if job < cut {
                keeping.promised.push_back((handed, promise));
            } else {
                keeping.waiting.push((job, promise));
            }
        }
    }

    /// The journal has written the first of the batches that it had, or cannot.
    fn written(&mut self, io: &mut Io, fate: Fate) {
        let keeping = &mut self.keeping;
        match fate {
            Fate::Failing(reason) => {
                log::error!("cannot write the journal: {reason}; jobs are refused until it can be written");
                keeping.failing = Some(reason);
                if let Some(exit) = self.stopping.take() {
                    self.stop_at_once(exit);
                }
                self.read_on(io);
                return;
            }
            Fate::Kept => {
                if keeping.failing.take().is_some() {
                    log::info!("the journal is written again");
                }
            }
        }
        keeping.written += 1;
        let written = keeping.written;
        self.tell_kept(io);
        let is_due = |waiting: Option<&(u64, Promise)>| waiting.is_some_and(|(batch, _)| *batch <= written);
        while is_due(self.keeping.promised.front())
            && let Some((_, promise)) = self.keeping.promised.pop_front()
        {
            match promise {
                Promise::Event(event) => self.tell_event(io, &event),
                Promise::Then(then) => then(self, io),
                Promise::Records(records) => self.engine.written(self.now(io), records),
                Promise::Reserved(last) => self.keeping.reserved = last,
            }
        }
        self.act(io);
        self.read_on(io);
    }

    /// Hands out no more jobs, and drops `exit` when all that is known is kept, and told, or cannot be kept.
    pub(crate) fn stop(&mut self, io: &mut Io, exit: Arc<Exit>) {
        self.engine.pause();
        self.act(io);
        if self.keeping.failing.is_some() {
            return self.stop_at_once(exit);
        }
        self.stopping = Some(exit);
        self.then(io, |coordinator, _| {
            coordinator.keep_last();
            // Waits until it has written, and tidied up.
            coordinator.keeping.journal = None;
            // In the next turn, when what was said in this one is on its way.
            coordinator.exit = coordinator.stopping.take();
        });
    }

    fn stop_at_once(&mut self, exit: Arc<Exit>) {
        log::error!(
            "stopping without the last changes, which were told to nobody: the journal cannot be written"
        );
        self.exit = Some(exit);
    }

    /// Has the journal write all there is, as nothing more will come.
    pub(super) fn keep_last(&mut self) {
        // So that the next life goes on with the next number.
        self.keeping.reserving = self.engine.last_job();
        self.write(WHOLE);
    }

    /// Whether no more submissions can be taken in for now.
    pub(super) fn is_full(&self, undecided: usize) -> bool {
        let room = self.keeping.room(self.engine.last_job());
        self.keeping.failing.is_none() && room <= undecided as u64
    }

    /// Tells connections what has waited for the batch that is written now.
    fn tell_kept(&mut self, io: &mut Io) {
        let mut told = Vec::new();
        let keeping = &mut self.keeping;
        for (&conn, owed) in &mut keeping.lines {
            let is_due = |waiting: Option<&(u64, Vec<u8>)>| {
                waiting.is_some_and(|(batch, _)| *batch <= keeping.written)
            };
            while is_due(owed.handed.front())
                && let Some((_, lines)) = owed.handed.pop_front()
            {
                io.send(conn, |out| out.extend_from_slice(&lines));
            }
            if owed.handed.is_empty() && owed.next.marks.is_empty() {
                told.push(conn);
            }
        }
        for conn in told {
            self.keeping.lines.remove(&conn);
            self.owe(io, conn);
        }
    }

    /// Tells a connection something that need not be kept, after what it is told already.
    pub(super) fn say(&mut self, io: &mut Io, conn: Conn, write: impl FnOnce(&mut Vec<u8>)) {
        self.say_when(io, conn, When::Now, (NOTHING, true), write);
    }

    /// Answers a connection with what is known of a job now, once that is kept.
    pub(super) fn promise(&mut self, io: &mut Io, conn: Conn, job: JobId, write: impl FnOnce(&mut Vec<u8>)) {
        let when = self.keeping.when(job);
        self.say_when(io, conn, when, (job, true), write);
    }

    /// Tells a connection how a job ended, once that is kept.
    pub(super) fn tell_result(
        &mut self,
        io: &mut Io,
        conn: Conn,
        job: JobId,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let when = self.keeping.when(job);
        self.say_when(io, conn, when, (job, false), write);
    }

    /// Tells a connection that a job is taken, once it is kept.
    pub(super) fn accept(
        &mut self,
        io: &mut Io,
        conn: Conn,
        Accepted { job, is_new }: Accepted,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let keeping = &self.keeping;
        // The engine has not yet been asked what has changed.
        let is_next = keeping.settings.is_some() && is_new;
        let when = if is_next { When::Next } else { keeping.when(job) };
        self.say_when(io, conn, when, (job, true), write);
    }

    /// Tells a connection something, of a job and as an answer or not.
    fn say_when(
        &mut self,
        io: &mut Io,
        conn: Conn,
        when: When,
        (job, is_answer): (JobId, bool),
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let keeping = &mut self.keeping;
        if when == When::Now && !keeping.lines.contains_key(&conn) {
            return io.send(conn, write);
        }
        let mut is_first = false;
        let owed = keeping.lines.entry(conn).or_insert_with(|| {
            is_first = true;
            Owed::default()
        });
        if when == When::Next || !owed.next.marks.is_empty() {
            owed.next.push(job, is_answer, write);
        } else {
            write(owed.last(keeping.handed));
        }
        if owed.bytes() / AT_ONCE > self.serving.limits.max_pending {
            keeping.overdrawn.push(conn);
        }
        if is_first {
            self.owe(io, conn);
        }
    }

    /// Tells watchers and the script of an event; of how a job ended, once that is kept.
    pub(super) fn tell_event_kept(&mut self, io: &mut Io, event: Event) {
        let is_end = matches!(event.name, "completed" | "failed" | "cancelled" | "expired");
        let job = event.job.filter(|_| is_end).unwrap_or(NOTHING);
        match self.keeping.when(job) {
            When::Now => self.tell_event(io, &event),
            When::Written => self.keeping.promise(Promise::Event(event)),
            When::Next => self.keeping.waiting.push((job, Promise::Event(event))),
        }
    }

    /// Calls `then` once what is known now is kept.
    pub(crate) fn then(
        &mut self,
        io: &mut Io,
        then: impl FnOnce(&mut Coordinator, &mut Io) + Send + 'static,
    ) {
        let last_job = JobId(self.engine.last_job());
        let then: Then = Box::new(then);
        match self.keeping.when(last_job) {
            When::Now => then(self, io),
            When::Written => self.keeping.promise(Promise::Then(then)),
            When::Next => self.keeping.waiting.push((last_job, Promise::Then(then))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: bool = true;
    const R: bool = false;

    /// What is told of lines when the jobs before `cut` are kept, and what then, when all are.
    fn told(lines: &[(u64, bool, &str)], cut: u64) -> [String; 2] {
        let mut waiting = Lines::default();
        for &(job, is_answer, line) in lines {
            waiting.push(JobId(job), is_answer, |out| {
                out.extend_from_slice(line.as_bytes())
            });
        }
        [JobId(cut), WHOLE].map(|cut| String::from_utf8(waiting.take_before(cut)).unwrap())
    }

    #[test]
    fn what_speaks_of_jobs_that_are_left_out_waits() {
        let lines = [
            (1, A, "a1 "),
            (2, A, "a2 "),
            (3, A, "a3 "),
            (1, R, "r1 "),
            (3, R, "r3 "),
        ];
        assert_eq!(told(&lines, 3), ["a1 a2 r1 ", "a3 r3 "]);
        assert_eq!(told(&lines, 1), ["", "a1 a2 a3 r1 r3 "]);
        assert_eq!(told(&lines, WHOLE.0), ["a1 a2 a3 r1 r3 ", ""]);
    }

    #[test]
    fn answers_keep_their_order_and_results_do_not_wait_for_them() {
        let lines = [(0, A, "pong "), (4, A, "a4 "), (0, A, "pong "), (1, R, "r1 ")];
        assert_eq!(told(&lines, 4), ["pong r1 ", "a4 pong "]);
    }

    #[test]
    fn a_result_does_not_come_before_an_answer_that_waits_for_others() {
        let lines = [(4, A, "a4 "), (1, A, "a1 again "), (1, R, "r1 ")];
        assert_eq!(told(&lines, 4), ["", "a4 a1 again r1 "]);
    }
}
