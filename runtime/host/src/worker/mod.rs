//! A worker: its link to a coordinator, on the reactor's thread, and its executors.
//!
//! The link registers, beats, and connects again when it is lost, whatever the executors do. Answers that could not be reported
//! are kept, and reported to the next connection if it is to the same life of the same coordinator.
mod children;
mod executor;
mod process;

pub(crate) use executor::{
    Current, ExecutorHandle, Setup, Start, answer, current, defer, end_of_script, own, progress, serve_here,
};
pub(crate) use process::{Program, Started, parent};

use crate::reactor::{Conn, Io, Limits, Service};
use crate::tor::Exit;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use torhost_protocol::{Handle, MAX_RUNNING, Order, Registered, Registration, parse_order, write};
use torhost_tcl::{Completion, Error};

/// How long an attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait before the second attempt to connect; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// So many beats without a word from the coordinator, and it is taken for dead.
const SILENT_BEATS: u32 = 3;
/// The protocol from which on a coordinator understands where an error came from.
const KNOWS_INFO: u32 = 2;
/// The longest line that a coordinator takes, if it does not say so.
const DEFAULT_MAX_LINE: u64 = 1 << 20;
/// The wait before a process that could not be started is tried again.
const RESTART_WAIT: Duration = Duration::from_secs(1);
/// Answers that are kept while there is no coordinator.
const MAX_UNREPORTED: usize = 100_000;

/// What a worker is told once.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Hosts and ports, tried in turn.
    pub(crate) coordinators: Vec<(String, u16)>,
    pub(crate) registration: Registration,
    /// How often to beat, if not as often as the coordinator says.
    pub(crate) heartbeat: Option<Duration>,
    /// The longest wait before the next attempt to connect.
    pub(crate) max_wait: Duration,
    /// How long an executor's process may take to stop a job, before it is killed.
    pub(crate) grace: Duration,
    pub(crate) limits: Limits,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has a result.
    Complete(Vec<u8>),
    /// It has none.
    Failed {
        /// Why.
        message: String,
        /// Where in the script.
        info: Option<String>,
    },
}

/// What a script is told of a worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub(crate) state: &'static str,
    /// The coordinator that it is connected to, or tries to reach.
    pub(crate) coordinator: String,
    pub(crate) running: Vec<Handle>,
    /// Those that it has and has not begun.
    pub(crate) prefetched: Vec<Handle>,
    pub(crate) begun: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    /// Answers that no coordinator has been told yet.
    pub(crate) unreported: usize,
}

/// What runs the jobs.
pub(crate) enum Executors {
    /// Interpreters in threads of this process.
    Threads(Vec<ExecutorHandle>),
    /// Child processes, and how to start another.
    Processes(Vec<Started>, Program),
}

/// A worker, as a service of the reactor.
pub(crate) struct Worker {
    settings: Settings,
    slots: Vec<Slot>,
    /// The slots of child processes, by connection.
    children: HashMap<Conn, usize>,
    /// How children are started.
    program: Option<Program>,
    /// Whether this process is an executor's, and the link is to its parent.
    is_child: bool,
    /// Slots without a job, the one to be used next last.
    idle: Vec<usize>,
    /// Jobs that have not begun: most often prefetched ones, while all slots are taken. They begin in this order.
    waiting: VecDeque<(Handle, Vec<u8>)>,
    /// Answers that could not be reported yet.
    unreported: VecDeque<(Handle, Answer)>,
    link: Link,
    /// The life of the coordinator that the handles belong to.
    epoch: String,
    /// Whether the coordinator understands where an error came from.
    knows_info: bool,
    /// The longest line that the coordinator takes.
    max_line: u64,
    draining: bool,
    /// Held until it is drained, or for so long; the process may wait for this to be dropped.
    held: Option<(Instant, Arc<Exit>)>,
    /// Which of the coordinators is next.
    next: usize,
    /// How often no coordinator was reached, since the last time that one was.
    failures: u32,
    heartbeat: Duration,
    status: Status,
}

/// One executor, and the job that it does.
struct Slot {
    executor: Executor,
    job: Option<Job>,
}

enum Executor {
    Thread(ExecutorHandle),
    Process {
        child: Child,
        conn: Conn,
        /// When it is to be killed, if it does not answer its job, which was cancelled.
        kill_at: Option<Instant>,
    },
    /// A process is to be started then.
    Down(Instant),
}

struct Job {
    number: u64,
    handle: Handle,
    /// Since when its handler has not come back to its event loop; none while it waits there.
    busy_since: Option<Instant>,
    /// Nobody wants to know what becomes of it.
    is_forgotten: bool,
}

/// The connection to a coordinator.
enum Link {
    /// Not before that time.
    Waiting(Instant),
    Connecting(Conn, Instant),
    Up {
        conn: Conn,
        registered: bool,
        /// None for the link of a child to its parent.
        next_beat: Option<Instant>,
        /// Beats since the coordinator last said something.
        unanswered: u32,
    },
    /// It is over: all jobs are done, and no more are wanted. What the last connection was told may not be written yet.
    Closed(Option<Conn>),
}

impl Answer {
    /// The answer of an attempt that was stopped.
    pub(crate) fn cancelled() -> Answer {
        Answer::Failed {
            message: "cancelled".into(),
            info: None,
        }
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Answer {
        if error.code().get(1).is_some_and(|word| word == "CANCEL") {
            return Answer::cancelled();
        }
        let message = match error.completion() {
            Completion::Error => error.message().to_owned(),
            // What `return` in a handler's own script gives.
            Completion::Return => return Answer::Complete(error.message().as_bytes().to_vec()),
            other => format!("the handler ended with {other}, not with a result"),
        };
        let info = error.info().map(str::to_owned);
        Answer::Failed { message, info }
    }
}

impl Worker {
    pub(crate) fn new(settings: Settings) -> Worker {
        Worker {
            heartbeat: settings.heartbeat.unwrap_or(Duration::from_secs(10)),
            settings,
            slots: Vec::new(),
            children: HashMap::new(),
            program: None,
            is_child: false,
            idle: Vec::new(),
            waiting: VecDeque::new(),
            unreported: VecDeque::new(),
            link: Link::Closed(None),
            epoch: String::new(),
            knows_info: false,
            max_line: DEFAULT_MAX_LINE,
            draining: false,
            held: None,
            next: 0,
            failures: 0,
            status: Status::default(),
        }
    }

    /// Begins, with these executors.
    pub(crate) fn start(&mut self, io: &mut Io, executors: Executors) {
        match executors {
            Executors::Threads(threads) => {
                let slot = |thread| Slot {
                    executor: Executor::Thread(thread),
                    job: None,
                };
                self.slots = threads.into_iter().map(slot).collect();
                self.idle = (0..self.slots.len()).rev().collect();
            }
            Executors::Processes(started, program) => {
                self.program = Some(program);
                for started in started {
                    let slot = self.slots.len();
                    let executor = Executor::Down(io.now());
                    self.slots.push(Slot { executor, job: None });
                    if self.adopt(io, slot, started) {
                        self.idle.push(slot);
                    }
                }
            }
        }
        self.connect(io);
    }

    /// Begins as the executor of a parent process.
    pub(crate) fn start_child(&mut self, io: &mut Io, executor: ExecutorHandle, parent: UnixStream) {
        match io.adopt(parent, self.settings.limits) {
            Ok(conn) => {
                self.slots = vec![Slot {
                    executor: Executor::Thread(executor),
                    job: None,
                }];
                self.idle = vec![0];
                (self.is_child, self.knows_info) = (true, true);
                // The parent knows what the coordinator takes.
                self.max_line = u64::MAX;
                self.link = Link::Up {
                    conn,
                    registered: true,
                    next_beat: None,
                    unanswered: 0,
                };
                self.tell_parent(io, process::READY);
            }
            Err(error) => {
                log::error!("cannot use the executor's socket: {error}");
                std::process::exit(1);
            }
        }
    }

    /// Takes no more jobs, and closes the connection when those that run are answered.
    pub(crate) fn drain(&mut self, io: &mut Io) {
        if self.is_child {
            return self.tell_parent(io, process::DRAIN);
        }
        self.draining = true;
        if let Link::Up { conn, .. } = self.link {
            io.send(conn, |out| out.extend_from_slice(b"DRAIN\n"));
        }
        self.close_if_drained(io);
    }

    /// Drains, and drops `exit` when that is done, or after so long.
    pub(crate) fn drain_then(&mut self, io: &mut Io, longest: Duration, exit: Arc<Exit>) {
        self.held = Some((io.now() + longest, exit));
        self.drain(io);
    }

    /// Drops the connection and all jobs, as if it had broken down, and connects again.
    pub(crate) fn reconnect(&mut self, io: &mut Io) {
        if self.is_child {
            return self.tell_parent(io, process::RECONNECT);
        }
        if let Link::Up { conn, .. } | Link::Connecting(conn, _) = self.link {
            io.close(conn);
            self.forget_jobs(io);
            self.unreported.clear();
            self.lost(io, "told to reconnect");
        }
    }

    fn tell_parent(&self, io: &mut Io, line: &[u8]) {
        if let Link::Up { conn, .. } = self.link {
            io.send(conn, |out| {
                out.extend_from_slice(line);
                out.push(b'\n');
            });
        }
    }

    pub(crate) fn status(&self) -> Status {
        let (host, port) = &self.settings.coordinators[self.next];
        let jobs = self.slots.iter().filter_map(|slot| slot.job.as_ref());
        Status {
            state: match &self.link {
                Link::Closed(_) => "closed",
                _ if self.draining => "draining",
                Link::Up { registered: true, .. } => "connected",
                _ => "connecting",
            },
            coordinator: format!("{host}:{port}"),
            running: jobs.map(|job| job.handle).collect(),
            prefetched: self.waiting.iter().map(|(handle, _)| *handle).collect(),
            unreported: self.unreported.len(),
            ..self.status.clone()
        }
    }

    // ----------------------------------------------------------------------------------------------------- executors

    /// An executor has answered its job, and is idle.
    pub(crate) fn answered(&mut self, io: &mut Io, slot: usize, number: u64, answer: Answer) {
        let Some(job) = self.slots[slot].job.take_if(|job| job.number == number) else {
            return;
        };
        if !job.is_forgotten {
            match answer {
                Answer::Complete(_) => self.status.completed += 1,
                Answer::Failed { .. } => self.status.failed += 1,
            }
            self.report(io, job.handle, answer);
        }
        match &mut self.slots[slot].executor {
            Executor::Thread(_) => self.idle.push(slot),
            Executor::Process { kill_at, .. } => {
                *kill_at = None;
                self.idle.push(slot);
            }
            // It is idle when there is a process again.
            Executor::Down(_) => {}
        }
        self.close_if_drained(io);
    }

    /// An executor's handler waits in the event loop.
    pub(crate) fn waits(&mut self, io: &mut Io, slot: usize) {
        if let Some(job) = &mut self.slots[slot].job {
            job.busy_since = None;
        }
        if self.is_child {
            self.tell_parent(io, process::WAITS);
        }
    }

    /// An executor tells how far its job is.
    pub(crate) fn progressed(&mut self, io: &mut Io, slot: usize, number: u64, percent: f64, note: &str) {
        let job = self.slots[slot].job.as_ref();
        let job = job.filter(|job| job.number == number && !job.is_forgotten);
        if let (Some(job), Link::Up { conn, .. }) = (job, &self.link) {
            io.send(*conn, |out| {
                write::progress(out, job.handle, percent, note.as_bytes())
            });
        }
    }

    /// Takes a job, which begins at the end of the turn or when a slot is free.
    fn take(&mut self, io: &mut Io, handle: Handle, data: Vec<u8>) {
        if self.waiting.len() < self.slots.len() + self.settings.registration.prefetch as usize {
            self.waiting.push_back((handle, data));
        } else {
            let message = "this worker has no free slot".to_owned();
            self.report(io, handle, Answer::Failed { message, info: None });
        }
    }

    /// Begins as many jobs as there are idle slots. What those before them were answered is on its way by then: a job that ends
    /// this process is not taken for another one.
    fn begin_waiting(&mut self, io: &mut Io) {
        if self.waiting.is_empty() || self.idle.is_empty() {
            return;
        }
        if let Link::Up { conn, .. } = self.link {
            io.write(conn);
        }
        while let Some(&slot) = self.idle.last()
            && let Some((handle, data)) = self.waiting.pop_front()
        {
            self.idle.pop();
            self.begin(io, slot, handle, data);
        }
    }

    fn begin(&mut self, io: &mut Io, slot: usize, handle: Handle, data: Vec<u8>) {
        self.status.begun += 1;
        let number = self.status.begun;
        self.slots[slot].job = Some(Job {
            number,
            handle,
            busy_since: Some(io.now()),
            is_forgotten: false,
        });
        match &self.slots[slot].executor {
            Executor::Thread(executor) => executor.assign(number, handle, data),
            Executor::Process { conn, .. } => io.send(*conn, |out| write::process_job(out, handle, &data)),
            Executor::Down(_) => {}
        }
    }

    /// How many of those that wait have begun for the coordinator, which knows only of slots and answers: a slot may not be idle
    /// without having a job of its.
    fn begun(&self) -> usize {
        let is_free = |slot: &&Slot| slot.job.as_ref().is_none_or(|job| job.is_forgotten);
        let free = self.slots.iter().filter(is_free).count();
        free.min(self.waiting.len())
    }

    /// Gives a job back, unless it has begun.
    fn give_back(&mut self, io: &mut Io, handle: Handle) {
        let begun = self.begun();
        let at = self.waiting.iter().position(|(waiting, _)| *waiting == handle);
        if let (Some(at), Link::Up { conn, .. }) = (at.filter(|&at| at >= begun), &self.link) {
            self.waiting.remove(at);
            io.send(*conn, |out| write::job_returned(out, handle));
        }
    }

    fn cancel(&mut self, io: &mut Io, handle: Handle) {
        if !self.is_child {
            log::info!("{handle} is cancelled");
        }
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == handle) {
            self.waiting.remove(at);
            self.report(io, handle, Answer::cancelled());
        }
        for slot in &mut self.slots {
            if slot
                .job
                .as_ref()
                .is_some_and(|job| job.handle == handle && !job.is_forgotten)
            {
                slot.cancel(io, self.settings.grace);
            }
        }
    }

    /// Nobody wants to know any more what becomes of the jobs.
    fn forget_jobs(&mut self, io: &mut Io) {
        self.waiting.clear();
        for slot in &mut self.slots {
            if let Some(job) = &mut slot.job {
                job.is_forgotten = true;
                slot.cancel(io, self.settings.grace);
            }
        }
    }

    /// How long, in milliseconds, one of the executors has not come back to its event loop.
    fn busy_ms(&self, now: Instant) -> u64 {
        let since = self.slots.iter().filter_map(|slot| slot.job.as_ref()?.busy_since);
        since
            .min()
            .map_or(0, |since| now.saturating_duration_since(since).as_millis() as u64)
    }

    // --------------------------------------------------------------------------------------------------------- the link

    fn report(&mut self, io: &mut Io, handle: Handle, answer: Answer) {
        match &self.link {
            Link::Up {
                conn,
                registered: true,
                ..
            } => {
                let (knows_info, max_line) = (self.knows_info, self.max_line);
                io.send(*conn, |out| {
                    write_answer(out, handle, &answer, knows_info, max_line)
                });
            }
            _ if self.unreported.len() < MAX_UNREPORTED => self.unreported.push_back((handle, answer)),
            _ => {
                log::error!("{handle}: its answer is dropped: {MAX_UNREPORTED} others wait for a coordinator")
            }
        }
    }

    /// The attempts that it has, or has the answers to; as many as a line can tell.
    fn running(&self) -> Vec<Handle> {
        let jobs = self.slots.iter().filter_map(|slot| slot.job.as_ref());
        let jobs = jobs.filter(|job| !job.is_forgotten).map(|job| job.handle);
        let waiting = self.waiting.iter().map(|(handle, _)| *handle);
        let answered = self.unreported.iter().map(|(handle, _)| *handle);
        let most = MAX_RUNNING.min(self.max_line as usize / 64);
        jobs.chain(waiting).chain(answered).take(most).collect()
    }

    fn connect(&mut self, io: &mut Io) {
        let (host, port) = &self.settings.coordinators[self.next];
        log::info!("connecting to {host}:{port}");
        let conn = io.connect(host, *port, self.settings.limits);
        self.link = Link::Connecting(conn, io.now() + CONNECT_TIMEOUT);
    }

    /// There is no connection: the next coordinator is tried, at once if there are some that have not been tried yet.
    fn lost(&mut self, io: &mut Io, reason: &str) {
        // Others do what has not begun.
        self.waiting.truncate(self.begun());
        self.next = (self.next + 1) % self.settings.coordinators.len();
        let mut delay = Duration::ZERO;
        if self.next == 0 {
            self.failures += 1;
            let most = FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(20));
            let most = most.min(self.settings.max_wait);
            // Never in step with the other workers.
            delay = most / 2 + most.mul_f64(random() / 2.0);
        }
        log::warn!(
            "no coordinator ({reason}), trying again in {} ms",
            delay.as_millis()
        );
        self.link = Link::Waiting(io.now() + delay);
        if self.draining {
            self.close_if_drained(io);
        }
    }

    fn obey(&mut self, io: &mut Io, line: &[u8]) {
        let order = parse_order(line);
        if let Link::Up { unanswered, .. } = &mut self.link {
            *unanswered = 0;
        }
        match order {
            Order::Registered(answer) => self.registered(io, answer),
            Order::Process { handle, data } => {
                // A coordinator of the first days does not answer REGISTER.
                if matches!(
                    self.link,
                    Link::Up {
                        registered: false,
                        ..
                    }
                ) {
                    self.registered(io, Registered::default());
                }
                self.take(io, handle, data.into_owned());
            }
            Order::Cancel(handle) => self.cancel(io, handle),
            Order::Return(handle) => {
                self.give_back(io, handle);
                self.close_if_drained(io);
            }
            Order::Drain => log::info!("the coordinator stops"),
            Order::Ping => {
                if let Link::Up { conn, .. } = self.link {
                    io.send(conn, |out| out.extend_from_slice(b"PONG\n"));
                }
            }
            Order::Error { code, text } => {
                let (code, text) = (String::from_utf8_lossy(code), String::from_utf8_lossy(text));
                log::warn!(
                    "the coordinator says {}:{}",
                    code.escape_debug(),
                    text.escape_debug()
                );
                if code == "replaced" {
                    // Two workers with one name must not chase each other away in turns.
                    self.failures = 20;
                }
            }
            Order::Pong | Order::Unknown => {}
        }
    }

    fn registered(&mut self, io: &mut Io, answer: Registered) {
        let Link::Up {
            conn,
            registered,
            next_beat,
            ..
        } = &mut self.link
        else {
            return;
        };
        *registered = true;
        if self.settings.heartbeat.is_none() && !answer.heartbeat.is_zero() {
            self.heartbeat = answer.heartbeat;
        }
        *next_beat = Some(io.now() + self.heartbeat);
        let conn = *conn;
        self.failures = 0;
        self.knows_info = answer.protocol >= KNOWS_INFO;
        self.max_line = match answer.max_line {
            0 => DEFAULT_MAX_LINE,
            said => said,
        };
        if answer.epoch != self.epoch {
            // Another coordinator counts its jobs anew: the handles mean nothing to it.
            self.forget_jobs(io);
            self.unreported.clear();
            self.epoch = answer.epoch;
        }
        let (knows_info, max_line) = (self.knows_info, self.max_line);
        for (handle, answer) in std::mem::take(&mut self.unreported) {
            io.send(conn, |out| {
                write_answer(out, handle, &answer, knows_info, max_line)
            });
        }
        if self.draining {
            io.send(conn, |out| out.extend_from_slice(b"DRAIN\n"));
        }
        let (host, port) = &self.settings.coordinators[self.next];
        log::info!(
            "registered with the coordinator at {host}:{port} as {}",
            self.settings.registration.id
        );
    }

    fn close_if_drained(&mut self, io: &mut Io) {
        let is_busy = self
            .slots
            .iter()
            .any(|slot| slot.job.as_ref().is_some_and(|job| !job.is_forgotten));
        if !self.draining || is_busy || !self.waiting.is_empty() || !self.unreported.is_empty() {
            return;
        }
        let last = match self.link {
            Link::Up { conn, .. } | Link::Connecting(conn, _) => Some(conn),
            Link::Waiting(_) => None,
            Link::Closed(last) => last,
        };
        if let Some(conn) = last {
            io.close(conn);
        }
        self.link = Link::Closed(last);
        for conn in self.children.drain().map(|(conn, _)| conn) {
            // A child ends when its parent has closed the connection.
            io.close(conn);
        }
        log::info!("drained");
    }
}

impl Service for Worker {
    fn connected(&mut self, io: &mut Io, conn: Conn) {
        let registration = Registration {
            running: self.running(),
            epoch: self.epoch.clone(),
            ..self.settings.registration.clone()
        };
        io.send(conn, |out| write::register(out, &registration));
        self.link = Link::Up {
            conn,
            registered: false,
            next_beat: Some(io.now() + self.heartbeat),
            unanswered: 0,
        };
    }

    fn line(&mut self, io: &mut Io, conn: Conn, line: &[u8]) {
        match self.children.get(&conn) {
            Some(&slot) => self.child_said(io, slot, line),
            None => self.obey(io, line),
        }
    }

    fn closed(&mut self, io: &mut Io, conn: Conn, reason: &str) {
        match self.children.remove(&conn) {
            Some(slot) => self.child_gone(io, slot),
            // The parent is gone.
            None if self.is_child => std::process::exit(0),
            None => self.lost(io, reason),
        }
    }

    fn woken(&mut self, io: &mut Io) {
        let now = io.now();
        self.tend_processes(io);
        if self.held.as_ref().is_some_and(|(until, _)| *until <= now) {
            log::warn!("not drained in time");
            self.held = None;
        }
        let is_able = self.is_able();
        match &mut self.link {
            Link::Closed(last) if last.is_none_or(|conn| io.unwritten(conn) == 0) => self.held = None,
            Link::Waiting(until) if *until <= now && !is_able => *until = now + RESTART_WAIT,
            Link::Waiting(until) if *until <= now => self.connect(io),
            Link::Connecting(conn, until) if *until <= now => {
                io.close(*conn);
                let seconds = CONNECT_TIMEOUT.as_secs();
                self.lost(io, &format!("cannot connect within {seconds} s"));
            }
            Link::Up {
                conn,
                next_beat,
                unanswered,
                ..
            } if next_beat.is_some_and(|at| at <= now) => {
                let conn = *conn;
                // Beats are counted, not time: a worker that was itself stopped must not blame the coordinator.
                *unanswered += 1;
                *next_beat = Some(now + self.heartbeat);
                if *unanswered > SILENT_BEATS {
                    io.close(conn);
                    self.lost(io, &format!("silent for {SILENT_BEATS} heartbeats"));
                } else {
                    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let busy_ms = self.busy_ms(now);
                    io.send(conn, |out| {
                        write::heartbeat(out, clock.as_secs(), Some(busy_ms));
                        out.extend_from_slice(b"PING\n");
                    });
                }
            }
            _ => {}
        }
    }

    fn turn_ends(&mut self, io: &mut Io) {
        self.begin_waiting(io);
        let next = match &self.link {
            Link::Waiting(at) | Link::Connecting(_, at) => Some(*at),
            Link::Up { next_beat, .. } => *next_beat,
            // To see whether all is written.
            Link::Closed(_) => self.held.as_ref().map(|_| io.now() + Duration::from_millis(1)),
        };
        let processes = self.program.as_ref().and_then(|_| self.next_for_processes());
        let held = self.held.as_ref().map(|(until, _)| *until);
        io.wake_at(next.into_iter().chain(processes).chain(held).min());
    }
}

impl Slot {
    /// Has its job stopped; a process that does not do so in time is killed.
    fn cancel(&mut self, io: &mut Io, grace: Duration) {
        let Some(job) = &self.job else { return };
        match &mut self.executor {
            Executor::Thread(executor) => executor.cancel(job.number),
            Executor::Process { conn, kill_at, .. } => {
                kill_at.get_or_insert(io.now() + grace);
                io.send(*conn, |out| write::cancel_job(out, job.handle));
            }
            Executor::Down(_) => {}
        }
    }
}

/// Writes an answer, or in place of one that is too long for the coordinator, which would close the connection, that it is.
fn write_answer(out: &mut Vec<u8>, handle: Handle, answer: &Answer, knows_info: bool, max_line: u64) {
    let start = out.len();
    match answer {
        Answer::Complete(result) => write::complete(out, handle, result),
        Answer::Failed { message, info } => {
            let info = info.as_deref().filter(|_| knows_info);
            // Without it the message must be one line, which all understand.
            let one_line = message.replace(['\n', '\r'], " ");
            let message = if info.is_some() { message } else { &one_line };
            write::failed(out, handle, message.as_bytes(), info);
        }
    }
    let length = (out.len() - start) as u64;
    if length > max_line {
        out.truncate(start);
        let message = format!("the answer is {length} bytes long, and the coordinator takes {max_line}");
        write::failed(out, handle, message.as_bytes(), None);
    }
}

/// A number from 0 to 1, different in each process.
fn random() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
