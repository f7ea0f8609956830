//! Power that fails at any moment of a recorded life, or of two of them.

use crate::disk::{Disk, Files, Operation};
use crate::folder;
use crate::history::{Client, Told, outcome as end_of, verify, work};
use crate::support::{Random, setting};
use crate::traced::{Coordinator, Fault, Trace, files, record, require_strace};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::thread;
use torhost_dispatch::{Outcome, Stored, StoredState};
use torhost_journal::{Access, Store};
use torhost_protocol::JobId;

/// What has happened, as strace saw it.
#[derive(Debug)]
enum Event {
    Disk(Operation),
    /// A line that was about to be sent to somebody.
    Told(String),
}

/// What was promised, and to be found on the disk.
#[derive(Debug, Default, Clone)]
struct Promised {
    accepted: HashSet<u64>,
    ended: BTreeMap<u64, (String, String)>,
    /// Jobs that were told to be queued again.
    retried: HashSet<u64>,
    /// The highest number that somebody knows.
    highest: u64,
}

#[test]
fn what_was_told_is_on_disk_when_the_power_fails() {
    fail_everywhere("power-commit", "commit", None);
}

#[test]
fn so_it_is_after_a_sync_that_failed() {
    fail_after_failed_syncs("power-commit-sync", "commit");
}

#[test]
fn with_an_interval_what_was_told_before_the_last_sync_is_on_disk() {
    fail_everywhere("power-interval", "interval 2ms", None);
}

#[test]
fn so_it_is_with_an_interval_after_a_sync_that_failed() {
    fail_after_failed_syncs("power-interval-sync", "interval 2ms");
}

fn fail_after_failed_syncs(name: &str, durability: &str) {
    // How many there are with an interval depends on how long the history takes.
    let most = if setting("STORAGE_ALL", 0) == 0 { 2 } else { 12 };
    let tried = (2..=most).filter(|when| {
        let once = format!("fdatasync:error=EIO:when={when}");
        let ever = format!("{once}+");
        fail_everywhere(name, durability, Some(&once)) && fail_everywhere(name, durability, Some(&ever))
    });
    assert!(tried.count() > 0, "no sync has failed");
}

/// Records lives in which a journal is made, used, perhaps with a fault, and used again, and looks at what is on disk if the power fails after any
/// operation. Returns whether there was a fault.
fn fail_everywhere(name: &str, durability: &str, fault: Option<&Fault>) -> bool {
    require_strace();
    let folder = folder(name);
    let mut events = Vec::new();
    let mut live = |fault: Option<&Fault>, stops: bool, then: &mut dyn FnMut(u16)| {
        let mut coordinator = Coordinator::start(&folder, durability, &Trace::Record(fault));
        let started = coordinator.port();
        match &started {
            Ok(port) => then(*port),
            Err((_, said)) => assert!(fault.is_some(), "{said}"),
        }
        if stops {
            coordinator.stop();
        } else {
            coordinator.kill();
        }
        let record = record(&folder);
        events.extend(read(&record, &folder));
        // A call that was under way when it was killed may have been made or not.
        for file in files(&folder) {
            if let Ok(content) = fs::read(&file)
                && !file.to_string_lossy().ends_with("-shm")
            {
                events.push(Event::Disk(Operation::Find(file, content)));
            }
        }
        record.contains("(INJECTED)")
    };
    let mut told = Told::default();
    live(None, false, &mut |_| {});
    let was_fault = live(fault, false, &mut |port| {
        work(port, &[]);
        let lasts = fault.is_some_and(|fault| fault.ends_with('+'));
        let mut client = Client::new(port, lasts);
        let end = client.run();
        assert!(lasts || end.is_ok(), "{end:?}");
        told = client.told;
    });
    // The log is put into the database, and begun anew.
    live(None, true, &mut |port| verify(port, &told));
    live(None, false, &mut |port| verify(port, &told));

    let waits_for_sync = durability == "commit";
    let counts = thread::scope(|scope| {
        let look = |part| {
            let (events, folder, told) = (&events, &folder, &told);
            scope.spawn(move || look(events, folder, told, waits_for_sync, part))
        };
        let threads = [0, 1].map(look);
        threads.map(|thread| thread.join().unwrap())
    });
    let disks: usize = counts.iter().sum();
    println!(
        "{name}, {fault:?}, happened: {was_fault}: {} events, {disks} different disks, {} jobs",
        events.len(),
        told.accepted.len()
    );
    assert!(disks > 100, "nothing was recorded");
    was_fault
}

/// Looks at every second disk.
fn look(events: &[Event], folder: &Path, told: &Told, waits_for_sync: bool, part: usize) -> usize {
    let log = folder.join("data/jobs.db-wal");
    let mut random = Random(setting("STORAGE_SEED", 1));
    let subsets = if setting("STORAGE_ALL", 0) == 0 { 2 } else { 20 };
    let mut disk = Disk::new(folder);
    let place = place(folder, part);
    // What was told, what of it when something was last written to the log, and what of that was synced.
    let (mut now, mut written, mut synced) = (Promised::default(), Promised::default(), Promised::default());
    let mut seen = HashSet::new();
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Told(line) => now.take(line),
            Event::Disk(operation) => {
                disk.apply(operation);
                match operation {
                    Operation::Write(path, ..) if *path == log => written = now.clone(),
                    Operation::Sync(path, true) if *path == log => synced = written.clone(),
                    _ => {}
                }
            }
        }
        if number % 2 != part {
            continue;
        }
        let promised = if waits_for_sync { &now } else { &synced };
        for files in disk.after_power_failure(&mut random, subsets) {
            let mut hash = DefaultHasher::new();
            (
                &files,
                promised.accepted.len(),
                promised.ended.len(),
                promised.retried.len(),
            )
                .hash(&mut hash);
            if seen.insert(hash.finish()) {
                let found = see(&files, folder, &place).and_then(|(jobs, last)| {
                    promised
                        .hold(told, &jobs, last)
                        .map_err(|why| format!("{why}; there are {jobs:#?}"))
                });
                if let Err(why) = found {
                    let last = &events[number.saturating_sub(20)..=number];
                    panic!(
                        "{why}\nwhere the power failed after {last:#?}; what is left is in {}",
                        place.display()
                    );
                }
            }
        }
    }
    fs::remove_dir_all(place).unwrap();
    seen.len()
}

/// Where a disk is put together: in memory if there is such a place, as each is looked at once.
fn place(folder: &Path, part: usize) -> PathBuf {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory } else { folder };
    folder.join(format!("torhost-{}-{name}-{part}", std::process::id()))
}

/// Puts files there, and opens the journal as a coordinator does. Returns the jobs and the highest number that may have been given to one.
fn see(files: &Files, folder: &Path, place: &Path) -> Result<(Vec<Stored>, u64), String> {
    let _ = fs::remove_dir_all(place);
    fs::create_dir(place).unwrap();
    for (path, content) in files {
        let path = place.join(path.strip_prefix(folder).unwrap());
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::create_dir(path).unwrap(),
        }
    }
    let open = || {
        let store = Store::open(&place.join("data/jobs.db"), Access::Write)?;
        store.check()?;
        let last = store.setting("last_job")?;
        assert_eq!(store.setting("epoch")?.is_some(), last.is_some());
        let last = last.map_or(0, |last| last.parse().unwrap());
        Ok((store.jobs(|jobs| jobs.collect())?, last))
    };
    open().map_err(|error: torhost_journal::Error| error.to_string())
}

impl Promised {
    fn take(&mut self, line: &str) {
        let number = |text: &str| -> u64 {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            text[..digits].parse().unwrap()
        };
        if let Some(job) = line.strip_prefix("JOB_ACCEPTED:JOB-") {
            self.accepted.insert(number(job));
            self.highest = self.highest.max(number(job));
        } else if let Some(rest) = line.strip_prefix("JOB_RESULT:JOB-") {
            let (outcome, result) = rest.split_once(':').unwrap().1.split_once(':').unwrap();
            let (job, end) = (number(rest), (outcome.to_owned(), result.to_owned()));
            self.ended.insert(job, end);
        } else if let Some(rest) = line.strip_prefix("RETRY:") {
            let job = number(rest.split_once("JOB-").unwrap().1);
            self.retried.insert(job);
            self.ended.remove(&job);
        } else if let Some(job) = line.strip_prefix("PROCESS_JOB:JOB-") {
            self.highest = self.highest.max(number(job));
        }
    }

    /// Whether all of it is there.
    fn hold(&self, told: &Told, jobs: &[Stored], last: u64) -> Result<(), String> {
        let jobs: HashMap<u64, &Stored> = jobs.iter().map(|job| (job.id.0, job)).collect();
        if last < self.highest {
            return Err(format!(
                "numbers go on after {last}, and {} is known",
                self.highest
            ));
        }
        for id in &self.accepted {
            let job = jobs.get(id).ok_or_else(|| format!("{} is lost", JobId(*id)))?;
            let data = told.accepted.get(id).map(String::as_bytes);
            if data.is_some_and(|data| *data != *job.submission.data) {
                return Err(format!("{} has other data", job.id));
            }
        }
        for (id, (outcome, result)) in &self.ended {
            let job = jobs.get(id).ok_or_else(|| format!("{} is lost", JobId(*id)))?;
            let found = match &job.state {
                StoredState::Ended { outcome, result, .. } => Some((word(*outcome), &**result)),
                _ if outcome == "cancelled" => continue,
                _ => None,
            };
            // It may have been queued again, and have ended then, of which nobody was told.
            let again = told
                .accepted
                .get(id)
                .map(|data| end_of(data))
                .filter(|_| outcome == "cancelled");
            let is_again = again.is_some_and(|(again, result)| found == Some((&*again, result.as_bytes())));
            if !is_again && found != Some((outcome.as_str(), result.as_bytes())) {
                return Err(format!(
                    "{} has ended as {outcome}, and is {:?}",
                    job.id, job.state
                ));
            }
        }
        for id in &self.retried {
            if matches!(
                &jobs[id].state,
                StoredState::Ended {
                    outcome: Outcome::Cancelled,
                    ..
                }
            ) {
                return Err(format!("{} was queued again, and is not", JobId(*id)));
            }
        }
        Ok(())
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::Expired => "expired",
    }
}

/// What strace's record says of the journal's files and of lines that are sent.
fn read(record: &str, folder: &Path) -> Vec<Event> {
    let mut reader = Reader {
        folder,
        begun: HashMap::new(),
        partial: HashMap::new(),
        events: Vec::new(),
    };
    for line in record.lines() {
        reader.line(line);
    }
    reader.events
}

struct Reader<'a> {
    folder: &'a Path,
    /// Calls that have not returned, by their threads.
    begun: HashMap<&'a str, &'a str>,
    /// Beginnings of lines, by their connections.
    partial: HashMap<String, Vec<u8>>,
    events: Vec<Event>,
}

impl<'a> Reader<'a> {
    /// A line of the record: thread, time, and a call, or the beginning or the end of one.
    fn line(&mut self, line: &'a str) {
        // Short numbers of threads have more than one space after them.
        let (thread, rest) = line.split_once(' ').unwrap();
        let (_time, text) = rest.trim_start().split_once(' ').unwrap();
        if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            // It is told from the moment at which it begins to be sent.
            if begun.starts_with("sendto(") {
                self.sent(begun);
            } else {
                self.begun.insert(thread, begun);
            }
        } else if let Some(rest) = text.strip_prefix("<... ") {
            let end = rest.split_once("resumed>").unwrap().1;
            if let Some(begun) = self.begun.remove(thread) {
                self.call(&format!("{begun}{end}"));
            }
        } else {
            self.call(text);
        }
    }

    fn call(&mut self, text: &str) {
        // A signal, or the end of a thread.
        let Some((name, rest)) = text.split_once('(').filter(|_| !text.starts_with(['-', '+'])) else {
            return;
        };
        if name == "sendto" {
            return self.sent(text);
        }
        let Some((arguments, returned)) = rest.rsplit_once(" = ").filter(|(_, returned)| *returned != "?")
        else {
            // Killed meanwhile.
            return;
        };
        let arguments: Vec<&str> = arguments.trim_end().trim_end_matches(')').split(", ").collect();
        let succeeded = !returned.starts_with('-');
        let file = || self.path(arguments[0]);
        let number = |text: &str| -> u64 { text.parse().unwrap() };
        let operation = match name {
            "openat" if succeeded && arguments[2].contains("O_CREAT") => {
                self.path(returned).map(Operation::Make)
            }
            "mkdir" if succeeded => {
                let path = self.folder.join(String::from_utf8(bytes(arguments[0])).unwrap());
                Some(Operation::MakeFolder(path))
            }
            "unlink" if succeeded => {
                let path = PathBuf::from(String::from_utf8(bytes(arguments[0])).unwrap());
                Some(Operation::Remove(path)).filter(|_| self.is_ours(path_of(arguments[0])))
            }
            "pwrite64" if succeeded => {
                let write = |path| Operation::Write(path, number(arguments[3]), bytes(arguments[1]));
                file().map(write)
            }
            "ftruncate" if succeeded => file().map(|path| Operation::Truncate(path, number(arguments[1]))),
            "fdatasync" | "fsync" => file().map(|path| Operation::Sync(path, succeeded)),
            "openat" | "mkdir" | "unlink" | "pwrite64" | "ftruncate" => None,
            _ => {
                assert!(
                    file().is_none(),
                    "what {text:.200} does to a disk is not known here"
                );
                None
            }
        };
        self.events.extend(operation.map(Event::Disk));
    }

    /// The file of a descriptor, `7</path>`, if it is of the journal.
    fn path(&self, descriptor: &str) -> Option<PathBuf> {
        let path = path_of(descriptor.split_once('<')?.1);
        self.is_ours(path.clone()).then_some(path)
    }

    fn is_ours(&self, path: PathBuf) -> bool {
        let data = self.folder.join("data");
        // What is in memory is made anew.
        (path == self.folder || path.starts_with(data)) && !path.to_string_lossy().ends_with("-shm")
    }

    /// `sendto(7<connection>, "…", …`.
    fn sent(&mut self, text: &str) {
        let mut arguments = text.split(", ");
        let connection = arguments.next().unwrap().to_owned();
        let partial = self.partial.entry(connection).or_default();
        partial.extend(bytes(arguments.next().unwrap()));
        while let Some(end) = partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.events.push(Event::Told(line));
        }
    }
}

fn path_of(text: &str) -> PathBuf {
    String::from_utf8(bytes(text)).unwrap().into()
}

/// The bytes of a text like `"\x61\x62"`.
fn bytes(text: &str) -> Vec<u8> {
    let digits = |byte: &str| u8::from_str_radix(byte.get(..2)?, 16).ok();
    text.split("\\x").skip(1).filter_map(digits).collect()
}
