//! More jobs than are kept in memory, and a coordinator that is stopped in order, or cannot write.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/system.rs"]
#[allow(dead_code, reason = "it is for other tests as well")]
mod system;

use rusqlite::Connection;
use system::{Client, System, until};

/// The next job that a worker is given.
fn given(worker: &mut Client) -> String {
    loop {
        let line = worker.try_line().unwrap();
        if let Some(rest) = line.strip_prefix("PROCESS_JOB:") {
            return rest.split(':').next().unwrap().to_owned();
        }
    }
}

#[test]
fn jobs_that_are_on_disk_alone_are_done_in_their_order() {
    const JOBS: u64 = 600;
    let mut system = System::new("backlog");
    let mut client = system.start_coordinator_with("-max-resident 10");
    let mut expected = Vec::new();
    for number in 1..=JOBS {
        let priority = number as i64 % 3;
        let answer = client.ask(&format!(
            "SUBMIT:{{\"data\":\"d{number}\",\"priority\":{priority}}}"
        ));
        assert_eq!(answer, format!("JOB_ACCEPTED:JOB-{number}"));
        expected.push((-priority, number));
    }
    until("most are spilled", || {
        client.status()["spilled"].as_u64().unwrap() > JOBS - 100
    });
    assert_eq!(client.status()["jobs"]["queued"], JOBS);
    // They can be looked at, and waited for, and cancelled.
    let job = client.job(300);
    assert_eq!((&job["state"], &job["data"]), (&"queued".into(), &"d300".into()));
    let page = client.object("JOBS:{\"limit\":2,\"after\":\"JOB-400\",\"state\":\"queued\"}");
    assert_eq!(page["jobs"][1]["data"], "d398");
    assert_eq!(
        client.ask("WAIT:JOB-500"),
        "WAIT:{\"id\":\"JOB-500\",\"state\":\"queued\"}"
    );
    assert_eq!(
        client.ask("CANCEL:JOB-300"),
        "CANCEL:{\"id\":\"JOB-300\",\"state\":\"cancelled\"}"
    );
    assert_eq!(client.job(300)["result"], "cancelled by a client");
    expected.retain(|&(_, number)| number != 300);
    expected.sort_unstable();
    // Half of them before a crash, and half after it.
    let mut done = Vec::new();
    for _ in 0..2 {
        let mut worker = system.connect();
        worker.try_say("REGISTER:{\"id\":\"w\",\"slots\":1}").unwrap();
        while done.len() < expected.len() {
            let handle = given(&mut worker);
            let job = handle.strip_prefix("JOB-").unwrap().split('.').next();
            done.push(job.unwrap().parse::<u64>().unwrap());
            worker.try_say(&format!("JOB_COMPLETE:{handle}:done")).unwrap();
            if done.len() == expected.len() / 2 {
                let mut client = system.connect();
                // What is said of a job is on disk.
                let last = *done.last().unwrap();
                until("its answer is taken", || client.job(last)["state"] == "completed");
                system.kill();
                system.start_coordinator_with("-max-resident 10");
                break;
            }
        }
    }
    // The one that was handed out as the coordinator died may have been given again.
    let expected: Vec<u64> = expected.into_iter().map(|(_, number)| number).collect();
    assert_eq!(done, expected);
    let mut client = system.connect();
    until("all have ended", || {
        client.status()["jobs"]["completed"] == expected.len()
    });
    assert_eq!(client.status()["spilled"], 0);
}

#[test]
fn a_coordinator_that_is_stopped_goes_on_with_the_next_number() {
    let mut system = System::new("stopped");
    let mut client = system.start();
    client.complete(5);
    system.stop();
    let log = system.path("data/jobs.db-wal");
    assert!(
        std::fs::metadata(log).map_or(0, |log| log.len()) == 0,
        "the log is in the database"
    );
    let mut client = system.start();
    assert_eq!(client.ask("SUBMIT_JOB:6"), "JOB_ACCEPTED:JOB-6");
    assert_eq!(client.job(5)["result"], "15");
}

#[test]
fn a_coordinator_that_cannot_write_can_be_stopped() {
    let mut system = System::new("stopped-unwritten");
    let mut client = system.start_coordinator();
    client.ask("SUBMIT_JOB:1");
    let db = Connection::open(system.path("data/jobs.db")).unwrap();
    db.execute_batch("begin immediate").unwrap();
    client.try_say("SUBMIT_JOB:2").unwrap();
    until("it says that it cannot write", || {
        let log = std::fs::read_to_string(system.path("coordinator.log")).unwrap();
        log.contains("cannot write the journal")
    });
    system.stop();
    db.execute_batch("rollback").unwrap();
    let mut client = system.start_coordinator();
    assert_eq!(client.job(1)["state"], "queued");
    assert!(client.ask("JOB:JOB-2").starts_with("ERROR:unknown-job"));
}

#[test]
fn a_worker_that_asks_for_too_much_while_nothing_is_written_is_gone() {
    let mut system = System::new("overdrawn");
    let mut client = system.start_coordinator_with("-max-pending 1250");
    let mut worker = system.connect();
    worker.try_say("REGISTER:{\"id\":\"w\"}").unwrap();
    client.try_say("SUBMIT_JOB:1").unwrap();
    let handle = given(&mut worker);
    assert_eq!(handle, "JOB-1");
    assert_eq!(client.ask("PING"), "JOB_ACCEPTED:JOB-1");
    assert_eq!(client.ask("PING"), "PONG");
    let db = Connection::open(system.path("data/jobs.db")).unwrap();
    db.execute_batch("begin immediate").unwrap();
    // Something is to be written, so that what is said of jobs must wait.
    client.try_say("SUBMIT_JOB:2").unwrap();
    worker.try_say(&"JOB:JOB-1\n".repeat(1000)).unwrap();
    let mut other = system.connect();
    until("the worker is gone", || {
        other.object("WORKERS")["workers"] == serde_json::json!([])
    });
    db.execute_batch("rollback").unwrap();
    let mut worker = system.connect();
    worker.try_say("REGISTER:{\"id\":\"w\"}").unwrap();
    assert_eq!(given(&mut worker), "JOB-1.2");
}

#[test]
fn a_job_far_behind_is_changed_without_a_coordinator() {
    let mut system = System::new("far-behind");
    let mut client = system.start_coordinator();
    for number in 1..=1500 {
        client.try_say(&format!("SUBMIT_JOB:{number}")).unwrap();
    }
    while client.try_line().unwrap() != "JOB_ACCEPTED:JOB-1500" {}
    system.kill();
    let cancelled = system.run(&["jobs", "cancel", "1400"]);
    assert_eq!(cancelled.ok(), "JOB-1400 is cancelled; it was queued\n");
    let mut client = system.start_coordinator();
    assert_eq!(client.job(1400)["state"], "cancelled");
    assert_eq!(client.status()["jobs"]["queued"], 1499);
}
