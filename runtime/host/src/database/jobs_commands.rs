//! `torhost jobs`.
use super::change::{Action, change};
use super::error::Error;
use super::place::Place;
use super::reading::{export, list, show};
use super::selection::{Filters, Selection, job};
use std::path::PathBuf;
use std::process::ExitCode;
use torhost_protocol::JobId;

/// The subcommands of `jobs`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List jobs, the newest first
    List {
        #[command(flatten)]
        filters: Filters,
        /// How many at most; `export` has no limit
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        limit: u64,
        /// Print JSON, an object a line, with all of the data
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show all there is of some jobs, their attempts and what is kept of their events too
    Show {
        /// The jobs, such as JOB-7 or 7
        #[arg(value_name = "ID", required = true, value_parser = job)]
        jobs: Vec<JobId>,
        /// Print JSON, an object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Write jobs as JSON, an object a line, the oldest first
    ///
    /// Data and results that are not UTF-8 are in base64, as data_base64 and result_base64.
    Export {
        #[command(flatten)]
        filters: Filters,
        /// The file to write, in place of what is there; by default standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Queue jobs again that failed, expired or were cancelled, with all their attempts
    Retry {
        #[command(flatten)]
        change: Change,
    },
    /// End jobs that have not ended
    Cancel {
        #[command(flatten)]
        change: Change,
    },
    /// Forget jobs that have ended, and their results
    Purge {
        #[command(flatten)]
        change: Change,
    },
}

/// What is changed, and by whom.
#[derive(clap::Args)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Where the coordinator listens; by default as the database says, if one has it open
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) coordinator: Option<String>,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Runs one of them.
pub(super) fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::List {
            filters,
            limit,
            json,
            place,
        } => list(&place, &filters, limit, json),
        Command::Show { jobs, json, place } => show(&place, &jobs, json),
        Command::Export {
            filters,
            output,
            place,
        } => export(&place, &filters, output.as_deref()),
        Command::Retry { change: what } => change(Action::Retry, &what),
        Command::Cancel { change: what } => change(Action::Cancel, &what),
        Command::Purge { change: what } => change(Action::Purge, &what),
    }
}
