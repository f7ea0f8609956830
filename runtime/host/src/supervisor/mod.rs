//! `torhost up`, `ps` and `down`: starting a topology's nodes on this machine and keeping them running.
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, test_kill_process};
use std::env;
use std::process::ExitCode;

/// Tells a node's process which process supervises it.
const SUPERVISOR_VARIABLE: &str = "TOR_SUPERVISOR";

/// The subcommands of the supervisor.
#[derive(clap::Subcommand)]
pub enum Command {}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    match command {}
}

/// Has this process end with its supervisor, when it is a node that one started.
///
/// What the node starts in turn inherits the variable too, and is left alone as long as the supervisor lives.
pub(crate) fn bind_to_parent() {
    let Some(supervisor) = env::var(SUPERVISOR_VARIABLE)
        .ok()
        .and_then(|pid| Pid::from_raw(pid.parse().ok()?))
    else {
        return;
    };
    if getppid() == Some(supervisor) {
        if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
            log::warn!("this node may outlive its supervisor: {error}");
        }
        if getppid() == Some(supervisor) {
            return;
        }
    } else if test_kill_process(supervisor) != Err(Errno::SRCH) {
        return;
    }
    eprintln!(
        "torhost: the supervisor (pid {}) is gone, and so this node ends",
        supervisor.as_raw_pid()
    );
    std::process::exit(1);
}
