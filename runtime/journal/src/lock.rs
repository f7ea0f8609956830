//! The file beside a database that says whose it is, and how much was written to it.
//!
//! SQLite's log ends at the first page whose checksum is wrong: so it must, as a power failure may leave such a page at its end. It cannot
//! tell this from damage to a page in the middle, with which all later transactions vanish without a word. So the number of batches that are
//! certainly on disk is noted here, after each sync. The note itself is not synced. It may be behind after a power failure, and then tells
//! less; it is never ahead of the disk.
//!
//! It also says whether more was written since, which a later life cannot trust: if a sync of it has failed, it may look written until the
//! power fails.
use crate::store::{Error, beside};
use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A database that is this process's.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// How many batches are certainly on disk.
    kept: u64,
    /// Whether the log may have had what is not on disk when the lock was taken.
    was_suspect: bool,
    /// Whether it may now, as far as it is noted.
    is_suspect: bool,
}

impl Lock {
    /// Takes the lock of a database. The system gives it back when this process ends, however it does.
    pub(crate) fn take(database: &Path) -> Result<Lock, Error> {
        let path = beside(database, ".lock");
        let cannot = |error: std::io::Error| Error::Open {
            path: path.clone(),
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
        let (kept, was_suspect) = lines.next().and_then(parse).unwrap_or((0, true));
        let lock = Lock {
            file,
            kept,
            was_suspect,
            // Until something has been synced.
            is_suspect: true,
        };
        lock.write().map_err(cannot)?;
        Ok(lock)
    }

    /// How many batches are on disk, as far as is known.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Whether the log may have had what is not on disk when the lock was taken.
    pub(crate) fn was_suspect(&self) -> bool {
        self.was_suspect
    }

    /// Notes that something is about to be written to the log.
    pub(crate) fn suspect(&mut self) {
        if !self.is_suspect {
            self.is_suspect = true;
            self.note();
        }
    }

    /// Notes how many batches are on disk, and so all of the log.
    pub(crate) fn keep(&mut self, batches: u64) {
        (self.kept, self.is_suspect) = (batches, false);
        self.note();
    }

    fn note(&self) {
        // What is not noted is only not known later.
        if let Err(error) = self.write() {
            log::debug!("cannot note what is in the journal: {error}");
        }
    }

    /// In one piece, and always as long, so that no part of an earlier note is left.
    fn write(&self) -> std::io::Result<()> {
        let line = line(self.kept, self.is_suspect);
        let text = format!("{:<10}\n{line}\n", std::process::id());
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

fn line(batches: u64, is_suspect: bool) -> String {
    let log = if is_suspect { "suspect" } else { "trusted" };
    let text = format!("{batches:020} batches, log {log}");
    let sum = crc32fast::hash(text.as_bytes());
    format!("{text} {sum:08x}")
}

/// What [`line`] was given; none if it did not make this.
fn parse(text: &str) -> Option<(u64, bool)> {
    let batches = text.split(' ').next()?.parse().ok()?;
    let is_suspect = text.contains("suspect");
    (line(batches, is_suspect) == text).then_some((batches, is_suspect))
}
