//! Jobs that workers are sent beforehand, in cases that the simulator would need luck to tell apart.
use std::time::Duration;
use torhost_dispatch::{Config, Engine, Joining, Output, State, Submission, WorkerKey};
use torhost_protocol::{Handle, JobId};

const MS: Duration = Duration::from_millis(1);

fn worker(engine: &mut Engine, now: Duration, name: &str, prefetch: u32, running: &[Handle]) -> WorkerKey {
    let joining = Joining {
        prefetch,
        running: running.to_vec(),
        ..Joining::new(name)
    };
    engine.worker_joined(now, joining)
}

fn submit(engine: &mut Engine, now: Duration) -> JobId {
    engine
        .submit(now, Submission::new(*b"x"), None)
        .expect("there is room")
        .job
}

type Told = Vec<(WorkerKey, Handle)>;

/// What was handed out, and what was asked back.
fn outputs(engine: &mut Engine) -> (Told, Told) {
    let (mut assigned, mut recalled) = (Vec::new(), Vec::new());
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Assign { worker, handle, .. } => assigned.push((worker, handle)),
            Output::Recall { worker, handle } => recalled.push((worker, handle)),
            _ => {}
        }
    }
    (assigned, recalled)
}

fn first(number: u64) -> Handle {
    Handle::first(JobId(number))
}

/// A job that `a` has begun and lost with its connection, and that `b` was sent beforehand.
fn lost_and_prefetched() -> (Engine, WorkerKey) {
    let now = Duration::ZERO;
    let mut engine = Engine::new(Config::default(), 1);
    let a = worker(&mut engine, now, "a", 0, &[]);
    submit(&mut engine, now);
    let b = worker(&mut engine, now, "b", 1, &[]);
    submit(&mut engine, now);
    assert_eq!(outputs(&mut engine).0, [(a, first(1)), (b, first(2))]);
    engine.worker_gone(now, a, "broken");
    let second = Handle {
        job: JobId(1),
        attempt: 2,
    };
    assert_eq!(outputs(&mut engine).0, [(b, second)]);
    (engine, b)
}

#[test]
fn what_nobody_has_begun_since_stays_with_a_worker_that_comes_again() {
    let (mut engine, b) = lost_and_prefetched();
    let a = worker(&mut engine, MS, "a", 0, &[first(1)]);
    let second = Handle {
        job: JobId(1),
        attempt: 2,
    };
    assert_eq!(outputs(&mut engine).1, [(b, second)]);
    let job = engine.job(JobId(1)).expect("known");
    assert!(matches!(job.state, State::Running { worker, .. } if worker == a));
    assert_eq!((job.attempt, job.losses), (1, 0));
    engine.returned(MS, b, second).expect("it had it");
    engine
        .completed(MS, a, first(1), (*b"done").into())
        .expect("it is the attempt that counts");
}

#[test]
fn the_answer_of_a_silent_worker_counts_if_nobody_has_begun_the_job_since() {
    let now = Duration::ZERO;
    let config = Config::default();
    let silent = config.health_check_interval;
    let mut engine = Engine::new(config, 1);
    let a = worker(&mut engine, now, "a", 0, &[]);
    submit(&mut engine, now);
    let b = worker(&mut engine, now + MS, "b", 1, &[]);
    submit(&mut engine, now + MS);
    engine.handle_timeout(silent);
    let (assigned, _) = outputs(&mut engine);
    let second = Handle {
        job: JobId(1),
        attempt: 2,
    };
    assert_eq!(assigned.last(), Some(&(b, second)), "a is silent");
    engine
        .completed(silent, a, first(1), (*b"late").into())
        .expect("it counts");
    assert_eq!(outputs(&mut engine).1, [(b, second)]);
    engine.returned(silent, b, second).expect("it had it");
}

#[test]
fn a_job_that_is_given_back_was_not_attempted() {
    let now = Duration::ZERO;
    let mut engine = Engine::new(Config::default(), 1);
    let a = worker(&mut engine, now, "a", 1, &[]);
    submit(&mut engine, now);
    submit(&mut engine, now);
    outputs(&mut engine);
    engine.pause();
    assert_eq!(outputs(&mut engine).1, [(a, first(2))]);
    engine.returned(now, a, first(2)).expect("it was asked for");
    assert_eq!(engine.job(JobId(2)).map(|job| job.attempt), Some(0));
    engine.resume(now);
    assert_eq!(outputs(&mut engine).0, [(a, first(2))], "the first attempt still");
}

#[test]
fn a_worker_that_gives_back_what_was_not_asked_for_is_sent_nothing_beforehand() {
    let now = Duration::ZERO;
    let mut engine = Engine::new(Config::default(), 1);
    let a = worker(&mut engine, now, "a", 1, &[]);
    submit(&mut engine, now);
    submit(&mut engine, now);
    assert_eq!(outputs(&mut engine).0, [(a, first(1)), (a, first(2))]);
    engine.returned(now, a, first(2)).expect("it had it");
    assert_eq!(outputs(&mut engine).0, [], "it would come back at once, for ever");
    engine
        .completed(now, a, first(1), (*b"done").into())
        .expect("it counts");
    assert_eq!(outputs(&mut engine).0, [(a, first(2))]);
}

#[test]
fn a_job_is_not_overtaken_for_ever_while_it_waits_behind_another() {
    let mut now = Duration::ZERO;
    let mut engine = Engine::new(Config::default(), 1);
    let slow = worker(&mut engine, now, "slow", 1, &[]);
    submit(&mut engine, now);
    submit(&mut engine, now);
    let quick = worker(&mut engine, now, "quick", 0, &[]);
    for _ in 0..100 {
        submit(&mut engine, now);
    }
    let (mut assigned, mut asked) = (outputs(&mut engine).0, None);
    while asked.is_none() {
        let &(_, handle) = assigned
            .iter()
            .rfind(|(worker, _)| *worker == quick)
            .expect("one");
        now += 5 * MS;
        while engine.poll_timeout().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
        }
        engine
            .completed(now, quick, handle, (*b"done").into())
            .expect("it counts");
        let recalled;
        (assigned, recalled) = outputs(&mut engine);
        asked = recalled.first().copied();
    }
    assert_eq!(asked, Some((slow, first(2))));
    assert!(now >= 100 * MS && now < 120 * MS, "{now:?}");
    engine.returned(now, slow, first(2)).expect("it was asked for");
    let &(_, handle) = assigned.last().expect("it is busy");
    engine
        .completed(now, quick, handle, (*b"done").into())
        .expect("it counts");
    assert!(
        outputs(&mut engine).0.contains(&(quick, first(2))),
        "it is the next"
    );
}
