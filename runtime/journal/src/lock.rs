//! The file beside a database that says whose it is, and how much was written to it.
//!
//! SQLite's log ends at the first page whose checksum is wrong: so it must, as a power failure may leave such a page at its end. It cannot
//! tell this from damage to a page in the middle, with which all later transactions vanish without a word. So the number of batches that are
//! certainly on disk is noted here, after each sync. The note itself is not synced. It may be behind after a power failure, and then tells
//! less; it is never ahead of the disk.
use crate::store::Error;
use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// A database that is this process's.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    kept: u64,
}

impl Lock {
    /// Takes the lock of a database. The system gives it back when this process ends, however it does.
    pub(crate) fn take(database: &Path) -> Result<Lock, Error> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let cannot = |error: std::io::Error| Error::Open {
            path: PathBuf::from(&path),
            reason: error.to_string(),
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(cannot)?;
        let is_ours = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        };
        let mut text = Vec::new();
        let read = file.read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines();
        let holder = lines.next().unwrap_or_default().trim();
        if !is_ours {
            return Err(Error::InUse {
                path: database.into(),
                holder: if holder.is_empty() {
                    String::new()
                } else {
                    format!(" (process {holder})")
                },
            });
        }
        read.map_err(cannot)?;
        let kept = lines.next().and_then(parse).unwrap_or(0);
        let lock = Lock { file, kept };
        lock.write(kept).map_err(cannot)?;
        Ok(lock)
    }

    /// How many batches were on disk when the lock was taken, as far as is known.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Notes how many batches are on disk.
    pub(crate) fn keep(&self, batches: u64) {
        // What is not noted is only not compared.
        if let Err(error) = self.write(batches) {
            log::debug!("cannot note what is in the journal: {error}");
        }
    }

    /// In one piece, and always as long, so that no part of an earlier note is left.
    fn write(&self, batches: u64) -> std::io::Result<()> {
        let text = format!("{:<10}\n{}\n", std::process::id(), line(batches));
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

fn line(batches: u64) -> String {
    let text = format!("{batches:020} batches");
    let sum = crc32fast::hash(text.as_bytes());
    format!("{text} {sum:08x}")
}

/// The number in what [`line`] made; none if it is anything else.
fn parse(text: &str) -> Option<u64> {
    let batches = text.split(' ').next()?.parse().ok()?;
    (line(batches) == text).then_some(batches)
}
