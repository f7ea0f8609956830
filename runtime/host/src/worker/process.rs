//! Executors as child processes, which can be killed.
//!
//! A child runs the same script, with one end of a pair of sockets as its standard input. Where a worker would connect to its
//! coordinator, it serves that socket: it is sent jobs and cancellations, and sends answers, in the lines of the protocol. It ends with
//! its parent.
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use torhost_tcl::{Error, Interp, Result};

/// The environment variable that tells a child what it is.
const VARIABLE: &str = "TOR_EXECUTOR";
/// What a child says when it serves.
pub(crate) const READY: &[u8] = b"READY";
/// What a child says when its script wants the worker drained.
pub(crate) const DRAIN: &[u8] = b"DRAIN";
/// What a child says when its script wants the worker to connect again.
pub(crate) const RECONNECT: &[u8] = b"RECONNECT";
/// What a child says when its handler waits in the event loop.
pub(crate) const WAITS: &[u8] = b"WAITS";

/// How a child is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) script: PathBuf,
    pub(crate) argv: Vec<String>,
    /// Where the script's topology is, if not where the script would look itself.
    pub(crate) topology: Option<PathBuf>,
}

/// A child, and this process's end of the sockets.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) stream: UnixStream,
}

impl Program {
    /// Starts a child, which says [`READY`] when its script has come to `tor::worker serve`.
    pub(crate) fn start(&self) -> io::Result<Started> {
        let (stream, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("run")
            .arg(&self.script)
            .args(&self.argv)
            .env(VARIABLE, "1")
            .stdin(OwnedFd::from(theirs))
            // What it starts is killed with it.
            .process_group(0);
        if let Some(topology) = &self.topology {
            command.env("TOR_TOPOLOGY", topology);
        }
        let child = command.spawn()?;
        Ok(Started { child, stream })
    }

    /// Starts so many children, and waits until all are ready.
    ///
    /// # Errors
    /// Those of starting a process; a child that ends before it is ready. The others are stopped then.
    pub(crate) fn start_all(&self, count: u32) -> Result<Vec<Started>> {
        let started: io::Result<Vec<Started>> = (0..count).map(|_| self.start()).collect();
        let cannot = |error| Error::new(format!("cannot start an executor's process: {error}"));
        let mut started = started.map_err(cannot)?;
        let failed = started.iter_mut().find_map(|Started { child, stream }| {
            let mut said = [0; READY.len() + 1];
            stream.read_exact(&mut said).err().map(|_| end(child))
        });
        if let Some(status) = failed {
            for Started { child, .. } in &mut started {
                end(child);
            }
            return Err(Error::new(format!(
                "an executor's process ended before it came to tor::worker serve ({status}); what it wrote to standard \
                 error tells why"
            )));
        }
        Ok(started)
    }
}

/// Kills a child and all that it has started.
pub(crate) fn kill(child: &Child) {
    // What is dead already needs no killing.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

/// Ends a process, and tells how it ended.
pub(crate) fn end(child: &mut Child) -> String {
    kill(child);
    child
        .wait()
        .map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// Whether this process is an executor's, and if so, its end of the sockets. The next to ask is told no, and so are processes that
/// the script starts.
pub(crate) fn parent(interp: &Interp) -> Result<Option<UnixStream>> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(None);
    }
    interp.eval_global(format!("unset -nocomplain ::env({VARIABLE})"))?;
    let stdin = std::io::stdin();
    let socket = || {
        let socket = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
        // What the script starts must not hold the socket open.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        io::Result::Ok(UnixStream::from(socket))
    };
    let socket = socket();
    let cannot = |error| Error::new(format!("cannot use the executor's socket: {error}"));
    socket.map(Some).map_err(cannot)
}
