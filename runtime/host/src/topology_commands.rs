//! `torhost check`, `fmt`, `show` and `graph`.
use std::process::ExitCode;

/// The subcommands that read a topology.
#[derive(clap::Subcommand)]
pub enum Command {}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    match command {}
}
