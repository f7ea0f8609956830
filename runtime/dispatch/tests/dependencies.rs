//! Jobs that are after others: the cases that the simulator would need luck for.
use std::time::Duration;
use torhost_dispatch::{
    Config, Engine, Joining, Outcome, Output, State, Stored, StoredState, Submission, SubmitError, WorkerKey,
};
use torhost_protocol::{Handle, JobId, MAX_AFTER};

const START: Duration = Duration::ZERO;

fn after(after: &[JobId]) -> Submission {
    let mut submission = Submission::new(*b"x");
    submission.after = after.to_vec();
    submission
}

fn submit(engine: &mut Engine, submission: Submission) -> JobId {
    engine.submit(START, submission, None).expect("it is taken").job
}

fn state(engine: &Engine, id: JobId) -> &'static str {
    engine.job(id).map_or("forgotten", |job| job.state.as_str())
}

fn result(engine: &Engine, id: JobId) -> String {
    match engine.job(id).map(|job| &job.state) {
        Some(State::Ended { result, .. }) => String::from_utf8_lossy(result).into_owned(),
        other => panic!("{id} has not ended: {other:?}"),
    }
}

/// An engine with a worker that takes everything.
fn engine(config: Config) -> (Engine, WorkerKey) {
    let mut engine = Engine::new(config, 1);
    let mut joining = Joining::new("w");
    joining.slots = 1000;
    let worker = engine.worker_joined(START, joining);
    (engine, worker)
}

fn complete(engine: &mut Engine, now: Duration, worker: WorkerKey, job: JobId) {
    let done = engine.completed(now, worker, Handle::first(job), (*b"done").into());
    done.expect("it runs");
}

#[test]
fn only_jobs_that_are_there_can_be_named_so_that_there_are_no_cycles() {
    let (mut engine, _) = engine(Config::default());
    let first = submit(&mut engine, after(&[]));
    for unknown in [JobId(0), JobId(first.0 + 1), JobId(first.0 + 2), JobId(u64::MAX)] {
        let refused = engine.submit(START, after(&[first, unknown]), None);
        assert_eq!(refused, Err(SubmitError::UnknownDependency(unknown)));
    }
    // Nothing of that was taken, and no number was used.
    let mut jobs = vec![first];
    jobs.resize_with(MAX_AFTER + 1, || submit(&mut engine, after(&[])));
    assert_eq!(jobs.last(), Some(&JobId(MAX_AFTER as u64 + 1)));
    let many = engine.submit(START, after(&jobs), None);
    assert_eq!(many, Err(SubmitError::TooManyDependencies(MAX_AFTER + 1)));
    jobs.pop();
    submit(&mut engine, after(&jobs));
}

#[test]
fn the_delay_begins_when_the_last_has_completed() {
    let (mut engine, worker) = engine(Config::default());
    let (a, b) = (submit(&mut engine, after(&[])), submit(&mut engine, after(&[])));
    let mut submission = after(&[b, a, b]);
    submission.delay = Duration::from_secs(5);
    let job = submit(&mut engine, submission.clone());
    submission.not_before = Duration::from_secs(60);
    let later = submit(&mut engine, submission);
    assert_eq!(
        engine.job(job).map(|job| &job.state),
        Some(&State::Held { unmet: 2 })
    );
    complete(&mut engine, Duration::from_secs(10), worker, a);
    assert_eq!(
        engine.job(job).map(|job| &job.state),
        Some(&State::Held { unmet: 1 })
    );
    complete(&mut engine, Duration::from_secs(20), worker, b);
    let until = |id| match engine.job(id).map(|job| &job.state) {
        Some(State::Delayed { until }) => until.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!((until(job), until(later)), (25, 60));
    // What has completed is no reason to wait.
    let next = submit(&mut engine, after(&[a, b]));
    assert_eq!(state(&engine, next), "running");
    assert_eq!((engine.counts().held, engine.counts().delayed), (0, 2));
}

#[test]
fn a_job_fails_with_what_it_is_after_however_long_the_chain() {
    let (mut engine, _) = engine(Config::default());
    engine.pause();
    let first = submit(&mut engine, after(&[]));
    let mut last = first;
    for _ in 0..100_000 {
        last = submit(&mut engine, after(&[last]));
    }
    assert_eq!(engine.counts().held, 100_000);
    engine.cancel(START, first).expect("known");
    assert_eq!((engine.counts().held, engine.counts().failed), (0, 100_000));
    let before = JobId(last.0 - 1);
    assert_eq!(result(&engine, last), format!("dependency {before} failed"));
    // And at once if it has ended so already.
    let late = submit(&mut engine, after(&[last]));
    assert_eq!(result(&engine, late), format!("dependency {last} failed"));
}

#[test]
fn the_end_of_a_held_job_says_how_the_other_ended() {
    let (mut engine, _) = engine(Config::default());
    engine.pause();
    let mut brief = after(&[]);
    brief.deadline = Some(Duration::from_secs(1));
    let (expires, cancelled) = (submit(&mut engine, brief), submit(&mut engine, after(&[])));
    let (one, other) = (
        submit(&mut engine, after(&[expires])),
        submit(&mut engine, after(&[cancelled])),
    );
    engine.cancel(START, cancelled).expect("known");
    engine.handle_timeout(Duration::from_secs(1));
    assert_eq!(result(&engine, one), format!("dependency {expires} expired"));
    assert_eq!(
        result(&engine, other),
        format!("dependency {cancelled} was cancelled")
    );
}

#[test]
fn a_held_job_can_be_cancelled_and_expires_and_counts() {
    let config = Config {
        max_queued: 3,
        ..Config::default()
    };
    let (mut engine, worker) = engine(config);
    let first = submit(&mut engine, after(&[]));
    let mut brief = after(&[first]);
    brief.deadline = Some(Duration::from_secs(1));
    let (expires, cancelled) = (submit(&mut engine, brief), submit(&mut engine, after(&[first])));
    submit(&mut engine, after(&[first]));
    let full = engine.submit(START, after(&[]), None);
    assert_eq!(full, Err(SubmitError::QueueFull(3)));
    engine.cancel(START, cancelled).expect("known");
    engine.handle_timeout(Duration::from_secs(1));
    assert_eq!(
        (state(&engine, cancelled), state(&engine, expires)),
        ("cancelled", "expired")
    );
    // Their end is not undone.
    complete(&mut engine, Duration::from_secs(1), worker, first);
    assert_eq!(
        (state(&engine, cancelled), state(&engine, expires)),
        ("cancelled", "expired")
    );
    assert_eq!((engine.counts().held, engine.counts().running), (0, 1));
}

#[test]
fn a_retry_looks_at_the_others_anew() {
    let (mut engine, worker) = engine(Config::default());
    engine.pause();
    let first = submit(&mut engine, after(&[]));
    let second = submit(&mut engine, after(&[first]));
    engine.cancel(START, first).expect("known");
    // The other has not been helped yet.
    engine.retry(START, second).expect("known");
    assert_eq!(
        result(&engine, second),
        format!("dependency {first} was cancelled")
    );
    // Its retry revives nothing by itself.
    engine.retry(START, first).expect("known");
    assert_eq!(
        (state(&engine, first), state(&engine, second)),
        ("queued", "failed")
    );
    engine.retry(START, second).expect("known");
    assert_eq!(state(&engine, second), "held");
    engine.resume(START);
    complete(&mut engine, START, worker, first);
    assert_eq!(state(&engine, second), "running");
    // Once it has run, what it was after does not matter any more.
    engine.cancel(START, second).expect("known");
    engine.retry(START, second).expect("known");
    assert_eq!(state(&engine, second), "running");
}

#[test]
fn what_is_forgotten_had_completed_for_those_who_were_held_after_it() {
    let config = Config {
        keep: 0,
        ..Config::default()
    };
    let (mut engine, worker) = engine(config);
    let (a, b) = (submit(&mut engine, after(&[])), submit(&mut engine, after(&[])));
    let job = submit(&mut engine, after(&[a, b]));
    complete(&mut engine, START, worker, a);
    assert_eq!((state(&engine, a), state(&engine, job)), ("forgotten", "held"));
    let refused = engine.submit(START, after(&[a]), None);
    assert_eq!(refused, Err(SubmitError::UnknownDependency(a)));
    complete(&mut engine, START, worker, b);
    assert_eq!((state(&engine, b), state(&engine, job)), ("forgotten", "running"));
}

/// What is kept of an engine's jobs.
fn stored(engine: &Engine) -> Vec<Stored> {
    let ids = (1..=engine.last_job()).map(JobId);
    ids.filter_map(|id| Some(Stored::of(id, engine.job(id)?)))
        .collect()
}

#[test]
fn held_jobs_survive_the_engine() {
    let (mut engine, _) = engine(Config::default());
    engine.pause();
    let jobs: Vec<JobId> = (0..4).map(|_| submit(&mut engine, after(&[]))).collect();
    let mut delayed = after(&[jobs[0]]);
    delayed.delay = Duration::from_secs(5);
    let goes_on = submit(&mut engine, delayed);
    let waits = submit(&mut engine, after(&[jobs[0], jobs[1]]));
    let fails = submit(&mut engine, after(&[jobs[1], jobs[2]]));
    let fails_too = submit(&mut engine, after(&[fails, jobs[3]]));
    let mut rows = stored(&engine);
    // Of the first nothing is left; the end of the third was kept, and not what came of it.
    rows[2].state = StoredState::Ended {
        outcome: Outcome::Expired,
        at: START,
        result: (*b"late").into(),
    };
    rows.remove(0);
    // What is after it must not run because it is forgotten, either.
    let config = Config {
        keep: 0,
        ..Config::default()
    };
    for config in [Config::default(), config] {
        let (now, forgets) = (Duration::from_secs(100), config.keep == 0);
        let mut engine = Engine::restore(config, 1, now, 0, rows.clone());
        let until = Duration::from_secs(105);
        assert_eq!(
            engine.job(goes_on).map(|job| &job.state),
            Some(&State::Delayed { until })
        );
        assert_eq!(
            engine.job(waits).map(|job| &job.state),
            Some(&State::Held { unmet: 1 })
        );
        if forgets {
            assert_eq!(
                (state(&engine, fails), state(&engine, fails_too)),
                ("forgotten", "forgotten")
            );
        } else {
            assert_eq!(result(&engine, fails), format!("dependency {} expired", jobs[2]));
            assert_eq!(result(&engine, fails_too), format!("dependency {fails} failed"));
        }
        assert_eq!((engine.counts().failed, engine.counts().held), (2, 1));
        // What has changed is to be kept.
        let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
        for id in [goes_on, fails, fails_too] {
            assert!(outputs.contains(&Output::Record(id)), "{id}");
        }
        engine.worker_joined(now, Joining::new("w"));
        assert_eq!(state(&engine, jobs[1]), "running");
    }
}
