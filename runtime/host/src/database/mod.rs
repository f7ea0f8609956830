//! `torhost db` and `torhost jobs`: the database that a coordinator keeps its jobs in, for the person who looks after it.
//!
//! - `place`: which database is meant, `selection`: which of its jobs;
//! - `db_commands`: `torhost db`: all of the file;
//! - `jobs_commands`: `torhost jobs`: `reading` is what it shows, `change` what it does to jobs;
//! - `asking`, `offline`: who does it: the coordinator, or this process with the engine that a coordinator would have;
//! - `record`, `output`, `text`, `error`: what a person, or the next program, gets to read.
mod asking;
mod change;
mod db_commands;
mod error;
mod jobs_commands;
mod offline;
mod output;
mod place;
mod reading;
mod record;
mod selection;
mod text;

use std::process::ExitCode;

/// The subcommands that are about a database of jobs.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check, back up or shrink the database that the coordinator keeps its jobs in
    #[command(subcommand)]
    Db(db_commands::Command),
    /// List, show, export, retry, cancel or purge jobs
    #[command(subcommand)]
    Jobs(jobs_commands::Command),
}

/// Runs one of them. Exit codes: 0 all is well, 1 something is not, as it says.
pub(crate) fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Db(command) => db_commands::run(command),
        Command::Jobs(command) => jobs_commands::run(command),
    };
    done.unwrap_or_else(|error| {
        eprintln!("torhost: {error}");
        ExitCode::FAILURE
    })
}
