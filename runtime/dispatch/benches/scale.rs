//! What an operation costs, at different numbers of waiting jobs and of workers: it should not depend on them.
//!
//! ```sh
//! cargo bench -p torhost-dispatch --bench scale
//! ```
use std::time::{Duration, Instant};
use torhost_dispatch::{Config, Engine, Joining, Output, Policy, Submission, WorkerKey};

const OPERATIONS: u32 = 200_000;

fn main() {
    println!("nanoseconds for a job: submitted, assigned, completed");
    println!("\n{:>12}{:>14}", "queued jobs", "ns");
    for queued in [100, 10_000, 1_000_000] {
        let mut engine = engine(Policy::RoundRobin, 16);
        for _ in 0..queued {
            submit(&mut engine);
        }
        println!("{queued:>12}{:>14.0}", measure(&mut engine));
    }
    for policy in [
        Policy::RoundRobin,
        Policy::LeastLoaded,
        Policy::Weighted,
        Policy::PowerOfTwo,
        Policy::Affinity,
    ] {
        println!("\n{:>12}{:>14}   {policy:?}", "free workers", "ns");
        for workers in [10, 1000, 100_000] {
            println!("{workers:>12}{:>14.0}", measure(&mut engine(policy, workers)));
        }
    }
}

fn engine(policy: Policy, workers: u32) -> Engine {
    let config = Config {
        policy,
        max_queued: 10_000_000,
        ..Config::default()
    };
    let mut engine = Engine::new(config, 1);
    for n in 0..workers {
        engine.worker_joined(Duration::ZERO, Joining::new(format!("worker{n}")));
    }
    engine
}

fn submit(engine: &mut Engine) {
    let accepted = engine.submit(Duration::ZERO, Submission::new(*b"0123456789abcdef"), None);
    assert!(accepted.is_ok());
}

/// Nanoseconds for a job's whole life, while as many jobs and workers are there as before.
fn measure(engine: &mut Engine) -> f64 {
    let mut running = Vec::new();
    collect(engine, &mut running);
    // Past the time in which results are only gathered and none is forgotten.
    for _ in 0..20_000 {
        step(engine, &mut running);
    }
    let started = Instant::now();
    for _ in 0..OPERATIONS {
        step(engine, &mut running);
    }
    started.elapsed().as_nanos() as f64 / f64::from(OPERATIONS)
}

fn step(engine: &mut Engine, running: &mut Vec<(WorkerKey, torhost_protocol::Handle)>) {
    submit(engine);
    collect(engine, running);
    if let Some((worker, handle)) = running.pop() {
        let completed = engine.completed(Duration::ZERO, worker, handle, (*b"done").into());
        assert!(completed.is_ok());
    }
    collect(engine, running);
}

fn collect(engine: &mut Engine, running: &mut Vec<(WorkerKey, torhost_protocol::Handle)>) {
    while let Some(output) = engine.poll_output() {
        if let Output::Assign { worker, handle, .. } = output {
            running.push((worker, handle));
        }
    }
}
