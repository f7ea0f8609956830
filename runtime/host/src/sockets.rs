//! The sockets of scripts, as a service of the reactor, and the names that scripts watch.
//!
//! Lines come and go on the reactor's thread, whatever the scripts do. A script's thread sees of a socket what is [`Shared`]: enough
//! to know whether a line can be sent. All else it asks the service.
//!
//! What waits for a script is bounded. A connection whose lines the script does not get to is held. A connection
//! counts against its listener's limit until the script has been told of its end.
use crate::alarms::Alarms;
use crate::heartbeat::{Terms, WatchKey, Watches};
use crate::reactor::{self, Conn, Io, Limits, Reach, Service};
use crate::tor::{Callback, report};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use torhost_tcl::{Interp, Obj};

/// A connection is held while more than this waits for the script, in bytes, until it is half of it.
const MOST_WAITING: usize = 256 * 1024;
/// What a line that waits costs beside its bytes, roughly.
const LINE_COST: usize = 256;
/// A script that sends more than this, in bytes, before the reactor has taken it waits for the reactor.
const MOST_POSTED: usize = 1 << 20;
/// The bound of the first wait before a connection is made again. It doubles with each further one, up to the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The service.
pub(crate) fn reach() -> Reach<Sockets> {
    static SOCKETS: OnceLock<Reach<Sockets>> = OnceLock::new();
    *SOCKETS.get_or_init(|| reactor::add(Sockets::default()))
}

/// All sockets and listeners that scripts have, by number. Numbers are never given twice.
static DIRECTORY: Mutex<BTreeMap<u64, Arc<Shared>>> = Mutex::new(BTreeMap::new());
static LAST: AtomicU64 = AtomicU64::new(0);

fn directory() -> MutexGuard<'static, BTreeMap<u64, Arc<Shared>>> {
    DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of an interpreter. When that is deleted, all that it has here ends.
pub(crate) fn owner(interp: &Interp) -> u64 {
    struct Owner(u64);
    impl Drop for Owner {
        fn drop(&mut self) {
            let owner = self.0;
            reach().post(move |sockets, io| sockets.owner_gone(io, owner));
        }
    }
    static OWNERS: AtomicU64 = AtomicU64::new(0);
    interp
        .attached(|| Owner(OWNERS.fetch_add(1, Ordering::Relaxed)))
        .0
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Listener,
    Socket,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Kind::Listener => "tor-listener",
            Kind::Socket => "tor-socket",
        }
    }
}

/// What a script's thread can see of a socket or a listener.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Whether lines are bytes, not text.
    pub(crate) is_binary: bool,
    owner: u64,
    /// Whether lines can be sent.
    is_open: AtomicBool,
    /// The script has closed it, and is to hear of it no more.
    is_closed: AtomicBool,
    /// Bytes that were sent and that the reactor has not taken yet.
    posted: AtomicUsize,
    waiting: Mutex<Waiting>,
}

/// What waits for the script.
#[derive(Debug, Default)]
struct Waiting {
    lines: usize,
    cost: usize,
    is_held: bool,
}

/// No connection stands on which to send.
#[derive(Debug)]
pub(crate) struct NotOpen;

impl Shared {
    /// Gives out the next name.
    pub(crate) fn new(kind: Kind, owner: u64, is_binary: bool) -> Arc<Shared> {
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let shared = Arc::new(Shared {
            number,
            kind,
            name: format!("{}{number}", kind.prefix()),
            is_binary,
            owner,
            is_open: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            posted: AtomicUsize::new(0),
            waiting: Mutex::default(),
        });
        directory().insert(number, shared.clone());
        shared
    }

    /// Sends a line, to which the end is added.
    pub(crate) fn send(&self, line: Vec<u8>) -> Result<(), NotOpen> {
        if !self.is_open.load(Ordering::Acquire) {
            return Err(NotOpen);
        }
        let number = self.number;
        let is_flood = self.posted.fetch_add(line.len(), Ordering::Relaxed) > MOST_POSTED;
        let send = move |sockets: &mut Sockets, io: &mut Io| sockets.send(io, number, &line);
        if is_flood {
            reach().call(send).map_err(|_| NotOpen)
        } else {
            reach().post(send);
            Ok(())
        }
    }

    /// Closes it for the script.
    pub(crate) fn close(&self) {
        self.is_open.store(false, Ordering::Release);
        self.is_closed.store(true, Ordering::Release);
        directory().remove(&self.number);
        let number = self.number;
        reach().post(move |sockets, io| sockets.close(io, number));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name, for a call of the script, if that wants to hear of it still.
    fn wanted(&self) -> Option<Obj> {
        (!self.is_closed.load(Ordering::Acquire)).then(|| Obj::from(&self.name))
    }

    /// A line as the script gets it.
    fn line(&self, line: &[u8]) -> Obj {
        if self.is_binary {
            Obj::from_bytes(line)
        } else {
            Obj::from(&*String::from_utf8_lossy(line))
        }
    }
}

/// What a name stands for, or has stood for.
pub(crate) enum Found {
    Here(Arc<Shared>),
    Closed,
    Unknown,
}

pub(crate) fn find(name: &str) -> Found {
    let number = |kind: Kind| name.strip_prefix(kind.prefix())?.parse::<u64>().ok();
    let Some(number) = number(Kind::Socket).or_else(|| number(Kind::Listener)) else {
        return Found::Unknown;
    };
    match directory().get(&number) {
        Some(shared) if shared.name == name => Found::Here(shared.clone()),
        None if (1..=LAST.load(Ordering::Relaxed)).contains(&number) => Found::Closed,
        _ => Found::Unknown,
    }
}

/// The names of what an interpreter has, oldest first.
pub(crate) fn names(owner: u64) -> Vec<String> {
    let directory = directory();
    let own = directory.values().filter(|shared| shared.owner == owner);
    own.map(|shared| shared.name.clone()).collect()
}

/// A line that waits for the script.
struct Ticket {
    shared: Arc<Shared>,
    cost: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        waiting.lines -= 1;
        waiting.cost -= self.cost;
        if waiting.is_held && waiting.cost <= MOST_WAITING / 2 {
            waiting.is_held = false;
            let number = self.shared.number;
            reach().post(move |sockets, io| sockets.release(io, number));
        }
    }
}

/// A connection of which the script has not been told that it has ended.
struct Farewell(u64);

impl Drop for Farewell {
    fn drop(&mut self) {
        let number = self.0;
        reach().post(move |sockets, io| sockets.forget(io, number));
    }
}

/// What the script wants to be called with.
#[derive(Debug)]
pub(crate) struct Calls {
    /// A connection stands: the name and the peer.
    pub(crate) open: Option<Callback>,
    pub(crate) line: Callback,
    pub(crate) close: Option<Callback>,
}

/// Where a connection goes.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) reconnect: bool,
}

struct Listener {
    shared: Arc<Shared>,
    calls: Arc<Calls>,
    limits: Limits,
    addresses: Vec<SocketAddr>,
    max_connections: usize,
    connections: usize,
    accepted: u64,
}

struct Socket {
    shared: Arc<Shared>,
    calls: Arc<Calls>,
    limits: Limits,
    /// The listener that it came to.
    listener: Option<u64>,
    dial: Option<Dial>,
    /// Connections that were lost, or could not be made, one after another.
    failures: u32,
    conn: Option<Conn>,
    /// Since when the connection stands.
    open: Option<Instant>,
    peer: String,
    local: String,
    /// Why there is no connection.
    reason: String,
    /// Lines, in and out.
    received: u64,
    sent: u64,
    beat: Option<Beat>,
    /// Watches to which its lines are beats.
    watches: Vec<WatchKey>,
}

/// Lines that are sent of themselves.
#[derive(Debug)]
pub(crate) struct Beat {
    pub(crate) interval: Duration,
    /// None for `HEARTBEAT:` and the time.
    pub(crate) line: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Alarm {
    /// A connection is to be made.
    Connect(u64),
    /// A beat is to be sent.
    Beat(u64),
}

/// The service.
#[derive(Default)]
pub(crate) struct Sockets {
    listeners: HashMap<u64, Listener>,
    sockets: HashMap<u64, Socket>,
    numbers: HashMap<Conn, u64>,
    alarms: Alarms<Alarm>,
    pub(crate) watches: Watches,
}

impl Socket {
    fn new(shared: Arc<Shared>, calls: Arc<Calls>, limits: Limits) -> Socket {
        Socket {
            shared,
            calls,
            limits,
            listener: None,
            dial: None,
            failures: 0,
            conn: None,
            open: None,
            peer: String::new(),
            local: String::new(),
            reason: String::new(),
            received: 0,
            sent: 0,
            beat: None,
            watches: Vec::new(),
        }
    }

    /// The connection stands.
    fn opened(&mut self, now: Instant, peer: SocketAddr, local: SocketAddr) {
        self.open = Some(now);
        (self.peer, self.local) = (peer.to_string(), local.to_string());
        self.reason.clear();
        self.shared.is_open.store(true, Ordering::Release);
        if let Some(open) = &self.calls.open {
            let (shared, peer) = (self.shared.clone(), self.peer.clone());
            open.call(move || Some(vec![shared.wanted()?, Obj::from(peer)]));
        }
    }

    /// Passes a line on to the script. Whether it is behind, and should be sent no more.
    fn deliver(&mut self, line: &[u8]) -> bool {
        self.received += 1;
        let cost = line.len() + LINE_COST;
        let mut waiting = self.shared.waiting();
        waiting.lines += 1;
        waiting.cost += cost;
        waiting.is_held |= waiting.cost > MOST_WAITING;
        let is_held = waiting.is_held;
        drop(waiting);
        let ticket = Ticket {
            shared: self.shared.clone(),
            cost,
        };
        let line = line.to_vec();
        let args = move || {
            // It waits no longer.
            let shared = ticket.shared.clone();
            drop(ticket);
            Some(vec![shared.wanted()?, shared.line(&line)])
        };
        self.calls.line.call(args);
        is_held
    }

    /// Tells the script that the connection has ended. When it has been told, `after` is dropped.
    fn tell_closed(&self, after: impl Send + 'static) {
        let (shared, reason) = (self.shared.clone(), self.reason.clone());
        let is_wanted = self.calls.close.is_some();
        let callback = self.calls.close.as_ref().unwrap_or(&self.calls.line);
        // One who does not want to hear of it has it behind him when it is his turn, all the same.
        let args = move || Some(vec![shared.wanted()?, Obj::from(reason)]).filter(|_| is_wanted);
        callback.call_then(args, |interp, outcome| {
            report(interp, outcome);
            drop(after);
        });
    }

    /// How long to wait before the next attempt, after a connection that stood for a time or was none.
    fn backoff(&mut self, stood: Option<Duration>) -> Duration {
        let bound = |failures: u32| {
            FIRST_BACKOFF
                .saturating_mul(1 << failures.min(16))
                .min(LONGEST_BACKOFF)
        };
        if stood.is_some_and(|stood| stood > bound(self.failures)) {
            self.failures = 0;
        }
        let bound = bound(self.failures);
        self.failures = self.failures.saturating_add(1);
        // Chosen at random, so that those who were lost together do not all come back together.
        let random = RandomState::new().hash_one(self.shared.number);
        bound.mul_f64(random as f64 / u64::MAX as f64)
    }

    fn state(&self) -> &'static str {
        match (self.conn, self.open) {
            (Some(_), Some(_)) => "open",
            (Some(_), None) => "connecting",
            (None, _) if self.is_dialled_again() => "waiting",
            (None, _) => "closed",
        }
    }

    fn is_dialled_again(&self) -> bool {
        self.dial.as_ref().is_some_and(|dial| dial.reconnect)
    }
}

// What scripts ask for.
impl Sockets {
    pub(crate) fn listen(
        &mut self,
        io: &mut Io,
        shared: Arc<Shared>,
        calls: Calls,
        limits: Limits,
        max_connections: usize,
        addresses: &[SocketAddr],
    ) -> Result<(), String> {
        let addresses = match io.listen_on_all(addresses, limits, b"") {
            Ok(addresses) => addresses,
            Err(reason) => {
                directory().remove(&shared.number);
                return Err(reason);
            }
        };
        let listener = Listener {
            calls: Arc::new(calls),
            limits,
            addresses,
            max_connections,
            connections: 0,
            accepted: 0,
            shared,
        };
        self.listeners.insert(listener.shared.number, listener);
        Ok(())
    }

    pub(crate) fn connect(
        &mut self,
        io: &mut Io,
        shared: Arc<Shared>,
        calls: Calls,
        limits: Limits,
        dial: Dial,
    ) {
        let number = shared.number;
        let mut socket = Socket::new(shared, Arc::new(calls), limits);
        socket.peer = format!("{}:{}", dial.host, dial.port);
        socket.dial = Some(dial);
        self.sockets.insert(number, socket);
        self.dial(io, number);
    }

    fn send(&mut self, io: &mut Io, number: u64, line: &[u8]) {
        let Some(socket) = self.sockets.get_mut(&number) else {
            return;
        };
        socket.shared.posted.fetch_sub(line.len(), Ordering::Relaxed);
        if let (Some(conn), Some(_)) = (socket.conn, socket.open) {
            socket.sent += 1;
            io.send(conn, |out| {
                out.extend_from_slice(line);
                out.push(b'\n');
            });
        }
    }

    /// Ends a socket or a listener without a word to the script.
    fn close(&mut self, io: &mut Io, number: u64) {
        if let Some(listener) = self.listeners.remove(&number) {
            for address in listener.addresses {
                io.unlisten(address);
            }
        }
        self.forget(io, number);
    }

    pub(crate) fn beat(&mut self, io: &Io, number: u64, beat: Option<Beat>) -> Result<(), NotOpen> {
        let socket = self.sockets.get_mut(&number).ok_or(NotOpen)?;
        socket.beat = beat;
        self.set_beat(io, number);
        Ok(())
    }

    /// Watches a name, at the request of an interpreter.
    pub(crate) fn watch(&mut self, io: &Io, key: WatchKey, terms: Terms) -> Result<(), NotOpen> {
        self.unwatch(&key);
        if let Some(number) = terms.socket {
            let socket = self.sockets.get_mut(&number).ok_or(NotOpen)?;
            socket.watches.push(key.clone());
        }
        self.watches.insert(key, terms, io.now());
        Ok(())
    }

    /// Whether there was such a watch.
    pub(crate) fn unwatch(&mut self, key: &WatchKey) -> bool {
        let Some(terms) = self.watches.remove(key) else {
            return false;
        };
        if let Some(socket) = terms.socket.and_then(|number| self.sockets.get_mut(&number)) {
            socket.watches.retain(|other| other != key);
        }
        true
    }

    /// What there is to know of a socket or a listener.
    pub(crate) fn info(&self, io: &mut Io, number: u64) -> Option<Vec<(&'static str, String)>> {
        if let Some(listener) = self.listeners.get(&number) {
            let local: Vec<String> = listener.addresses.iter().map(SocketAddr::to_string).collect();
            return Some(vec![
                ("name", listener.shared.name.clone()),
                ("state", "listening".to_owned()),
                ("local", local.join(" ")),
                ("port", listener.addresses[0].port().to_string()),
                ("connections", listener.connections.to_string()),
                ("accepted", listener.accepted.to_string()),
            ]);
        }
        let socket = self.sockets.get(&number)?;
        let pending = socket.conn.map_or(0, |conn| io.unwritten(conn));
        Some(vec![
            ("name", socket.shared.name.clone()),
            ("state", socket.state().to_owned()),
            ("peer", socket.peer.clone()),
            ("local", socket.local.clone()),
            ("sent", socket.sent.to_string()),
            ("received", socket.received.to_string()),
            ("pending", pending.to_string()),
            ("waiting", socket.shared.waiting().lines.to_string()),
            ("reason", socket.reason.clone()),
        ])
    }
}

impl Sockets {
    fn dial(&mut self, io: &mut Io, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number)
            && let Some(dial) = &socket.dial
        {
            let conn = io.connect(&dial.host, dial.port, socket.limits);
            socket.conn = Some(conn);
            self.numbers.insert(conn, number);
        }
    }

    /// Drops all that there is of a socket.
    fn forget(&mut self, io: &mut Io, number: u64) {
        directory().remove(&number);
        let Some(socket) = self.sockets.remove(&number) else {
            return;
        };
        if let Some(conn) = socket.conn {
            self.numbers.remove(&conn);
            io.close(conn);
        }
        if let Some(listener) = socket.listener.and_then(|number| self.listeners.get_mut(&number)) {
            listener.connections -= 1;
        }
        self.alarms.set(Alarm::Connect(number), None);
        self.alarms.set(Alarm::Beat(number), None);
    }

    fn owner_gone(&mut self, io: &mut Io, owner: u64) {
        for key in self.watches.names(owner) {
            self.unwatch(&key);
        }
        let listeners = self.listeners.values().map(|listener| &listener.shared);
        let sockets = self.sockets.values().map(|socket| &socket.shared);
        let own = listeners.chain(sockets).filter(|shared| shared.owner == owner);
        for number in own.map(|shared| shared.number).collect::<Vec<_>>() {
            self.close(io, number);
        }
    }

    /// The script has caught up.
    fn release(&mut self, io: &mut Io, number: u64) {
        if let Some(conn) = self.sockets.get(&number).and_then(|socket| socket.conn) {
            io.hold(conn, false);
        }
    }

    /// Beats begin an interval after the connection stands, so that what the script says first comes first.
    fn set_beat(&mut self, io: &Io, number: u64) {
        let beat = self.sockets.get(&number).and_then(|socket| {
            let beat = socket.beat.as_ref()?;
            socket.open.map(|_| io.now() + beat.interval)
        });
        self.alarms.set(Alarm::Beat(number), beat);
    }

    fn send_beat(&mut self, io: &mut Io, number: u64) {
        if let Some(socket) = self.sockets.get_mut(&number)
            && let (Some(conn), Some(beat)) = (socket.conn, &socket.beat)
        {
            socket.sent += 1;
            io.send(conn, |out| {
                match &beat.line {
                    Some(line) => out.extend_from_slice(line),
                    None => out.extend_from_slice(format!("HEARTBEAT:{}", seconds_since_1970()).as_bytes()),
                }
                out.push(b'\n');
            });
        }
        self.set_beat(io, number);
    }

    /// The listener that takes connections to an address.
    fn listener_at(&mut self, local: SocketAddr) -> Option<&mut Listener> {
        let takes = |address: &SocketAddr| {
            address.port() == local.port() && (address.ip() == local.ip() || address.ip().is_unspecified())
        };
        self.listeners
            .values_mut()
            .find(|listener| listener.addresses.iter().any(takes))
    }
}

impl Service for Sockets {
    fn accepted(&mut self, io: &mut Io, conn: Conn) {
        let now = io.now();
        // One that is gone already is not worth telling of.
        let Ok((peer, local)) = io.addresses(conn) else {
            return io.close(conn);
        };
        let Some(listener) = self.listener_at(local) else {
            return io.close(conn);
        };
        if listener.connections >= listener.max_connections {
            return io.close(conn);
        }
        listener.connections += 1;
        listener.accepted += 1;
        let model = &listener.shared;
        let shared = Shared::new(Kind::Socket, model.owner, model.is_binary);
        let number = shared.number;
        let mut socket = Socket::new(shared, listener.calls.clone(), listener.limits);
        socket.listener = Some(listener.shared.number);
        socket.conn = Some(conn);
        socket.opened(now, peer, local);
        self.numbers.insert(conn, number);
        self.sockets.insert(number, socket);
    }

    fn connected(&mut self, io: &mut Io, conn: Conn) {
        let now = io.now();
        let Some(&number) = self.numbers.get(&conn) else {
            return;
        };
        match io.addresses(conn) {
            Ok((peer, local)) => {
                if let Some(socket) = self.sockets.get_mut(&number) {
                    socket.opened(now, peer, local);
                }
                self.set_beat(io, number);
            }
            Err(error) => {
                io.close(conn);
                self.closed(io, conn, &error.to_string());
            }
        }
    }

    fn line(&mut self, io: &mut Io, conn: Conn, line: &[u8]) {
        let number = self.numbers.get(&conn);
        let Some(socket) = number.and_then(|number| self.sockets.get_mut(number)) else {
            return;
        };
        if socket.deliver(line) {
            io.hold(conn, true);
        }
        for key in &socket.watches {
            self.watches.heard(key, io.now());
        }
    }

    fn closed(&mut self, io: &mut Io, conn: Conn, reason: &str) {
        let Some(number) = self.numbers.remove(&conn) else {
            return;
        };
        let Some(socket) = self.sockets.get_mut(&number) else {
            return;
        };
        socket.conn = None;
        socket.reason = reason.to_owned();
        socket.shared.is_open.store(false, Ordering::Release);
        let stood = socket.open.take().map(|since| io.now() - since);
        if socket.is_dialled_again() {
            if stood.is_some() {
                socket.tell_closed(());
            }
            let wait = socket.backoff(stood);
            self.alarms.set(Alarm::Connect(number), Some(io.now() + wait));
        } else {
            socket.tell_closed(Farewell(number));
        }
        self.set_beat(io, number);
    }

    fn was_away(&mut self, io: &mut Io, gap: Duration) {
        self.watches.was_away(io.now(), gap);
    }

    fn woken(&mut self, io: &mut Io) {
        while let Some(alarm) = self.alarms.pop_due(io.now()) {
            match alarm {
                Alarm::Connect(number) => self.dial(io, number),
                Alarm::Beat(number) => self.send_beat(io, number),
            }
        }
        let sockets = &self.sockets;
        self.watches.judge(io.now(), |number| {
            let socket = sockets.get(&number);
            socket.is_some_and(|socket| socket.shared.waiting().is_held)
        });
    }

    fn turn_ends(&mut self, io: &mut Io) {
        io.wake_at(self.alarms.next().into_iter().chain(self.watches.next()).min());
    }
}

fn seconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
