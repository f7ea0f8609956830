//! The supervisor itself: one loop that owns all state and hears of everything over one channel.
//!
//! Threads only wait: one for each process, one for its readiness, one for signals, one for the control socket. They queue an
//! [`Event`], and the loop acts on it in its own time. The loop also starts the nodes, and runs on the main thread: Linux ties
//! a child's parent-death signal to the thread that started it.
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use torhost_topology::NodeKind;

use super::control::{self, NodeStatus, Report, Request, State, Status};
use super::error::Error;
use super::instance::Claim;
use super::log_file;
use super::plan::{NodePlan, Plan};
use super::probe::{self, Finding};
use super::process::Process;
use super::restart::{Deaths, Policy};
use super::voice::Voice;

/// The kinds of nodes in the order in which they are started; they are stopped the other way round.
const ORDER: [NodeKind; 3] = [NodeKind::Master, NodeKind::Worker, NodeKind::Client];

/// How a system is supervised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long a node may take to become ready before that is an error.
    pub(crate) timeout: Duration,
    /// How long a node has from SIGTERM to SIGKILL.
    pub(crate) grace: Duration,
    /// How nodes that die are started again.
    pub(crate) restart: Policy,
}

enum Event {
    Exited { node: usize, run: u64 },
    Found { node: usize, run: u64, finding: Finding },
    Signal(i32),
    Request(Request, UnixStream),
}

struct Node {
    plan: NodePlan,
    state: State,
    process: Option<Process>,
    /// Counts the starts, so that what is heard of an earlier run is not taken for news of this one.
    run: u64,
    deaths: Deaths,
    restart_at: Option<Instant>,
    /// Whether it was ready, died or was late once: the start of the system does not wait for it any longer.
    settled: bool,
}

enum Phase {
    /// The nodes of this place in [`ORDER`] are being started.
    Starting(usize),
    Running,
    /// The nodes of this place in [`ORDER`] have been asked to end.
    Stopping {
        place: usize,
        grace: Duration,
        kill_at: Option<Instant>,
    },
}

struct Supervisor<'a> {
    plan: &'a Plan,
    settings: Settings,
    voice: Voice,
    nodes: Vec<Node>,
    phase: Phase,
    events: Sender<Event>,
    /// Those who asked for the system to be stopped, and are told how it goes.
    stoppers: Vec<UnixStream>,
}

/// Whether this process was started with SIGHUP ignored. Where that cannot be told, it was not.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // A bit for each signal, from 1 on.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// Starts the nodes of a plan and keeps them running until a signal or a request says to stop; `hint` is what to say once when
/// the start is over.
pub(crate) fn supervise(
    plan: &Plan,
    claim: Claim,
    settings: Settings,
    voice: Voice,
    hint: &str,
) -> Result<(), Error> {
    let (events, queue) = mpsc::channel();
    // As `nohup` has it: what is ignored from the start stays so.
    let hangup = (!ignores_hangup()).then_some(SIGHUP);
    let wanted = [SIGINT, SIGTERM].into_iter().chain(hangup);
    let mut signals = Signals::new(wanted).map_err(Error::system("receive signals"))?;
    let heard = events.clone();
    let listen = move || {
        signals
            .forever()
            .try_for_each(|signal| heard.send(Event::Signal(signal)))
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(listen)
        .map_err(Error::system("start a thread for signals"))?;
    let heard = events.clone();
    // The loop is gone only when the process is about to be.
    let hand_on = move |request, stream| drop(heard.send(Event::Request(request, stream)));
    thread::Builder::new()
        .name("control".into())
        .spawn(control::serve(claim.listen()?, hand_on))
        .map_err(Error::system("start a thread for the control socket"))?;
    let nodes = plan.nodes.iter().cloned().map(Node::new).collect();
    let mut supervisor = Supervisor {
        plan,
        settings,
        voice,
        nodes,
        phase: Phase::Starting(0),
        events,
        stoppers: Vec::new(),
    };
    supervisor.start_place(0);
    supervisor.run(&queue, hint);
    // Let go before those who wait are told, so that they may start it anew at once.
    drop(claim);
    supervisor.say(&format!("{} is stopped.", plan.system));
    Ok(())
}

impl Node {
    fn new(plan: NodePlan) -> Self {
        Self {
            plan,
            state: State::Starting,
            process: None,
            run: 0,
            deaths: Deaths::default(),
            restart_at: None,
            settled: false,
        }
    }

    fn status(&self) -> NodeStatus {
        let plan = &self.plan;
        NodeStatus {
            node: plan.name.clone(),
            kind: plan.kind.as_str().to_owned(),
            pid: self.process.as_ref().map(Process::pid),
            state: self.state,
            uptime_seconds: self
                .process
                .as_ref()
                .map(|process| process.started.elapsed().as_secs()),
            restarts: u32::try_from(self.run.saturating_sub(1)).unwrap_or(u32::MAX),
            address: plan.address.clone(),
            port: plan.port,
            log: plan.log.display().to_string(),
        }
    }
}

impl Supervisor<'_> {
    fn run(&mut self, queue: &Receiver<Event>, hint: &str) {
        loop {
            self.start_what_is_due();
            match self.phase {
                Phase::Starting(place) => self.go_on_starting(place, hint),
                Phase::Running => {}
                Phase::Stopping {
                    place,
                    grace,
                    kill_at,
                } => {
                    if self.go_on_stopping(place, grace, kill_at) {
                        return;
                    }
                }
            }
            let event = match self.next_wake() {
                Some(wake) => queue.recv_timeout(wake.saturating_duration_since(Instant::now())),
                None => queue.recv().map_err(RecvTimeoutError::from),
            };
            match event {
                Ok(Event::Exited { node, run }) if self.nodes[node].run == run => self.exited(node),
                Ok(Event::Found { node, run, finding }) if self.nodes[node].run == run => {
                    self.found(node, finding);
                }
                Ok(Event::Signal(signal)) => self.signalled(signal),
                Ok(Event::Request(request, stream)) => self.requested(request, stream),
                // News of an earlier run, or the time has come for something. The channel cannot close: this owns a sender.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let kill_at = match self.phase {
            Phase::Stopping { kill_at, .. } => kill_at,
            _ => None,
        };
        self.nodes
            .iter()
            .filter_map(|node| node.restart_at)
            .chain(kill_at)
            .min()
    }

    fn of_place(&self, place: usize) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let chosen = |&(_, node): &(usize, &Node)| node.plan.kind == ORDER[place];
        let found: Vec<usize> = self
            .nodes
            .iter()
            .enumerate()
            .filter(chosen)
            .map(|(index, _)| index)
            .collect();
        found.into_iter()
    }

    fn start_place(&mut self, place: usize) {
        for node in self.of_place(place) {
            self.start(node);
        }
    }

    fn go_on_starting(&mut self, place: usize, hint: &str) {
        if !self.of_place(place).all(|node| self.nodes[node].settled) {
            return;
        }
        if place + 1 < ORDER.len() {
            self.phase = Phase::Starting(place + 1);
            self.start_place(place + 1);
            return self.go_on_starting(place + 1, hint);
        }
        self.phase = Phase::Running;
        let well = |node: &&Node| matches!(node.state, State::Ready | State::Finished);
        let (ready, all) = (self.nodes.iter().filter(well).count(), self.nodes.len());
        let system = &self.plan.system;
        let text = if ready == all {
            format!("{system} is up: {ready} of {all} nodes are ready.")
        } else {
            format!("{system} was started, but only {ready} of {all} nodes are ready.")
        };
        self.say(&text);
        if matches!(self.voice, Voice::Terminal) {
            self.say(hint);
        }
        let status = self.status();
        self.voice.started(status);
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for node in 0..self.nodes.len() {
            if self.nodes[node].restart_at.is_some_and(|at| at <= now) {
                self.nodes[node].restart_at = None;
                self.start(node);
            }
        }
    }

    fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.run += 1;
        node.state = State::Starting;
        let (run, events) = (node.run, self.events.clone());
        // The loop is gone only when the process is about to be.
        let exited = move || drop(events.send(Event::Exited { node: index, run }));
        let name = node.plan.name.clone();
        match Process::start(self.plan, &node.plan, exited) {
            Ok((process, ended)) => {
                let pid = process.pid();
                node.process = Some(process);
                let (readiness, timeout) = (node.plan.readiness.clone(), self.settings.timeout);
                let events = self.events.clone();
                let watch = move || {
                    probe::watch(&readiness, timeout, &ended, |finding| {
                        drop(events.send(Event::Found {
                            node: index,
                            run,
                            finding,
                        }));
                    });
                };
                self.say(&format!("{name} is started, pid {pid}"));
                if let Err(error) = thread::Builder::new().name("watch".into()).spawn(watch) {
                    self.say(&format!("{name}: whether it is ready cannot be watched: {error}"));
                    self.nodes[index].settled = true;
                }
            }
            Err(error) => self.died(index, &format!("cannot be started: {error}"), Duration::ZERO, ""),
        }
    }

    fn exited(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(process) = node.process.take() else {
            return;
        };
        let (pid, ready_for) = (process.pid(), process.ready_for());
        let tail = log_file::tail(&node.plan.log, process.log_from);
        let status = process.bury();
        let name = node.plan.name.clone();
        let ended = match &status {
            Ok(status) => describe(*status),
            Err(error) => format!("ended, nobody knows how ({error})"),
        };
        if let Phase::Stopping { .. } = self.phase {
            node.state = State::Stopped;
            return self.say(&format!("{name} is stopped (pid {pid} {ended})"));
        }
        if node.plan.kind == NodeKind::Client && status.is_ok_and(|status| status.success()) {
            node.state = State::Finished;
            node.settled = true;
            return self.say(&format!("{name} has finished"));
        }
        self.died(index, &ended, ready_for, &tail);
    }

    fn died(&mut self, index: usize, how: &str, ready_for: Duration, tail: &str) {
        let node = &mut self.nodes[index];
        node.settled = true;
        let (name, log) = (&node.plan.name, node.plan.log.display());
        let next = match node.deaths.next_delay(ready_for, self.settings.restart) {
            Some(delay) => {
                node.state = State::Restarting;
                node.restart_at = Some(Instant::now() + delay);
                format!("it is started again in {delay:?}")
            }
            None => {
                node.state = State::Failed;
                "too often in a row: it is left alone until the next `torhost up`".to_owned()
            }
        };
        let quoted = match tail {
            "" => format!("its log {log} has nothing to say"),
            tail => format!("its log {log} ends with{tail}"),
        };
        let text = format!("{name} {how}; {next}; {quoted}");
        self.say(&text);
    }

    fn found(&mut self, index: usize, finding: Finding) {
        if let Phase::Stopping { .. } = self.phase {
            return;
        }
        let node = &mut self.nodes[index];
        let Some(process) = &mut node.process else {
            return;
        };
        node.settled = true;
        let name = &node.plan.name;
        let text = match finding {
            Finding::Ready { note } => {
                process.ready = Some(Instant::now());
                node.state = State::Ready;
                match note {
                    None => format!("{name} is ready"),
                    Some(note) => format!("{name} is alive, and is taken to be ready: {note}"),
                }
            }
            Finding::Late => {
                let tail = match log_file::tail(&node.plan.log, process.log_from) {
                    tail if tail.is_empty() => " is empty".to_owned(),
                    tail => format!(" ends with{tail}"),
                };
                format!(
                    "{name} runs but {} after {:?}; its log {}{tail}",
                    node.plan.readiness.lack(),
                    self.settings.timeout,
                    node.plan.log.display()
                )
            }
        };
        self.say(&text);
    }

    fn signalled(&mut self, signal: i32) {
        match &mut self.phase {
            Phase::Stopping { .. } => self.hasten(Duration::ZERO),
            _ => {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                self.say(&format!("{name} received: stopping (once more: at once)"));
                self.stop(self.settings.grace);
            }
        }
    }

    fn requested(&mut self, request: Request, mut stream: UnixStream) {
        match request {
            Request::Status => {
                if let Err(error) = Report::Status(self.status()).write_to(&mut stream) {
                    log::warn!("a request for the status could not be answered: {error}");
                }
            }
            Request::Down { grace } => {
                self.stoppers.push(stream);
                match self.phase {
                    Phase::Stopping { .. } => self.hasten(grace),
                    _ => self.stop(grace),
                }
            }
        }
    }

    fn stop(&mut self, grace: Duration) {
        for node in &mut self.nodes {
            node.restart_at = None;
            if node.process.is_none() {
                node.state = State::Stopped;
            }
        }
        self.terminate(ORDER.len() - 1, grace);
    }

    /// Leaves nodes that are being stopped no more than a grace, those too whose turn comes later.
    fn hasten(&mut self, longest: Duration) {
        if let Phase::Stopping { grace, kill_at, .. } = &mut self.phase {
            *grace = longest.min(*grace);
            *kill_at = kill_at.map(|at| at.min(Instant::now() + longest));
        }
    }

    fn terminate(&mut self, place: usize, grace: Duration) {
        for index in self.of_place(place).rev() {
            if let Some(process) = &self.nodes[index].process {
                process.signal(Signal::TERM);
            }
        }
        self.phase = Phase::Stopping {
            place,
            grace,
            kill_at: Some(Instant::now() + grace),
        };
    }

    /// Whether everything has been stopped.
    fn go_on_stopping(&mut self, place: usize, grace: Duration, kill_at: Option<Instant>) -> bool {
        let left: Vec<usize> = self
            .of_place(place)
            .rev()
            .filter(|&node| self.nodes[node].process.is_some())
            .collect();
        if left.is_empty() {
            let Some(next) = place.checked_sub(1) else {
                return true;
            };
            self.terminate(next, grace);
            return self.go_on_stopping(next, grace, None);
        }
        if kill_at.is_some_and(|at| at <= Instant::now()) {
            self.phase = Phase::Stopping {
                place,
                grace,
                kill_at: None,
            };
            for index in left {
                let node = &self.nodes[index];
                if let Some(process) = &node.process {
                    process.signal(Signal::KILL);
                }
                let text = format!("{} did not stop when asked, and is killed", node.plan.name);
                self.say(&text);
            }
        }
        false
    }

    fn status(&self) -> Status {
        Status {
            system: self.plan.system.clone(),
            topology: self.plan.topology.display().to_string(),
            pid: process::id(),
            nodes: self.nodes.iter().map(Node::status).collect(),
        }
    }

    fn say(&mut self, text: &str) {
        self.voice.say(text);
        let report = Report::Say(text.to_owned());
        self.stoppers
            .retain_mut(|stopper| report.write_to(stopper).is_ok());
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("was ended by {name}"),
            None => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
