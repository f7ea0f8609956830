//! The program that is measured: a coordinator script under one of the shells, on a free port.

use std::{
    fs::File,
    io::{Read, Seek},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// How long a coordinator may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A shell and the coordinator script that it runs.
pub struct Shell {
    /// What the report calls it.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    script: PathBuf,
}

impl Shell {
    /// Checks that the script is there; a missing program shows when it is started.
    pub fn new(name: &'static str, program: &Path, script: &Path) -> Result<Self> {
        if !script.is_file() {
            return Err(format!(
                "no coordinator script {}; name one with --script",
                script.display()
            ));
        }
        Ok(Self {
            name,
            program: program.to_owned(),
            script: script.to_owned(),
        })
    }

    /// The error for a program that cannot be started.
    pub fn not_started(&self, error: &std::io::Error) -> String {
        format!(
            "cannot start {} ({}): {error}; name it with --{}",
            self.name,
            self.program.display(),
            self.name
        )
    }
}

/// A running coordinator; killed when dropped.
pub struct Coordinator {
    child: Child,
    log: File,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Coordinator {
    /// Starts the shell's script and waits until it accepts connections.
    pub fn start(shell: &Shell) -> Result<Self> {
        let address = free_address().map_err(|error| format!("no free port on the loopback: {error}"))?;
        let (log, output, errors) = log_file().map_err(|error| format!("cannot make a log file: {error}"))?;
        let child = Command::new(&shell.program)
            .arg(&shell.script)
            .arg(address.port().to_string())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| shell.not_started(&error))?;
        let mut coordinator = Self { child, log, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(end) = coordinator.ending() {
                return Err(format!("{} {} {end}", shell.name, shell.script.display()));
            }
            if started.elapsed() > START_LIMIT {
                let script = shell.script.display();
                return Err(format!(
                    "{} {script} does not listen on {address} after {START_LIMIT:?}",
                    shell.name
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(coordinator)
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
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A file without a name, to read from and for the child to print to: a pipe nobody empties would stop the child.
fn log_file() -> std::io::Result<(File, File, File)> {
    let path = std::env::temp_dir().join(format!("torhost-bench-{}.log", std::process::id()));
    let log = File::options().read(true).append(true).create(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let (output, errors) = (log.try_clone()?, log.try_clone()?);
    Ok((log, output, errors))
}
