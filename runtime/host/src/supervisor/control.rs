//! What is said between a supervisor and the subcommands that ask it: one request a connection, answered by reports, each a
//! line of JSON.
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use super::error::Error;
use super::instance::Instance;

/// How long either side waits for the other to read or write, save where stopping takes its time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a supervisor is asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// How is the system? Answered by one [`Report::Status`].
    Status,
    /// Stop it. Answered by a [`Report::Say`] for each step; the end of the connection is the end of the supervisor.
    Down {
        /// How long nodes have from SIGTERM to SIGKILL.
        grace: Duration,
    },
}

/// What a supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// Something happened: a sentence for the person at the terminal.
    Say(String),
    /// How the system is.
    Status(Status),
}

/// How a system is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) system: String,
    pub(crate) topology: String,
    /// Of the supervisor.
    pub(crate) pid: u32,
    pub(crate) nodes: Vec<NodeStatus>,
}

/// How a node is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) node: String,
    pub(crate) kind: String,
    pub(crate) pid: Option<u32>,
    pub(crate) state: State,
    /// Since its process was started.
    pub(crate) uptime_seconds: Option<u64>,
    /// How many times it was started again.
    pub(crate) restarts: u32,
    pub(crate) address: String,
    pub(crate) port: Option<u16>,
    pub(crate) log: String,
}

/// The states of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It runs or is about to, and was not seen ready yet.
    Starting,
    Ready,
    /// It died, and is started again after a delay.
    Restarting,
    /// It died too many times in a row, and is left alone.
    Failed,
    /// A client that did its work and ended.
    Finished,
    Stopped,
}

impl State {
    /// The state's name, as it is shown.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
        }
    }
}

impl Status {
    /// Whether every node is as it should be.
    pub(crate) fn is_well(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| matches!(node.state, State::Ready | State::Finished))
    }
}

impl Report {
    /// Writes the report as a line.
    pub(crate) fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        to.write_all(&line)?;
        to.flush()
    }
}

/// Reads reports until the other side has no more.
pub(crate) fn reports(from: impl Read) -> impl Iterator<Item = io::Result<Report>> {
    BufReader::new(from)
        .lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
}

/// Receives requests on a thread for each, and hands them on with the connection to answer on.
pub(crate) fn serve(
    listener: UnixListener,
    hand_on: impl Fn(Request, UnixStream) + Clone + Send + 'static,
) -> impl FnOnce() + Send {
    move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, most likely: there may be some again.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            let hand_on = hand_on.clone();
            let read = move || match request(&stream) {
                Ok(request) => hand_on(request, stream),
                Err(error) => log::warn!("a request on the control socket could not be read: {error}"),
            };
            if let Err(error) = thread::Builder::new().name("request".into()).spawn(read) {
                log::warn!("cannot start a thread for a request: {error}");
            }
        }
    }
}

fn request(stream: &UnixStream) -> io::Result<Request> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut line = String::new();
    BufReader::new(stream.take(1024)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Sends a request to the supervisor of a system.
pub(crate) fn ask(instance: &Instance, request: Request) -> Result<UnixStream, Error> {
    let mut stream = instance.connect()?;
    let mut send = || -> io::Result<()> {
        let patience = match request {
            Request::Status => PATIENCE,
            // Three kinds of nodes are stopped one after the other.
            Request::Down { grace } => 3 * grace + PATIENCE,
        };
        stream.set_read_timeout(Some(patience))?;
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        stream.write_all(&line)
    };
    send().map_err(Error::NoAnswer)?;
    Ok(stream)
}

/// Asks how a system is.
pub(crate) fn status(instance: &Instance) -> Result<Status, Error> {
    match reports(ask(instance, Request::Status)?).next() {
        Some(Ok(Report::Status(status))) => Ok(status),
        Some(Ok(Report::Say(text))) => Err(Error::NoAnswer(io::Error::other(text))),
        Some(Err(error)) => Err(Error::NoAnswer(error)),
        None => Err(Error::NoAnswer(io::ErrorKind::UnexpectedEof.into())),
    }
}
