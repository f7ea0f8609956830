//! Having the coordinator change jobs, by the line protocol.
use super::change::{Action, Done, Keeper};
use super::error::Error;
use serde_json::Value;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;
use torhost_protocol::{Code, JobId};

/// How long a connection may take, and an answer. A journal that is written by another program may be waited for.
const CONNECTING: Duration = Duration::from_secs(5);
const ANSWERING: Duration = Duration::from_secs(60);
/// So many jobs are asked about at a time; each time is a batch of the coordinator's.
const AT_ONCE: usize = 100;

/// A coordinator that is asked.
pub(super) struct Asked {
    address: String,
    lines: BufReader<TcpStream>,
}

impl Asked {
    /// Connects to a coordinator at one of some addresses with blanks between them; of that epoch, if that is said.
    pub(super) fn at(addresses: &str, epoch: Option<&str>) -> Result<Asked, Error> {
        let mut failed = None;
        for address in addresses.split(' ') {
            match connect(address) {
                Ok(stream) => {
                    let mut asked = Asked {
                        address: address.to_owned(),
                        lines: BufReader::new(stream),
                    };
                    asked.check(epoch)?;
                    return Ok(asked);
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(Error::Unreachable {
            address: addresses.to_owned(),
            error: failed.unwrap_or_else(|| io::ErrorKind::InvalidInput.into()),
        })
    }

    /// Whether it is the one that is meant: another program may have its port by now.
    fn check(&mut self, epoch: Option<&str>) -> Result<(), Error> {
        let Some(epoch) = epoch else { return Ok(()) };
        self.send("STATUS\n")?;
        let status = self.answer()?.map_err(|(_, text)| self.unexpected(text))?;
        if status["epoch"] == epoch {
            return Ok(());
        }
        Err(Error::OtherCoordinator(self.address.clone()))
    }

    fn send(&mut self, lines: &str) -> Result<(), Error> {
        let sent = self.lines.get_mut().write_all(lines.as_bytes());
        sent.map_err(|error| self.silent(error))
    }

    /// The next answer, or the code and text of a refusal.
    fn answer(&mut self) -> Result<Result<Value, (String, String)>, Error> {
        let mut line = Vec::new();
        match self.lines.read_until(b'\n', &mut line) {
            Ok(0) => return Err(self.silent(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(self.silent(error)),
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        let (verb, rest) = line.split_once(':').unwrap_or((line, ""));
        if verb == "ERROR" {
            let (code, text) = rest.split_once(':').unwrap_or((rest, ""));
            return Ok(Err((code.to_owned(), text.to_owned())));
        }
        match serde_json::from_str(rest) {
            Ok(value) => Ok(Ok(value)),
            Err(_) => Err(self.unexpected(line.to_owned())),
        }
    }

    /// Asks to have some jobs changed, and what they were before.
    fn ask(&mut self, action: Action, jobs: &[JobId]) -> Result<(), Error> {
        let verb = match action {
            Action::Retry => "RETRY",
            Action::Cancel => "CANCEL",
            Action::Purge => "PURGE",
        };
        let lines: String = jobs
            .iter()
            // JOB would bring all of the data.
            .map(|job| {
                let next = JobId(job.0 + 1);
                format!("JOBS:{{\"limit\":1,\"after\":\"{next}\"}}\n{verb}:{job}\n")
            })
            .collect();
        self.send(&lines)
    }

    /// What became of a job that was asked about.
    fn done(&mut self, job: JobId) -> Result<Done, Error> {
        let page = self.answer()?.map_err(|(_, text)| self.unexpected(text))?;
        let found = &page["jobs"][0];
        let state = |value: &Value| value["state"].as_str().and_then(|state| state.parse().ok());
        let is_it = found["id"] == job.to_string();
        let after = match self.answer()? {
            Ok(answer) => state(&answer).ok_or_else(|| format!("it is now {}", answer["state"])),
            Err((code, _)) if code == Code::UnknownJob.as_str() => Err("no such job".to_owned()),
            Err((code, _)) if code == Code::UnknownVerb.as_str() => {
                Err("this coordinator is too old for that".to_owned())
            }
            Err((_, text)) => Err(text),
        };
        Ok(Done {
            job,
            before: state(found).filter(|_| is_it),
            after,
        })
    }

    fn silent(&self, error: io::Error) -> Error {
        let error = match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::other("it did not answer within a minute"),
            io::ErrorKind::UnexpectedEof => io::Error::other("it has closed the connection"),
            _ => error,
        };
        let address = self.address.clone();
        Error::Silent { address, error }
    }

    fn unexpected(&self, answer: String) -> Error {
        let address = self.address.clone();
        Error::Silent {
            address,
            error: io::Error::other(format!("it answered \"{}\"", answer.escape_debug())),
        }
    }
}

impl Keeper for Asked {
    fn change(&mut self, action: Action, jobs: &[JobId], tell: &mut dyn FnMut(&Done)) -> Result<(), Error> {
        for jobs in jobs.chunks(AT_ONCE) {
            self.ask(action, jobs)?;
            for &job in jobs {
                tell(&self.done(job)?);
            }
        }
        Ok(())
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failed = None;
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&from_here(address), CONNECTING) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWERING))?;
                stream.set_write_timeout(Some(ANSWERING))?;
                return Ok(stream);
            }
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// Who listens on all addresses is reached at that of this machine.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}
