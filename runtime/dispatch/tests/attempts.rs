//! What becomes of attempts, in cases that the simulator would need luck to tell apart.
use std::time::Duration;
use torhost_dispatch::{AnswerError, Config, Engine, Joining, Output, Progress, Submission};
use torhost_protocol::{Handle, JobId};

fn assigned(engine: &mut Engine) -> Option<Handle> {
    std::iter::from_fn(|| engine.poll_output())
        .filter_map(|output| match output {
            Output::Assign { handle, .. } => Some(handle),
            _ => None,
        })
        .last()
}

#[test]
fn an_attempt_that_timed_out_fails_once() {
    let config = Config {
        backoff: Duration::from_secs(1),
        ..Config::default()
    };
    let mut engine = Engine::new(config, 1);
    let worker = engine.worker_joined(Duration::ZERO, Joining::new("w"));
    let mut submission = Submission::new(*b"x");
    (submission.timeout, submission.attempts) = (Some(Duration::from_secs(2)), Some(2));
    let job = engine
        .submit(Duration::ZERO, submission, None)
        .expect("there is room")
        .job;
    let first = assigned(&mut engine).expect("a worker is free");
    let mut now = Duration::from_secs(2);
    engine.handle_timeout(now);
    // The worker is told to stop, and says that it did, while the job waits for its second attempt.
    engine
        .failed(now, worker, first, b"cancelled", None)
        .expect("it is the last attempt");
    assert_eq!(engine.job(job).map(|job| job.failures), Some(1));
    let second = loop {
        now = engine.poll_timeout().expect("the job waits").max(now);
        engine.handle_timeout(now);
        if let Some(handle) = assigned(&mut engine) {
            break handle;
        }
    };
    assert_eq!(second.attempt, 2);
}

#[test]
fn an_attempt_from_before_a_retry_counts_no_more() {
    let mut engine = Engine::new(Config::default(), 1);
    let now = Duration::ZERO;
    let worker = engine.worker_joined(now, Joining::new("w"));
    let accepted = engine.submit(now, Submission::new(*b"x"), None);
    let job = accepted.expect("there is room").job;
    let first = assigned(&mut engine).expect("a worker is free");
    engine.cancel(now, job).expect("known");
    engine.retry(now, job).expect("there is room");
    // The worker has not stopped yet, and so has no slot for the second attempt.
    assert_eq!(assigned(&mut engine), None);
    let answer = engine.completed(now, worker, first, (*b"of the first").into());
    assert_eq!(answer, Err(AnswerError::StaleAttempt));
    let second = assigned(&mut engine).expect("its slot is free");
    assert_eq!((second.job, second.attempt), (job, 2));
    engine
        .completed(now, worker, second, (*b"of the second").into())
        .expect("it counts");
}

#[test]
fn an_attempt_is_answered_once() {
    let mut engine = Engine::new(Config::default(), 1);
    let now = Duration::ZERO;
    let worker = engine.worker_joined(now, Joining::new("w"));
    let mut submission = Submission::new(*b"x");
    submission.attempts = Some(3);
    let job = engine.submit(now, submission, None).expect("there is room").job;
    let first = assigned(&mut engine).expect("a worker is free");
    engine.failed(now, worker, first, b"no", None).expect("it counts");
    let answer = engine.completed(now, worker, first, (*b"yes, after all").into());
    assert_eq!(answer, Err(AnswerError::StaleAttempt));
    let state = engine.job(job).map(|job| job.state.as_str());
    assert_eq!(state, Some("delayed"));
}

#[test]
fn a_worker_that_begins_out_of_order_gets_no_more_for_that() {
    let now = Duration::ZERO;
    let mut engine = Engine::new(Config::default(), 1);
    let joining = Joining {
        prefetch: 2,
        ..Joining::new("w")
    };
    let worker = engine.worker_joined(now, joining);
    for _ in 0..4 {
        engine
            .submit(now, Submission::new(*b"x"), None)
            .expect("there is room");
    }
    let last = assigned(&mut engine).expect("one runs, and two wait for its slot");
    assert_eq!(last, Handle::first(JobId(3)));
    let progress = Progress {
        percent: 1.0,
        note: String::new(),
    };
    engine
        .progress(now, worker, last, progress)
        .expect("it has begun");
    engine.resume(now);
    assert_eq!(assigned(&mut engine), None, "it has three");
    engine
        .completed(now, worker, last, (*b"y").into())
        .expect("it counts");
    assert_eq!(assigned(&mut engine), Some(Handle::first(JobId(4))));
}
