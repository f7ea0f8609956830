//! A coordinator: the dispatch engine, spoken to by the line protocol.
mod choice;
mod hooks;
mod keeping;
mod routes;
mod schedules;
mod script;
mod spilled;

pub(crate) use hooks::{EVENTS, Hooks, set_option};
pub(crate) use keeping::{ADDRESS, EPOCH, JournalSettings, LAST_JOB};
pub(crate) use routes::{Glob, Route, Routes};
pub(crate) use schedules::Definition;
pub(crate) use script::{OwnWorker, WorkerTaken};

use crate::reactor::{Conn, Io, Limits, Service};
use crate::tor::{Callback, Exit};
use hooks::Undecided;
use keeping::{Keeping, Kept};
use rustc_hash::{FxHashMap, FxHashSet};
use schedules::Schedules;
use serde_json::{Value, json};
use spilled::Spilled;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use torhost_dispatch::{
    Accepted, AnswerError, Client, Config, Engine, Event, Job, Joining, Outcome, Output, Progress,
    PurgeError, RetryError, SubmitError, WorkerKey, WorkerState,
};
use torhost_journal::Note;
use torhost_protocol::{
    Beat, Code, Format, Handle, JobId, JobsQuery, Refusal, Registered, Registration, Request, SubmitOptions,
    VERBS, parse_request, write,
};

/// What a worker must understand to be sent data with line ends.
const MULTILINE: &str = "multiline";
/// What this coordinator speaks: 1, and where in a worker's script a failure came from.
const PROTOCOL: u32 = 2;
/// How much of that is kept, in characters.
const MAX_INFO: usize = 8192;
/// How many jobs one `JOBS` looks at, at most.
const PAGE_SCAN: u64 = 10_000;
/// How much of data and results a list shows, in characters.
const BRIEF: usize = 100;

/// How those who connect are served.
#[derive(Debug, Clone, Default)]
pub(crate) struct Serving {
    /// How often workers are told to beat.
    pub(crate) heartbeat: Duration,
    pub(crate) limits: Limits,
    pub(crate) max_connections: usize,
    pub(crate) routes: Routes,
    /// What to submit at which times.
    pub(crate) schedules: Vec<Definition>,
    pub(crate) hooks: Hooks,
}

/// A coordinator, as a service of the reactor.
pub(crate) struct Coordinator {
    /// Without meaning until it listens.
    serving: Serving,
    engine: Engine,
    keeping: Keeping,
    spilled: Spilled,
    /// When it began, by the clock that never goes back, and since 1970, which the engine's times are measured from.
    began: (Instant, Duration),
    /// Tells these job numbers from those of another coordinator, or of one that has forgotten all.
    epoch: String,
    peers: FxHashMap<Conn, Peer>,
    links: FxHashMap<WorkerKey, Link>,
    watching: FxHashSet<Conn>,
    undecided: Undecided,
    schedules: Schedules,
    /// Whom of the script to tell of which events.
    listeners: Vec<(&'static str, Callback)>,
    /// Whom of the script to ask for workers, under [`torhost_dispatch::Policy::Asked`].
    chooser: Option<Callback>,
    misnamed: choice::Misnamed,
    /// The script's own workers.
    own: Vec<WorkerKey>,
    /// Workers that have left while nobody listened, and why; they may be about to come again, until then.
    absent: Vec<(WorkerKey, String)>,
    absent_until: Option<Instant>,
    /// Dropped once all is kept, and then once that is told.
    stopping: Option<Arc<Exit>>,
    exit: Option<Arc<Exit>>,
    /// Workers are to take no more jobs.
    is_draining: bool,
    is_listening: bool,
    /// Counted once more for each event that the script has not been told yet.
    backlog: Arc<()>,
    /// Too many of them wait.
    loses_events: bool,
}

/// A connection.
#[derive(Default)]
struct Peer {
    format: Option<Format>,
    /// The worker that it registered as.
    worker: Option<WorkerKey>,
}

/// What only people want to know of a worker, and its connection.
struct Link {
    way: Way,
    kind: String,
    capabilities: Vec<String>,
    weight: u32,
    clock: String,
    interp_ms: Option<u64>,
}

/// How a worker is told what to do.
enum Way {
    Line(Conn),
    Script(OwnWorker),
}

impl Coordinator {
    /// A coordinator that does not listen yet.
    ///
    /// `chooser` is whom of the script to ask for workers, under [`torhost_dispatch::Policy::Asked`]; `journal` where it keeps its jobs, and
    /// goes on with those that are there.
    ///
    /// # Errors
    /// A journal that cannot be used.
    pub(crate) fn new(
        config: Config,
        chooser: Option<Callback>,
        journal: Option<JournalSettings>,
    ) -> Result<Coordinator, torhost_journal::Error> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = since_1970.as_nanos() as u64 ^ u64::from(std::process::id()) << 48;
        let began = (Instant::now(), since_1970);
        let kept = match journal {
            Some(journal) => Kept::open(journal, config, seed, since_1970)?,
            None => Kept {
                engine: Engine::new(config, seed),
                keeping: Keeping::default(),
                epoch: format!("{seed:x}"),
            },
        };
        let Kept {
            engine,
            keeping,
            epoch,
        } = kept;
        Ok(Coordinator {
            engine,
            keeping,
            spilled: Spilled::default(),
            serving: Serving::default(),
            began,
            epoch,
            peers: FxHashMap::default(),
            links: FxHashMap::default(),
            watching: FxHashSet::default(),
            undecided: Undecided::default(),
            schedules: Schedules::default(),
            listeners: Vec::new(),
            chooser,
            misnamed: choice::Misnamed::default(),
            own: Vec::new(),
            absent: Vec::new(),
            absent_until: None,
            stopping: None,
            exit: None,
            is_draining: false,
            is_listening: false,
            backlog: Arc::default(),
            loses_events: false,
        })
    }

    /// Listens, on all of the addresses and on one port, which it tells. Once only.
    pub(crate) fn listen(
        &mut self,
        io: &mut Io,
        mut serving: Serving,
        addresses: &[SocketAddr],
    ) -> Result<u16, String> {
        if self.is_listening {
            return Err("it listens already".to_owned());
        }
        let busy = b"ERROR:busy:no more connections can be served; try again later\n";
        let bound = io.listen_on_all(addresses, serving.limits, busy)?;
        let at: Vec<String> = bound.iter().map(SocketAddr::to_string).collect();
        self.keeping
            .note(|| Note::Setting(ADDRESS.to_owned(), at.join(" ")));
        self.start_schedules(std::mem::take(&mut serving.schedules));
        (self.serving, self.is_listening) = (serving, true);
        Ok(bound[0].port())
    }

    fn now(&self, io: &Io) -> Duration {
        let (began, since_1970) = self.began;
        since_1970 + io.now().saturating_duration_since(began)
    }

    fn serve(
        &mut self,
        io: &mut Io,
        conn: Conn,
        request: Result<Request<'_>, Refusal>,
    ) -> Result<(), Refusal> {
        let now = self.now(io);
        let worker = self.peers.get(&conn).and_then(|peer| peer.worker);
        let is_answer = request.as_ref().is_ok_and(is_of_worker);
        // The engine takes an answer for a sign of life itself, and in the right order.
        if let Some(worker) = worker.filter(|_| !is_answer) {
            self.engine.worker_heard(now, worker);
        }
        let registered = || worker.ok_or_else(|| Refusal::new(Code::NotAWorker, "REGISTER first"));
        match request? {
            Request::Submit(submission) => {
                let mut options = submission.options;
                self.serving.routes.apply(&submission.data, &mut options);
                let data = submission.data.into();
                if self.serving.hooks.are_set() {
                    self.ask(io, conn, data, options);
                } else {
                    self.take_from(io, conn, data, options)?;
                }
            }
            Request::Complete { handle, result } => {
                let answer = self
                    .engine
                    .completed(now, registered()?, handle, result.as_ref().into());
                answer.map_err(|error| refused(error, handle))?;
            }
            Request::Failed {
                handle,
                message,
                info,
            } => {
                let worker = registered()?;
                let info = info.as_deref().map(brief_info);
                let answer = self.engine.failed(now, worker, handle, &message, info);
                answer.map_err(|error| refused(error, handle))?;
            }
            Request::Returned(handle) => {
                let returned = self.engine.returned(now, registered()?, handle);
                returned.map_err(|error| refused(error, handle))?;
            }
            Request::Progress {
                handle,
                percent,
                note,
            } => {
                let stale = |_| Refusal::new(Code::StaleAttempt, handle.to_string());
                let worker = worker.ok_or(()).map_err(stale)?;
                let note = String::from_utf8_lossy(note).into_owned();
                let progress = Progress { percent, note };
                let answer = self.engine.progress(now, worker, handle, progress);
                answer.map_err(|_| stale(()))?;
            }
            Request::Misnamed(answer) => {
                return Err(answer.refusal(worker.is_some(), |job| self.state_of(job).is_some()));
            }
            Request::Heartbeat(beat) => self.beat(now, registered()?, &beat),
            Request::Register(registration) => self.register(io, conn, registration)?,
            Request::Drain => {
                let none = || Refusal::new(Code::NotAWorker, "only a worker says DRAIN");
                self.engine.worker_draining(worker.ok_or_else(none)?);
            }
            Request::Status => {
                let status = self.status(now);
                self.answer(io, conn, "STATUS", &status);
            }
            Request::Job(id) => {
                let job = Self::job_value(id, &*self.known(id)?, false);
                self.answer_kept(io, conn, "JOB", id, &job);
            }
            Request::Jobs(query) => {
                let jobs = self.jobs_page(&query);
                let newest = JobId(self.engine.last_job());
                self.answer_kept(io, conn, "JOBS", newest, &jobs);
            }
            Request::Workers => {
                let workers = self.workers_value(now);
                self.answer(io, conn, "WORKERS", &workers);
            }
            Request::Schedules => {
                let schedules = self.schedules.value();
                self.answer(io, conn, "SCHEDULES", &schedules);
            }
            Request::Wait(id) => {
                self.answer_state(io, conn, "WAIT", id)?;
                // It is known, or there would be no answer.
                let _ = self.engine.wait(id, Client(conn.0));
                // Those who have gone are left out from time to time.
                let waiting = self.engine.waiting(id);
                if waiting >= 64 && waiting.is_power_of_two() {
                    let peers = &self.peers;
                    self.engine
                        .keep_waiting(id, |client| peers.contains_key(&Conn(client.0)));
                }
            }
            Request::Cancel(id) => {
                self.bring_back(io, id)?;
                self.engine.cancel(now, id).map_err(|_| unknown(id))?;
                self.act(io);
                self.answer_state(io, conn, "CANCEL", id)?;
            }
            Request::Retry(id) => {
                self.engine.retry(now, id).map_err(|error| match error {
                    RetryError::UnknownJob(_) => unknown(id),
                    RetryError::NotTaken(error) => not_taken(error),
                })?;
                self.act(io);
                self.answer_state(io, conn, "RETRY", id)?;
            }
            Request::Purge(id) => {
                let purged = self.engine.purge(id).map_err(|error| match error {
                    PurgeError::UnknownJob(_) => unknown(id),
                    PurgeError::NotEnded(..) => Refusal::new(Code::NotEnded, error.to_string()),
                })?;
                self.act(io);
                self.keeping.purge();
                let value = json!({"id": id.to_string(), "state": purged.as_str()});
                self.answer_kept(io, conn, "PURGE", id, &value);
            }
            Request::Pause => {
                self.engine.pause();
                self.answer(io, conn, "PAUSE", &json!({"paused": 1}));
            }
            Request::Resume => {
                self.answer(io, conn, "RESUME", &json!({"paused": u8::from(self.is_draining)}));
                self.resume(now);
            }
            Request::Watch(on) => {
                if on {
                    self.watching.insert(conn);
                } else {
                    self.watching.remove(&conn);
                }
                self.report_events();
                self.answer(io, conn, "WATCH", &json!({"watching": u8::from(on)}));
            }
            Request::Format(format) => {
                self.peers.entry(conn).or_default().format = Some(format);
                self.say(io, conn, |out| {
                    out.extend_from_slice(format!("FORMAT:{}\n", format.as_str()).as_bytes())
                });
            }
            Request::Help => {
                let verbs: Vec<Value> = VERBS
                    .iter()
                    .map(|(usage, text)| json!({"usage": usage, "text": text}))
                    .collect();
                self.answer(io, conn, "HELP", &json!({ "verbs": verbs }));
            }
            Request::Ping => self.say(io, conn, |out| out.extend_from_slice(b"PONG\n")),
            Request::Auth(_) => {
                return Err(Refusal::new(
                    Code::BadRequest,
                    "this coordinator asks for no token",
                ));
            }
            Request::Empty => {}
        }
        Ok(())
    }

    /// Takes a submission, and tells its client once it is kept.
    fn take_from(
        &mut self,
        io: &mut Io,
        conn: Conn,
        data: Arc<[u8]>,
        options: SubmitOptions,
    ) -> Result<(), Refusal> {
        let accepted = self.take(io, data, options, Some(Client(conn.0)))?;
        self.accept(io, conn, accepted, |out| write::accepted(out, accepted.job));
        Ok(())
    }

    /// Takes a submission.
    fn take(
        &mut self,
        io: &Io,
        data: Arc<[u8]>,
        options: SubmitOptions,
        client: Option<Client>,
    ) -> Result<Accepted, Refusal> {
        if let Some(trouble) = self.keeping.trouble(self.engine.last_job()) {
            return Err(Refusal::new(Code::Overloaded, trouble));
        }
        let now = self.now(io);
        let accepted = self.engine.submit(now, submission(now, data, options), client);
        accepted.map_err(not_taken)
    }

    fn beat(&mut self, now: Duration, worker: WorkerKey, beat: &Beat<'_>) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.clock = String::from_utf8_lossy(beat.clock).into_owned();
            link.interp_ms = beat.interp_ms;
        }
        self.engine.worker_beat(now, worker);
    }

    fn register(&mut self, io: &mut Io, conn: Conn, registration: Registration) -> Result<(), Refusal> {
        let now = self.now(io);
        let peer = self.peers.entry(conn).or_default();
        if let Some(worker) = peer.worker.and_then(|worker| self.engine.worker(worker))
            && *worker.name != *registration.id
        {
            let text = format!("this connection is already worker {}", worker.name);
            return Err(Refusal::new(Code::BadRequest, text));
        }
        if let Some(old) = self.engine.worker_named(&registration.id) {
            if self.own.contains(&old) {
                let text = format!("{} is a worker of the coordinator's script", registration.id);
                return Err(Refusal::new(Code::BadRequest, text));
            }
            self.absent.retain(|(worker, _)| *worker != old);
            if let Some(Link {
                way: Way::Line(other),
                ..
            }) = self.links.remove(&old)
                && other != conn
            {
                let text = format!("worker {} has registered on another connection", registration.id);
                io.send(other, |out| write::error(out, Code::Replaced, &text));
                io.close(other);
                self.forget(other);
            }
        }
        let answer = Registered {
            protocol: PROTOCOL,
            id: registration.id.clone(),
            heartbeat: self.serving.heartbeat,
            max_line: self.serving.limits.max_line as u64,
            epoch: self.epoch.clone(),
        };
        self.say(io, conn, |out| write::registered(out, &answer));
        // What others say must not look like a line of ours.
        log::info!(
            "worker {} ({}) is here, slots {}, capabilities: {}",
            registration.id,
            registration.kind.escape_debug(),
            registration.slots,
            registration.capabilities.join(" ").escape_debug()
        );
        let mut capabilities = registration.capabilities.clone();
        if registration.protocol >= 1 {
            capabilities.push(MULTILINE.into());
        }
        let weight = registration.weight.unwrap_or(registration.slots);
        // The handles of another coordinator mean nothing to this one.
        let is_ours = registration.epoch == self.epoch;
        let running = if is_ours { registration.running } else { Vec::new() };
        let worker = self.engine.worker_joined(
            now,
            Joining {
                name: registration.id,
                capabilities,
                slots: registration.slots,
                prefetch: registration.prefetch,
                weight,
                running,
            },
        );
        self.peers.entry(conn).or_default().worker = Some(worker);
        let link = Link {
            way: Way::Line(conn),
            kind: registration.kind,
            capabilities: registration.capabilities,
            weight,
            clock: String::new(),
            interp_ms: None,
        };
        self.add_link(io, worker, link);
        Ok(())
    }

    fn add_link(&mut self, io: &mut Io, worker: WorkerKey, link: Link) {
        if let Some(worker) = self.engine.worker(worker) {
            self.keeping.note(|| Note::Worker {
                name: worker.name.to_string(),
                kind: link.kind.clone(),
                capabilities: link.capabilities.clone(),
                slots: worker.slots,
                at: torhost_journal::now(),
            });
        }
        if self.is_draining {
            self.drain_worker(io, worker, &link);
        }
        self.links.insert(worker, link);
    }

    /// A request is done, or refused.
    fn finish(&mut self, io: &mut Io, conn: Conn, done: Result<(), Refusal>) {
        if let Err(refusal) = done {
            self.say(io, conn, |out| write::error(out, refusal.code, &refusal.text));
        }
        self.act(io);
    }

    /// For how long a worker may be silent.
    pub(crate) fn health_check(&self) -> Duration {
        self.engine.config().health_check_interval
    }

    /// Does what the engine wants done.
    fn act(&mut self, io: &mut Io) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Assign { worker, handle, data } => {
                    match self.links.get(&worker).map(|link| &link.way) {
                        Some(Way::Line(conn)) => {
                            io.send(*conn, |out| write::process_job(out, handle, &data));
                        }
                        Some(Way::Script(own)) => own.assign(io, worker, handle, data),
                        None => {}
                    }
                }
                Output::Cancel { worker, handle } => match self.links.get(&worker).map(|link| &link.way) {
                    Some(Way::Line(conn)) => io.send(*conn, |out| write::cancel_job(out, handle)),
                    Some(Way::Script(own)) => own.cancel(handle),
                    None => {}
                },
                Output::Recall { worker, handle } => {
                    // The script's own workers are sent nothing beforehand.
                    if let Some(Way::Line(conn)) = self.links.get(&worker).map(|link| &link.way) {
                        io.send(*conn, |out| write::return_job(out, handle));
                    }
                }
                Output::Choose { job, candidates } => self.choose(io, job, &candidates),
                Output::Ended {
                    client,
                    job,
                    outcome,
                    result,
                } => {
                    if outcome != Outcome::Completed {
                        let reason = String::from_utf8_lossy(&result);
                        log::info!("{job} {}: {}", outcome.as_str(), brief(&reason).escape_debug());
                    }
                    self.tell_result(io, Conn(client.0), job, |out| {
                        write::result(out, job, outcome.name(), &result)
                    });
                }
                Output::Record(job) => self.keeping.changed(job),
                Output::Load { jobs } => self.load(io, jobs),
                Output::Event(event) => {
                    log_event(&event);
                    self.keep_event(&event);
                    self.tell_event_kept(io, event);
                }
            }
        }
    }

    /// Keeps what happened, for people, if it is worth it.
    fn keep_event(&mut self, event: &Event) {
        if !Event::is_rare(event.name) {
            return;
        }
        self.keeping.note(|| {
            Note::Event(torhost_journal::Event {
                at: torhost_journal::now(),
                name: event.name,
                job: event.job,
                attempt: event.attempt,
                worker: event.worker.clone(),
                reason: event.reason.clone(),
            })
        });
    }

    fn report_events(&mut self) {
        let is_wanted = !(self.watching.is_empty() && self.listeners.is_empty());
        self.engine.report_events(is_wanted);
    }

    fn forget(&mut self, conn: Conn) {
        self.peers.remove(&conn);
        self.forget_line(conn);
        self.keeping.forget(conn);
        if self.watching.remove(&conn) {
            self.report_events();
        }
    }

    // -------------------------------------------------------------------------------------------------------- answers

    fn answer(&mut self, io: &mut Io, conn: Conn, verb: &str, value: &Value) {
        let format = self.format(conn);
        self.say(io, conn, |out| write::answer(out, verb, format, value));
    }

    /// Answers with what is known of a job, and of those before it.
    fn answer_kept(&mut self, io: &mut Io, conn: Conn, verb: &str, job: JobId, value: &Value) {
        let format = self.format(conn);
        self.promise(io, conn, job, |out| write::answer(out, verb, format, value));
    }

    fn format(&self, conn: Conn) -> Format {
        let format = self.peers.get(&conn).and_then(|peer| peer.format);
        format.unwrap_or(Format::Json)
    }

    fn answer_state(&mut self, io: &mut Io, conn: Conn, verb: &str, id: JobId) -> Result<(), Refusal> {
        let state = self.state_of(id).ok_or_else(|| unknown(id))?;
        self.answer_kept(io, conn, verb, id, &json!({"id": id.to_string(), "state": state}));
        Ok(())
    }

    /// A time of the engine's in milliseconds since 1970.
    fn wall(at: Duration) -> u64 {
        at.as_millis() as u64
    }

    fn status(&self, now: Duration) -> Value {
        let counts = self.engine.counts();
        let (mut slots, mut used, mut states) = (0, 0, [0; 4]);
        for (_, worker) in self.engine.workers() {
            slots += u64::from(worker.slots);
            used += worker.running.len() as u64;
            states[worker.state() as usize] += 1;
        }
        let of = |state: WorkerState| states[state as usize];
        json!({
            "epoch": self.epoch,
            "spilled": self.engine.spilled_jobs(),
            "uptime_ms": now.saturating_sub(self.began.1).as_millis() as u64,
            "jobs": {
                "queued": counts.queued, "delayed": counts.delayed, "held": counts.held, "running": counts.running,
                "completed": counts.completed, "failed": counts.failed, "cancelled": counts.cancelled,
                "expired": counts.expired,
            },
            "workers": {
                "connected": self.links.len(), "ready": of(WorkerState::Ready), "busy": of(WorkerState::Busy),
                "suspect": of(WorkerState::Suspect), "draining": of(WorkerState::Draining),
            },
            "slots": slots,
            "slots_used": used,
            "clients": self.peers.len() + self.own.len() - self.links.len(),
        })
    }

    fn job_value(id: JobId, job: &Job, is_brief: bool) -> Value {
        let shown = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            json!(if is_brief { brief(&text) } else { text.into_owned() })
        };
        let mut value = json!({
            "id": id.to_string(),
            "state": job.state.as_str(),
            "worker": job.worker.as_deref().unwrap_or_default(),
            "attempt": job.attempt,
            "priority": job.submission.priority,
            "requires": job.submission.requires,
            "submitted_ms": Self::wall(job.submitted),
        });
        if !job.submission.after.is_empty() {
            let after = job.submission.after.iter().map(JobId::to_string);
            value["after"] = after.collect();
        }
        if let Some(progress) = &job.progress {
            value["progress"] = number(progress.percent);
            value["note"] = json!(progress.note);
        }
        let data = shown(&job.submission.data);
        if let torhost_dispatch::State::Ended { at, result, .. } = &job.state {
            value["ended_ms"] = json!(Self::wall(*at));
            value["data"] = data;
            value["result"] = shown(result);
        } else {
            value["data"] = data;
        }
        if let Some(info) = job.info.as_deref().filter(|_| !is_brief) {
            value["info"] = json!(info);
        }
        value
    }

    fn jobs_page(&mut self, query: &JobsQuery) -> Value {
        let newest = self.engine.last_job() + 1;
        let mut number = query.after.map_or(newest, |after| after.0.min(newest));
        // A rare state must not make one request look at every job.
        let stop = number.saturating_sub(PAGE_SCAN).max(1);
        let mut jobs = Vec::new();
        while number > stop && jobs.len() < query.limit {
            number -= 1;
            let id = JobId(number);
            let is_wanted = |name| query.state.is_none_or(|state| state.as_str() == name);
            if self.state_of(id).is_some_and(is_wanted)
                && let Ok(job) = self.known(id)
            {
                jobs.push(Self::job_value(id, &job, true));
            }
        }
        let next = if number > 1 {
            JobId(number).to_string()
        } else {
            String::new()
        };
        json!({"jobs": jobs, "next": next})
    }

    fn workers_value(&self, now: Duration) -> Value {
        let mut workers: Vec<_> = self.engine.workers().collect();
        workers.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        let list = workers.into_iter().filter_map(|(key, worker)| {
            let link = self.links.get(&key)?;
            let mut running: Vec<_> = worker.running.iter().collect();
            running.sort_unstable();
            let mut value = json!({
                "id": *worker.name,
                "type": link.kind,
                "state": worker.state().as_str(),
                "capabilities": link.capabilities,
                "slots": worker.slots,
                "running": running.into_iter().map(Handle::to_string).collect::<Vec<_>>(),
                "completed": worker.completed,
                "failed": worker.failed,
                "connected_ms": now.saturating_sub(worker.since).as_millis() as u64,
                "silent_ms": now.saturating_sub(worker.heard).as_millis() as u64,
                "clock": link.clock,
            });
            if worker.prefetch > 0 {
                value["prefetch"] = json!(worker.prefetch);
                value["prefetched"] = worker.prefetched.iter().map(Handle::to_string).collect();
            }
            if let Some(interp_ms) = link.interp_ms {
                value["interp_ms"] = json!(interp_ms);
            }
            Some(value)
        });
        json!({ "workers": list.collect::<Vec<_>>() })
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.keep_last();
    }
}

impl Service for Coordinator {
    fn accepted(&mut self, io: &mut Io, conn: Conn) {
        let most = self.serving.max_connections;
        if self.peers.len() >= most {
            let text = format!("{most} connections are open; try again later");
            io.send(conn, |out| write::error(out, Code::Busy, &text));
            io.close(conn);
        } else {
            self.peers.insert(conn, Peer::default());
        }
    }

    fn line(&mut self, io: &mut Io, conn: Conn, line: &[u8]) {
        let request = parse_request(line);
        if self.must_wait(conn, &request) {
            self.keep_line(io, conn, line);
        } else {
            let done = self.serve(io, conn, request);
            self.finish(io, conn, done);
        }
    }

    fn line_too_long(&mut self, io: &mut Io, conn: Conn) {
        let text = format!("the longest line is {} bytes", self.serving.limits.max_line);
        self.say(io, conn, |out| write::error(out, Code::LineTooLong, &text));
    }

    fn line_cut_off(&mut self, io: &mut Io, conn: Conn) {
        let text = "the last line has no end, and was ignored: end it with a newline";
        self.say(io, conn, |out| write::error(out, Code::BadRequest, text));
    }

    fn closed(&mut self, io: &mut Io, conn: Conn, reason: &str) {
        let worker = self.peers.get(&conn).and_then(|peer| peer.worker);
        self.forget(conn);
        // A worker that registered again has a newer connection, and is not gone.
        if let Some(worker) = worker.filter(|worker| self.links.remove(worker).is_some()) {
            if self.absent_until.is_some() {
                self.engine.worker_draining(worker);
                self.absent.push((worker, reason.to_owned()));
            } else {
                self.engine.worker_gone(self.now(io), worker, reason);
            }
        }
        self.act(io);
    }

    fn was_away(&mut self, io: &mut Io, gap: Duration) {
        if self.engine.workers().next().is_none() || gap < self.serving.heartbeat {
            return;
        }
        let seconds = gap.as_secs_f64();
        log::warn!(
            "nothing was heard for {seconds:.1} s, as this process was stopped or too busy: no worker is taken for silent for that"
        );
        // Those who have given up their connections meanwhile will have others.
        self.absent_until = Some(io.now() + self.health_check());
        let now = self.now(io);
        for (&worker, _) in self.links.iter() {
            if self
                .engine
                .worker(worker)
                .is_some_and(|worker| worker.state() != WorkerState::Suspect)
            {
                self.engine.worker_heard(now, worker);
            }
        }
    }

    fn woken(&mut self, io: &mut Io) {
        if self.exit.take().is_some() {
            return;
        }
        let now = self.now(io);
        // The script's own are there for as long as it is.
        for &worker in &self.own {
            self.engine.worker_heard(now, worker);
        }
        if self.absent_until.is_some_and(|until| until <= io.now()) {
            self.absent_until = None;
            for (worker, reason) in std::mem::take(&mut self.absent) {
                self.engine.worker_gone(now, worker, &reason);
            }
        }
        self.engine.handle_timeout(now);
        self.run_schedules(io);
        self.act(io);
    }

    fn turn_ends(&mut self, io: &mut Io) {
        self.close_overdrawn(io);
        let written = self.write_batch(io);
        let (began, since_1970) = self.began;
        let next = self.engine.poll_timeout();
        let next = next.and_then(|next| began.checked_add(next.saturating_sub(since_1970)));
        let exits = self.exit.as_ref().map(|_| io.now());
        let wakes = [next, self.schedules.wake(), written, self.absent_until, exits];
        io.wake_at(wakes.into_iter().flatten().min());
    }
}

/// A submission as the engine has it. By the clock, `at` is as far from now as it says.
fn submission(now: Duration, data: Arc<[u8]>, options: SubmitOptions) -> torhost_dispatch::Submission {
    let from_now = |at: Duration| now.saturating_add(at.saturating_sub(torhost_journal::now()));
    let mut requires = options.requires.unwrap_or_default();
    if memchr::memchr2(b'\n', b'\r', &data).is_some() {
        requires.push(MULTILINE.into());
    }
    torhost_dispatch::Submission {
        data,
        priority: options.priority.unwrap_or(0),
        requires,
        after: options.after.unwrap_or_default(),
        delay: options.delay.unwrap_or_default(),
        not_before: options.at.map(from_now).unwrap_or_default(),
        timeout: options.timeout.filter(|timeout| !timeout.is_zero()),
        deadline: options.deadline.filter(|deadline| !deadline.is_zero()),
        attempts: options.retries.map(|retries| retries + 1),
        key: options.key.filter(|key| !key.is_empty()),
        affinity: options.affinity,
    }
}

/// What workers say, and are not answered.
fn is_of_worker(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Complete { .. }
            | Request::Failed { .. }
            | Request::Returned(_)
            | Request::Progress { .. }
            | Request::Heartbeat(_)
    )
}

/// What there is to say of an event.
fn event_fields(event: &Event, time_ms: u64) -> Vec<(&'static str, Value)> {
    let progress = event.progress.as_ref();
    let fields = [
        Some(("event", json!(event.name))),
        Some(("time_ms", json!(time_ms))),
        event.job.map(|job| ("job", json!(job.to_string()))),
        event.worker.as_ref().map(|worker| ("worker", json!(**worker))),
        event
            .attempt
            .map(|attempt| ("attempt", json!(attempt.to_string()))),
        event.reason.as_ref().map(|reason| ("reason", json!(reason))),
        progress.map(|(percent, _)| ("percent", json!(percent.to_string()))),
        progress.map(|(_, note)| ("note", json!(note))),
    ];
    fields.into_iter().flatten().collect()
}

/// What an operator wants to know of.
fn log_event(event: &Event) {
    let job = event.job.map(|job| job.to_string()).unwrap_or_default();
    let worker = event.worker.as_deref().unwrap_or_default();
    // A worker's words must not look like a line of ours.
    let reason = brief(event.reason.as_deref().unwrap_or_default());
    let reason = reason.escape_debug();
    match event.name {
        "requeued" => log::warn!("{job} goes back to the queue: worker {worker}: {reason}"),
        "retried" => log::info!("{job} failed on {worker}, trying again: {reason}"),
        "worker-down" => log::warn!("worker {worker} is gone: {reason}"),
        "worker-suspect" => log::warn!("worker {worker} is silent"),
        _ => {}
    }
}

fn unknown(id: JobId) -> Refusal {
    Refusal::new(Code::UnknownJob, id.to_string())
}

fn not_taken(error: SubmitError) -> Refusal {
    match error {
        SubmitError::QueueFull(_) | SubmitError::TooManyClasses => {
            Refusal::new(Code::QueueFull, error.to_string())
        }
        SubmitError::TooManyDependencies(_) => Refusal::new(Code::BadRequest, error.to_string()),
        SubmitError::UnknownDependency(id) => unknown(id),
    }
}

fn refused(error: AnswerError, handle: Handle) -> Refusal {
    let code = match error {
        AnswerError::UnknownJob => Code::UnknownJob,
        AnswerError::StaleAttempt => Code::StaleAttempt,
    };
    Refusal::new(code, handle.to_string())
}

/// Whole numbers without a point, as they were said.
fn number(percent: f64) -> Value {
    if percent.fract() == 0.0 {
        json!(percent as i64)
    } else {
        json!(percent)
    }
}

/// What is kept of where a failure came from: the beginning, which is the innermost.
fn brief_info(info: &str) -> &str {
    let end = info
        .char_indices()
        .nth(MAX_INFO)
        .map_or(info.len(), |(end, _)| end);
    &info[..end]
}

fn brief(text: &str) -> String {
    match text.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
