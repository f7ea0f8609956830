//! What a row costs the journal's thread, in batches of different sizes.
//!
//! ```sh
//! cargo bench -p torhost-journal --bench batch -- /dev/shm
//! ```
//!
//! The database is made in a folder in the named one, or in that for temporary files. In one that is in memory a sync costs nothing, so that only
//! the work is left. What else is named are the measurements to make, as `new-190`; with one of them, callgrind counts the instructions.
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use torhost_dispatch::{Outcome, Stored, StoredState, Submission};
use torhost_journal::{Access, Batch, Store};
use torhost_protocol::JobId;

/// How many rows are written in a measurement.
const ROWS: u64 = 190_000;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let (folders, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.contains('/'));
    let folder = folders.first().map_or_else(std::env::temp_dir, PathBuf::from);
    println!(
        "{:>14}{:>14}{:>14}{:>14}",
        "batches", "ns a row", "µs a batch", "µs at most"
    );
    for (kind, size) in [("new", 1), ("new", 16), ("new", 190), ("changed", 190)] {
        let name = format!("{kind}-{size}");
        if names.is_empty() || names.contains(&&name) {
            let folder = tempfile::tempdir_in(&folder)?;
            let store = Store::open(&folder.path().join("jobs.db"), Access::Write)?;
            let spent = measure(store, size, kind == "changed")?;
            let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
            let batch = micros(spent.iter().sum()) / spent.len() as f64;
            let longest = spent.iter().max().copied().map_or(0.0, micros);
            println!(
                "{name:>14}{:>14.0}{batch:>14.1}{longest:>14.0}",
                1000.0 * batch / size as f64
            );
        }
    }
    Ok(())
}

/// The times that batches take of so many jobs, which are new or were queued in the one before.
fn measure(mut store: Store, size: u64, changed: bool) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut spent = Vec::new();
    for batch in 0..ROWS / size.max(19) {
        let ids = (0..size).map(|n| JobId(batch * size + n + 1));
        if changed {
            let queued = ids.clone().map(|id| job(id, StoredState::Queued));
            store.write(&of(queued), true)?;
        }
        let ended = of(ids.map(|id| job(id, completed())));
        // An engine goes on having them.
        let _shared = ended.jobs.clone();
        let started = Instant::now();
        store.write(&ended, true)?;
        drop(ended);
        spent.push(started.elapsed());
    }
    Ok(spent)
}

fn of(jobs: impl Iterator<Item = Stored>) -> Batch {
    Batch {
        jobs: jobs.collect(),
        ..Batch::default()
    }
}

fn completed() -> StoredState {
    StoredState::Ended {
        outcome: Outcome::Completed,
        at: Duration::from_micros(1_700_000_000_000_100),
        result: b"fedcba9876543210".as_slice().into(),
    }
}

fn job(id: JobId, state: StoredState) -> Stored {
    Stored {
        id,
        submission: Submission::new(*b"0123456789abcdef"),
        submitted: Duration::from_micros(1_700_000_000_000_000),
        state,
        rank: id.0,
        attempt: 1,
        failures: 0,
        failed_attempt: 0,
        info: None,
        losses: 0,
        worker: Some("worker-12".into()),
    }
}
