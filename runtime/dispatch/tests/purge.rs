//! A job that is purged is as if it had been forgotten.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;
use torhost_dispatch::{Config, Engine, Outcome, Output, PurgeError, Stored, Submission, UnknownJob};
use torhost_protocol::{JobId, State};

const NOW: Duration = Duration::from_secs(1000);

fn engine(keep: usize) -> Engine {
    let config = Config {
        keep,
        ..Config::default()
    };
    let mut engine = Engine::new(config, 1);
    engine.record(true);
    engine
}

fn submit(engine: &mut Engine, key: Option<&str>) -> JobId {
    let submission = Submission {
        key: key.map(str::to_owned),
        ..Submission::new(*b"x")
    };
    engine.submit(NOW, submission, None).unwrap().job
}

fn records(engine: &mut Engine) -> Vec<JobId> {
    std::iter::from_fn(|| engine.poll_output())
        .filter_map(|output| match output {
            Output::Record(job) => Some(job),
            _ => None,
        })
        .collect()
}

#[test]
fn only_what_has_ended_is_purged() {
    let mut engine = engine(100);
    let job = submit(&mut engine, None);
    assert_eq!(engine.purge(job), Err(PurgeError::NotEnded(job, State::Queued)));
    let text = engine.purge(job).unwrap_err().to_string();
    assert_eq!(text, "JOB-1 is queued: cancel it first");
    engine.cancel(NOW, job).unwrap();
    records(&mut engine);
    assert_eq!(engine.purge(job), Ok(Outcome::Cancelled));
    assert!(engine.job(job).is_none());
    assert_eq!(records(&mut engine), [job]);
    assert_eq!(engine.purge(job), Err(PurgeError::UnknownJob(UnknownJob)));
    assert_eq!(engine.last_job(), job.0);
}

#[test]
fn its_key_is_free() {
    let mut engine = engine(100);
    let job = submit(&mut engine, Some("k"));
    engine.cancel(NOW, job).unwrap();
    assert_eq!(submit(&mut engine, Some("k")), job);
    engine.purge(job).unwrap();
    assert_ne!(submit(&mut engine, Some("k")), job);
}

#[test]
fn it_is_not_counted_among_those_that_are_remembered() {
    let mut engine = engine(3);
    let jobs: Vec<JobId> = (0..3).map(|_| submit(&mut engine, None)).collect();
    // All at one time, and not in the order of their numbers.
    for &job in jobs.iter().rev() {
        engine.cancel(NOW, job).unwrap();
    }
    engine.purge(jobs[1]).unwrap();
    let last = submit(&mut engine, None);
    engine.cancel(NOW, last).unwrap();
    assert!(
        [jobs[0], jobs[2], last]
            .iter()
            .all(|&job| engine.job(job).is_some())
    );
    assert_eq!(engine.known_jobs(), 3);
}

#[test]
fn a_job_that_was_retried_and_ended_again_is_purged_whole() {
    let mut engine = engine(2);
    let job = submit(&mut engine, None);
    engine.cancel(NOW, job).unwrap();
    engine.retry(NOW, job).unwrap();
    let later = NOW + Duration::from_secs(1);
    engine.cancel(later, job).unwrap();
    engine.purge(job).unwrap();
    // Only what is left of its first end may be there, and that ends nobody.
    let others: Vec<JobId> = (0..2).map(|_| submit(&mut engine, None)).collect();
    for &other in &others {
        engine.cancel(later, other).unwrap();
    }
    assert!(others.iter().all(|&other| engine.job(other).is_some()));
}

/// Times of an earlier life may lie after those of this one.
#[test]
fn the_clock_may_have_been_set_back() {
    let mut before = engine(2);
    let jobs: Vec<JobId> = (0..2).map(|_| submit(&mut before, None)).collect();
    before.cancel(NOW, jobs[0]).unwrap();
    let stored: Vec<Stored> = jobs
        .iter()
        .map(|&job| Stored::of(job, before.job(job).unwrap()))
        .collect();
    let earlier = NOW - Duration::from_secs(500);
    let mut engine = Engine::restore(before.config().clone(), 1, earlier, 2, stored);
    engine.cancel(earlier, jobs[1]).unwrap();
    for job in jobs {
        engine.purge(job).unwrap();
    }
    let others: Vec<JobId> = (0..2).map(|_| submit(&mut engine, None)).collect();
    for &other in &others {
        engine.cancel(earlier, other).unwrap();
    }
    assert!(others.iter().all(|&other| engine.job(other).is_some()));
}
