//! What a coordinator promises holds on storage that fails, and when the power does.
//!
//! strace stands between the real program and the system. In `faults` the system calls on the journal's files fail, one after the other, once
//! or for ever. In `power` what the program wrote is recorded, and put together as it may be on a disk that lost its power at any moment.
//! `STORAGE_ALL` is for all of it, where otherwise some is left out; see `scripts/storage.sh`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod disk;
mod faults;
mod history;
mod power;
#[path = "../support/mod.rs"]
mod support;
mod traced;

use std::path::{Path, PathBuf};

/// An empty folder of this name.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("storage").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap()
}
