//! `torhost db` and `torhost jobs`, on the databases of real coordinators.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "jobs/system.rs"]
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
    let mut number = 1000;
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
    until("300 more jobs are accepted", || accepted() >= at_backup + 300);
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
    let unended = || {
        let jobs = client.status()["jobs"].clone();
        jobs["queued"].as_u64().unwrap() + jobs["running"].as_u64().unwrap()
    };
    let mut unended = unended;
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
