//! Jobs that are not in memory, in cases that the simulator does not have.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;
use torhost_dispatch::{Client, Config, Engine, Joining, Outcome, Output, Stored, Submission};
use torhost_protocol::{Handle, JobId};

const NOW: Duration = Duration::from_secs(1000);

fn outputs(engine: &mut Engine) -> Vec<Output> {
    std::iter::from_fn(|| engine.poll_output()).collect()
}

/// An engine with so many jobs, of which one client waits for each, and their rows. Two are in memory.
fn spilled(jobs: u64) -> (Engine, Vec<Stored>) {
    let config = Config {
        max_resident: 2,
        ..Config::default()
    };
    let mut engine = Engine::new(config, 1);
    engine.record(true);
    for number in 1..=jobs {
        let submission = Submission::new(number.to_string().into_bytes());
        engine.submit(NOW, submission, Some(Client(number))).unwrap();
    }
    let rows = (1..=jobs).map(|number| Stored::of(JobId(number), engine.job(JobId(number)).unwrap()));
    let rows = rows.collect();
    let records = outputs(&mut engine).len() as u64;
    // What was submitted since it was told last may not be stored yet.
    engine.written(NOW, 0);
    engine.written(NOW, records);
    (engine, rows)
}

fn asked(outputs: &[Output]) -> Vec<u64> {
    let load = |output: &Output| match output {
        Output::Load { jobs } => Some(jobs.iter().map(|job| job.0).collect::<Vec<u64>>()),
        _ => None,
    };
    outputs.iter().filter_map(load).flatten().collect()
}

#[test]
fn a_job_that_cannot_be_read_fails_and_holds_up_nobody() {
    let (mut engine, rows) = spilled(5);
    assert_eq!(engine.spilled_jobs(), 3);
    let worker = engine.worker_joined(NOW, Joining::new("w"));
    let mut ended = Vec::new();
    for _ in 0..20 {
        let outputs = outputs(&mut engine);
        for job in asked(&outputs) {
            if job == 4 {
                engine.not_loaded(NOW, JobId(job), "it is damaged");
            } else {
                engine.loaded(NOW, [rows[job as usize - 1].clone()]);
            }
        }
        for output in outputs {
            match output {
                Output::Assign { handle, data, .. } => {
                    assert_eq!(*data, *handle.job.0.to_string().as_bytes());
                    engine.completed(NOW, worker, handle, data).unwrap();
                }
                Output::Ended {
                    client,
                    job,
                    outcome,
                    result,
                } => {
                    assert_eq!(client, Client(job.0));
                    ended.push((job.0, outcome, String::from_utf8(result.to_vec()).unwrap()));
                }
                _ => {}
            }
        }
    }
    let done = |job: u64| (job, Outcome::Completed, job.to_string());
    let damaged = (4, Outcome::Failed, "it is damaged".to_owned());
    ended.sort_unstable_by_key(|ended| ended.0);
    assert_eq!(ended, [done(1), done(2), done(3), damaged, done(5)]);
}

#[test]
fn who_waits_for_a_spilled_job_is_told() {
    let (mut engine, rows) = spilled(5);
    let last = JobId(5);
    assert!(engine.is_spilled(last));
    for client in [5, 6, 7, 7] {
        engine.wait(last, Client(client)).unwrap();
    }
    assert_eq!(engine.waiting(last), 3);
    engine.keep_waiting(last, |&client| client != Client(6));
    assert_eq!(engine.waiting(last), 2);
    engine.loaded(NOW, [rows[4].clone()]);
    engine.cancel(NOW, last).unwrap();
    let told = outputs(&mut engine)
        .into_iter()
        .filter_map(|output| match output {
            Output::Ended { client, .. } => Some(client.0),
            _ => None,
        });
    assert_eq!(told.collect::<Vec<u64>>(), [5, 7]);
}

#[test]
fn a_spilled_job_is_with_nobody() {
    let (mut engine, _) = spilled(5);
    let worker = engine.worker_joined(NOW, Joining::new("w"));
    let handle = Handle::first(JobId(5));
    let answer = engine.completed(NOW, worker, handle, (*b"x").into());
    assert_eq!(answer, Err(torhost_dispatch::AnswerError::StaleAttempt));
    let submission = Submission {
        after: vec![JobId(5)],
        ..Submission::new(*b"x")
    };
    let held = engine.submit(NOW, submission, None).unwrap().job;
    assert_eq!(engine.job(held).map(|job| job.state.as_str()), Some("held"));
}
