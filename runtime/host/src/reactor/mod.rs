//! The one thread on which all sockets of `tor::` commands live.
//!
//! A [`Service`] is what connections belong to: a coordinator, a worker's link to its coordinator, the sockets of scripts. It is
//! called on the reactor's thread, one call at a time, with an [`Io`] to act through; it never waits for anything. Other
//! threads reach it by a [`Reach`].
//!
//! One turn of the loop serves all events that are there, lets every service that was called end its turn, and then writes
//! what was sent. What a connection is told while it is read is written at once, so that the other side can go on while the rest is
//! served; all else that it is told in a turn is one system call. A connection is read no further in a turn than
//! one buffer's worth, or than its answers are enough for a turn, so that none keeps the others waiting; one that leaves too much
//! unread is cut.
mod connection;
mod io;
mod spin;

pub(crate) use io::{AT_ONCE, Conn, Io, Limits};

use io::Mailbox;
use std::any::Any;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

/// What is shorter is no absence.
const AWAY: Duration = Duration::from_millis(50);

/// What connections belong to. All calls come on the reactor's thread.
///
/// A service that closes a connection itself hears no more of it.
pub(crate) trait Service: Any + Send {
    /// A listener of this service took a connection.
    fn accepted(&mut self, _io: &mut Io, _conn: Conn) {}

    /// A connection that this service asked for stands.
    fn connected(&mut self, _io: &mut Io, _conn: Conn) {}

    /// A line has come, without its end (`\n` or `\r\n`).
    fn line(&mut self, io: &mut Io, conn: Conn, line: &[u8]);

    /// A line was longer than [`Limits::max_line`]. The connection is closed once what this sends is written.
    fn line_too_long(&mut self, _io: &mut Io, _conn: Conn) {}

    /// The other side has stopped within a line, which is dropped: whoever was killed while it wrote a result has not given one.
    fn line_cut_off(&mut self, _io: &mut Io, _conn: Conn) {}

    /// The connection is no more, or could not be made. What was sent and not written is lost.
    fn closed(&mut self, io: &mut Io, conn: Conn, reason: &str);

    /// For so long nobody has looked for what comes, so that nobody's silence means anything: this process was stopped, or its machine.
    /// Called for long times only, and before what has come meanwhile is handed over.
    fn was_away(&mut self, _io: &mut Io, _gap: Duration) {}

    /// The time asked for by [`Io::wake_at`] has come. All that came before [`Io::now`] has been handed over, or is being read.
    fn woken(&mut self, _io: &mut Io) {}

    /// The calls of this turn are over, and what was sent will be written next.
    fn turn_ends(&mut self, _io: &mut Io) {}
}

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ServiceId(u32);

/// How other threads reach a service of a known type. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Reach<S> {
    service: ServiceId,
    kind: PhantomData<fn(S)>,
}

impl<S> Clone for Reach<S> {
    fn clone(&self) -> Reach<S> {
        *self
    }
}

impl<S> Copy for Reach<S> {}

/// The service is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was closed")]
pub(crate) struct Gone;

impl<S: Service> Reach<S> {
    /// Has the reactor call the service, and waits for what it returns.
    pub(crate) fn call<T: Send + 'static>(
        self,
        ask: impl FnOnce(&mut S, &mut Io) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.post(move |service, io| {
            // The one who asked may have been stopped meanwhile.
            let _ = sender.send(ask(service, io));
        });
        receiver.recv().map_err(|_| Gone)
    }

    /// Has the reactor call the service, soon. Without effect if it is gone.
    pub(crate) fn post(self, tell: impl FnOnce(&mut S, &mut Io) + Send + 'static) {
        mailbox().post(Box::new(move |reactor| {
            reactor.with_service(self.service, |service, io| {
                if let Some(service) = (service as &mut dyn Any).downcast_mut::<S>() {
                    tell(service, io);
                }
            });
        }));
    }

    /// Closes the service: it is called no more and dropped, and its listeners and connections are closed.
    pub(crate) fn close(self) {
        mailbox().post(Box::new(move |reactor| reactor.remove_service(self.service)));
    }
}

/// Gives a service to the reactor, which is started if it does not run yet.
pub(crate) fn add<S: Service>(service: S) -> Reach<S> {
    let service_id = mailbox().new_service();
    mailbox().post(Box::new(move |reactor| {
        reactor.add_service(service_id, Box::new(service))
    }));
    Reach {
        service: service_id,
        kind: PhantomData,
    }
}

/// What waits for the reactor's thread.
type Task = Box<dyn FnOnce(&mut Reactor) + Send>;

/// Where tasks for the reactor are left; the first call starts its thread.
fn mailbox() -> &'static Arc<Mailbox> {
    static MAILBOX: OnceLock<Arc<Mailbox>> = OnceLock::new();
    MAILBOX.get_or_init(|| {
        let (reactor, mailbox) = Reactor::new().expect("an event queue for the reactor");
        std::thread::Builder::new()
            .name("reactor".into())
            .spawn(move || reactor.run())
            .expect("a thread for the reactor");
        mailbox
    })
}

/// The loop, and what it serves.
struct Reactor {
    io: Io,
    /// By service id; empty while the service is being called, and once it is gone.
    services: Vec<Option<Box<dyn Service>>>,
    /// Services that were called in this turn.
    called: Vec<ServiceId>,
}

impl Reactor {
    fn new() -> std::io::Result<(Reactor, Arc<Mailbox>)> {
        let (io, mailbox) = Io::new()?;
        let reactor = Reactor {
            io,
            services: Vec::new(),
            called: Vec::new(),
        };
        Ok((reactor, mailbox))
    }

    fn run(mut self) {
        loop {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let gap = self.io.wait();
        if gap >= AWAY {
            for service in 0..self.services.len() as u32 {
                self.with_service(ServiceId(service), |service, io| service.was_away(io, gap));
            }
        }
        for task in self.io.take_tasks() {
            task(self);
        }
        while let Some(happening) = self.io.next_happening() {
            self.serve(happening);
        }
        for service in self.io.due() {
            self.with_service(service, |service, io| service.woken(io));
        }
        self.io.tick();
        for service in std::mem::take(&mut self.called) {
            self.with_service(service, |service, io| service.turn_ends(io));
        }
        self.called.clear();
        self.io.write_all();
    }

    fn add_service(&mut self, id: ServiceId, service: Box<dyn Service>) {
        let at = id.0 as usize;
        if at >= self.services.len() {
            self.services.resize_with(at + 1, || None);
        }
        self.services[at] = Some(service);
    }

    fn remove_service(&mut self, id: ServiceId) {
        self.io.close_all(id);
        if let Some(place) = self.services.get_mut(id.0 as usize) {
            *place = None;
        }
    }

    /// Calls a service, if it is there. A panic costs it the call, and nobody else anything.
    fn with_service(&mut self, id: ServiceId, call: impl FnOnce(&mut dyn Service, &mut Io)) {
        let Some(mut service) = self.services.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        self.io.serving = id;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            call(&mut *service, &mut self.io);
        }));
        self.services[id.0 as usize] = Some(service);
        if outcome.is_err() {
            log::error!("internal error in the reactor; see above");
        }
        if !self.called.contains(&id) {
            self.called.push(id);
        }
    }

    fn serve(&mut self, happening: io::Happening) {
        use io::Happening;
        match happening {
            Happening::Accepted(owner, conn) => {
                self.with_service(owner, |service, io| service.accepted(io, conn));
            }
            Happening::Connected(owner, conn) => {
                self.with_service(owner, |service, io| service.connected(io, conn));
            }
            Happening::Readable(owner, conn) => {
                self.with_service(owner, |service, io| io.read(conn, service));
                // It can go on while the others are served.
                self.io.write(conn);
            }
            Happening::Closed(owner, conn, reason) => {
                self.with_service(owner, |service, io| service.closed(io, conn, &reason));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;

    /// Answers each line with ten thousand bytes.
    struct Talkative;

    impl Service for Talkative {
        fn line(&mut self, io: &mut Io, conn: Conn, _line: &[u8]) {
            io.send(conn, |out| out.extend_from_slice(&[b'x'; 10_000]));
        }

        fn closed(&mut self, _io: &mut Io, _conn: Conn, reason: &str) {
            panic!("closed: {reason}");
        }

        fn turn_ends(&mut self, io: &mut Io) {
            let soon = io.now() + Duration::from_millis(10);
            io.wake_at(Some(soon));
        }
    }

    /// As much as goes without waiting.
    fn some(done: std::io::Result<usize>) -> usize {
        match done {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            done => done.expect("the connection stands"),
        }
    }

    #[test]
    fn one_who_never_catches_up_does_not_fill_the_memory() {
        let (mut reactor, _mailbox) = Reactor::new().expect("an event queue");
        reactor.add_service(ServiceId(0), Box::new(Talkative));
        let limits = Limits {
            max_line: 100,
            max_pending: 100 << 20,
        };
        let mut address = None;
        reactor.with_service(ServiceId(0), |_, io| {
            address = io.listen(([127, 0, 0, 1], 0).into(), limits, b"").ok();
        });
        let mut client = TcpStream::connect(address.expect("a port")).expect("a connection");
        client.set_nonblocking(true).expect("a socket");
        let (requests, mut answers) = ([b'\n'; 1 << 16], [0; 1 << 16]);
        for _ in 0..400 {
            some(client.write(&requests));
            reactor.turn();
            // It reads, but leaves some of it each time.
            for _ in 0..100 {
                if reactor
                    .io
                    .held()
                    .is_some_and(|(_, unwritten, _)| unwritten > 1 << 20)
                {
                    some(client.read(&mut answers));
                    reactor.io.write_again();
                }
            }
        }
        let (left, unwritten, output) = reactor.io.held().expect("a connection");
        assert!(
            unwritten > 1 << 19,
            "it has caught up, which proves nothing: {unwritten}"
        );
        assert!(left <= 1 << 16, "{left} bytes of requests are kept");
        assert!(
            output <= 3 * unwritten,
            "{output} bytes of answers are kept for {unwritten}"
        );
    }

    /// Notes what it hears.
    #[derive(Default)]
    struct Listening(Vec<String>);

    impl Service for Listening {
        fn line(&mut self, _io: &mut Io, _conn: Conn, line: &[u8]) {
            self.0.push(String::from_utf8_lossy(line).into_owned());
        }

        fn line_cut_off(&mut self, _io: &mut Io, _conn: Conn) {
            self.0.push("cut off".to_owned());
        }

        fn closed(&mut self, _io: &mut Io, _conn: Conn, reason: &str) {
            self.0.push(reason.to_owned());
        }

        fn turn_ends(&mut self, io: &mut Io) {
            let soon = io.now() + Duration::from_millis(10);
            io.wake_at(Some(soon));
        }
    }

    #[test]
    fn what_has_no_line_end_is_no_line() {
        assert_eq!(heard(b"whole\nhal"), ["whole", "cut off", "connection closed"]);
    }

    #[test]
    fn a_last_line_and_the_end_may_come_at_once() {
        assert_eq!(heard(b"bye\n"), ["bye", "connection closed"]);
    }

    /// What a service hears of a connection that says this, and ends.
    fn heard(said: &[u8]) -> Vec<String> {
        let (mut reactor, _mailbox) = Reactor::new().expect("an event queue");
        reactor.add_service(ServiceId(0), Box::new(Listening::default()));
        let limits = Limits {
            max_line: 100,
            max_pending: 100,
        };
        let mut address = None;
        reactor.with_service(ServiceId(0), |_, io| {
            address = io.listen(([127, 0, 0, 1], 0).into(), limits, b"").ok();
        });
        let mut client = TcpStream::connect(address.expect("a port")).expect("a connection");
        client.write_all(said).expect("a connection");
        drop(client);
        let mut heard = Vec::new();
        for _ in 0..1000 {
            reactor.turn();
            reactor.with_service(ServiceId(0), |service, _| {
                let service: &mut dyn Any = service;
                heard = service.downcast_ref::<Listening>().expect("itself").0.clone();
            });
            if heard.last().is_some_and(|last| last == "connection closed") {
                break;
            }
        }
        heard
    }
}
