//! `torhost up`, `ps` and `down`: starting a topology's nodes on this machine and keeping them running.
use std::process::ExitCode;

/// The subcommands of the supervisor.
#[derive(clap::Subcommand)]
pub enum Command {}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    match command {}
}
