//! What is written comes back, or it is noticed that it does not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use torhost_dispatch::{Outcome, Stored, StoredState, Submission};
use torhost_journal::{Access, Batch, Error, Event, Fate, Journal, Note, Store, Sync};
use torhost_protocol::JobId;

fn job(number: u64) -> Stored {
    Stored {
        id: JobId(number),
        submission: Submission::new(format!("data of {number}").into_bytes()),
        submitted: Duration::from_micros(1_700_000_000_000_000 + number),
        state: StoredState::Queued,
        rank: number,
        attempt: 0,
        failures: 0,
        failed_attempt: 0,
        info: None,
        losses: 0,
        worker: None,
    }
}

/// A job of each state, and one with everything that a job can have.
fn all_kinds() -> Vec<Stored> {
    let at = Duration::from_micros(1_700_000_001_000_000);
    let ended = |outcome| StoredState::Ended {
        outcome,
        at,
        result: b"why \x00\xff".as_slice().into(),
    };
    let mut states = vec![
        StoredState::Held,
        StoredState::Delayed { until: at },
        StoredState::Queued,
        StoredState::Running,
    ];
    states.extend(
        [
            Outcome::Completed,
            Outcome::Failed,
            Outcome::Cancelled,
            Outcome::Expired,
        ]
        .map(ended),
    );
    let mut jobs: Vec<Stored> = states
        .into_iter()
        .zip(1..)
        .map(|(state, number)| Stored { state, ..job(number) })
        .collect();
    let mut rich = job(9);
    rich.submission = Submission {
        data: vec![7; 10_000].into(),
        priority: -100,
        requires: vec!["a \"b\"".into(), "é".into()],
        after: vec![JobId(1), JobId(2)],
        delay: Duration::from_millis(1),
        not_before: at,
        timeout: Some(Duration::from_secs(1)),
        deadline: Some(Duration::from_secs(2)),
        attempts: Some(3),
        key: Some("key".into()),
        affinity: Some("affinity".into()),
    };
    (rich.attempt, rich.failures, rich.failed_attempt, rich.losses) = (4, 3, 2, 1);
    (rich.info, rich.worker) = (Some("where".into()), Some("w1".into()));
    jobs.push(rich);
    jobs
}

fn batch(jobs: Vec<Stored>) -> Batch {
    Batch {
        jobs,
        ..Batch::default()
    }
}

fn read(path: &Path) -> Result<Vec<Stored>, Error> {
    let store = Store::open(path, Access::Read)?;
    store.check()?;
    store.jobs(|jobs| jobs.collect())
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data/jobs.db")
    }

    /// A file beside the database, or the database.
    fn beside(&self, ends: &str) -> PathBuf {
        let mut path = self.path().into_os_string();
        path.push(ends);
        path.into()
    }

    fn store(&self) -> Store {
        Store::open(&self.path(), Access::Write).unwrap()
    }
}

#[test]
fn jobs_come_back_as_they_were_written() {
    let folder = Folder::new();
    let mut store = folder.store();
    store.write(&batch(all_kinds()), true).unwrap();
    assert_eq!(read(&folder.path()).unwrap(), all_kinds());
    assert_eq!(store.job(JobId(9)).unwrap().as_ref(), all_kinds().last());
    // All that can change does.
    let mut changed = all_kinds();
    for job in &mut changed {
        job.state = StoredState::Running;
        (job.rank, job.attempt, job.worker) = (job.rank + 100, 9, Some("w2".into()));
        job.submitted += Duration::from_micros(1);
    }
    store.write(&batch(changed.clone()), true).unwrap();
    drop(store);
    let store = folder.store();
    assert_eq!(read(&folder.path()).unwrap(), changed);
    drop(store);
    let mut store = folder.store();
    let forgotten = Batch {
        forgotten: [2, 3, 4, 9, 77].map(JobId).to_vec(),
        ..Batch::default()
    };
    store.write(&forgotten, true).unwrap();
    let left: Vec<u64> = read(&folder.path()).unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(left, [1, 5, 6, 7, 8]);
}

#[test]
fn many_jobs_at_once_come_back_with_their_numbers() {
    let folder = Folder::new();
    let mut store = folder.store();
    let completed = |number| Stored {
        state: StoredState::Ended {
            outcome: Outcome::Completed,
            at: Duration::from_micros(1_700_000_001_000_000),
            result: format!("result of {number}").into_bytes().into(),
        },
        attempt: 1,
        worker: Some("w1".into()),
        ..job(number)
    };
    let urgent = |number| {
        let mut job = completed(number);
        job.submission.priority = 1;
        job
    };
    // Those in which nothing is particular, with others and gaps between them.
    let mut jobs: Vec<Stored> = (1..=37).map(completed).collect();
    jobs.extend((38..=40).map(urgent));
    jobs.extend((41..=46).map(job));
    jobs.extend([job(50), urgent(52), completed(53)]);
    jobs.extend((60..=90).map(completed));
    store.write(&batch(jobs.clone()), true).unwrap();
    assert_eq!(read(&folder.path()).unwrap(), jobs);
    // The last of them is not there any more when the next come.
    let forget = Batch {
        forgotten: (80..=90).map(JobId).collect(),
        ..Batch::default()
    };
    store.write(&forget, true).unwrap();
    jobs.retain(|job| job.id.0 < 80);
    for next in [91..=93, 94..=94, 95..=150] {
        let next: Vec<Stored> = next.map(completed).collect();
        store.write(&batch(next.clone()), true).unwrap();
        jobs.extend(next);
    }
    assert_eq!(read(&folder.path()).unwrap(), jobs);
    // Nor are any.
    let all = Batch {
        forgotten: (1..=150).map(JobId).collect(),
        ..Batch::default()
    };
    store.write(&all, true).unwrap();
    let next: Vec<Stored> = (151..=170).map(completed).collect();
    store.write(&batch(next.clone()), true).unwrap();
    assert_eq!(read(&folder.path()).unwrap(), next);
}

#[test]
fn people_can_read_it() {
    let folder = Folder::new();
    let mut store = folder.store();
    let worker = Note::Worker {
        name: "w1".into(),
        kind: "worker".into(),
        capabilities: vec!["gpu".into()],
        slots: 2,
        at: Duration::from_secs(1),
    };
    let event = |name, attempt| {
        Note::Event(Event {
            at: Duration::from_secs(2),
            name,
            job: Some(JobId(9)),
            attempt: Some(attempt),
            worker: Some("w1".into()),
            reason: Some("because".into()),
        })
    };
    let mut batch = batch(all_kinds());
    batch.notes = vec![
        worker,
        event("retried", 1),
        event("requeued", 2),
        event("worker-down", 0),
    ];
    store.write(&batch, true).unwrap();
    let all = |sql: &str| -> Vec<String> {
        let mut statement = store.sql().prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let states = all("select state || ' ' || count(*) from jobs group by state order by state");
    let expected = [
        "cancelled 1",
        "completed 1",
        "delayed 1",
        "expired 1",
        "failed 1",
        "held 1",
        "queued 2",
        "running 1",
    ];
    assert_eq!(states, expected);
    assert_eq!(
        all("select id || ' ' || data from jobs where state = 'running'"),
        ["JOB-4 data of 4"]
    );
    let attempts = all("select attempt || ' ' || outcome from attempts where job = 'JOB-9' order by attempt");
    assert_eq!(attempts, ["1 retried", "2 requeued", "4 queued"]);
    assert_eq!(
        all("select name || ' ' || gone from workers"),
        ["w1 1970-01-01 00:00:02.000"]
    );
    assert_eq!(all("select event from events").len(), 3);
}

#[test]
fn a_flipped_byte_is_never_taken_for_what_was_written() {
    let folder = Folder::new();
    let mut store = folder.store();
    let mut batch = batch(all_kinds());
    batch.notes = vec![Note::Setting("last_job".into(), "12345".into())];
    store.write(&batch, true).unwrap();
    store
        .sql()
        .query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))
        .unwrap();
    drop(store);
    let whole = fs::read(folder.path()).unwrap();
    let (mut noticed, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(folder.path(), bytes).unwrap();
        let setting = Store::open(&folder.path(), Access::Read).and_then(|store| store.setting("last_job"));
        match (read(&folder.path()), setting) {
            (Ok(jobs), Ok(Some(setting))) => {
                assert_eq!(jobs, all_kinds(), "byte {at}");
                assert_eq!(setting, "12345", "byte {at}");
                harmless += 1;
            }
            _ => noticed += 1,
        }
    }
    assert!(noticed > 100 && harmless > 100, "{noticed} {harmless}");
    for len in (0..whole.len()).step_by(1000) {
        fs::write(folder.path(), &whole[..len]).unwrap();
        assert!(read(&folder.path()).is_err(), "{len} bytes of it");
    }
}

#[test]
fn one_database_has_one_user_by_whatever_name() {
    let folder = Folder::new();
    let store = folder.store();
    let (link, hard) = (folder.beside(".link"), folder.beside(".hard"));
    std::os::unix::fs::symlink("jobs.db", &link).unwrap();
    let second = Store::open(&link, Access::Write).map(drop).unwrap_err();
    assert!(matches!(second, Error::InUse { .. }), "{second}");
    drop(store);
    drop(Store::open(&link, Access::Write).unwrap());
    // The other name would have a log of its own.
    fs::hard_link(folder.path(), &hard).unwrap();
    for path in [&hard, &link, &folder.path()] {
        let told = Store::open(path, Access::Write)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            told.ends_with("the file has 2 names, as hard links; remove all but one"),
            "{told}"
        );
    }
}

#[test]
fn what_cannot_be_opened_is_said() {
    let folder = Folder::new();
    let path = folder.path();
    let text = |access| Store::open(&path, access).map(drop).unwrap_err().to_string();
    assert!(text(Access::Read).starts_with("there is no database "));
    let store = folder.store();
    let second = text(Access::Write);
    assert!(
        second.ends_with(&format!(
            "is in use by another coordinator (process {}); give this one a file of its own",
            std::process::id()
        )),
        "{second}"
    );
    store.sql().pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    assert!(text(Access::Write).contains(
        "is of version 99, and this torhost knows versions up to 1; use the torhost that wrote it"
    ));
    for other in [
        "not a database, but long enough for one".repeat(40).into_bytes(),
        vec![0; 5000],
    ] {
        fs::write(&path, other).unwrap();
        let error = text(Access::Write);
        assert!(
            error.contains("damaged") || error.contains("is not a journal of torhost"),
            "{error}"
        );
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(
        text(Access::Write).contains("cannot open"),
        "{}",
        text(Access::Write)
    );
}

#[test]
fn what_cannot_be_written_is_tried_again() {
    let folder = Folder::new();
    let store = folder.store();
    let pages: i64 = store
        .sql()
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    // As full as a disk can be.
    store
        .sql()
        .pragma_update(None, "max_page_count", pages + 2)
        .unwrap();
    let (sender, fates) = mpsc::channel();
    let journal = Journal::start(store, Sync::Commit, move |fate| sender.send(fate).unwrap()).unwrap();
    journal.write(batch(vec![job(1)]));
    let next = || fates.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(next(), Fate::Kept);
    let mut big = job(2);
    big.submission.data = vec![1; 100_000].into();
    journal.write(batch(vec![big]));
    let Fate::Failing(reason) = next() else {
        panic!("it was written")
    };
    assert_eq!(reason, "database or disk is full");
    // Nobody waits for what never was promised.
    drop(journal);
    assert_eq!(read(&folder.path()).unwrap(), [job(1)]);
}

#[test]
fn a_batch_is_written_whether_it_was_announced_or_not() {
    let folder = Folder::new();
    let (sender, fates) = mpsc::channel();
    let journal = Journal::start(folder.store(), Sync::Commit, move |fate| {
        sender.send(fate).unwrap()
    })
    .unwrap();
    for (number, announcements) in [(1, 1), (2, 0), (3, 2), (4, 1)] {
        for _ in 0..announcements {
            journal.expect();
        }
        journal.write(batch(vec![job(number)]));
        assert_eq!(fates.recv_timeout(Duration::from_secs(20)), Ok(Fate::Kept));
    }
    // One that was announced in vain.
    journal.expect();
    drop(journal);
    assert_eq!(read(&folder.path()).unwrap(), [job(1), job(2), job(3), job(4)]);
}

#[test]
fn what_is_written_without_a_sync_is_synced_later() {
    let folder = Folder::new();
    let (sender, fates) = mpsc::channel();
    let sync = Sync::Interval(Duration::from_millis(5));
    let journal = Journal::start(folder.store(), sync, move |fate| sender.send(fate).unwrap()).unwrap();
    journal.write(batch(vec![job(1)]));
    assert_eq!(fates.recv_timeout(Duration::from_secs(20)), Ok(Fate::Kept));
    let store = Store::open(&folder.path(), Access::Read).unwrap();
    while store.setting("synced").unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(journal);
    assert_eq!(read(&folder.path()).unwrap(), [job(1)]);
}

/// A database whose log has several batches, as they are when its process is killed.
fn killed(folder: &Folder) -> (Vec<Stored>, Vec<u8>) {
    let mut store = folder.store();
    let mut jobs = Vec::new();
    for number in 1..=5 {
        jobs.push(job(number));
        store.write(&batch(vec![job(number)]), true).unwrap();
    }
    let log = folder.beside("-wal");
    let whole = fs::read(&log).unwrap();
    let database = fs::read(folder.path()).unwrap();
    drop(store);
    // Whatever closing it has done to them.
    fs::write(log, &whole).unwrap();
    fs::write(folder.path(), database).unwrap();
    (jobs, whole)
}

fn open(folder: &Folder) -> Result<Vec<Stored>, Error> {
    let store = Store::open(&folder.path(), Access::Write)?;
    store.check()?;
    store.jobs(|jobs| jobs.collect())
}

#[test]
fn a_log_that_ends_too_early_is_noticed() {
    let folder = Folder::new();
    let (jobs, whole) = killed(&folder);
    let files: Vec<(PathBuf, Vec<u8>)> = ["", "-wal", ".lock"]
        .map(|name| (folder.beside(name), fs::read(folder.beside(name)).unwrap()))
        .into();
    let with = |log: Option<&[u8]>| {
        for (path, bytes) in &files {
            fs::write(path, bytes).unwrap();
        }
        let _ = fs::remove_file(folder.beside("-shm"));
        match log {
            Some(log) => fs::write(folder.beside("-wal"), log).unwrap(),
            None => fs::remove_file(folder.beside("-wal")).unwrap(),
        }
        open(&folder)
    };
    assert_eq!(with(Some(&whole)).unwrap(), jobs);
    let (mut noticed, mut harmless) = (0, 0);
    for at in (0..whole.len())
        .step_by(97)
        .chain(0..32)
        .chain(whole.len() - 4200..whole.len() - 4000)
    {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        match with(Some(&bytes)) {
            Ok(found) => {
                assert_eq!(found, jobs, "byte {at} of {}", whole.len());
                harmless += 1;
            }
            Err(_) => noticed += 1,
        }
    }
    // What is not read of the log's header, as its number, is harmless; all frames have a checksum.
    assert!(noticed > 300 && harmless < 10, "{noticed} {harmless}");
    for len in [0, 31, 32, 5000, whole.len() / 2, whole.len() - 1] {
        let error = with(Some(&whole[..len])).unwrap_err().to_string();
        assert!(error.contains("of 5 batches that were written"), "{error}");
        assert_eq!(
            fs::read(folder.beside("-wal")).unwrap(),
            whole[..len],
            "the log was touched"
        );
    }
    let error = with(None).unwrap_err().to_string();
    assert!(error.contains("of 5 batches that were written"), "{error}");
    // Who goes on without what is lost says so.
    let half = with(Some(&whole[..whole.len() * 3 / 4]));
    assert!(matches!(half, Err(Error::Behind { kept: 5, .. })), "{half:?}");
    fs::remove_file(folder.beside(".lock")).unwrap();
    let left = open(&folder).unwrap();
    assert!(!left.is_empty() && left.len() < 5 && jobs.starts_with(&left));
}

#[test]
fn what_was_not_certainly_on_disk_is_not_missed() {
    let folder = Folder::new();
    let mut store = folder.store();
    store.write(&batch(vec![job(1)]), true).unwrap();
    let log = fs::read(folder.beside("-wal")).unwrap();
    store.write(&batch(vec![job(2)]), false).unwrap();
    drop(store);
    // The second is lost with the power, or torn.
    let whole = fs::read(folder.beside("-wal")).unwrap();
    for len in [log.len(), log.len() + 24, whole.len() - 1] {
        fs::write(folder.beside("-wal"), &whole[..len]).unwrap();
        assert_eq!(open(&folder).unwrap(), [job(1)]);
    }
    // So may be the note of the first, in any way.
    for note in [
        "",
        "1\n",
        "1\n00000000000000000009 batches, log trusted 00000000\n",
    ] {
        fs::write(folder.beside(".lock"), note).unwrap();
        assert_eq!(open(&folder).unwrap(), [job(1)]);
    }
    // A new database in place of one that was removed owes nothing to the old one.
    let mut store = folder.store();
    store.write(&batch(vec![job(2)]), true).unwrap();
    drop(store);
    for name in ["", "-wal", "-shm"] {
        fs::remove_file(folder.beside(name)).unwrap();
    }
    assert_eq!(open(&folder).unwrap(), []);
}
