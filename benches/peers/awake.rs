//! Cores that do not sleep, and which program runs on which.
//!
//! With one job at a time, most of a round trip is waking: of a core that sleeps, if the load and the server have one each, and
//! less if the scheduler has put both on one. Which of the two it is changes from start to start. Here it is the same for all:
//! the load has one core, the server another, and each is kept awake by a process that runs when nobody else wants to.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use shared::{Result, process::Process};
use std::process::Command;

/// Two cores kept awake; as it was before when dropped.
pub struct Awake {
    before: CpuSet,
    load: CpuSet,
    server: CpuSet,
    /// Killed when dropped.
    _idlers: Vec<Process>,
}

impl Awake {
    /// Keeps two cores awake, and moves the load to the first of them.
    pub fn start() -> Result<Self> {
        let before = sched_getaffinity(None).map_err(|error| format!("cannot ask for the cores: {error}"))?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| before.is_set(*core));
        let (Some(first), Some(second)) = (cores.next(), cores.next()) else {
            return Err(
                "keeping the load and the server apart needs two cores; name other measurements with --only"
                    .into(),
            );
        };
        let mut awake = Self {
            before,
            load: only(first),
            server: only(second),
            _idlers: Vec::new(),
        };
        for core in [awake.load, awake.server] {
            run_on(&core)?;
            // It ends with this process, also when that is killed. It seldom looks: who wakes up waits for a system call to end.
            let look = format!("kill -0 {} 2>/dev/null", std::process::id());
            let wait = format!("while {look}; do i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; done");
            let mut command = Command::new("chrt");
            command.args(["--idle", "0", "sh", "-c", &wait]);
            awake._idlers.push(Process::start("chrt", command, |error| {
                format!("cannot start chrt: {error}; install the package util-linux")
            })?);
        }
        run_on(&awake.load)?;
        Ok(awake)
    }

    /// Calls `start`, which starts a server: it has the second core.
    pub fn start_server<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        // Programs inherit where their parent may run.
        run_on(&self.server)?;
        let started = start();
        run_on(&self.load)?;
        started
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        // It was allowed before.
        let _ = run_on(&self.before);
    }
}

fn only(core: usize) -> CpuSet {
    let mut cores = CpuSet::new();
    cores.set(core);
    cores
}

fn run_on(cores: &CpuSet) -> Result<()> {
    sched_setaffinity(None, cores).map_err(|error| format!("cannot choose the cores to run on: {error}"))
}
