//! Systems under one plan, taking turns.

use serde::Serialize;
use shared::{Result, statistics::percentile};
use std::time::Duration;

use crate::{
    awake::Awake,
    load::Interrupt,
    system::{Run, System},
};

/// What is asked of the systems.
#[derive(Clone, Copy)]
pub struct Plan {
    /// What the report calls it.
    pub title: &'static str,
    /// What is compared.
    pub goal: Goal,
    /// Jobs submitted and without a result.
    pub in_flight: usize,
    /// Worker connections, or worker processes.
    pub workers: usize,
    /// Jobs that a worker has at once, if it can have several.
    pub slots: usize,
    /// Load and server each have a core, which is kept awake.
    pub awake: bool,
}

/// What systems are compared by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The median round trip: less is better.
    RoundTrip,
    /// Jobs a second: more is better.
    Throughput,
}

/// How the systems are measured.
pub struct Turns<'a> {
    /// How often each.
    pub rounds: usize,
    /// How long each time.
    pub span: Duration,
    /// Whether the user wants an end.
    pub interrupt: &'a Interrupt,
}

/// All systems under one plan.
#[derive(Serialize)]
pub struct Comparison {
    /// What was asked of them.
    pub title: &'static str,
    /// In the order in which they took their turns.
    pub systems: Vec<Figures>,
}

/// One system under one plan.
#[derive(Serialize)]
pub struct Figures {
    /// What it is called.
    pub name: &'static str,
    /// How it was run, if it was measured in several ways.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// The best of the system's variants, or its only one.
    pub best: bool,
    /// Confirmed jobs a second.
    pub jobs_per_second: Spread,
    /// Microseconds from submission to result, half of a round's jobs being faster.
    pub p50_us: Spread,
    /// The same, 99 in 100 being faster.
    pub p99_us: Spread,
    /// How many times better the first system was in the same round.
    pub ratio: Spread,
    /// Cores that the load kept busy; near 1 the load is the limit, and not the system.
    pub load_cores: Spread,
    /// Cores that the system kept busy.
    pub system_cores: Spread,
}

/// A value over the rounds.
#[derive(Clone, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub rounds: Vec<f64>,
}

impl Spread {
    fn of(rounds: Vec<f64>) -> Self {
        let at = |fraction| percentile(&rounds, fraction).unwrap_or(f64::NAN);
        Self {
            median: at(0.5),
            least: at(0.0),
            most: at(1.0),
            rounds,
        }
    }
}

impl Turns<'_> {
    /// Measures the systems in the order A B C A B C, and compares the first with each.
    pub fn compare(&self, systems: &[System], plan: Plan) -> Result<Comparison> {
        let awake = plan.awake.then(Awake::start).transpose()?;
        let mut runs = systems.iter().map(|_| Vec::new()).collect::<Vec<_>>();
        for _ in 0..self.rounds {
            for (system, runs) in systems.iter().zip(&mut runs) {
                runs.push(system.measure(&plan, self.span, awake.as_ref(), self.interrupt)?);
            }
        }
        let mut figures = Vec::new();
        for (system, own) in systems.iter().zip(&runs) {
            figures.push(figures_of(system, own, &runs[0], plan.goal));
        }
        mark_best(&mut figures);
        Ok(Comparison {
            title: plan.title,
            systems: figures,
        })
    }
}

fn figures_of(system: &System, runs: &[Run], first: &[Run], goal: Goal) -> Figures {
    let spread = |value: fn(&Run) -> f64| Spread::of(runs.iter().map(value).collect());
    let ratios = runs.iter().zip(first).map(|(run, first)| match goal {
        Goal::RoundTrip => run.sample.p50_us / first.sample.p50_us,
        Goal::Throughput => first.sample.jobs_per_second / run.sample.jobs_per_second,
    });
    Figures {
        name: system.name,
        variant: system.variant.clone(),
        best: false,
        jobs_per_second: spread(|run| run.sample.jobs_per_second),
        p50_us: spread(|run| run.sample.p50_us),
        p99_us: spread(|run| run.sample.p99_us),
        ratio: Spread::of(ratios.collect()),
        load_cores: spread(|run| run.load_cores),
        system_cores: spread(|run| run.system_cores),
    }
}

/// Marks the variant of each system to which the first system compares worst.
fn mark_best(figures: &mut [Figures]) {
    for index in 0..figures.len() {
        let (name, ratio) = (figures[index].name, figures[index].ratio.median);
        let better = |other: &Figures| other.name == name && other.ratio.median < ratio;
        figures[index].best = !figures.iter().any(better);
    }
}
