//! The file: who may open it, its version, and its transactions.
use crate::journal::{Batch, Note};
use crate::lock::Lock;
use crate::row::{self, COLUMNS, INSERT, UPDATE, micros};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use torhost_dispatch::Stored;
use torhost_protocol::JobId;

/// The version of `schema.sql`, in the database's `user_version`.
const VERSION: i64 = 1;
/// "torh", in the database's `application_id`, where `file` finds it too.
const APPLICATION: i64 = 0x746f_7268;
/// How many events are kept.
const EVENTS: i64 = 10_000;
/// How long one waits for another program that writes, as `sqlite3` can.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many pages of the log, of 4 KiB, are copied into the database at a time.
const CHECKPOINT_PAGES: i64 = 4000;
/// As long as the log is then, in bytes: a page has a header of 24.
const CHECKPOINT_BYTES: u64 = CHECKPOINT_PAGES as u64 * (4096 + 24);
/// The setting that counts batches.
pub(crate) const BATCHES: &str = "batches";

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another coordinator has it open.
    #[error("{path} is in use by another coordinator{holder}; give this one a file of its own")]
    InUse {
        /// The database.
        path: PathBuf,
        /// " (process 17)", if that is known.
        holder: String,
    },
    /// There is none.
    #[error("there is no database {0}")]
    Missing(PathBuf),
    /// It cannot be opened or made.
    #[error("cannot open {path}: {reason}")]
    Open {
        /// The database, or its folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is some other program's.
    #[error("{0} is not a journal of torhost")]
    NotOurs(PathBuf),
    /// A later torhost has written it.
    #[error(
        "{path} is of version {version}, and this torhost knows versions up to {VERSION}; use the torhost that wrote it, or a later one"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// What is read is not what was written.
    #[error(
        "the database is damaged: {0}; `torhost db check` names all that is, and it must be restored from a backup"
    )]
    Damaged(String),
    /// A write-ahead log of another database lies beside it, and would be mixed into it.
    #[error(
        "{log} is what another database has left, and does not belong to {path}; if {path} was put in its place, as a backup is, remove {log} \
         and the file -shm beside it"
    )]
    ForeignLog {
        /// The database.
        path: PathBuf,
        /// The log.
        log: PathBuf,
    },
    /// A file that is to be made is there.
    #[error("{0} is there already, and is left as it is; name a new file")]
    Exists(PathBuf),
    /// A file cannot be made.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Batches are missing that were written.
    #[error(
        "the database is damaged: it has {found} of {kept} batches that were written, so its log, {path}-wal, was damaged or removed; \
         restore a backup in place of it and of all files {path}-*, and remove {path}.lock; without a backup, remove only that to go on \
         without what is lost"
    )]
    Behind {
        /// The database.
        path: PathBuf,
        /// How many batches it has.
        found: u64,
        /// How many it must have had.
        kept: u64,
    },
    /// A sync has failed, and what it was to sync cannot be written again.
    #[error("cannot write {path} again after a failed sync: {reason}")]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something else that SQLite says.
    #[error(transparent)]
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Error::Damaged(error.to_string()),
            _ => Error::Sql(error),
        }
    }
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read, beside a coordinator that writes.
    Read,
    /// To read, where this process has it open to write.
    Again,
    /// To write, as the only one. The file and its folder are made if they are not there.
    Write,
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    /// The log.
    log: PathBuf,
    /// Jobs up to this number are in the database, or were.
    last_job: u64,
    /// How many batches have been written.
    batches: u64,
    /// Whether commits are synced; none if that is not known.
    syncs: Option<bool>,
    /// Whether there are batches that were not synced.
    unsynced: bool,
    /// Whether a sync has failed that was to include earlier batches, now or in an earlier life.
    doubt: bool,
    /// Held as long as this is open to write.
    lock: Option<Lock>,
}

impl Store {
    /// Opens a database.
    ///
    /// # Errors
    /// All of [`Error`] but damage further inside, which [`Store::jobs`] finds.
    pub fn open(path: &Path, access: Access) -> Result<Store, Error> {
        let path = &real(path, access)?;
        let lock = match access {
            Access::Read if !path.exists() => return Err(Error::Missing(path.into())),
            Access::Read | Access::Again => None,
            Access::Write => {
                make_folder(path)?;
                Some(Lock::take(path)?)
            }
        };
        if access != Access::Again
            && let Some(log) = foreign_log(path)
        {
            return Err(Error::ForeignLog {
                path: path.into(),
                log,
            });
        }
        let log = beside(path, "-wal");
        // Whoever has removed a database wants a new one.
        let is_new = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
        let flags = match access {
            Access::Read | Access::Again => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let cannot = |error: rusqlite::Error| match Error::from(error) {
            Error::Sql(error) => Error::Open {
                path: path.into(),
                reason: error.to_string(),
            },
            other => other,
        };
        let db =
            Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(cannot)?;
        db.busy_timeout(PATIENCE).map_err(cannot)?;
        let mut store = Store {
            db,
            log,
            last_job: 0,
            batches: 0,
            syncs: None,
            unsynced: false,
            doubt: lock.as_ref().is_some_and(Lock::was_suspect),
            lock,
        };
        store.prepare(path, access, is_new).map_err(|error| match error {
            Error::Sql(error) => cannot(error),
            other => other,
        })?;
        Ok(store)
    }

    fn prepare(&mut self, path: &Path, access: Access, is_new: bool) -> Result<(), Error> {
        let db = &mut self.db;
        let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (application, version) = (number("application_id")?, number("user_version")?);
        let is_empty = db.query_row("select count(*) from sqlite_schema", [], |row| {
            row.get::<_, i64>(0)
        })? == 0;
        if application != APPLICATION && !(is_empty && application == 0 && access == Access::Write) {
            return Err(Error::NotOurs(path.into()));
        }
        if version > VERSION {
            return Err(Error::Newer {
                path: path.into(),
                version,
            });
        }
        if access != Access::Write {
            return Ok(());
        }
        // A database that is refused stays as it is.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let mut is_backup = false;
        if version > 0 {
            let batches = self.setting(BATCHES)?;
            // A backup has fewer batches than what it is put in the place of, and goes on from there.
            is_backup = batches.as_deref() == Some("");
            self.batches = batches.map_or(0, |batches| batches.parse().unwrap_or(0));
        }
        let kept = self.lock.as_ref().map_or(0, Lock::kept);
        if is_backup {
            self.batches = kept;
        }
        if !is_new && self.batches < kept {
            return Err(Error::Behind {
                path: path.into(),
                found: self.batches,
                kept,
            });
        }
        let db = &mut self.db;
        db.pragma_update(None, "journal_mode", "wal")?;
        // So that a log that had to grow is cut when it begins anew.
        db.pragma_update(None, "journal_size_limit", CHECKPOINT_BYTES as i64)?;
        db.pragma_update(None, "cache_size", -16_000)?;
        self.set_sync(true)?;
        let db = &mut self.db;
        if version < 1 {
            let make = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            make.execute_batch(include_str!("schema.sql"))?;
            make.pragma_update(None, "application_id", APPLICATION)?;
            make.pragma_update(None, "user_version", VERSION)?;
            make.commit()?;
        }
        self.last_job = self
            .db
            .query_row("select coalesce(max(id), 0) from job", [], |row| {
                row.get::<_, i64>(0).map(|id| id as u64)
            })?;
        Ok(())
    }

    /// Looks whether the file is sound: whether all pages are what they should be. What is in the rows, [`Store::jobs`] looks at.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is not.
    pub fn check(&self) -> Result<(), Error> {
        let found = self
            .db
            .query_row("pragma quick_check(1)", [], |row| row.get::<_, String>(0))?;
        match found.as_str() {
            "ok" => Ok(()),
            _ => Err(Error::Damaged(found)),
        }
    }

    /// Has `take` take all jobs, in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Damaged`] if one is not as it was written: those after it are not read.
    pub fn jobs<T>(&self, take: impl FnOnce(&mut dyn Iterator<Item = Stored>) -> T) -> Result<T, Error> {
        let mut statement = self
            .db
            .prepare(&format!("select {COLUMNS} from job order by id"))?;
        let rows = statement.query_and_then([], row::read)?;
        let mut failed = None;
        let mut jobs = rows.map_while(|job| job.map_err(|error| failed = Some(error)).ok());
        let taken = take(&mut jobs);
        failed.map_or(Ok(taken), Err)
    }

    /// One job.
    ///
    /// # Errors
    /// As [`Store::jobs`].
    pub fn job(&self, id: JobId) -> Result<Option<Stored>, Error> {
        let sql = format!("select {COLUMNS} from job where id = ?");
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query([id.0 as i64])?;
        rows.next()?.map(row::read).transpose()
    }

    /// What is kept under a name.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        let sql = "select value, value_check from setting where name = ?";
        let found = self.db.query_row(sql, [name], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        });
        match found.optional()? {
            Some((value, check)) if row::setting_check(name, &value) == check => Ok(Some(value)),
            Some(_) => Err(Error::Damaged(format!(
                "the setting \"{name}\": its checksum is wrong"
            ))),
            None => Ok(None),
        }
    }

    /// Gives the pages that are free back to the file system. The whole file is written anew, which nobody else may write to meanwhile.
    /// Returns its size in bytes before and now.
    ///
    /// # Errors
    /// If there is no room for the file's second copy, or it is damaged. Nothing is changed then.
    pub fn vacuum(&mut self) -> Result<(u64, u64), Error> {
        let before = self.size()?;
        self.db.execute_batch("vacuum")?;
        self.checkpoint()?;
        Ok((before, self.size()?))
    }

    /// The size of the database in bytes, once all that is in the log is in it.
    fn size(&self) -> Result<u64, Error> {
        let number = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok((number("page_count")? * number("page_size")?) as u64)
    }

    /// The database, to ask it what this has no method for.
    pub fn sql(&self) -> &Connection {
        &self.db
    }

    /// Writes a batch, as one transaction, and returns when it is on disk, with all before it; or has left this process, if `sync` is false.
    ///
    /// # Errors
    /// Nothing of it is written then, and it may be tried again.
    pub fn write(&mut self, batch: &Batch, sync: bool) -> Result<(), Error> {
        self.set_sync(sync)?;
        if sync {
            self.settle()?;
        }
        if let Some(lock) = &mut self.lock {
            lock.suspect();
        }
        let written = self.commit(batch);
        match (&written, sync) {
            (Ok(()), true) => {
                self.unsynced = false;
                if let Some(lock) = &mut self.lock {
                    lock.keep(self.batches);
                }
            }
            (Ok(()), false) => self.unsynced = true,
            // This batch is written anew, those before it are not.
            (Err(_), true) => self.doubt |= self.unsynced,
            (Err(_), false) => {}
        }
        written
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let batches = self.batches + 1;
        let known = batch.jobs.partition_point(|job| job.id.0 <= self.last_job);
        let (changed, new) = batch.jobs.split_at(known);
        {
            let mut update = transaction.prepare_cached(UPDATE)?;
            for job in changed {
                row::write(&mut update, job, false)?;
            }
            add(&transaction, new)?;
            for (first, last) in runs(&batch.forgotten) {
                for sql in [
                    "delete from job where id between ? and ?",
                    "delete from attempt where job between ? and ?",
                ] {
                    transaction
                        .prepare_cached(sql)?
                        .execute([first as i64, last as i64])?;
                }
            }
            for note in &batch.notes {
                write_note(&transaction, note)?;
            }
            write_note(
                &transaction,
                &Note::Setting(BATCHES.to_owned(), batches.to_string()),
            )?;
        }
        transaction.commit()?;
        self.last_job = new.last().map_or(self.last_job, |job| job.id.0);
        self.batches = batches;
        Ok(())
    }

    /// Has commits synced, or not. A checkpoint that a commit brings about fails silently, and so must have nothing to sync in the log.
    fn set_sync(&mut self, sync: bool) -> Result<(), Error> {
        if self.syncs == Some(sync) {
            return Ok(());
        }
        self.syncs = None;
        let (synchronous, pages) = if sync {
            ("full", CHECKPOINT_PAGES)
        } else {
            ("normal", 0)
        };
        self.db.pragma_update(None, "synchronous", synchronous)?;
        self.db.pragma_update(None, "wal_autocheckpoint", pages)?;
        self.syncs = Some(sync);
        Ok(())
    }

    /// Whether so much was written without a sync that it is time for one.
    pub(crate) fn is_long(&self) -> bool {
        std::fs::metadata(&self.log).is_ok_and(|log| log.len() > 4 * CHECKPOINT_BYTES)
    }

    /// Sees that a log of which there is doubt is on disk.
    fn settle(&mut self) -> Result<(), Error> {
        if self.doubt {
            // Nobody else writes to it meanwhile.
            let _transaction = self
                .db
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            write_again(&self.log)?;
            self.doubt = false;
        }
        Ok(())
    }

    /// Puts all that is in the log into the database, as far as nobody reads it.
    pub(crate) fn checkpoint(&self) -> Result<(), Error> {
        Ok(self
            .db
            .query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?)
    }
}

pub(crate) fn write_note(db: &Connection, note: &Note) -> rusqlite::Result<()> {
    match note {
        Note::Setting(name, value) => {
            db.prepare_cached("insert or replace into setting values (?, ?, ?)")?
                .execute(params![name, value, row::setting_check(name, value)])?;
        }
        Note::Worker {
            name,
            kind,
            capabilities,
            slots,
            at,
        } => {
            let capabilities = serde_json::Value::from(capabilities.as_slice()).to_string();
            db.prepare_cached(
                "insert into worker values (?, ?, ?, ?, ?, null) on conflict do update set kind = excluded.kind, \
                 capabilities = excluded.capabilities, slots = excluded.slots, came = excluded.came, gone = null",
            )?
            .execute(params![name, kind, capabilities, slots, micros(*at)])?;
        }
        Note::Event(event) => {
            let job = event.job.map(|job| job.0 as i64);
            let (worker, reason) = (event.worker.as_deref(), event.reason.as_deref());
            db.prepare_cached(
                "insert into event (at, event, job, attempt, worker, reason) values (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                micros(event.at),
                event.name,
                job,
                event.attempt,
                worker,
                reason
            ])?;
            let number = db.last_insert_rowid();
            db.prepare_cached("delete from event where number <= ?")?
                .execute([number - EVENTS])?;
            match (event.name, job, event.attempt) {
                ("retried" | "requeued", Some(job), Some(attempt)) => {
                    db.prepare_cached("insert or replace into attempt values (?, ?, ?, ?, ?, ?)")?
                        .execute(params![
                            job,
                            attempt,
                            worker,
                            micros(event.at),
                            event.name,
                            reason
                        ])?;
                }
                ("worker-down", ..) => {
                    db.prepare_cached("update worker set gone = ? where name = ?")?
                        .execute(params![micros(event.at), worker])?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Adds jobs, in the order of their numbers.
fn add(db: &Connection, mut jobs: &[Stored]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(INSERT)?;
    let mut top = db.prepare_cached("select coalesce(max(id), 0) from job")?;
    let mut top = top.query_one([], |row| row.get::<_, i64>(0))? as u64;
    while let Some(job) = jobs.first() {
        let appended = jobs
            .iter()
            .zip(top + 1..)
            .take_while(|(job, next)| job.id.0 == *next && row::is_plain(job))
            .count();
        let (these, others) = jobs.split_at(appended.max(1));
        if appended > 0 {
            row::append(db, these)?;
        } else {
            row::write(&mut insert, job, true)?;
        }
        top = job.id.0 + these.len() as u64 - 1;
        jobs = others;
    }
    Ok(())
}

/// Numbers as runs of consecutive ones.
fn runs(ids: &[JobId]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == id.0 => *last = id.0,
            _ => runs.push((id.0, id.0)),
        }
    }
    runs
}

/// The write-ahead log beside a database that cannot be its own: SQLite would take it for that. A database says in its 19th byte that it has
/// a log, before there is one; a backup says that it has none.
///
/// Closing a file takes away the locks that this process has on it: nobody opens a database twice.
fn foreign_log(path: &Path) -> Option<PathBuf> {
    let log = beside(path, "-wal");
    let mut header = [0; 19];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let is_there = log.metadata().is_ok_and(|log| log.len() > 0);
    (header[18] == 1 && is_there).then_some(log)
}

/// The path of a file that lies beside another, and is named after it.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Writes a log as it is, if there is one, and syncs it.
///
/// When a sync has failed, the system may take what it could not write for written, so that the next sync succeeds without it. SQLite writes
/// a batch again then, but not those before it. If one of them had not been synced, it may be missing after a power failure, and with it all
/// that is later in the log.
fn write_again(log: &Path) -> Result<(), Error> {
    let write = || {
        let log = match File::options().read(true).write(true).open(log) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            log => log?,
        };
        let mut bytes = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            let read = log.read_at(&mut bytes, at)?;
            if read == 0 {
                return log.sync_data();
            }
            log.write_all_at(&bytes[..read], at)?;
            at += read as u64;
        }
    };
    write().map_err(|error: std::io::Error| Error::Log {
        path: log.into(),
        reason: error.to_string(),
    })
}

/// The path of a database that SQLite's log and the lock lie beside, whatever links lead to it.
fn real(path: &Path, access: Access) -> Result<PathBuf, Error> {
    let real = match (
        std::fs::read_link(path),
        std::fs::canonicalize(path),
        path.parent(),
    ) {
        (Ok(_), Ok(real), _) => real,
        // A link to what is not there yet.
        (Ok(target), Err(_), Some(folder)) => folder.join(target),
        _ => path.to_owned(),
    };
    match std::fs::metadata(&real) {
        // Whoever opens it by the other name has another log.
        Ok(file) if file.nlink() > 1 && access == Access::Write => Err(Error::Open {
            path: path.to_owned(),
            reason: format!(
                "the file has {} names, as hard links; remove all but one",
                file.nlink()
            ),
        }),
        _ => Ok(real),
    }
}

/// Makes the folder of a database that is not there yet, so that it outlives a power failure.
fn make_folder(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    if path.exists() {
        return Ok(());
    }
    let cannot = |error: std::io::Error| Error::Open {
        path: folder.into(),
        reason: error.to_string(),
    };
    // Its own folder, which may have been made a moment ago, and those of folders that are made here.
    let made = folder.ancestors().take_while(|folder| !folder.exists()).count();
    std::fs::create_dir_all(folder).map_err(cannot)?;
    for parent in folder.ancestors().skip(1).take(made.max(1)) {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        // A folder that may not be read cannot be synced.
        if let Ok(parent) = File::open(parent) {
            parent.sync_all().map_err(cannot)?;
        }
    }
    Ok(())
}
