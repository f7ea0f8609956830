//! A torhost coordinator beside other job servers, beanstalkd and gearmand, in one run on one machine.
//!
//! One load process (this one) submits jobs and is the workers, which answer at once: what is measured is the server. All
//! systems get the same load, each in its own protocol and used as is fastest for it. They take turns round by round,
//! since a machine's speed drifts: ratios within one round are what counts.
//!
//! - [`system`] starts the programs that are measured.
//! - [`load`] is the event loop, [`jobs`] the jobs in flight; [`torhost`], [`beanstalkd`] and [`gearmand`] are the protocols.
//! - [`throughput`] measures systems in turns, [`awake`] on cores of their own; [`connections`] holds many workers.
//! - [`report`] prints the figures.
#![forbid(unsafe_code)]

mod awake;
mod beanstalkd;
mod connections;
mod gearmand;
mod jobs;
mod load;
mod report;
mod system;
mod throughput;
mod torhost;

use clap::Parser;
use shared::{
    Result,
    limits::{check_local_ports, raise_descriptor_limit},
};
use std::{path::PathBuf, process::ExitCode, time::Duration};

use load::Interrupt;
use system::{Kind, System};
use throughput::{Goal, Plan, Turns};

/// Compares a torhost coordinator with beanstalkd and gearmand, and Tcl handlers with the classic system
#[derive(Parser)]
#[command(name = "peers")]
pub struct Options {
    /// The torhost program
    #[arg(long, default_value = "target/release/torhost")]
    torhost: PathBuf,
    /// The shell of the classic system
    #[arg(long, default_value = "tclsh")]
    tclsh: PathBuf,
    /// The beanstalkd program
    #[arg(long, default_value = "beanstalkd")]
    beanstalkd: PathBuf,
    /// The gearmand program
    #[arg(long, default_value = "gearmand")]
    gearmand: PathBuf,
    /// torhost's coordinator script; it gets the port as its argument
    #[arg(long, default_value = "benches/peers/coordinator.tor")]
    script: PathBuf,
    /// torhost's worker script; it gets host, port, name and slots as its arguments
    #[arg(long, default_value = "benches/peers/worker.tor")]
    worker_script: PathBuf,
    /// The folder of the classic system
    #[arg(long, default_value = "examples/classic")]
    classic: PathBuf,
    /// How many times each system is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that one measurement lasts, after a warm-up
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Workers held in the measurement of connections
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Seconds that they are held
    #[arg(long, default_value_t = 30)]
    hold: u64,
    /// Also measure torhost with its database, and beanstalkd with a log that is synchronised before each answer, in this folder
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    with_fsync: Option<PathBuf>,
    /// Jobs that a worker with one slot has waiting beside the one that it does, where many are in flight: of torhost, prefetched
    #[arg(long, default_value_t = 4)]
    prefetch: usize,
    /// I/O threads of gearmand; the best is reported
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    gearmand_threads: Vec<u32>,
    /// Jobs that a worker of gearmand asks for at once, where workers have slots
    #[arg(long, default_value_t = 8)]
    gearmand_grabs: usize,
    /// Connections that submit to beanstalkd
    #[arg(long, default_value_t = 1)]
    beanstalkd_submitters: usize,
    /// Jobs that a worker of beanstalkd reserves at once, where workers have slots
    #[arg(long, default_value_t = 8)]
    beanstalkd_reserves: usize,
    /// Measure only these
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Measurement::Single, Measurement::Awake, Measurement::Flight, Measurement::Slots, Measurement::Connections, Measurement::Handlers])]
    only: Vec<Measurement>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Measurement {
    /// One job at a time, one worker
    Single,
    /// The same, load and server each on a core that is kept awake
    Awake,
    /// 256 jobs in flight, 16 workers that take one job at a time
    Flight,
    /// 256 jobs in flight, 16 workers with 64 slots
    Slots,
    /// Many workers that only beat (torhost only)
    Connections,
    /// Tcl handlers in two worker processes, beside the classic system
    Handlers,
}

const SINGLE: Plan = Plan {
    title: "One job at a time, one worker",
    goal: Goal::RoundTrip,
    in_flight: 1,
    workers: 1,
    slots: 1,
    awake: false,
};
const AWAKE: Plan = Plan {
    title: "One job at a time, one worker, load and server each on a core that is kept awake",
    awake: true,
    ..SINGLE
};
const FLIGHT: Plan = Plan {
    title: "256 in flight, 16 workers with one slot",
    goal: Goal::Throughput,
    in_flight: 256,
    workers: 16,
    slots: 1,
    awake: false,
};
const SLOTS: Plan = Plan {
    title: "256 in flight, 16 workers with 64 slots",
    slots: 64,
    ..FLIGHT
};
const HANDLERS: [Plan; 3] = [
    Plan {
        title: "Tcl handlers, one job at a time, two worker processes",
        goal: Goal::Throughput,
        in_flight: 1,
        workers: 2,
        slots: 1,
        awake: false,
    },
    Plan {
        title: "Tcl handlers, 64 in flight, two worker processes with 32 slots",
        goal: Goal::Throughput,
        in_flight: 64,
        workers: 2,
        slots: 32,
        awake: false,
    },
    Plan {
        title: "Tcl handlers, 256 in flight, two worker processes with 128 slots",
        goal: Goal::Throughput,
        in_flight: 256,
        workers: 2,
        slots: 128,
        awake: false,
    },
];

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
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<report::Report> {
    check(options)?;
    let interrupt = Interrupt::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupt.0.clone())
            .map_err(|error| format!("cannot handle signals: {error}"))?;
    }
    let turns = Turns {
        rounds: options.rounds,
        span: Duration::from_secs(options.seconds),
        interrupt: &interrupt,
    };
    let wants = |measurement| options.only.contains(&measurement);
    let mut report = report::Report {
        sync_us: options.with_fsync.as_deref().map(system::sync_time).transpose()?,
        ..report::Report::default()
    };
    for (measurement, plan) in [
        (Measurement::Single, SINGLE),
        (Measurement::Awake, AWAKE),
        (Measurement::Flight, FLIGHT),
        (Measurement::Slots, SLOTS),
    ] {
        if wants(measurement) {
            report.servers.push(turns.compare(&servers(options, plan), plan)?);
        }
    }
    if wants(Measurement::Connections) {
        let [torhost, ..] = &servers(options, SINGLE)[..] else {
            return Err("there is no system to hold connections with".into());
        };
        let hold = Duration::from_secs(options.hold);
        report.connections = Some(connections::measure(
            torhost,
            options.connections,
            hold,
            &interrupt,
        )?);
    }
    if wants(Measurement::Handlers) {
        for plan in HANDLERS {
            report.handlers.push(turns.compare(&handlers(options), plan)?);
        }
    }
    Ok(report)
}

/// Finds what would fail later.
fn check(options: &Options) -> Result<()> {
    if [
        options.rounds,
        options.seconds as usize,
        options.connections,
        options.hold as usize,
        options.gearmand_grabs,
        options.gearmand_threads.len(),
        options.beanstalkd_submitters,
        options.beanstalkd_reserves,
    ]
    .contains(&0)
    {
        return Err(
            "--rounds, --seconds, --connections, --hold and the options of the peers must be at least 1"
                .into(),
        );
    }
    // More, and the workers would hold all jobs while each of them waits for another one.
    for (option, held) in [
        ("--gearmand-grabs", options.gearmand_grabs),
        ("--beanstalkd-reserves", options.beanstalkd_reserves),
        ("--prefetch", 1 + options.prefetch),
    ] {
        if held * SLOTS.workers >= SLOTS.in_flight {
            return Err(format!(
                "{option} lets the workers hold all jobs that are in flight, {held} each; {} is the most",
                (SLOTS.in_flight - 1) / SLOTS.workers
            ));
        }
    }
    let wants = |measurement| options.only.contains(&measurement);
    let handlers = wants(Measurement::Handlers);
    let mut scripts = vec![(&options.script, "--script")];
    if handlers {
        scripts.push((&options.worker_script, "--worker-script"));
    }
    for (script, option) in scripts {
        if !script.is_file() {
            return Err(format!("no script {}; name one with {option}", script.display()));
        }
    }
    if handlers && !options.classic.join("coordinator.tor").is_file() {
        let folder = options.classic.display();
        return Err(format!(
            "no coordinator.tor in {folder}; name the folder with --classic"
        ));
    }
    if wants(Measurement::Connections) {
        check_local_ports(options.connections)?;
        raise_descriptor_limit(options.connections)?;
    }
    Ok(())
}

/// The job servers, torhost first.
fn servers(options: &Options, plan: Plan) -> Vec<System> {
    let torhost = |name, folder, prefetch| System {
        name,
        variant: String::new(),
        kind: Kind::Torhost {
            program: options.torhost.clone(),
            script: options.script.clone(),
            folder,
            prefetch,
        },
    };
    // Workers with slots, and those with one slot that take jobs beforehand, ask the others for several at once too.
    let prefetch = match plan {
        Plan {
            slots: 1,
            in_flight: 2..,
            ..
        } => options.prefetch,
        _ => 0,
    };
    let several = |most: usize| if plan.slots > 1 { most } else { 1 + prefetch };
    let mut systems = Vec::new();
    if let Some(folder) = &options.with_fsync {
        systems.push(torhost("torhost with fsync", Some(folder.clone()), prefetch));
    }
    systems.push(torhost("torhost", None, prefetch));
    if prefetch > 0 {
        systems.push(torhost("torhost, no prefetch", None, 0));
    }
    let mut add_beanstalkd = |name, folder| {
        systems.push(System {
            name,
            variant: String::new(),
            kind: Kind::Beanstalkd {
                program: options.beanstalkd.clone(),
                folder,
                submitters: options.beanstalkd_submitters,
                reserves: several(options.beanstalkd_reserves),
            },
        });
    };
    add_beanstalkd("beanstalkd", None);
    if let Some(folder) = &options.with_fsync {
        add_beanstalkd("beanstalkd with fsync", Some(folder.clone()));
    }
    // As its library uses it; as its protocol lets a worker with slots do too; and with as many workers as there are slots.
    let mut ways = vec![("gearmand", 1, 1)];
    if several(options.gearmand_grabs) > 1 {
        ways.push(("gearmand pipelined", 1, several(options.gearmand_grabs)));
    }
    if plan.slots > 1 {
        ways.push(("gearmand, one a slot", plan.slots, 1));
    }
    for (name, connections, grabs) in ways {
        for &threads in &options.gearmand_threads {
            systems.push(System {
                name,
                variant: format!("-t {threads}"),
                kind: Kind::Gearmand {
                    program: options.gearmand.clone(),
                    threads,
                    connections,
                    grabs,
                },
            });
        }
    }
    systems
}

/// Systems whose workers run Tcl, torhost first.
fn handlers(options: &Options) -> Vec<System> {
    vec![
        System {
            name: "torhost",
            variant: String::new(),
            kind: Kind::TorhostHandlers {
                program: options.torhost.clone(),
                script: options.script.clone(),
                worker_script: options.worker_script.clone(),
            },
        },
        System {
            name: "classic",
            variant: String::new(),
            kind: Kind::ClassicHandlers {
                program: options.tclsh.clone(),
                folder: options.classic.clone(),
            },
        },
    ]
}
