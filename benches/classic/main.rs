//! The unmodified classic coordinator under `tclsh` and under `torhost`, side by side in one run.
//!
//! One load process (this one) is the client and the workers; the workers answer at once, so that what is measured is
//! the coordinator and the shell under it. The two shells take turns, since a machine's speed drifts: ratios within one
//! run are what counts. `docs/benchmarks.md` says what each measurement means.
//!
//! - [`coordinator`] starts and stops the program that is measured.
//! - [`load`] is the client and the workers, on one thread.
//! - [`throughput`], [`idle`] and [`startup`] are the measurements.
//! - [`report`] prints them.
#![forbid(unsafe_code)]

mod coordinator;
mod idle;
mod load;
mod report;
mod startup;
mod throughput;

use clap::Parser;
use shared::Result;
use std::{path::PathBuf, process::ExitCode, time::Duration};

use coordinator::Shell;

/// Runs examples/classic/coordinator.tor under tclsh and under torhost and compares them
#[derive(Parser)]
#[command(name = "classic")]
struct Options {
    /// The shell to be compared with
    #[arg(long, default_value = "tclsh")]
    tclsh: PathBuf,
    /// The torhost program
    #[arg(long, default_value = "target/release/torhost")]
    torhost: PathBuf,
    /// The coordinator script; it gets the port as its argument
    #[arg(long, default_value = "examples/classic/coordinator.tor")]
    script: PathBuf,
    /// How many times each shell is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that one measurement of throughput lasts
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections held in the idle measurement, in ascending order
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 4_000])]
    connections: Vec<usize>,
    /// Measure only these
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Measurement::Single, Measurement::Flight, Measurement::Idle, Measurement::Startup])]
    only: Vec<Measurement>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Measurement {
    /// One job at a time from one client
    Single,
    /// 64 jobs in flight, two workers
    Flight,
    /// A round trip while idle connections are held
    Idle,
    /// Start-up of a one-line script
    Startup,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(report) => {
            if options.json {
                println!("{}", report.json());
            } else {
                print!("{}", report.table());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("classic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<report::Report> {
    if options.rounds == 0 || options.seconds == 0 {
        return Err("--rounds and --seconds must be at least 1".into());
    }
    let shells = [
        Shell::new("tclsh", &options.tclsh, &options.script)?,
        Shell::new("torhost", &options.torhost, &options.script)?,
    ];
    let span = Duration::from_secs(options.seconds);
    let wants = |measurement| options.only.contains(&measurement);
    let mut report = report::Report::default();
    if wants(Measurement::Single) {
        report.single = Some(throughput::compare(
            &shells,
            load::Plan::SINGLE,
            options.rounds,
            span,
        )?);
    }
    if wants(Measurement::Flight) {
        report.flight = Some(throughput::compare(
            &shells,
            load::Plan::FLIGHT,
            options.rounds,
            span,
        )?);
    }
    if wants(Measurement::Idle) {
        let [tclsh, torhost] = &shells;
        report.idle = Some(idle::Comparison {
            tclsh: idle::measure(tclsh, &options.connections)?,
            torhost: idle::measure(torhost, &options.connections)?,
        });
    }
    if wants(Measurement::Startup) {
        report.startup = Some(startup::compare(&shells, options.rounds * 10)?);
    }
    Ok(report)
}
