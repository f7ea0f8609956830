//! The load: a submitter and its workers on one thread and one event loop, the same for every system.
//!
//! It must not be what limits the systems. So there is one read for each event and one write for each connection and turn
//! of the loop, buffers are kept, and a message is looked at in place: no text is made of it. A job is found by a
//! number in its data, not by its id. The clock is read once a turn.

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use shared::{
    Result,
    statistics::{median, percentile},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::jobs::Jobs;

/// How long the load waits for the next message before it calls the system stuck.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes read at once; also more than the longest message that is understood.
const READ_SIZE: usize = 256 * 1024;
/// Events taken at once.
const EVENTS: usize = 1024;

/// What a system's client and workers say and answer.
///
/// The load has a number of connections, known by their place; what each of them is for is the protocol's own business.
pub trait Protocol {
    /// What a new connection says first.
    fn greet(&mut self, connection: usize, outputs: &mut Outputs);

    /// Submits a job.
    fn submit(&mut self, data: &[u8], outputs: &mut Outputs);

    /// Acts on the whole messages at the start of what a connection has received, and returns their length. Confirmed
    /// results go to `jobs`.
    fn receive(
        &mut self,
        connection: usize,
        input: &[u8],
        outputs: &mut Outputs,
        jobs: &mut Jobs,
    ) -> Result<usize>;
}

/// What waits to be written, for each connection.
#[derive(Default)]
pub struct Outputs {
    buffers: Vec<Vec<u8>>,
    /// Connections to be written to at the end of the turn.
    due: Vec<usize>,
}

impl Outputs {
    /// Where to append what a connection is to send.
    pub fn to(&mut self, connection: usize) -> &mut Vec<u8> {
        let buffer = &mut self.buffers[connection];
        if buffer.is_empty() {
            self.due.push(connection);
        }
        buffer
    }
}

/// Set when the user wants an end, so that programs are stopped on the way out.
#[derive(Clone, Default)]
pub struct Interrupt(pub Arc<AtomicBool>);

impl Interrupt {
    /// An error if the user wants an end.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            Err("interrupted".into())
        } else {
            Ok(())
        }
    }
}

/// What one run of a load measured.
pub struct Sample {
    /// How long the run took.
    pub span: Duration,
    /// Confirmed jobs a second.
    pub jobs_per_second: f64,
    /// Microseconds from submission to confirmed result, half of all jobs being faster.
    pub p50_us: f64,
    /// The same, 99 in 100 being faster.
    pub p99_us: f64,
}

/// Connections to one system.
pub struct Load<P> {
    /// What is said on them.
    pub protocol: P,
    poll: Poll,
    events: Events,
    streams: Vec<TcpStream>,
    /// The start of a message whose end has not come, of each connection.
    partial: Vec<Vec<u8>>,
    outputs: Outputs,
    jobs: Jobs,
    buffer: Vec<u8>,
    interrupt: Interrupt,
}

impl<P: Protocol> Load<P> {
    /// A load without connections.
    pub fn new(protocol: P, interrupt: &Interrupt) -> Result<Self> {
        Ok(Self {
            protocol,
            poll: Poll::new().map_err(|error| format!("no event queue: {error}"))?,
            events: Events::with_capacity(EVENTS),
            streams: Vec::new(),
            partial: Vec::new(),
            outputs: Outputs::default(),
            jobs: Jobs::default(),
            buffer: vec![0; READ_SIZE],
            interrupt: interrupt.clone(),
        })
    }

    /// Opens connections and greets on each.
    pub fn connect(&mut self, address: SocketAddr, connections: usize) -> Result<()> {
        for _ in 0..connections {
            let connection = self.streams.len();
            let connect = || {
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let mut stream = TcpStream::from_std(stream);
                let interests = Interest::READABLE | Interest::WRITABLE;
                self.poll
                    .registry()
                    .register(&mut stream, Token(connection), interests)?;
                Ok(stream)
            };
            let stream = connect().map_err(|error: std::io::Error| {
                format!("cannot make connection {} to {address}: {error}", connection + 1)
            })?;
            self.streams.push(stream);
            self.partial.push(Vec::new());
            self.outputs.buffers.push(Vec::new());
            self.protocol.greet(connection, &mut self.outputs);
        }
        Ok(())
    }

    /// Keeps a number of jobs in flight for a time, and does not wait for the last of them: the next run goes on with them.
    pub fn run(&mut self, in_flight: usize, span: Duration) -> Result<Sample> {
        let started = Instant::now();
        self.jobs.start(started);
        loop {
            while self.jobs.in_flight() < in_flight {
                let data = self.jobs.begin();
                self.protocol.submit(&data, &mut self.outputs);
            }
            if self.turn(SILENCE_LIMIT)? == 0 {
                return Err(format!("silent for {SILENCE_LIMIT:?} with jobs in flight"));
            }
            let elapsed = self.jobs.now().duration_since(started);
            if elapsed >= span {
                let round_trips = self.jobs.round_trips();
                return Ok(Sample {
                    span: elapsed,
                    jobs_per_second: round_trips.len() as f64 / elapsed.as_secs_f64(),
                    p50_us: median(round_trips).unwrap_or(f64::NAN),
                    p99_us: percentile(round_trips, 0.99).unwrap_or(f64::NAN),
                });
            }
        }
    }

    /// Waits for the results of the jobs in flight.
    pub fn finish(&mut self) -> Result<()> {
        while self.jobs.in_flight() > 0 {
            if self.turn(SILENCE_LIMIT)? == 0 {
                return Err(format!("silent for {SILENCE_LIMIT:?} with jobs in flight"));
            }
        }
        Ok(())
    }

    /// Says something on a connection at the next turn.
    pub fn send(&mut self, connection: usize, message: &[u8]) {
        self.outputs.to(connection).extend_from_slice(message);
    }

    /// One turn of the loop: writes what is due, waits, acts on what has come. Returns the number of events.
    pub fn turn(&mut self, wait: Duration) -> Result<usize> {
        while let Some(connection) = self.outputs.due.pop() {
            self.flush(connection)?;
        }
        self.interrupt.check()?;
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.interrupt.check()?,
            Err(error) => return Err(format!("cannot wait for events: {error}")),
        }
        self.jobs.set_now(Instant::now());
        let mut count = 0;
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            count += 1;
            let Token(connection) = event.token();
            if event.is_writable() && !self.outputs.buffers[connection].is_empty() {
                self.outputs.due.push(connection);
            }
            if event.is_readable() {
                self.receive(connection)?;
            }
        }
        self.events = events;
        Ok(count)
    }

    /// Writes what is waiting, as far as the socket takes it; the rest goes when it is writable again.
    fn flush(&mut self, connection: usize) -> Result<()> {
        let buffer = &mut self.outputs.buffers[connection];
        while !buffer.is_empty() {
            match self.streams[connection].write(buffer) {
                Ok(count) if count == buffer.len() => buffer.clear(),
                Ok(count) => drop(buffer.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("a connection broke: {error}")),
            }
        }
        Ok(())
    }

    fn receive(&mut self, connection: usize) -> Result<()> {
        let partial = &mut self.partial[connection];
        loop {
            let kept = partial.len();
            self.buffer[..kept].copy_from_slice(partial);
            let filled = match self.streams[connection].read(&mut self.buffer[kept..]) {
                Ok(0) => return Err("a connection was closed".into()),
                Ok(count) => kept + count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("a connection broke: {error}")),
            };
            let input = &self.buffer[..filled];
            let done = self
                .protocol
                .receive(connection, input, &mut self.outputs, &mut self.jobs)?;
            partial.clear();
            partial.extend_from_slice(&input[done..]);
            // A read that does not fill the buffer has emptied the socket: the next bytes are a new event.
            if filled < self.buffer.len() {
                return Ok(());
            }
        }
    }
}
