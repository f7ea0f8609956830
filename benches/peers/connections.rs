//! Many registered workers that only beat: what they cost the coordinator.

use serde::Serialize;
use shared::{
    Result,
    limits::{processor_time, resident_memory},
};
use std::time::{Duration, Instant};

use crate::{
    load::{Interrupt, Load},
    system::System,
    throughput::{Goal, Plan},
    torhost::Torhost,
};

/// How often each worker beats.
const BEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How long the load waits for events between two looks at the clock.
const TURN: Duration = Duration::from_millis(10);
/// Connections that are opened before the load waits until they are registered.
const BATCH: usize = 100;
/// How long a batch may take.
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// What goes first: the coordinator then has the memory that it needs for work.
const WARM_UP: Duration = Duration::from_secs(1);
/// Workers and jobs in flight of the warm-up.
const WARM_UP_PLAN: Plan = Plan {
    title: "warm-up",
    goal: Goal::Throughput,
    in_flight: 256,
    workers: 16,
    slots: 16,
    awake: false,
};

/// What the workers cost.
#[derive(Serialize)]
pub struct Held {
    /// Workers that were registered.
    pub workers: usize,
    /// How long they were held.
    pub seconds: f64,
    /// Heartbeats that were sent meanwhile.
    pub beats: usize,
    /// Cores that the coordinator kept busy.
    pub coordinator_cores: f64,
    /// Cores that the load kept busy.
    pub load_cores: f64,
    /// Memory of the coordinator for each worker, in KiB.
    pub kib_per_worker: f64,
    /// Seconds until all were registered, one batch of 100 after the other.
    pub registration_seconds: f64,
}

/// Holds so many workers for a time.
pub fn measure(system: &System, workers: usize, hold: Duration, interrupt: &Interrupt) -> Result<Held> {
    let mut running = system.start(&WARM_UP_PLAN)?;
    let server = running.server().ok_or("the coordinator was not started")?;
    let warm_up = |address| -> Result<()> {
        let mut load = Load::new(Torhost::new(WARM_UP_PLAN.slots, 0), interrupt)?;
        load.connect(address, 1 + WARM_UP_PLAN.workers)?;
        load.run(WARM_UP_PLAN.in_flight, WARM_UP)?;
        load.finish()
    };
    let held = warm_up(running.address)
        .and_then(|()| hold_workers(server, running.address, workers, hold, interrupt));
    held.map_err(|error| format!("{}: {error}{}", system.title(), running.endings()))
}

fn hold_workers(
    server: u32,
    address: std::net::SocketAddr,
    workers: usize,
    hold: Duration,
    interrupt: &Interrupt,
) -> Result<Held> {
    let memory_before = resident_memory(server)?;
    let mut load = Load::new(Torhost::new(1, 0), interrupt)?;
    let started = Instant::now();
    // The client, which says nothing.
    load.connect(address, 1)?;
    for first in (0..workers).step_by(BATCH) {
        let batch_started = Instant::now();
        let opened = workers.min(first + BATCH);
        load.connect(address, opened - first)?;
        while load.protocol.registered < opened {
            load.turn(TURN)?;
            if batch_started.elapsed() > BATCH_LIMIT {
                let registered = load.protocol.registered;
                return Err(format!(
                    "{registered} of {opened} workers are registered after {BATCH_LIMIT:?}"
                ));
            }
        }
    }
    let registration = started.elapsed();

    let load_before = processor_time(std::process::id())?;
    let server_before = processor_time(server)?;
    let started = Instant::now();
    let mut beats = 0;
    loop {
        let elapsed = started.elapsed();
        // Evenly, as those of workers are that started at any time.
        let due = elapsed.as_secs_f64() / BEAT_INTERVAL.as_secs_f64() * workers as f64;
        while beats < due as usize {
            load.send(1 + beats % workers, b"HEARTBEAT:0\n");
            beats += 1;
        }
        if elapsed >= hold {
            break;
        }
        load.turn(TURN)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let cores = |used: Duration| used.as_secs_f64() / seconds;
    // The kernel tells sizes of up to some hundred KiB late.
    let memory = resident_memory(server)?.saturating_sub(memory_before);
    Ok(Held {
        workers,
        seconds,
        beats,
        coordinator_cores: cores(processor_time(server)? - server_before),
        load_cores: cores(processor_time(std::process::id())? - load_before),
        kib_per_worker: memory as f64 / workers as f64,
        registration_seconds: registration.as_secs_f64(),
    })
}
