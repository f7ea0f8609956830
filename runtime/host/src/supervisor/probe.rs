//! Whether a node is ready, seen from outside: by its port, or by what its coordinator says of it.
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);
/// The most that an answer of a coordinator may hold, in bytes.
const ANSWER_LIMIT: u64 = 4 << 20;

/// By what a node is known to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Its port accepts a connection.
    Port { address: String, port: u16 },
    /// A coordinator lists it.
    Listed {
        worker: String,
        coordinator: String,
        port: u16,
    },
    /// It has been started, and is alive.
    Alive,
}

/// What a watch of one start of a node found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is ready; the note says on what weaker ground than usual.
    Ready { note: Option<String> },
    /// It was not ready in time; the watch goes on.
    Late,
}

enum Look {
    Ready,
    NotYet,
    /// There is nobody to ask.
    Unknown(String),
}

/// Looks until the node is ready or `ended` is closed, at growing intervals.
pub(crate) fn watch(
    readiness: &Readiness,
    timeout: Duration,
    ended: &Receiver<()>,
    mut tell: impl FnMut(Finding),
) {
    let mut late = Some(Instant::now() + timeout);
    let mut interval = Duration::from_millis(5);
    loop {
        match readiness.look() {
            Look::Ready => return tell(Finding::Ready { note: None }),
            Look::Unknown(note) => return tell(Finding::Ready { note: Some(note) }),
            Look::NotYet => {}
        }
        if late.is_some_and(|late| Instant::now() >= late) {
            late = None;
            tell(Finding::Late);
        }
        match ended.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        let longest = if late.is_some() { 200 } else { 1000 };
        interval = (interval * 2).min(Duration::from_millis(longest));
    }
}

impl Readiness {
    /// What a node is not yet, as the end of a sentence.
    pub(crate) fn lack(&self) -> String {
        match self {
            Self::Port { address, port } => format!("does not accept connections on {address}:{port}"),
            Self::Listed {
                coordinator, port, ..
            } => {
                format!("the coordinator at {coordinator}:{port} does not list it as ready")
            }
            Self::Alive => "is not alive".to_owned(),
        }
    }

    fn look(&self) -> Look {
        match self {
            Self::Port { address, port } => match connect(address, *port) {
                Ok(_) => Look::Ready,
                Err(_) => Look::NotYet,
            },
            Self::Listed {
                worker,
                coordinator,
                port,
            } => match connect(coordinator, *port) {
                Ok(stream) => listed(stream, worker).unwrap_or_else(|error| {
                    Look::Unknown(format!("its coordinator does not answer WORKERS ({error})"))
                }),
                Err(_) => Look::NotYet,
            },
            Self::Alive => Look::Ready,
        }
    }
}

fn connect(address: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for candidate in (address, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, LOOK) {
            // Where nobody listens, the kernel may give a connection the very port that it is for, and it meets itself.
            Ok(stream) if stream.local_addr()? != stream.peer_addr()? => return Ok(stream),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks a coordinator for its workers.
fn listed(mut stream: TcpStream, worker: &str) -> io::Result<Look> {
    let give_up = Instant::now() + LOOK;
    stream.set_write_timeout(Some(LOOK))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"WORKERS\n")?;
    let mut answer = BufReader::new(stream.try_clone()?.take(ANSWER_LIMIT));
    loop {
        let left = give_up
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or_else(|| io::Error::other("silence"))?))?;
        let mut line = String::new();
        match answer.read_line(&mut line) {
            // It went away, and so may be restarting: ask again.
            Ok(0) => return Ok(Look::NotYet),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::other("silence"));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Look::NotYet),
            Err(error) => return Err(error),
        }
        let line = line.trim_end();
        if let Some(list) = line.strip_prefix("WORKERS:") {
            let list: Value = serde_json::from_str(list).map_err(io::Error::from)?;
            return Ok(if lists(&list, worker) {
                Look::Ready
            } else {
                Look::NotYet
            });
        }
        if line.starts_with("ERROR:") {
            return Err(io::Error::other(
                line.escape_debug().take(200).collect::<String>(),
            ));
        }
    }
}

/// Whether a list has the worker, as one that is there: a coordinator may remember those that it has lost.
fn lists(list: &Value, worker: &str) -> bool {
    let workers = list["workers"].as_array().map_or(&[][..], Vec::as_slice);
    workers.iter().any(|entry| {
        entry["id"] == worker
            && entry["state"]
                .as_str()
                .is_none_or(|state| state.starts_with("ready") || state.starts_with("busy"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    /// A coordinator that answers every `WORKERS` with one text; `None` keeps silent.
    fn coordinator(answer: Option<&'static str>) -> Readiness {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap())
                    .read_line(&mut line)
                    .unwrap();
                assert_eq!(line, "WORKERS\n");
                match answer {
                    Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
                    None => thread::park(),
                }
            }
        });
        Readiness::Listed {
            worker: "worker1".into(),
            coordinator: "127.0.0.1".into(),
            port,
        }
    }

    fn is_ready(readiness: &Readiness) -> bool {
        matches!(readiness.look(), Look::Ready)
    }

    #[test]
    fn a_worker_is_ready_when_its_coordinator_lists_it() {
        let entry = |state: &str| {
            format!("HELLO\nWORKERS:{{\"workers\":[{{\"id\":\"worker1\",\"state\":\"{state}\"}}]}}\n")
        };
        assert!(is_ready(&coordinator(Some(entry("ready").leak()))));
        assert!(is_ready(&coordinator(Some(entry("busy 2/2").leak()))));
        assert!(!is_ready(&coordinator(Some(entry("lost").leak()))));
        assert!(!is_ready(&coordinator(Some(
            "WORKERS:{\"workers\":[{\"id\":\"worker2\"}]}\n"
        ))));
    }

    #[test]
    fn a_coordinator_that_cannot_tell_is_not_waited_for() {
        for answer in [Some("ERROR:unknown-verb:WORKERS\n"), Some("WORKERS:what\n"), None] {
            let Look::Unknown(note) = coordinator(answer).look() else {
                panic!("{answer:?}");
            };
            assert!(note.contains("WORKERS"), "{note}");
        }
    }

    #[test]
    fn a_watch_says_once_that_it_is_late_and_ends_when_told() {
        let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = gone.local_addr().unwrap().port();
        drop(gone);
        let readiness = Readiness::Port {
            address: "127.0.0.1".into(),
            port,
        };
        let (end, ended) = mpsc::channel();
        let mut found = Vec::new();
        let mut end = Some(end);
        watch(&readiness, Duration::ZERO, &ended, |finding| {
            found.push(finding);
            end.take();
        });
        assert_eq!(found, [Finding::Late]);
    }
}
