//! `torhost db` and `torhost jobs`: the database that a coordinator keeps its jobs in, for the person who looks after it.
//!
//! - `place`: which database is meant;
//! - `db_commands`: `torhost db`: all of the file;
//! - `error`, `text`: what a person gets to read.
mod db_commands;
mod error;
mod place;
mod text;

use std::process::ExitCode;

/// The subcommands that read a database of jobs.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check, back up or shrink the database that the coordinator keeps its jobs in
    #[command(subcommand)]
    Db(db_commands::Command),
}

/// Runs one of them. Exit codes: 0 all is well, 1 something is not, as it says.
pub(crate) fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Db(command) => db_commands::run(command),
    };
    done.unwrap_or_else(|error| {
        eprintln!("torhost: {error}");
        ExitCode::FAILURE
    })
}
