//! What a service acts through: listeners, connections, the time to be woken at.
use super::connection::{Connection, Progress, Stream};
use super::spin::Spin;
use super::{Reach, Service, ServiceId, Task};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::marker::PhantomData;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use torhost_protocol::LineBuffer;

const WAKE: Token = Token(usize::MAX);
/// Marks the tokens of listeners.
const LISTENER: usize = 1 << 63;
/// How many connections a listener takes in a turn, so that a storm of them leaves time for work.
const ACCEPTS: usize = 64;
/// Answers, in bytes, that a connection is given in a turn before it is read no further.
const ANSWERS: usize = 256 * 1024;
/// How long a connection that is closed may take to read the last that it was told.
const LINGER: Duration = Duration::from_secs(2);
/// Buffers that are kept for the next connection with something to say.
const SPARE_BUFFERS: usize = 256;
const BUFFER: usize = 64 * 1024;
const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();

/// A connection. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Conn(pub(crate) u64);

/// What connections of a listener are held to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// The longest line, in bytes, without its end.
    pub(crate) max_line: usize,
    /// How many bytes the other side may leave unread for [`UNREAD`], or [`AT_ONCE`] times as many for a moment, before the connection is cut.
    pub(crate) max_pending: usize,
}

/// How long more than [`Limits::max_pending`] bytes may be unread while nothing of them is taken.
const UNREAD: Duration = Duration::from_secs(5);
/// How many times as many may be unread: large jobs or results that come together are no reason to cut one who reads.
pub(crate) const AT_ONCE: usize = 16;

/// What has happened, for a service to be told.
pub(super) enum Happening {
    Accepted(ServiceId, Conn),
    Connected(ServiceId, Conn),
    Readable(ServiceId, Conn),
    Closed(ServiceId, Conn, String),
}

/// Where other threads leave tasks.
#[derive(Debug)]
pub(super) struct Mailbox {
    tasks: Mutex<Tasks>,
    waker: Waker,
    services: AtomicU32,
}

#[derive(Default)]
struct Tasks(Vec<Task>);

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tasks", self.0.len())
    }
}

impl Mailbox {
    pub(super) fn post(&self, task: Task) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.0.push(task);
        // The first wakes the reactor for all that come before it looks.
        if tasks.0.len() == 1
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the reactor: {error}");
        }
    }

    pub(super) fn new_service(&self) -> ServiceId {
        ServiceId(self.services.fetch_add(1, Ordering::Relaxed))
    }
}

struct Listener {
    owner: ServiceId,
    address: SocketAddr,
    socket: TcpListener,
    limits: Limits,
    /// What one is told that cannot be served for want of descriptors.
    busy: &'static [u8],
}

/// A wait that is shorter than this is spent looking for events: a sleep is not over so soon.
const SHORT: Duration = Duration::from_micros(200);
/// Why a connection is closed that said too much at once.
const TOO_LONG: &str = "line too long";

/// The sockets of the reactor.
pub(crate) struct Io {
    poll: Poll,
    events: Events,
    spin: Spin,
    mailbox: Arc<Mailbox>,
    connections: Vec<Option<Connection>>,
    /// How many connections had each place before: the upper half of [`Conn`].
    generations: Vec<u32>,
    vacant: Vec<u32>,
    /// By the number in their tokens; empty once they are closed.
    listeners: Vec<Option<Listener>>,
    /// Listeners that may have more connections to take.
    accepting: Vec<usize>,
    happenings: VecDeque<Happening>,
    /// Connections that may have more to read than a turn allows.
    ready: Vec<Conn>,
    dirty: Vec<Conn>,
    lingering: VecDeque<(Instant, Conn)>,
    wakes: HashMap<ServiceId, Instant>,
    scratch: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// Given up for a moment to tell somebody that there are no descriptors left.
    reserve: Option<File>,
    complained: Option<Instant>,
    /// The service that is being called.
    pub(super) serving: ServiceId,
    now: Instant,
}

impl Io {
    pub(super) fn new() -> io::Result<(Io, Arc<Mailbox>)> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox {
            tasks: Mutex::default(),
            waker: Waker::new(poll.registry(), WAKE)?,
            services: AtomicU32::new(0),
        });
        let io = Io {
            poll,
            events: Events::with_capacity(1024),
            spin: Spin::default(),
            mailbox: mailbox.clone(),
            connections: Vec::new(),
            generations: Vec::new(),
            vacant: Vec::new(),
            listeners: Vec::new(),
            accepting: Vec::new(),
            happenings: VecDeque::new(),
            ready: Vec::new(),
            dirty: Vec::new(),
            lingering: VecDeque::new(),
            wakes: HashMap::new(),
            scratch: vec![0; BUFFER],
            spare: Vec::new(),
            reserve: File::open("/dev/null").ok(),
            complained: None,
            serving: ServiceId(0),
            now: Instant::now(),
        };
        Ok((io, mailbox))
    }

    // ---------------------------------------------------------------------------------------------------- for services

    /// The time at which this turn began.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// How other threads reach the service that is being called, which is of this type.
    pub(crate) fn reach<S>(&self) -> Reach<S> {
        Reach {
            service: self.serving,
            kind: PhantomData,
        }
    }

    /// Listens for the service that is being called, and tells where: port 0 takes a free one. `busy` is what one is told for
    /// whom there is no descriptor left.
    pub(crate) fn listen(
        &mut self,
        address: SocketAddr,
        limits: Limits,
        busy: &'static [u8],
    ) -> io::Result<SocketAddr> {
        let mut socket = TcpListener::bind(address)?;
        let address = socket.local_addr()?;
        let vacant = self.listeners.iter().position(Option::is_none);
        let at = vacant.unwrap_or(self.listeners.len());
        self.poll
            .registry()
            .register(&mut socket, Token(LISTENER | at), Interest::READABLE)?;
        if vacant.is_none() {
            self.listeners.push(None);
        }
        self.listeners[at] = Some(Listener {
            owner: self.serving,
            address,
            socket,
            limits,
            busy,
        });
        Ok(address)
    }

    /// Listens on all of the addresses, and on one port.
    pub(crate) fn listen_on_all(
        &mut self,
        addresses: &[SocketAddr],
        limits: Limits,
        busy: &'static [u8],
    ) -> Result<Vec<SocketAddr>, String> {
        let mut bound: Vec<SocketAddr> = Vec::new();
        for &address in addresses {
            let mut address = address;
            // The port that was free for the first is the one for all.
            if let Some(first) = bound.first() {
                address.set_port(first.port());
            }
            match self.listen(address, limits, busy) {
                Ok(address) => bound.push(address),
                Err(error) => {
                    bound.into_iter().for_each(|address| self.unlisten(address));
                    return Err(format!("cannot listen on {address}: {error}"));
                }
            }
        }
        if bound.is_empty() {
            return Err("there is no address to listen on".to_owned());
        }
        Ok(bound)
    }

    /// Listens on an address no more. Its connections stay.
    pub(crate) fn unlisten(&mut self, address: SocketAddr) {
        for place in &mut self.listeners {
            place.take_if(|listener| listener.address == address);
        }
    }

    /// Connects to a host, by name or address. The service that is being called hears [`Service::connected`] or
    /// [`Service::closed`]; all addresses of the name are tried in turn. What is sent meanwhile leaves once it stands.
    pub(crate) fn connect(&mut self, host: &str, port: u16, limits: Limits) -> Conn {
        let conn = self.insert(Connection::new(self.serving, None, limits));
        let (host, mailbox) = (host.to_owned(), self.mailbox.clone());
        let look_up = move || {
            let addresses = (host.as_str(), port)
                .to_socket_addrs()
                .map(|found| found.collect::<Vec<_>>());
            let reason = format!("cannot resolve \"{host}\"");
            mailbox.post(Box::new(move |reactor| {
                reactor.io.resolved(conn, addresses, &reason)
            }));
        };
        // The system's resolver may take seconds.
        let resolver = std::thread::Builder::new().name("resolver".into());
        if let Err(error) = resolver.spawn(look_up) {
            self.fail(conn, format!("cannot start a thread: {error}"));
        }
        conn
    }

    /// Takes over one end of a pair of sockets for the service that is being called.
    pub(crate) fn adopt(&mut self, stream: UnixStream, limits: Limits) -> io::Result<Conn> {
        stream.set_nonblocking(true)?;
        let stream = mio::net::UnixStream::from_std(stream);
        self.add_open(self.serving, Stream::Unix(stream), limits)
    }

    /// Has the service that is being called woken at a time, in place of the one it asked for before.
    pub(crate) fn wake_at(&mut self, at: Option<Instant>) {
        match at {
            Some(at) => self.wakes.insert(self.serving, at),
            None => self.wakes.remove(&self.serving),
        };
    }

    /// Sends what `write` appends; it leaves at the end of the turn. Without effect if the connection is gone.
    pub(crate) fn send(&mut self, conn: Conn, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(place) = self.place(conn) else { return };
        let Some(connection) = &mut self.connections[place] else {
            return;
        };
        if connection.closing {
            return;
        }
        if connection.output.capacity() == 0 {
            connection.output = self.spare.pop().unwrap_or_default();
        }
        if connection.unwritten() == 0 {
            connection.taken = self.now;
        }
        write(&mut connection.output);
        let (unwritten, most) = (connection.unwritten(), connection.max_pending);
        if unwritten > most
            && (unwritten / AT_ONCE > most || self.now.saturating_duration_since(connection.taken) > UNREAD)
        {
            self.fail(
                conn,
                format!("{unwritten} bytes unread, and more than {most} are too many"),
            );
        } else {
            self.mark_dirty(conn);
        }
    }

    /// Closes a connection, once it is told what was sent. Its service hears no more of it.
    pub(crate) fn close(&mut self, conn: Conn) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if connection.opening.is_some() {
            self.remove(conn);
        } else {
            connection.closing = true;
            self.mark_dirty(conn);
            self.hold(conn, false);
        }
    }

    /// Whether a connection is to be read no further for now. What it has said and nobody has been told waits, here and in the
    /// kernel, and so in the end does the other side.
    pub(crate) fn hold(&mut self, conn: Conn, held: bool) {
        if let Some(connection) = self.connection(conn)
            && !connection.doomed
            && std::mem::replace(&mut connection.held, held)
            && !held
        {
            // The kernel does not tell again what it told meanwhile.
            self.ready.push(conn);
        }
    }

    /// Whether a connection is owed answers that come later. Until they are given it stays, even if the other side says no more.
    pub(crate) fn owe(&mut self, conn: Conn, owed: bool) {
        if let Some(connection) = self.connection(conn)
            && std::mem::replace(&mut connection.owed, owed)
            && !owed
        {
            if std::mem::take(&mut connection.doomed) {
                let owner = connection.owner;
                self.close(conn);
                let closed = Happening::Closed(owner, conn, TOO_LONG.to_owned());
                self.happenings.push_back(closed);
            } else {
                self.ready.push(conn);
            }
        }
    }

    /// The other side's address and the own one, of a connection by TCP.
    pub(crate) fn addresses(&mut self, conn: Conn) -> io::Result<(SocketAddr, SocketAddr)> {
        let connection = self.connection(conn);
        match connection.and_then(|connection| connection.stream.as_ref()) {
            Some(Stream::Tcp(stream)) => Ok((stream.peer_addr()?, stream.local_addr()?)),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// How many bytes were sent that the other side's system has not taken.
    pub(crate) fn unwritten(&mut self, conn: Conn) -> usize {
        self.connection(conn)
            .map_or(0, |connection| connection.unwritten())
    }

    // --------------------------------------------------------------------------------------------------- for the loop

    /// Closes all that a service has.
    pub(super) fn close_all(&mut self, owner: ServiceId) {
        self.wakes.remove(&owner);
        for place in &mut self.listeners {
            place.take_if(|listener| listener.owner == owner);
        }
        let owned = |connection: &Option<Connection>| {
            connection
                .as_ref()
                .is_some_and(|connection| connection.owner == owner)
        };
        for place in 0..self.connections.len() {
            if owned(&self.connections[place]) {
                let generation = self.generations[place];
                self.close(Conn(u64::from(generation) << 32 | place as u64));
            }
        }
    }

    /// Waits until there is something to do. Returns for how long that was not looked for although it should have been: this process
    /// was stopped, or had more than enough to do.
    pub(super) fn wait(&mut self) -> Duration {
        let turn = self.now.elapsed();
        let at_once = !(self.ready.is_empty() && self.accepting.is_empty() && self.happenings.is_empty());
        let next = self
            .wakes
            .values()
            .chain(self.lingering.front().map(|(at, _)| at))
            .min();
        let timeout = match next {
            _ if at_once => Some(Duration::ZERO),
            Some(next) => Some(next.saturating_duration_since(Instant::now())),
            None => None,
        };
        let began = Instant::now();
        let (poll, events) = (&mut self.poll, &mut self.events);
        let mut look = || {
            // An error would come again below.
            let _ = poll.poll(events, Some(Duration::ZERO));
            !events.is_empty()
        };
        let is_short = timeout.is_some_and(|timeout| timeout < SHORT);
        let found = !at_once
            && if is_short {
                while !look() && next.is_some_and(|next| *next > Instant::now()) {}
                true
            } else {
                self.spin.spin(look)
            };
        if !found
            && let Err(error) = poll.poll(events, timeout)
            && error.kind() != ErrorKind::Interrupted
        {
            log::error!("cannot wait for sockets: {error}");
        }
        self.now = Instant::now();
        let waited = self.now - began;
        if !at_once {
            self.spin.waited(waited, self.events.iter().count());
        }
        let late = timeout.map_or(Duration::ZERO, |timeout| waited.saturating_sub(timeout));
        let mut readable = std::mem::take(&mut self.ready);
        let mut writable = Vec::new();
        let mut accepting = std::mem::take(&mut self.accepting);
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(token) = event.token();
            if token == WAKE.0 {
                continue;
            }
            if token & LISTENER != 0 {
                accepting.push(token & !LISTENER);
                continue;
            }
            let conn = Conn(token as u64);
            if self
                .connection(conn)
                .is_some_and(|connection| connection.opening.is_some())
            {
                self.attempted(conn);
            }
            if event.is_read_closed()
                && let Some(connection) = self.connection(conn)
            {
                connection.read_closed = true;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                readable.push(conn);
            }
            if event.is_writable() {
                writable.push(conn);
            }
        }
        self.events = events;
        for conn in readable {
            if let Some(connection) = self.connection(conn) {
                let owner = connection.owner;
                self.happenings.push_back(Happening::Readable(owner, conn));
            }
        }
        for conn in writable {
            if self
                .connection(conn)
                .is_some_and(|connection| connection.unwritten() > 0)
            {
                self.mark_dirty(conn);
            }
        }
        for listener in accepting {
            self.accept(listener);
        }
        while let Some(&(at, conn)) = self.lingering.front()
            && at <= self.now
        {
            self.lingering.pop_front();
            self.remove(conn);
        }
        turn.max(late)
    }

    pub(super) fn take_tasks(&mut self) -> Vec<Task> {
        let mut tasks = self.mailbox.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut tasks.0)
    }

    pub(super) fn next_happening(&mut self) -> Option<Happening> {
        self.happenings.pop_front()
    }

    /// The services whose time had come when the sockets were looked at.
    pub(super) fn due(&mut self) -> Vec<ServiceId> {
        let now = self.now;
        let due: Vec<ServiceId> = self
            .wakes
            .iter()
            .filter(|&(_, &at)| at <= now)
            .map(|(&id, _)| id)
            .collect();
        for id in &due {
            self.wakes.remove(id);
        }
        due
    }

    /// Looks at the clock again.
    pub(super) fn tick(&mut self) {
        self.now = Instant::now();
    }

    /// Writes what was sent in this turn.
    pub(super) fn write_all(&mut self) {
        for conn in std::mem::take(&mut self.dirty) {
            self.write(conn);
        }
    }

    /// Writes what a connection was sent, if there is something new, now and not at the end of the turn.
    pub(crate) fn write(&mut self, conn: Conn) {
        let now = self.now;
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if !std::mem::take(&mut connection.dirty) {
            return;
        }
        let before = connection.unwritten();
        if let Progress::End(reason) = connection.write() {
            return self.fail(conn, reason);
        }
        let unwritten = connection.unwritten();
        if unwritten > 0 {
            if unwritten < before {
                connection.taken = now;
            }
            return;
        }
        let mut output = std::mem::take(&mut connection.output);
        if connection.closing {
            connection.end_output();
            self.lingering.push_back((self.now + LINGER, conn));
        }
        // An idle connection holds no buffer.
        if self.spare.len() < SPARE_BUFFERS && output.capacity() <= BUFFER {
            output.clear();
            self.spare.push(output);
        }
    }

    /// Reads from a connection, one buffer at most, and hands its service the lines.
    pub(super) fn read(&mut self, conn: Conn, service: &mut dyn Service) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.read_into(conn, service, &mut scratch);
        self.scratch = scratch;
    }

    fn read_into(&mut self, conn: Conn, service: &mut dyn Service, scratch: &mut [u8]) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if connection.held {
            return;
        }
        let most = connection.output.len() + ANSWERS;
        let left = std::mem::take(&mut connection.left);
        let (chunk, progress) = if left.is_empty() {
            let (count, progress) = connection.read(scratch);
            (&scratch[..count], progress)
        } else {
            (&left[..], Progress::More)
        };
        if connection.closing {
            match progress {
                Progress::Done => {}
                Progress::More => self.ready.push(conn),
                Progress::End(_) => self.remove(conn),
            }
            return;
        }
        let max_line = connection.max_line;
        let mut buffer = std::mem::replace(&mut connection.lines, LineBuffer::new(0));
        let mut lines = buffer.feed(chunk);
        loop {
            let Some(connection) = self.connection(conn).filter(|connection| !connection.closing) else {
                return;
            };
            if connection.held || connection.output.len() > most {
                break;
            }
            let Some(line) = lines.next_line() else { break };
            let line = line.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            match line {
                Ok(line) if line.len() <= max_line => service.line(self, conn, line),
                _ => {
                    self.too_long(conn, service);
                    return;
                }
            }
        }
        let left = lines.rest().to_vec();
        if matches!(progress, Progress::End(_)) && left.is_empty() && buffer.end() {
            service.line_cut_off(self, conn);
        }
        let Some(connection) = self.connection(conn) else {
            return;
        };
        connection.lines = buffer;
        let is_more = !left.is_empty() || matches!(progress, Progress::More);
        connection.left = left;
        let held = connection.held;
        if let Progress::End(reason) = progress {
            // Otherwise its end is found again when it is read next.
            if !held && !connection.owed {
                self.fail(conn, reason);
            }
        } else if is_more && !held {
            self.ready.push(conn);
        }
    }

    fn too_long(&mut self, conn: Conn, service: &mut dyn Service) {
        service.line_too_long(self, conn);
        match self.connection(conn) {
            Some(connection) if connection.owed => (connection.held, connection.doomed) = (true, true),
            _ => {
                self.close(conn);
                service.closed(self, conn, TOO_LONG);
            }
        }
    }

    fn accept(&mut self, at: usize) {
        for _ in 0..ACCEPTS {
            let Some(listener) = &self.listeners[at] else {
                return;
            };
            let (owner, limits, busy) = (listener.owner, listener.limits, listener.busy);
            match listener.socket.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.add(owner, stream, limits) {
                        log::warn!("cannot serve a connection: {error}");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => {
                    // The kernel says so even if nobody is waiting.
                    if !self.refuse(at, busy, &error) {
                        return;
                    }
                }
                // The one who wanted to connect has gone.
                Err(_) => {}
            }
        }
        self.accepting.push(at);
    }

    /// There is no descriptor for the next connection: it is told so, by means of one that is kept for this. Whether there was
    /// a next.
    fn refuse(&mut self, at: usize, busy: &[u8], error: &io::Error) -> bool {
        let last = self.complained.replace(self.now);
        if last.is_none_or(|last| self.now - last > Duration::from_secs(10)) {
            log::error!("connections are refused: {error} (ulimit -n raises the limit)");
        } else {
            self.complained = last;
        }
        self.reserve = None;
        let next = self.listeners[at]
            .as_ref()
            .map(|listener| listener.socket.accept());
        let is_refused = matches!(next, Some(Ok(_)));
        if let Some(Ok((mut stream, _))) = next {
            // Who has gone meanwhile need not be told.
            let _ = stream.write(busy);
        }
        // Where it cannot be had again, nobody is told until it can.
        self.reserve = File::open("/dev/null").ok();
        is_refused
    }

    fn add(&mut self, owner: ServiceId, stream: TcpStream, limits: Limits) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let conn = self.add_open(owner, Stream::Tcp(stream), limits)?;
        self.happenings.push_back(Happening::Accepted(owner, conn));
        Ok(())
    }

    /// Adds a connection that stands.
    fn add_open(&mut self, owner: ServiceId, stream: Stream, limits: Limits) -> io::Result<Conn> {
        let conn = self.insert(Connection::new(owner, None, limits));
        if let Err(error) = self.attach(conn, stream) {
            self.remove(conn);
            return Err(error);
        }
        if let Some(connection) = self.connection(conn) {
            connection.opening = None;
        }
        Ok(conn)
    }

    /// The addresses of a host are known, or why not.
    fn resolved(&mut self, conn: Conn, addresses: io::Result<Vec<SocketAddr>>, reason: &str) {
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(error) => return self.fail(conn, format!("{reason}: {error}")),
        };
        if let Some(connection) = self.connection(conn) {
            connection.opening = Some(addresses.into_iter().rev().collect());
            self.try_next(conn, format!("{reason}: it has no address"));
        }
    }

    /// Tries the next address; when none is left, `reason` is why there is no connection.
    fn try_next(&mut self, conn: Conn, mut reason: String) {
        loop {
            let Some(connection) = self.connection(conn) else {
                return;
            };
            connection.stream = None;
            let Some(address) = connection.opening.as_mut().and_then(Vec::pop) else {
                return self.fail(conn, reason);
            };
            let attempt =
                TcpStream::connect(address).and_then(|stream| self.attach(conn, Stream::Tcp(stream)));
            match attempt {
                Ok(()) => return,
                Err(error) => reason = format!("cannot connect to {address}: {error}"),
            }
        }
    }

    /// Something has become of an attempt to connect.
    fn attempted(&mut self, conn: Conn) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        let owner = connection.owner;
        match connection.attempted() {
            None => {}
            Some(Ok(())) => {
                connection.opening = None;
                self.happenings.push_back(Happening::Connected(owner, conn));
                self.mark_dirty(conn);
            }
            Some(Err(error)) => self.try_next(conn, format!("cannot connect: {error}")),
        }
    }

    /// Gives a connection its socket, which is watched from now on.
    fn attach(&mut self, conn: Conn, mut stream: Stream) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(stream.source(), Token(conn.0 as usize), both)?;
        if let Some(connection) = self.connection(conn) {
            connection.stream = Some(stream);
        }
        Ok(())
    }

    fn insert(&mut self, connection: Connection) -> Conn {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.generations.push(0);
            (self.connections.len() - 1) as u32
        });
        let generation = self.generations[place as usize];
        self.connections[place as usize] = Some(connection);
        Conn(u64::from(generation) << 32 | u64::from(place))
    }

    fn place(&self, conn: Conn) -> Option<usize> {
        let place = (conn.0 & 0xFFFF_FFFF) as usize;
        (u64::from(*self.generations.get(place)?) == conn.0 >> 32).then_some(place)
    }

    fn connection(&mut self, conn: Conn) -> Option<&mut Connection> {
        let place = self.place(conn)?;
        self.connections[place].as_mut()
    }

    /// Has a connection written to at the end of the turn.
    fn mark_dirty(&mut self, conn: Conn) {
        if let Some(connection) = self.connection(conn)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(conn);
        }
    }

    /// Drops a connection without a word to its service.
    fn remove(&mut self, conn: Conn) {
        if let Some(place) = self.place(conn)
            && self.connections[place].take().is_some()
        {
            // One bit stays clear, since the highest marks listeners.
            self.generations[place] = (self.generations[place] + 1) & 0x7FFF_FFFF;
            self.vacant.push(place as u32);
        }
    }

    /// Drops a connection that is gone, and has its service told; what it was sent leaves if it still can.
    fn fail(&mut self, conn: Conn, reason: String) {
        if let Some(connection) = self.connection(conn) {
            // It is reported as gone in any case.
            let _ = connection.write();
            if !connection.closing {
                let owner = connection.owner;
                self.happenings.push_back(Happening::Closed(owner, conn, reason));
            }
        }
        self.remove(conn);
    }

    /// What the first connection has: bytes left for later, bytes unwritten, bytes of answers kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> Option<(usize, usize, usize)> {
        let connection = self.connections.first()?.as_ref()?;
        Some((
            connection.left.len(),
            connection.unwritten(),
            connection.output.len(),
        ))
    }

    /// Writes to the first connection what it can.
    #[cfg(test)]
    pub(super) fn write_again(&mut self) {
        self.mark_dirty(Conn(0));
        self.write_all();
    }
}
