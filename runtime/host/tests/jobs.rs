//! `torhost db` and `torhost jobs`, on the databases of real coordinators.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/system.rs"]
mod system;

use rusqlite::Connection;
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use system::{Client, System, until};

// ------------------------------------------------------------------------------------------------------------------ torhost db

#[test]
fn a_sound_database_is_counted_beside_its_coordinator() {
    let mut system = System::new("check");
    let mut client = system.start();
    client.complete(3);
    client.ask("SUBMIT:{\"data\":\"x\",\"requires\":[\"nobody\"]}");
    let checked = system.run(&["db", "check"]);
    assert_eq!(
        checked.ok(),
        "data/jobs.db is sound: 4 jobs (1 queued, 3 completed)\n"
    );
}

#[test]
fn all_that_is_damaged_is_named() {
    let mut system = System::new("damage");
    let mut client = system.start();
    client.complete(9);
    system.stop();
    let db = Connection::open(system.path("data/jobs.db")).unwrap();
    db.execute("update job set data = 'other' where id in (2, 5)", [])
        .unwrap();
    db.execute("update job set attempt = attempt + 1 where id = 7", [])
        .unwrap();
    db.execute("update setting set value = '5' where name = 'last_job'", [])
        .unwrap();
    drop(db);
    let checked = system.run(&["db", "check"]);
    assert_eq!(checked.code, 1);
    let lines: Vec<&str> = checked.out.lines().collect();
    assert_eq!(
        lines,
        [
            "the setting \"last_job\": its checksum is wrong",
            "JOB-2: its checksum is wrong",
            "JOB-5: its checksum is wrong",
            "JOB-7: its checksum is wrong",
            "data/jobs.db is damaged: 4 findings. Sound are 6 jobs (6 completed). Restore it from a backup, as docs/durability.md says",
        ]
    );
    // What is damaged is no backup.
    let backup = system.run(&["db", "backup", "copy.db"]);
    assert!(
        backup.fails().contains("the database is damaged"),
        "{}",
        backup.err
    );
    assert_eq!(
        system.files(),
        [
            "coordinator.log",
            "coordinator.tor",
            "data",
            "worker.log",
            "worker.tor"
        ]
    );
}

/// Pages that cannot be read cost the jobs that are on them, and the others are counted all the same.
#[test]
fn what_is_behind_a_damaged_page_is_read() {
    let mut system = System::new("page");
    let mut client = system.start();
    for _ in 0..200 {
        client.ask(&format!(
            "SUBMIT:{{\"data\":\"{}\",\"requires\":[\"nobody\"]}}",
            "x".repeat(200)
        ));
    }
    system.stop();
    let path = system.path("data/jobs.db");
    let db = Connection::open(&path).unwrap();
    // The middle one of the pages that hold rows of the table.
    let sql = "select pageno from dbstat where name = 'job' and pagetype = 'leaf' order by path";
    let pages: Vec<i64> = {
        let mut statement = db.prepare(sql).unwrap();
        let pages = statement.query_map([], |row| row.get(0)).unwrap();
        pages.map(Result::unwrap).collect()
    };
    drop(db);
    let mut bytes = fs::read(&path).unwrap();
    let at = (pages[pages.len() / 2] - 1) as usize * 4096;
    bytes[at..at + 100].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let checked = system.run(&["db", "check"]);
    assert_eq!(checked.code, 1, "{}", checked.out);
    let gap = checked
        .out
        .lines()
        .find(|line| line.starts_with("jobs from JOB-"));
    let gap = gap.unwrap_or_else(|| panic!("{}", checked.out));
    let ends: Vec<u64> = gap
        .split("JOB-")
        .skip(1)
        .map(|rest| rest.split([' ', ':']).next().unwrap().parse().unwrap())
        .collect();
    let lost = ends[1] - ends[0];
    assert!((1..50).contains(&lost), "{gap}");
    assert!(
        checked.out.contains(&format!("Sound are {} jobs", 200 - lost)),
        "{}",
        checked.out
    );
    // From either side.
    let listed = system.run(&["jobs", "list", "--json", "--limit", "1000"]);
    let gap: Vec<u64> = (ends[0]..ends[1]).collect();
    let expected = (1..=200).rev().filter(|job| !gap.contains(job));
    let expected: Vec<String> = expected.map(|job| format!("JOB-{job}")).collect();
    assert_eq!(
        (listed.code, ids(&objects(&listed.out))),
        (1, expected.iter().map(String::as_str).collect())
    );
    let told = format!(
        "jobs from JOB-{} to before JOB-{} cannot be read",
        ends[1] - 1,
        ends[0] - 1
    );
    assert!(listed.err.contains(&told), "{}", listed.err);
}

#[test]
fn only_a_database_that_nobody_uses_is_shrunk() {
    let mut system = System::new("vacuum");
    let mut client = system.start();
    for _ in 0..20 {
        client.ask(&format!("SUBMIT_JOB:{}", "1".repeat(50_000)));
    }
    let refused = system.run(&["db", "vacuum"]);
    let pid = system.pid();
    assert!(
        refused.fails().starts_with(&format!(
            "torhost: data/jobs.db is in use by a coordinator (process {pid}): it could keep no job"
        )),
        "{}",
        refused.err
    );
    system.stop();
    let db = Connection::open(system.path("data/jobs.db")).unwrap();
    db.execute("delete from job where id > 1", []).unwrap();
    drop(db);
    let before = fs::metadata(system.path("data/jobs.db")).unwrap().len();
    let shrunk = system.run(&["db", "vacuum"]);
    assert!(shrunk.ok().starts_with("data/jobs.db: "), "{}", shrunk.out);
    let after = fs::metadata(system.path("data/jobs.db")).unwrap().len();
    assert!(before > 1_000_000 && after < 200_000, "{before} {after}");
    assert_eq!(system.run(&["db", "check"]).code, 0);
}

#[test]
fn the_database_is_the_one_that_the_topology_names() {
    let system = System::new("place");
    let none = system.run(&["db", "check"]);
    assert_eq!(
        none.fails(),
        "torhost: there is no database data/jobs.db: name one with --db, or the topology with --topology\n"
    );
    let write = |persistence: &str| {
        fs::create_dir_all(system.path("config")).unwrap();
        let text = format!(
            "node c {{\n    type master\n    port 9000\n}}\n\npolicy persistence {{\n    {persistence}\n}}\n"
        );
        fs::write(system.path("config/system.top"), text).unwrap();
    };
    write("path \"elsewhere/j.db\"");
    let named = system.run(&["db", "check"]);
    assert!(
        named.fails().contains("there is no database elsewhere/j.db"),
        "{}",
        named.err
    );
    fs::rename(system.path("config/system.top"), system.path("other.top")).unwrap();
    let named = system.run(&["db", "check", "--topology", "other.top"]);
    assert!(
        named.fails().contains("there is no database elsewhere/j.db"),
        "{}",
        named.err
    );
    write("durability none");
    let none = system.run(&["db", "check"]);
    assert!(
        none.fails()
            .contains("config/system.top keeps jobs in memory alone"),
        "{}",
        none.err
    );
    let both = system.run(&["db", "check", "--topology", "other.top", "--db", "x"]);
    assert_eq!(both.code, 2);
}

#[test]
fn a_backup_is_a_new_file_that_is_whole() {
    let mut system = System::new("backup");
    let mut client = system.start();
    client.complete(5);
    let made = system.run(&["db", "backup", "copy.db"]);
    assert!(
        made.ok().starts_with("copy.db: 5 jobs (5 completed), "),
        "{}",
        made.out
    );
    assert!(made.out.ends_with("KiB, checked\n"), "{}", made.out);
    let again = system.run(&["db", "backup", "copy.db"]);
    assert_eq!(
        again.fails(),
        "torhost: copy.db is there already, and is left as it is; name a new file\n"
    );
    // Nothing lies beside it, also when it was read.
    assert_eq!(system.run(&["db", "check", "--db", "copy.db"]).code, 0);
    let beside: Vec<String> = system
        .files()
        .into_iter()
        .filter(|name| name.starts_with("copy"))
        .collect();
    assert_eq!(beside, ["copy.db"]);
}

#[test]
fn a_backup_that_is_killed_leaves_nothing_that_looks_like_one() {
    let mut system = System::new("killed-backup");
    let mut client = system.start();
    for _ in 0..40 {
        client.ask(&format!(
            "SUBMIT:{{\"data\":\"{}\",\"requires\":[\"nobody\"]}}",
            "x".repeat(500_000)
        ));
    }
    let mut cut = 0;
    for _ in 0..20 {
        let mut backup = system.spawn(&["db", "backup", "copy.db"]);
        let part = system.path("copy.db.part");
        until("the backup has begun or ended", || {
            part.exists() || backup.try_wait().unwrap().is_some()
        });
        backup.kill().unwrap();
        backup.wait().unwrap();
        if system.path("copy.db").exists() {
            assert_eq!(system.run(&["db", "check", "--db", "copy.db"]).code, 0);
            fs::remove_file(system.path("copy.db")).unwrap();
        } else {
            cut += 1;
        }
    }
    assert!(cut > 0, "none was killed in time");
    // What they left is in nobody's way.
    assert_eq!(system.run(&["db", "backup", "copy.db"]).code, 0);
    assert!(!system.path("copy.db.part").exists());
}

/// What a client was told of its submissions.
#[derive(Default)]
struct Told {
    /// By job, what was submitted.
    accepted: HashMap<u64, u64>,
    results: HashMap<u64, String>,
}

/// Submits numbers until it is told to stop, or the coordinator is gone.
fn submit(mut client: Client, stop: &AtomicBool, told: &Mutex<Told>) {
    let mut number = 0;
    let mut waiting = std::collections::VecDeque::new();
    let mut unended = 0;
    while !stop.load(Ordering::Relaxed) {
        while waiting.len() + unended < 32 {
            number += 1;
            waiting.push_back(number);
            if client.try_say(&format!("SUBMIT_JOB:{number}")).is_err() {
                return;
            }
        }
        let Some(line) = client.try_line() else { return };
        let mut told = told.lock().unwrap();
        if let Some(job) = line.strip_prefix("JOB_ACCEPTED:JOB-") {
            told.accepted
                .insert(job.parse().unwrap(), waiting.pop_front().unwrap());
            unended += 1;
        } else if let Some(rest) = line.strip_prefix("JOB_RESULT:JOB-") {
            let (job, result) = rest.split_once(":completed:").unwrap();
            told.results.insert(job.parse().unwrap(), result.to_owned());
            unended -= 1;
        }
    }
}

#[test]
fn a_backup_brings_back_what_was_accepted_before_it() {
    let mut system = System::new("restore");
    let mut client = system.start();
    let epoch = client.status()["epoch"].clone();
    let (stop, told) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(Mutex::new(Told::default())),
    );
    let submitter = {
        let (client, stop, told) = (system.connect(), stop.clone(), told.clone());
        thread::spawn(move || submit(client, &stop, &told))
    };
    let accepted = || told.lock().unwrap().accepted.len();
    let held = client.ask("SUBMIT:{\"data\":\"21\",\"delay\":\"24h\"}");
    until("300 jobs are accepted", || accepted() >= 300);
    let (jobs, results) = {
        let told = told.lock().unwrap();
        (told.accepted.clone(), told.results.clone())
    };
    let backup = system.run(&["db", "backup", "copy.db"]);
    backup.ok();
    let at_backup = accepted();
    // More than a coordinator has numbers reserved for.
    until("2500 more jobs are accepted", || accepted() >= at_backup + 2500);
    system.kill();
    stop.store(true, Ordering::Relaxed);
    submitter.join().unwrap();
    let highest = *told.lock().unwrap().accepted.keys().max().unwrap();

    let database = system.path("data/jobs.db");
    fs::remove_file(&database).unwrap();
    fs::copy(system.path("copy.db"), &database).unwrap();
    // The dead coordinator's log must not be taken for the backup's.
    assert!(fs::metadata(system.path("data/jobs.db-wal")).unwrap().len() > 0);
    let mixed = system.run(&["db", "check"]);
    assert!(
        mixed
            .fails()
            .contains("data/jobs.db-wal is what another database has left"),
        "{}",
        mixed.err
    );
    for end in ["-wal", "-shm"] {
        fs::remove_file(system.path(&format!("data/jobs.db{end}"))).unwrap();
    }

    let mut client = system.start_coordinator();
    for (job, number) in &jobs {
        let answer = client.job(*job);
        assert_eq!(answer["data"], Value::from(number.to_string()), "JOB-{job}");
        if let Some(result) = results.get(job) {
            assert_eq!(answer["result"], Value::from(result.as_str()), "JOB-{job}");
        }
    }
    let held: u64 = held.strip_prefix("JOB_ACCEPTED:JOB-").unwrap().parse().unwrap();
    assert_eq!(client.job(held)["state"], "delayed");
    // Numbers that the backup does not know are not given again, and whoever knows some is told that they mean nothing any more.
    let next = client.ask("SUBMIT_JOB:1");
    let next: u64 = next.strip_prefix("JOB_ACCEPTED:JOB-").unwrap().parse().unwrap();
    assert!(next > highest, "JOB-{next} after JOB-{highest}");
    assert_ne!(client.status()["epoch"], epoch);
    // What had no result in it is done.
    system.start_worker();
    let mut unended = || {
        let jobs = client.status()["jobs"].clone();
        jobs["queued"].as_u64().unwrap() + jobs["running"].as_u64().unwrap()
    };
    until("all jobs have ended", || unended() == 0);
    for (job, number) in &jobs {
        assert_eq!(
            client.job(*job)["result"],
            Value::from((number * 3).to_string()),
            "JOB-{job}"
        );
    }
    // The life that has begun with it goes on after a crash.
    let epoch = client.status()["epoch"].clone();
    system.kill();
    let mut client = system.start_coordinator();
    assert_eq!(client.status()["epoch"], epoch);
}

// ---------------------------------------------------------------------------------------------------------------- torhost jobs

/// Three jobs that completed, one that failed, one that waits for a worker that there is not, and one with a key.
fn some_jobs(client: &mut Client) {
    client.complete(3);
    client.ask("SUBMIT_JOB:-13");
    client.ask("SUBMIT:{\"data\":\"a\\nb\\u001b[2J\",\"requires\":[\"nobody\"],\"priority\":7}");
    client.ask("SUBMIT:{\"data\":\"5\",\"key\":\"k\",\"delay\":\"1h\"}");
    until("JOB-4 has failed", || client.job(4)["state"] == "failed");
}

/// The JSON lines that a run has printed.
fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ids(objects: &[Value]) -> Vec<&str> {
    objects
        .iter()
        .map(|object| object["id"].as_str().unwrap())
        .collect()
}

#[test]
fn jobs_are_listed_beside_their_coordinator() {
    let mut system = System::new("list");
    let mut client = system.start();
    some_jobs(&mut client);
    let listed = system.run(&["jobs", "list"]);
    let rows: Vec<Vec<&str>> = listed
        .ok()
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        rows[0],
        [
            "JOB",
            "STATE",
            "ATTEMPT",
            "WORKER",
            "SUBMITTED",
            "ENDED",
            "DATA",
            "RESULT"
        ]
    );
    assert_eq!(rows.len(), 7);
    let without_times: Vec<[&str; 6]> = rows[1..]
        .iter()
        .map(|row| [row[0], row[1], row[2], row[3], row[6], row[7]])
        .collect();
    assert_eq!(without_times[0], ["JOB-6", "delayed", "0", "-", "5", "-"]);
    assert_eq!(
        without_times[1],
        ["JOB-5", "queued", "0", "-", "a\\nb\\u{1b}[2J", "-"]
    );
    assert_eq!(
        without_times[2],
        ["JOB-4", "failed", "2", "w1", "-13", "no thirteen"]
    );
    assert_eq!(without_times[3], ["JOB-3", "completed", "1", "w1", "3", "9"]);
    // Columns stand below each other.
    let state = listed.out.find("STATE").unwrap();
    assert!(
        listed
            .out
            .lines()
            .skip(1)
            .all(|line| line.as_bytes()[state - 1] == b' ' && line.as_bytes()[state] != b' ')
    );

    let list = |arguments: &[&str]| {
        let arguments = [&["jobs", "list", "--json"], arguments].concat();
        let objects = objects(system.run(&arguments).ok());
        ids(&objects).join(" ")
    };
    assert_eq!(list(&[]), "JOB-6 JOB-5 JOB-4 JOB-3 JOB-2 JOB-1");
    assert_eq!(list(&["--limit", "2"]), "JOB-6 JOB-5");
    assert_eq!(list(&["--state", "completed", "--limit", "2"]), "JOB-3 JOB-2");
    assert_eq!(list(&["--state", "failed", "--state", "queued"]), "JOB-5 JOB-4");
    assert_eq!(list(&["--key", "k"]), "JOB-6");
    assert_eq!(list(&["--worker", "w1"]), "JOB-4 JOB-3 JOB-2 JOB-1");
    assert_eq!(list(&["--worker", "w1", "--key", "k"]), "");
}

#[test]
fn a_job_is_shown_with_its_attempts() {
    let mut system = System::new("show");
    let mut client = system.start();
    some_jobs(&mut client);
    let shown = system.run(&["jobs", "show", "--json", "JOB-4", "5"]);
    let objects = objects(shown.ok());
    assert_eq!(ids(&objects), ["JOB-4", "JOB-5"]);
    let attempts = objects[0]["attempts"].as_array().unwrap();
    let outcomes: Vec<(&Value, &Value)> = attempts
        .iter()
        .map(|one| (&one["attempt"], &one["outcome"]))
        .collect();
    assert_eq!(
        outcomes,
        [
            (&Value::from(1), &"retried".into()),
            (&Value::from(2), &"failed".into())
        ]
    );
    assert_eq!(attempts[1]["reason"], "no thirteen");
    assert_eq!(objects[0]["events"][0]["event"], "retried");
    assert!(objects[0]["info"].as_str().unwrap().contains("while executing"));
    assert_eq!(objects[1]["data"], "a\nb\u{1b}[2J");
    assert_eq!(
        (&objects[1]["requires"][1], &objects[1]["priority"]),
        (&"nobody".into(), &Value::from(7))
    );
    let shown = system.run(&["jobs", "show", "4"]);
    for part in [
        "id         JOB-4\n",
        "state      failed\n",
        "\nATTEMPT  WORKER  OUTCOME  OVER",
        "\nDATA\n    -13\n",
        "\nRESULT\n    no thirteen\n",
        "\nINFO\n    ",
    ] {
        assert!(shown.ok().contains(part), "{part:?} in\n{}", shown.out);
    }
    let unknown = system.run(&["jobs", "show", "99"]);
    assert_eq!(
        unknown.fails(),
        "torhost: JOB-99: no such job, or it is forgotten\n"
    );
    assert_eq!(system.run(&["jobs", "show", "x"]).code, 2);
}

#[test]
fn an_export_has_every_job_byte_for_byte() {
    let mut system = System::new("export");
    let mut client = system.start_coordinator();
    // More than are read at a time, in number and in bytes.
    for number in 0..1200 {
        client.try_say(&format!("SUBMIT_JOB:{number}")).unwrap();
    }
    for _ in 0..12 {
        client
            .try_say(&format!("SUBMIT_JOB:{}", "y".repeat(1_000_000)))
            .unwrap();
    }
    client.try_bytes(b"SUBMIT_JOB:\xff\xfe\n").unwrap();
    for _ in 0..1213 {
        assert!(client.try_line().unwrap().starts_with("JOB_ACCEPTED:"));
    }
    let exported = system.run(&["jobs", "export"]);
    let jobs = objects(exported.ok());
    let numbers: Vec<String> = (1..=1213).map(|number| format!("JOB-{number}")).collect();
    assert_eq!(ids(&jobs), numbers);
    for (number, job) in jobs[..1200].iter().enumerate() {
        assert_eq!(job["data"], Value::from(number.to_string()));
    }
    assert_eq!(jobs[1211]["data"].as_str().unwrap().len(), 1_000_000);
    assert_eq!(
        (jobs[1212].get("data"), &jobs[1212]["data_base64"]),
        (None, &Value::from("//4="))
    );
    let filed = system.run(&["jobs", "export", "--output", "out.jsonl", "--state", "queued"]);
    assert_eq!(filed.ok(), "");
    assert_eq!(
        fs::read_to_string(system.path("out.jsonl")).unwrap(),
        exported.out
    );
    // Who has seen enough goes.
    let mut export = system.spawn(&["jobs", "export"]);
    let mut first = [0; 100];
    std::io::Read::read_exact(&mut export.stdout.take().unwrap(), &mut first).unwrap();
    let output = export.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[test]
fn a_damaged_job_is_left_out_and_named() {
    let mut system = System::new("damaged-job");
    let mut client = system.start();
    client.complete(3);
    system.stop();
    let db = Connection::open(system.path("data/jobs.db")).unwrap();
    db.execute("update job set data = 'other' where id = 2", [])
        .unwrap();
    drop(db);
    let exported = system.run(&["jobs", "export"]);
    assert_eq!(exported.code, 1);
    assert_eq!(ids(&objects(&exported.out)), ["JOB-1", "JOB-3"]);
    assert_eq!(
        exported.err,
        "torhost: left out, as it is damaged: JOB-2: its checksum is wrong; see `torhost db check`\n"
    );
    // Nor is such a database changed.
    let purged = system.run(&["jobs", "purge", "1"]);
    assert!(
        purged
            .fails()
            .contains("JOB-2: its checksum is wrong; `torhost db check` names"),
        "{}",
        purged.err
    );
}

/// What is done to jobs, and what is said of it: the same whoever does it.
fn change_some(system: &System, sixth: &str) {
    let run = |arguments: &[&str]| {
        let run = system.run(&[&["jobs"], arguments].concat());
        assert_eq!(run.err, "");
        (run.code, run.out)
    };
    let said = |code: i32, text: &str| (code, text.to_owned());
    assert_eq!(
        run(&["cancel", "5", "JOB-6"]),
        said(
            0,
            &format!("JOB-5 is cancelled; it was queued\nJOB-6 is cancelled; it was {sixth}\n")
        )
    );
    assert_eq!(
        run(&["cancel", "5", "1", "99"]),
        said(
            1,
            "JOB-5 has ended already: it is cancelled\nJOB-1 has ended already: it is completed\nJOB-99: no such job, or it is forgotten\n"
        )
    );
    assert_eq!(
        run(&["retry", "5", "1"]),
        said(
            1,
            "JOB-5 is queued again; it was cancelled\nJOB-1 is completed: only what failed, expired or was cancelled is retried\n"
        )
    );
    assert_eq!(
        run(&["purge", "5"]),
        said(1, "JOB-5 is queued: cancel it first\n")
    );
    assert_eq!(
        run(&["purge", "1", "1"]),
        said(
            1,
            "JOB-1 is purged; it was completed\nJOB-1: no such job, or it is forgotten\n"
        )
    );
    assert_eq!(
        run(&["purge", "--older-than", "1h"]),
        said(0, "no job is meant by that\n")
    );
    assert_eq!(
        run(&["purge", "--state", "completed", "--older-than", "0"]),
        said(
            0,
            "JOB-2 is purged; it was completed\nJOB-3 is purged; it was completed\n2 jobs purged\n"
        )
    );
    // What was said is in the database.
    assert_eq!(
        ids(&objects(system.run(&["jobs", "export"]).ok())),
        ["JOB-4", "JOB-5", "JOB-6"]
    );
    let refused = system.run(&["jobs", "purge", "--state", "queued"]);
    assert_eq!(
        refused.fails(),
        "torhost: jobs that are queued cannot be purged: --state is one of completed, failed, cancelled, expired\n"
    );
    assert_eq!(system.run(&["jobs", "purge"]).code, 2);
    assert_eq!(system.run(&["jobs", "purge", "1", "--state", "failed"]).code, 2);
}

#[test]
fn the_coordinator_is_asked_to_change_jobs() {
    let mut system = System::new("ask");
    let mut client = system.start();
    some_jobs(&mut client);
    change_some(&system, "delayed");
    assert_eq!(client.job(6)["state"], "cancelled");
    assert_eq!(client.ask("JOB:JOB-1"), "ERROR:unknown-job:JOB-1");
    let retried = system.run(&["jobs", "retry", "--state", "failed"]);
    assert!(
        retried.ok().ends_with("again; it was failed\n1 job retried\n"),
        "{}",
        retried.out
    );
    until("JOB-4 has failed again", || client.job(4)["state"] == "failed");
    // Many at once, and by an address.
    for _ in 0..250 {
        client.ask("SUBMIT:{\"data\":\"x\",\"requires\":[\"nobody\"]}");
    }
    let port = system.port();
    let cancelled = system.run(&[
        "jobs",
        "cancel",
        "--state",
        "queued",
        "--coordinator",
        &format!("localhost:{port}"),
    ]);
    assert!(
        cancelled.ok().ends_with("251 jobs cancelled\n"),
        "{}",
        cancelled.out
    );
    assert_eq!(client.status()["jobs"]["queued"], 0);
    let gone = system.run(&["jobs", "cancel", "1", "--coordinator", "localhost:1"]);
    assert!(
        gone.fails()
            .starts_with("torhost: there is no coordinator at localhost:1: "),
        "{}",
        gone.err
    );
}

/// A purge that was told of has no way back, also in the middle of much else.
#[test]
fn what_was_purged_stays_so_after_a_crash() {
    let mut system = System::new("purge-crash");
    let mut client = system.start();
    client.complete(400);
    let (stop, told) = (AtomicBool::new(false), Mutex::new(Told::default()));
    let jobs: Vec<String> = (1..=400).map(|number| number.to_string()).collect();
    let mut arguments = vec!["jobs", "purge"];
    arguments.extend(jobs.iter().map(String::as_str));
    thread::scope(|scope| {
        let submitter = system.connect();
        scope.spawn(|| submit(submitter, &stop, &told));
        until("jobs are accepted", || told.lock().unwrap().accepted.len() > 100);
        let purged = system.run(&arguments);
        system.kill();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(purged.ok().matches(" is purged; it was completed\n").count(), 400);
    });
    let mut client = system.start_coordinator();
    for job in 1..=400 {
        assert_eq!(
            client.ask(&format!("JOB:JOB-{job}")),
            format!("ERROR:unknown-job:JOB-{job}")
        );
    }
}

#[test]
fn without_a_coordinator_jobs_are_changed_in_the_database() {
    let mut system = System::new("offline");
    let mut client = system.start();
    some_jobs(&mut client);
    let last = client.ask("SUBMIT:{\"data\":\"x\",\"after\":\"JOB-6\"}");
    assert_eq!(last, "JOB_ACCEPTED:JOB-7");
    system.stop();
    // By the rules of the engine: what is after a job that was cancelled fails.
    let cancelled = system.run(&["jobs", "cancel", "6"]);
    assert_eq!(cancelled.ok(), "JOB-6 is cancelled; it was delayed\n");
    let failed = objects(system.run(&["jobs", "show", "7", "--json"]).ok());
    assert_eq!(failed[0]["result"], "dependency JOB-6 was cancelled");
    let retried = system.run(&["jobs", "retry", "7"]);
    assert_eq!(
        (retried.code, retried.out.as_str()),
        (
            1,
            "JOB-7 has failed again at once: what it is after has not completed\n"
        )
    );
    assert_eq!(system.run(&["jobs", "purge", "7"]).code, 0);
    assert_eq!(system.run(&["jobs", "retry", "6"]).code, 0);
    change_some(&system, "queued");
    // The coordinator goes on with that, and gives no number again.
    let mut client = system.start_coordinator();
    assert_eq!(
        (client.job(5)["state"].clone(), client.job(6)["state"].clone()),
        ("queued".into(), "cancelled".into())
    );
    assert_eq!(client.ask("JOB:JOB-1"), "ERROR:unknown-job:JOB-1");
    let next = client.ask("SUBMIT_JOB:1");
    let next: u64 = next.strip_prefix("JOB_ACCEPTED:JOB-").unwrap().parse().unwrap();
    assert!(next > 7, "{next}");
}

#[test]
fn a_coordinator_that_does_not_listen_is_not_asked() {
    let mut system = System::new("deaf");
    system.start().complete(1);
    system.kill();
    let deaf = system.start_script("package require tor 1\nset d [tor::dispatch create -journal data/jobs.db]\nputs 1\nclose stdout\nvwait forever\n");
    let refused = system.run(&["jobs", "purge", "1"]);
    assert!(
        refused
            .fails()
            .contains("it listens nowhere, so that it cannot be asked; stop it first"),
        "{}",
        refused.err
    );
    drop(deaf);
    assert_eq!(system.run(&["jobs", "purge", "1"]).code, 0);
}
