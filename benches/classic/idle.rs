//! A round trip while more and more idle connections are held.

use serde::Serialize;
use shared::{
    Result,
    limits::raise_descriptor_limit,
    statistics::{median, percentile},
};
use std::{net::TcpStream, time::Duration};

use crate::{
    coordinator::{Coordinator, Shell},
    load::{Load, Plan, Until},
};

/// Round trips counted at each number of connections.
const JOBS_KEPT: usize = 1_000;
/// Where a round trip takes 44 ms, fewer of them tell as much.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// How long a coordinator that broke its connections may take to end.
const ENDING_LIMIT: Duration = Duration::from_secs(5);

/// Both shells.
#[derive(Serialize)]
pub struct Comparison {
    pub tclsh: Held,
    pub torhost: Held,
}

/// What one shell did.
#[derive(Serialize)]
pub struct Held {
    pub steps: Vec<Step>,
    /// What happened, if it did not hold all the connections.
    pub failure: Option<String>,
}

/// The round trip at one number of connections.
#[derive(Serialize)]
pub struct Step {
    pub connections: usize,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Opens connections step by step, and measures at each step. A shell that fails is reported, not an error: one is
/// expected to.
pub fn measure(shell: &Shell, steps: &[usize]) -> Result<Held> {
    raise_descriptor_limit(steps.last().copied().unwrap_or(0))?;
    let mut coordinator = Coordinator::start(shell)?;
    let mut idle = Vec::new();
    let mut held = Held {
        steps: Vec::new(),
        failure: None,
    };
    for &connections in steps {
        match step(&mut coordinator, &mut idle, connections) {
            Ok(step) => held.steps.push(step),
            Err(error) => {
                let ending = coordinator.process.wait_for_ending(ENDING_LIMIT).unwrap_or(error);
                let before = held.steps.last().map_or(0, |step| step.connections);
                held.failure = Some(format!("between {before} and {connections} connections {ending}"));
                break;
            }
        }
    }
    Ok(held)
}

fn step(coordinator: &mut Coordinator, idle: &mut Vec<TcpStream>, connections: usize) -> Result<Step> {
    while idle.len() < connections {
        if coordinator.process.ending().is_some() {
            return Err("the coordinator has ended".into());
        }
        let stream =
            TcpStream::connect(coordinator.address).map_err(|error| format!("cannot connect: {error}"))?;
        idle.push(stream);
    }
    // Connected last, so that it is served when all the others have been accepted.
    let mut load = Load::connect(coordinator.address, Plan::SINGLE)?;
    let mut round_trips = load.run(Until::Elapsed(TIME_LIMIT))?.round_trips;
    round_trips.truncate(JOBS_KEPT);
    Ok(Step {
        connections,
        p50_us: median(&round_trips).unwrap_or(f64::NAN),
        p99_us: percentile(&round_trips, 0.99).unwrap_or(f64::NAN),
    })
}
