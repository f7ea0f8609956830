//! Storage that fails at the Nth operation of each kind, once or for ever.

use crate::folder;
use crate::history::{Client, Told, verify, work};
use crate::support::setting;
use crate::traced::{Coordinator, Fault, Trace, record, require_strace};
use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The calls that can fail, and how.
const KINDS: [(&str, &str); 8] = [
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("fdatasync", "EIO"),
    ("ftruncate", "EIO"),
    ("openat", "EIO"),
    ("unlink", "EIO"),
    ("pread64", "EIO"),
    ("mmap", "ENOMEM"),
];

/// What has become of the runs.
#[derive(Default)]
struct Count {
    runs: usize,
    /// In which the call came that was to fail.
    failed: usize,
    not_started: usize,
    refused: usize,
}

/// A journal is made anew.
#[test]
fn on_storage_that_fails_nothing_accepted_is_lost() {
    try_all("faults-new", false);
}

/// A journal is there, so that few calls are made before the coordinator serves.
#[test]
fn so_it_is_with_a_journal_that_is_there() {
    try_all("faults-old", true);
}

fn try_all(name: &str, is_old: bool) {
    require_strace();
    let step = if setting("STORAGE_ALL", 0) == 0 { 5 } else { 1 };
    let mut faults: Vec<(Fault, bool)> = Vec::new();
    for (call, error) in KINDS {
        let most = count_calls(&folder(name), call, is_old);
        println!("{name}: {most} {call} of one thread");
        // Another residue for each kind, so that together they are at many moments.
        let first = 1 + faults.len() % step;
        for when in (first..=most).step_by(step) {
            faults.push((format!("{call}:error={error}:when={when}"), false));
        }
        for when in (first..=most).step_by(step * 2) {
            faults.push((format!("{call}:error={error}:when={when}+"), true));
        }
    }
    let broken = Mutex::new(Vec::new());
    let (next, count) = (AtomicUsize::new(0), Mutex::new(Count::default()));
    thread::scope(|scope| {
        for thread in 0..3 {
            let (faults, next, count, broken) = (&faults, &next, &count, &broken);
            scope.spawn(move || {
                let folder = folder(&format!("{name}-{thread}"));
                while let Some((fault, lasts)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    prepare(&folder, is_old);
                    if catch_unwind(|| try_fault(&folder, fault, *lasts, count)).is_err() {
                        broken.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(
        broken.is_empty(),
        "promises are broken, as told above, by {broken:#?}"
    );
    let count = count.into_inner().unwrap();
    println!(
        "{name}: {} runs, {} with a fault; {} did not start, {} refused jobs",
        count.runs, count.failed, count.not_started, count.refused
    );
    assert!(count.not_started > 0 && count.refused > 0 && count.failed * 2 > count.runs);
}

/// An empty folder, or one with a journal that has nothing in it.
fn prepare(folder: &Path, is_old: bool) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
    if is_old {
        let mut coordinator = Coordinator::start(folder, "commit", &Trace::None);
        coordinator.port().unwrap();
        coordinator.kill();
    }
}

/// How many such calls one thread makes at most, when none fails.
fn count_calls(folder: &Path, call: &str, is_old: bool) -> usize {
    prepare(folder, is_old);
    let never = format!("{call}:error=EIO:when=65535");
    let mut coordinator = Coordinator::start(folder, "commit", &Trace::Fault(&never));
    let port = coordinator.port().unwrap();
    work(port, &[]);
    Client::new(port, false).run().unwrap();
    coordinator.stop();
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for line in record(folder)
        .lines()
        .filter(|line| line.contains(&format!("{call}(")))
    {
        let (thread, _) = line.split_once(' ').unwrap();
        *calls.entry(thread.to_owned()).or_default() += 1;
    }
    calls.into_values().max().unwrap_or(0)
}

fn try_fault(folder: &Path, fault: &Fault, lasts: bool, count: &Mutex<Count>) {
    let told = live_with(folder, fault, lasts, count);
    let mut coordinator = Coordinator::start(folder, "commit", &Trace::None);
    let port = coordinator
        .port()
        .unwrap_or_else(|(_, said)| panic!("after {fault}: {said}"));
    verify(port, &told);
    coordinator.kill();
}

/// A life with a fault, until the history is over, or there is no use in waiting. Returns what the client was told.
fn live_with(folder: &Path, fault: &Fault, lasts: bool, count: &Mutex<Count>) -> Told {
    let mut coordinator = Coordinator::start(folder, "commit", &Trace::Fault(fault));
    let mut stops = false;
    let told = match coordinator.port() {
        Ok(port) => {
            work(port, &[]);
            let mut client = Client::new(port, lasts);
            let end = client.run();
            stops = end.is_ok();
            if let Err(refused) = &end {
                count.lock().unwrap().refused += 1;
                let reason = &refused.0;
                assert!(
                    reason.contains("jobs.db") && reason.contains("try again later"),
                    "{fault}: {reason}"
                );
            }
            client.told
        }
        Err((status, said)) => {
            count.lock().unwrap().not_started += 1;
            assert_eq!(status.code(), Some(1), "{fault}: {said}");
            assert!(
                said.contains("jobs.db"),
                "{fault}: it does not say what is wrong: {said}"
            );
            Told::default()
        }
    };
    let said = coordinator.said();
    assert!(!said.contains("panicked"), "{fault}: {said}");
    if stops {
        // The log is put into the database, unless that fails; then the next life does.
        coordinator.stop();
    } else {
        coordinator.kill();
    }
    let mut count = count.lock().unwrap();
    count.runs += 1;
    count.failed += usize::from(record(folder).contains("(INJECTED)"));
    told
}
