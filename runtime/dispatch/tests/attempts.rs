//! What becomes of attempts, in cases that the simulator would need luck to tell apart.
use std::time::Duration;
use torhost_dispatch::{Config, Engine, Joining, Output, Submission};
use torhost_protocol::Handle;

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
