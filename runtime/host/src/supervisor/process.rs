//! One run of a node: a process, its group, and the threads that wait for it.
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::SUPERVISOR_VARIABLE;
use super::log_file;
use super::plan::{NodePlan, Plan};

/// A node's process, which is the leader of a group of its own. It is a zombie at most until [`Process::bury`]: nobody else
/// reaps it, so a signal never meets a process that merely has the same number.
pub(crate) struct Process {
    child: Child,
    pub(crate) started: Instant,
    pub(crate) ready: Option<Instant>,
    /// The length of the log before this run.
    pub(crate) log_from: u64,
    /// Closing it ends the watch for readiness.
    _watched: Sender<()>,
}

impl Process {
    /// Starts a node. `exited` is called on a thread of its own when the process has ended; the receiver is closed when the
    /// run is over.
    pub(crate) fn start(
        plan: &Plan,
        node: &NodePlan,
        exited: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Self, Receiver<()>)> {
        let (log, log_from) = log_file::append(&node.log).map_err(|error| {
            let text = format!("its log {} cannot be opened: {error}", node.log.display());
            io::Error::new(error.kind(), text)
        })?;
        let mut child = Command::new(env::current_exe()?)
            .arg(&node.script)
            .current_dir(&plan.root)
            .env("TOR_TOPOLOGY", &plan.topology)
            .env("TOR_NODE", &node.name)
            .env(SUPERVISOR_VARIABLE, process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&child);
        let wait = move || {
            // Only looks: the process stays a zombie, and its number taken, until it is buried.
            let look = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            while look().is_err_and(|error| error == Errno::INTR) {}
            exited();
        };
        if let Err(error) = thread::Builder::new().name("wait".into()).spawn(wait) {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        let (watched, watch) = mpsc::channel();
        let started = Self {
            child,
            started: Instant::now(),
            ready: None,
            log_from,
            _watched: watched,
        };
        Ok((started, watch))
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long it has been ready.
    pub(crate) fn ready_for(&self) -> Duration {
        self.ready.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Sends a signal to the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        match kill_process_group(Pid::from_child(&self.child), signal) {
            // Nobody is left in it.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => log::warn!(
                "cannot send a signal to the group of process {}: {error}",
                self.pid()
            ),
        }
    }

    /// Ends what is left of the group of a process that has ended, and reaps the process.
    pub(crate) fn bury(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.child.wait()
    }
}
