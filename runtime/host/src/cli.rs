//! The command line: subcommands by name, everything else as `tclsh` reads it.
use clap::{Parser, Subcommand};
use std::process::ExitCode;

use crate::{supervisor, topology_commands};

#[derive(Parser)]
#[command(name = "torhost", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Topology(topology_commands::Command),
    #[command(flatten)]
    Supervisor(supervisor::Command),
}

/// Runs the program with the process's own arguments.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Topology(command) => topology_commands::run(command),
        Command::Supervisor(command) => supervisor::run(command),
    }
}
