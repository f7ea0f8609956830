//! The load: one client and some workers, on one thread, each on a connection of its own.
//!
//! The client keeps a number of jobs in flight and counts a job when its result has come and is the right one. The
//! workers answer every job at once. All of them are ordinary clients of the protocol, with `TCP_NODELAY` on
//! their own sockets and nothing else changed: what the coordinator's own writes cost stays visible.

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use shared::Result;
use std::{
    collections::{HashMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How long the load waits for the next message before it calls the coordinator stuck.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// How often workers beat: well under the coordinator's limit.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Jobs that go first and are not measured: a new connection acknowledges at once for its first few segments.
const WARM_UP: usize = 20;

const CLIENT: usize = 0;

/// How much is asked of the coordinator at a time.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Jobs submitted and not yet answered.
    pub in_flight: usize,
    /// Worker connections.
    pub workers: usize,
    /// Jobs that a worker says it takes at once.
    pub slots: usize,
}

impl Plan {
    /// One job at a time, from one client to one worker.
    pub const SINGLE: Self = Self {
        in_flight: 1,
        workers: 1,
        slots: 1,
    };
    /// 64 jobs in flight, shared by two workers.
    pub const FLIGHT: Self = Self {
        in_flight: 64,
        workers: 2,
        slots: 32,
    };
}

/// What one run of a load measured.
pub struct Sample {
    /// Confirmed jobs.
    pub jobs: usize,
    /// How long the run took.
    pub span: Duration,
    /// Microseconds from each submission to its result.
    pub round_trips: Vec<f64>,
}

/// When a run is over.
#[derive(Clone, Copy)]
pub enum Until {
    /// After a time.
    Elapsed(Duration),
    /// After a number of jobs.
    Jobs(usize),
}

/// A client and its workers, connected to a coordinator.
pub struct Load {
    plan: Plan,
    poll: Poll,
    /// The client first, then the workers.
    connections: Vec<Connection>,
    submitted: usize,
    /// Submissions not yet accepted; acceptances come in their order.
    unaccepted: VecDeque<Submission>,
    /// Accepted jobs without a result, by job id.
    accepted: HashMap<String, Submission>,
    heartbeat: Instant,
}

struct Submission {
    data: String,
    at: Instant,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Load {
    /// Connects the workers, registers them, connects the client, and sends the first, unmeasured jobs through.
    pub fn connect(address: SocketAddr, plan: Plan) -> Result<Self> {
        let poll = Poll::new().map_err(|error| format!("no event queue: {error}"))?;
        let mut load = Self {
            plan,
            poll,
            connections: Vec::new(),
            submitted: 0,
            unaccepted: VecDeque::new(),
            accepted: HashMap::new(),
            heartbeat: Instant::now(),
        };
        load.add_connection(address)?;
        for worker in 1..=plan.workers {
            load.add_connection(address)?;
            let registration = serde_json::json!({
                "id": format!("bench{worker}"),
                "type": "data_processor",
                "capabilities": ["cpu"],
                "slots": plan.slots,
            });
            load.connections[worker].send(&format!("REGISTER:{registration}"));
        }
        load.run(Until::Jobs(WARM_UP * plan.in_flight))?;
        Ok(load)
    }

    fn add_connection(&mut self, address: SocketAddr) -> Result<()> {
        let connect = || {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let token = Token(self.connections.len());
            self.poll
                .registry()
                .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        };
        let stream =
            connect().map_err(|error: std::io::Error| format!("cannot connect to {address}: {error}"))?;
        self.connections.push(Connection {
            stream,
            input: Vec::new(),
            output: Vec::new(),
        });
        Ok(())
    }

    /// Submits jobs, as many in flight as planned, until the run is over and every job has its result.
    pub fn run(&mut self, until: Until) -> Result<Sample> {
        let started = Instant::now();
        let first = self.submitted;
        let mut sample = Sample {
            jobs: 0,
            span: Duration::ZERO,
            round_trips: Vec::new(),
        };
        let mut events = Events::with_capacity(64);
        loop {
            let submitting = match until {
                Until::Elapsed(span) => started.elapsed() < span,
                Until::Jobs(count) => self.submitted - first < count,
            };
            let in_flight = self.submitted - first - sample.jobs;
            if submitting {
                for _ in in_flight..self.plan.in_flight {
                    self.submit();
                }
            } else if in_flight == 0 {
                sample.span = started.elapsed();
                return Ok(sample);
            }
            self.beat();
            for connection in &mut self.connections {
                connection.flush()?;
            }
            self.poll
                .poll(&mut events, Some(SILENCE_LIMIT))
                .map_err(|error| format!("cannot wait for the coordinator: {error}"))?;
            if events.is_empty() {
                return Err(format!(
                    "the coordinator has been silent for {SILENCE_LIMIT:?} with jobs in flight"
                ));
            }
            for event in &events {
                let Token(index) = event.token();
                for line in self.connections[index].receive()? {
                    if index == CLIENT {
                        sample.round_trips.extend(self.client_line(&line)?);
                        sample.jobs = sample.round_trips.len();
                    } else {
                        self.worker_line(index, &line);
                    }
                }
            }
        }
    }

    fn submit(&mut self) {
        self.submitted += 1;
        let data = format!("{:016}", self.submitted);
        self.connections[CLIENT].send(&format!("SUBMIT_JOB:{data}"));
        self.unaccepted.push_back(Submission {
            data,
            at: Instant::now(),
        });
    }

    fn beat(&mut self) {
        if self.heartbeat.elapsed() >= HEARTBEAT_INTERVAL {
            self.heartbeat = Instant::now();
            for worker in &mut self.connections[CLIENT + 1..] {
                worker.send("HEARTBEAT:0");
            }
        }
    }

    /// Microseconds of the job that this line confirms, if it does.
    fn client_line(&mut self, line: &str) -> Result<Option<f64>> {
        if let Some(id) = line.strip_prefix("JOB_ACCEPTED:") {
            let submission = self
                .unaccepted
                .pop_front()
                .ok_or_else(|| format!("not submitted: {line}"))?;
            self.accepted.insert(id.to_owned(), submission);
            return Ok(None);
        }
        let Some(rest) = line.strip_prefix("JOB_RESULT:") else {
            return Err(format!("the client did not expect: {line}"));
        };
        let id = rest.split(':').next().unwrap_or_default();
        let submission = self
            .accepted
            .remove(id)
            .ok_or_else(|| format!("no such job in flight: {line}"))?;
        if rest[id.len()..] != format!(":completed:{}", answer(&submission.data)) {
            return Err(format!(
                "job {id} was {}: not its result: {line}",
                submission.data
            ));
        }
        Ok(Some(submission.at.elapsed().as_secs_f64() * 1e6))
    }

    fn worker_line(&mut self, index: usize, line: &str) {
        // Other messages are news that a worker may ignore.
        if let Some((handle, data)) = line
            .strip_prefix("PROCESS_JOB:")
            .and_then(|rest| rest.split_once(':'))
        {
            let reply = format!("JOB_COMPLETE:{handle}:{}", answer(data));
            self.connections[index].send(&reply);
        }
    }
}

/// The result that the workers give for a job's data.
fn answer(data: &str) -> String {
    format!("done_{data}")
}

impl Connection {
    fn send(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
    }

    /// Writes what is waiting, as far as the socket takes it; the rest goes when it is writable again.
    fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the coordinator broke a connection: {error}")),
            }
        }
        Ok(())
    }

    /// Reads all there is and returns the whole lines.
    fn receive(&mut self) -> Result<Vec<String>> {
        let mut chunk = [0; 65536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the coordinator closed a connection".into()),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the coordinator broke a connection: {error}")),
            }
        }
        let whole = self
            .input
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        let lines = self.input.drain(..whole).collect::<Vec<_>>();
        Ok(String::from_utf8_lossy(&lines)
            .lines()
            .map(str::to_owned)
            .collect())
    }
}
