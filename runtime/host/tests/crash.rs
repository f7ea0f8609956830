//! What was accepted is done, once, whoever is killed and whenever.
//!
//! A client submits jobs as fast as they are taken, while the coordinator and the workers are killed with SIGKILL at random moments and
//! started again. In the end the database must have each accepted job once, with the result that it should have, and what
//! the client was told must be what is there. `CRASH_ROUNDS` is how often something is killed, `CRASH_SEED` what is.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/port.rs"]
mod port;
mod support;

use port::Port;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::{PATIENCE, Random, setting};

/// How many jobs are on their way at most, as far as this connection is to be told of them.
const WINDOW: usize = 64;

const COORDINATOR: &str = "package require tor 1
tor::coordinator serve -port [lindex $argv 0] -durability [lindex $argv 1] -backoff 0 -attempts 1000 -max-losses 1000 -keep 100000000 -max-resident 8
vwait forever
";
const WORKER: &str = "package require tor 1
proc work {data} {
    if {$data % 50 == 0} {after 3}
    return [expr {$data * 3}]
}
tor::worker serve localhost:[lindex $argv 0] -name [lindex $argv 1] -slots 4 -handler work
vwait forever
";

/// What the client was told.
#[derive(Default)]
struct Told {
    /// By job, what was submitted.
    accepted: HashMap<u64, u64>,
    results: HashMap<u64, String>,
}

/// A program that is killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start(folder: &Path, script: &str, arguments: &[&str]) -> Running {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join(format!("{script}.log")))
        .unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_torhost"))
        .arg(script)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    Running(child.unwrap())
}

/// Submits numbers until it is told to stop, and connects again whenever it must.
fn submit(port: u16, stop: &AtomicBool, told: &Mutex<Told>) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        stream.set_nodelay(true).unwrap();
        let mut writer = stream.try_clone().unwrap();
        // Answers come in the order of the submissions; what had none when the connection broke may be there or not.
        let mut waiting = std::collections::VecDeque::new();
        let mut unended = 0;
        let mut lines = BufReader::new(stream).lines();
        loop {
            while waiting.len() + unended < WINDOW && !stop.load(Ordering::Relaxed) {
                number += 1;
                waiting.push_back(number);
                if writeln!(writer, "SUBMIT_JOB:{number}").is_err() {
                    break;
                }
            }
            if stop.load(Ordering::Relaxed) && waiting.is_empty() {
                return;
            }
            let Some(Ok(line)) = lines.next() else { break };
            let mut told = told.lock().unwrap();
            if let Some(job) = line.strip_prefix("JOB_ACCEPTED:JOB-") {
                let submitted = waiting.pop_front().unwrap();
                let before = told.accepted.insert(job.parse().unwrap(), submitted);
                assert_eq!(before, None, "{line} again");
                unended += 1;
            } else if let Some(rest) = line.strip_prefix("JOB_RESULT:JOB-") {
                let (job, result) = rest.split_once(":completed:").unwrap();
                let before = told.results.insert(job.parse().unwrap(), result.to_owned());
                assert_eq!(before, None, "{line} again");
                unended -= 1;
            } else {
                panic!("{line}");
            }
        }
    }
}

fn database(folder: &Path) -> Connection {
    let path = folder.join("data/jobs.db");
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn unfinished(folder: &Path) -> i64 {
    let sql = "select count(*) from jobs where state in ('held', 'delayed', 'queued', 'running')";
    database(folder).query_row(sql, [], |row| row.get(0)).unwrap()
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("coordinator.tor"), COORDINATOR).unwrap();
    std::fs::write(folder.join("worker.tor"), WORKER).unwrap();
    folder
}

#[test]
fn what_was_accepted_is_done_once_whoever_is_killed() {
    kill_and_count("crash-commit", "commit");
}

/// What is written outlives the process before it is synced.
#[test]
fn so_it_is_without_a_sync_for_each_batch() {
    kill_and_count("crash-interval", "interval 1h");
}

fn kill_and_count(name: &str, durability: &str) {
    let (rounds, seed) = (setting("CRASH_ROUNDS", 12), setting("CRASH_SEED", 1));
    let mut random = Random(seed);
    let folder = folder(name);
    let kept_port = Port::new();
    let port = kept_port.number();
    let port_text = port.to_string();
    let coordinate = || start(&folder, "coordinator.tor", &[&port_text, durability]);
    let work = |name: &str| start(&folder, "worker.tor", &[&port_text, name]);
    let mut coordinator = Some(coordinate());
    let mut workers = [Some(work("w0")), Some(work("w1"))];
    let (stop, told) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(Mutex::new(Told::default())),
    );
    let client = {
        let (stop, told) = (stop.clone(), told.clone());
        thread::spawn(move || submit(port, &stop, &told))
    };
    let mut kills = [0, 0];
    for _ in 0..rounds {
        // Long enough that something has been accepted since, and then for a while that may end anywhere in what is done meanwhile.
        let before = told.lock().unwrap().accepted.len();
        let began = Instant::now();
        while told.lock().unwrap().accepted.len() < before + 100 {
            assert!(began.elapsed() < PATIENCE, "nothing is accepted");
            assert!(!client.is_finished(), "the client was told something wrong");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(random.below(100_000)));
        let which = random.below(4);
        if which < 3 {
            // The next one needs its port and its database.
            coordinator = None;
            coordinator.replace(coordinate());
            kills[0] += 1;
        }
        if which >= 2 {
            let worker = random.below(2) as usize;
            workers[worker] = None;
            workers[worker].replace(work(&format!("w{worker}")));
            kills[1] += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    client.join().unwrap();
    let began = Instant::now();
    while unfinished(&folder) > 0 {
        assert!(
            began.elapsed() < PATIENCE,
            "{} jobs do not end",
            unfinished(&folder)
        );
        thread::sleep(Duration::from_millis(20));
    }
    drop((coordinator, workers));

    let told = told.lock().unwrap();
    let db = database(&folder);
    let mut rows = HashMap::new();
    let mut statement = db
        .prepare("select substr(id, 5), state, data, result from jobs")
        .unwrap();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let id: String = row.get(0).unwrap();
        let columns: [String; 3] = [row.get(1).unwrap(), row.get(2).unwrap(), row.get(3).unwrap()];
        rows.insert(id.parse::<u64>().unwrap(), columns);
    }
    for (job, submitted) in &told.accepted {
        let [state, data, result] = rows.get(job).unwrap_or_else(|| panic!("JOB-{job} is lost"));
        assert_eq!(
            (state.as_str(), data),
            ("completed", &submitted.to_string()),
            "JOB-{job}"
        );
        assert_eq!(result, &(submitted * 3).to_string(), "JOB-{job}");
    }
    for (job, result) in &told.results {
        assert_eq!(
            result, &rows[job][2],
            "JOB-{job} has another result than the client was told"
        );
    }
    println!(
        "{durability}: {} kills of the coordinator, {} of workers; {} jobs accepted, {} kept, {} results told; seed {seed}",
        kills[0],
        kills[1],
        told.accepted.len(),
        rows.len(),
        told.results.len()
    );
}
