//! What a coordinator must not forget, and what it says only once that is kept.
//!
//! Jobs that have changed are collected while the journal's thread writes those before them, and go to it at the end of a turn when it
//! has nothing to do: under load many in one transaction, alone each at once. What a client is told of them waits in [`Keeping`] until
//! they are written. So does everything else for the same client, so that answers keep their order.
use super::Coordinator;
use super::schedules::{Known, schedule_setting};
use crate::reactor::{Conn, Io, Service};
use crate::tor::Exit;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use torhost_dispatch::{Config, Engine, Event, State, Stored};
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
/// How long the answers of workers are waited for that may come in the same batch as what they answer: less than a sync takes. A batch
/// that grows is given more of it, up to [`LINGER`].
const PAUSE: Duration = Duration::from_micros(60);
const LINGER: Duration = Duration::from_micros(200);
/// So many rows are removed at a time, while there is much else to write.
const REMOVED_AT_ONCE: usize = 500;
/// A batch of so few jobs is looked through for whether there is anything to wait for, and the journal's thread is woken meanwhile.
const FEW: usize = 8;
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

/// What waits until a batch is written.
enum Promise {
    /// The oldest of what a connection is to be told.
    Lines(Conn),
    /// What watchers and the script are to be told.
    Event(Event),
    /// What the script waits for.
    Then(Then),
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
    /// How many changes there were ever, and how many of them are with the batch that is written.
    records: u64,
    writing: u64,
    /// Jobs that are to be kept no more.
    forgotten: Vec<JobId>,
    /// They are to be removed with the next batch, whatever that costs.
    purges: bool,
    /// How many there were when last none was there twice.
    distinct: usize,
    notes: Vec<Note>,
    /// Since when the batch is being collected, and until when it waits for more.
    lingers: Option<(Instant, Instant)>,
    /// How many changes there were at the end of the last turn.
    seen: usize,
    /// Batches that are written, or with the journal.
    batches: u64,
    is_writing: bool,
    /// Why the journal cannot write.
    failing: Option<String>,
    /// Numbers up to this one may be given to jobs: they are never given again, whatever is lost.
    reserved: u64,
    /// The same, once the batch with the journal is written.
    reserving: u64,
    ahead: u64,
    /// By the number of the batch that they wait for, in the order in which they were made.
    waiting: VecDeque<(u64, Promise)>,
    /// Connections that have asked for more than they can be told while the journal is not written.
    overdrawn: Vec<Conn>,
    /// What connections are to be told, by the batch that it waits for.
    lines: FxHashMap<Conn, VecDeque<(u64, Vec<u8>)>>,
}

impl Keeping {
    /// What is known now is written with this batch; none if it is, or need not be.
    fn batch(&self) -> Option<u64> {
        if self.settings.is_none() {
            None
        } else if !self.changed.is_empty() {
            Some(self.batches + 1)
        } else {
            self.is_writing.then_some(self.batches)
        }
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
        if keeping.is_writing || (keeping.changed.is_empty() && keeping.notes.is_empty() && !is_short) {
            return None;
        }
        if self.is_growing() {
            let keeping = &mut self.keeping;
            if keeping.lingers.is_none()
                && keeping.changed.len() <= FEW
                && let Some(journal) = &keeping.journal
            {
                journal.expect();
            }
            let (since, until) = keeping.lingers.unwrap_or((io.now(), io.now() + PAUSE));
            let grows = keeping.changed.len() > keeping.seen;
            let until = if grows {
                (io.now() + PAUSE).min(since + LINGER)
            } else {
                until
            };
            keeping.seen = keeping.changed.len();
            keeping.lingers = Some((since, until));
            if until > io.now() {
                return Some(until);
            }
        }
        let keeping = &mut self.keeping;
        if is_short {
            if last_job >= keeping.reserved {
                keeping.ahead = (keeping.ahead * 2).min(MOST_AHEAD);
            }
            keeping.reserving = last_job + keeping.ahead;
        }
        self.write();
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

    /// Whether something may come soon that belongs into the same batch: answers to what it says of jobs that are with workers.
    fn is_growing(&self) -> bool {
        let changed = &self.keeping.changed;
        let runs = |id: &JobId| {
            let job = self.engine.job(*id);
            job.is_some_and(|job| matches!(job.state, State::Running { .. }))
        };
        changed.len() > FEW || changed.iter().any(runs)
    }

    /// Gives the journal what has changed.
    fn write(&mut self) {
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
        for &id in &keeping.changed {
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
        keeping.changed.clear();
        (keeping.distinct, keeping.seen, keeping.lingers) = (0, 0, None);
        keeping.batches += 1;
        keeping.writing = keeping.records;
        keeping.is_writing = true;
        journal.write(batch);
    }

    /// The journal has written the batch that it had, or cannot.
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
        keeping.is_writing = false;
        keeping.reserved = keeping.reserving;
        let (written, records) = (keeping.batches, keeping.writing);
        while let Some((batch, promise)) = self.keeping.waiting.pop_front() {
            if batch > written {
                self.keeping.waiting.push_front((batch, promise));
                break;
            }
            match promise {
                Promise::Lines(conn) => self.tell_kept(io, conn, written),
                Promise::Event(event) => self.tell_event(io, &event),
                Promise::Then(then) => then(self, io),
            }
        }
        self.engine.written(self.now(io), records);
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
        self.write();
    }

    /// Whether no more submissions can be taken in for now.
    pub(super) fn is_full(&self, undecided: usize) -> bool {
        let room = self.keeping.room(self.engine.last_job());
        self.keeping.failing.is_none() && room <= undecided as u64
    }

    fn tell_kept(&mut self, io: &mut Io, conn: Conn, written: u64) {
        let Some(lines) = self.keeping.lines.get_mut(&conn) else {
            return;
        };
        while let Some((batch, _)) = lines.front()
            && *batch <= written
            && let Some((_, bytes)) = lines.pop_front()
        {
            io.send(conn, |out| out.extend_from_slice(&bytes));
        }
        if lines.is_empty() {
            self.keeping.lines.remove(&conn);
            self.owe(io, conn);
        }
    }

    /// Tells a connection something that need not be kept, after what it is told already.
    pub(super) fn say(&mut self, io: &mut Io, conn: Conn, write: impl FnOnce(&mut Vec<u8>)) {
        self.say_after(io, conn, None, write);
    }

    /// Tells a connection something of jobs, once what is known of them now is kept.
    pub(super) fn promise(&mut self, io: &mut Io, conn: Conn, write: impl FnOnce(&mut Vec<u8>)) {
        let batch = self.keeping.batch();
        self.say_after(io, conn, batch, write);
    }

    /// Tells a connection that a job is taken, once it is kept.
    pub(super) fn accept(&mut self, io: &mut Io, conn: Conn, is_new: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let keeping = &self.keeping;
        // The engine has not yet been asked what has changed.
        let next = (keeping.settings.is_some() && is_new).then_some(keeping.batches + 1);
        let batch = next.or_else(|| keeping.batch());
        self.say_after(io, conn, batch, write);
    }

    fn say_after(&mut self, io: &mut Io, conn: Conn, batch: Option<u64>, write: impl FnOnce(&mut Vec<u8>)) {
        let keeping = &mut self.keeping;
        if batch.is_none() && !keeping.lines.contains_key(&conn) {
            return io.send(conn, write);
        }
        let lines = keeping.lines.entry(conn).or_default();
        let is_first = lines.is_empty();
        match lines.back_mut() {
            Some((last, bytes)) if batch.is_none_or(|batch| batch <= *last) => write(bytes),
            _ => {
                let mut bytes = Vec::new();
                write(&mut bytes);
                let batch = batch.unwrap_or(keeping.batches);
                lines.push_back((batch, bytes));
                keeping.waiting.push_back((batch, Promise::Lines(conn)));
            }
        }
        let held: usize = lines.iter().map(|(_, bytes)| bytes.len()).sum();
        if held > self.serving.limits.max_pending {
            keeping.overdrawn.push(conn);
        }
        if is_first {
            self.owe(io, conn);
        }
    }

    /// Tells watchers and the script of an event; of how a job ended, once that is kept.
    pub(super) fn tell_event_kept(&mut self, io: &mut Io, event: Event) {
        let is_end = matches!(event.name, "completed" | "failed" | "cancelled" | "expired");
        match self.keeping.batch().filter(|_| is_end) {
            Some(batch) => self.keeping.waiting.push_back((batch, Promise::Event(event))),
            None => self.tell_event(io, &event),
        }
    }

    /// Calls `then` once what is known now is kept.
    pub(crate) fn then(
        &mut self,
        io: &mut Io,
        then: impl FnOnce(&mut Coordinator, &mut Io) + Send + 'static,
    ) {
        match self.keeping.batch() {
            Some(batch) => {
                let promise = Promise::Then(Box::new(then));
                self.keeping.waiting.push_back((batch, promise));
            }
            None => then(self, io),
        }
    }
}
