//! A program that is measured: started, waited for, and stopped.

use std::{
    fs::File,
    io::{Read, Seek},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// How long a program may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A running program; killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: File,
}

impl Process {
    /// Starts a program without input; what it prints is kept for [`Process::ending`].
    ///
    /// # Errors
    ///
    /// When it cannot be started, as `not_started` puts it.
    pub fn start(
        name: impl Into<String>,
        mut command: Command,
        not_started: impl FnOnce(&std::io::Error) -> String,
    ) -> Result<Self> {
        let (log, output, errors) = log_file().map_err(|error| format!("cannot make a log file: {error}"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| not_started(&error))?;
        Ok(Self {
            name: name.into(),
            child,
            log,
        })
    }

    /// What it was called when it was started.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// When it ends instead, or takes more than 20 seconds.
    pub fn wait_until_listening(&mut self, address: SocketAddr) -> Result<()> {
        self.wait_until(&format!("listen on {address}"), || {
            Ok(TcpStream::connect(address).is_ok())
        })
    }

    /// Waits until a condition is true; `what` it should do is for the error.
    ///
    /// # Errors
    ///
    /// When the program ends instead, or takes more than 20 seconds, or the condition fails.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while !condition()? {
            if let Some(end) = self.ending() {
                return Err(format!("{} {end}", self.name));
            }
            if started.elapsed() > START_LIMIT {
                return Err(format!("{} does not {what} after {START_LIMIT:?}", self.name));
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// If the program has ended: how, and the last line that it printed.
    pub fn ending(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let mut text = String::new();
        if self.log.rewind().is_ok() {
            // A log that cannot be read takes only the hint away, not the fact.
            let _ = self.log.read_to_string(&mut text);
        }
        let last = text
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("nothing printed");
        Some(format!("ended with {status}: {last}"))
    }

    /// Waits for the end of a program that has broken its connections.
    pub fn wait_for_ending(&mut self, limit: Duration) -> Option<String> {
        let started = Instant::now();
        loop {
            let ending = self.ending();
            if ending.is_some() || started.elapsed() > limit {
                return ending;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on the loopback with a port that nobody listens on.
///
/// # Errors
///
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port on the loopback: {error}"))
}

/// A file without a name, to read from and for the child to print to: a pipe nobody empties would stop the child.
fn log_file() -> std::io::Result<(File, File, File)> {
    let path = std::env::temp_dir().join(format!("torhost-bench-{}.log", std::process::id()));
    let log = File::options().read(true).append(true).create(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let (output, errors) = (log.try_clone()?, log.try_clone()?);
    Ok((log, output, errors))
}
