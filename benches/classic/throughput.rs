//! Jobs a second and round trips, the two shells taking turns.

use serde::Serialize;
use shared::{
    Result,
    statistics::{median, percentile},
};
use std::time::Duration;

use crate::{
    coordinator::{Coordinator, Shell},
    load::{Load, Plan, Sample, Until},
};

/// One plan under both shells.
#[derive(Serialize)]
pub struct Comparison {
    pub tclsh: Throughput,
    pub torhost: Throughput,
    /// The median, over the rounds, of torhost's jobs a second divided by tclsh's in the same round.
    pub ratio: f64,
}

/// One plan under one shell.
#[derive(Serialize)]
pub struct Throughput {
    /// Confirmed jobs a second, of each round.
    pub rounds: Vec<f64>,
    /// Their median.
    pub jobs_per_second: f64,
    /// Microseconds from submission to result, half of all jobs being faster.
    pub p50_us: f64,
    /// Microseconds from submission to result, 99 in 100 being faster.
    pub p99_us: f64,
}

/// Measures a plan, `rounds` times, in the order A B A B.
pub fn compare(shells: &[Shell; 2], plan: Plan, rounds: usize, span: Duration) -> Result<Comparison> {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (shell, samples) in shells.iter().zip(&mut samples) {
            let mut coordinator = Coordinator::start(shell)?;
            let sample =
                Load::connect(coordinator.address, plan).and_then(|mut load| load.run(Until::Elapsed(span)));
            samples.push(sample.map_err(|error| {
                let ending = coordinator
                    .process
                    .ending()
                    .unwrap_or_else(|| "it still runs".into());
                format!("{} {}: {error}; {ending}", shell.name, shell.program.display())
            })?);
        }
    }
    let [tclsh, torhost] = samples.map(|samples| throughput(&samples));
    let ratios = torhost
        .rounds
        .iter()
        .zip(&tclsh.rounds)
        .map(|(b, a)| b / a)
        .collect::<Vec<_>>();
    Ok(Comparison {
        tclsh,
        torhost,
        ratio: median(&ratios).unwrap_or(f64::NAN),
    })
}

fn throughput(samples: &[Sample]) -> Throughput {
    let rounds = samples
        .iter()
        .map(|sample| sample.jobs as f64 / sample.span.as_secs_f64())
        .collect::<Vec<_>>();
    let round_trips = samples
        .iter()
        .flat_map(|sample| &sample.round_trips)
        .copied()
        .collect::<Vec<_>>();
    Throughput {
        jobs_per_second: median(&rounds).unwrap_or(f64::NAN),
        p50_us: median(&round_trips).unwrap_or(f64::NAN),
        p99_us: percentile(&round_trips, 0.99).unwrap_or(f64::NAN),
        rounds,
    }
}
