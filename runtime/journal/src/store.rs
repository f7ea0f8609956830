//! The file: who may open it, its version, and its transactions.
use crate::journal::{Batch, Note};
use crate::row::{self, COLUMNS, INSERT, UPDATE, micros};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
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
    /// Jobs up to this number are in the database, or were.
    last_job: u64,
    /// Whether commits are synced.
    syncs: bool,
    /// Held as long as this is open to write.
    _lock: Option<File>,
}

impl Store {
    /// Opens a database.
    ///
    /// # Errors
    /// All of [`Error`] but damage further inside, which [`Store::jobs`] finds.
    pub fn open(path: &Path, access: Access) -> Result<Store, Error> {
        let lock = match access {
            Access::Read if !path.exists() => return Err(Error::Missing(path.into())),
            Access::Read | Access::Again => None,
            Access::Write => {
                make_folder(path)?;
                Some(lock(path)?)
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
            last_job: 0,
            syncs: true,
            _lock: lock,
        };
        store.prepare(path, access).map_err(|error| match error {
            Error::Sql(error) => cannot(error),
            other => other,
        })?;
        Ok(store)
    }

    fn prepare(&mut self, path: &Path, access: Access) -> Result<(), Error> {
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
        db.pragma_update(None, "journal_mode", "wal")?;
        // A commit is on disk when it returns.
        db.pragma_update(None, "synchronous", "full")?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        db.pragma_update(None, "cache_size", -16_000)?;
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

    /// Writes a batch, as one transaction, and returns when it is on disk; or has left this process, if `sync` is false.
    ///
    /// # Errors
    /// Nothing of it is written then, and it may be tried again.
    pub fn write(&mut self, batch: &Batch, sync: bool) -> Result<(), Error> {
        if std::mem::replace(&mut self.syncs, sync) != sync {
            self.db
                .pragma_update(None, "synchronous", if sync { "full" } else { "normal" })?;
        }
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut last_job = self.last_job;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            let mut update = transaction.prepare_cached(UPDATE)?;
            for job in &batch.jobs {
                let is_new = job.id.0 > self.last_job;
                row::write(if is_new { &mut insert } else { &mut update }, job, is_new)?;
                last_job = last_job.max(job.id.0);
            }
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
        }
        transaction.commit()?;
        self.last_job = last_job;
        Ok(())
    }

    /// Puts all that is in the log into the database.
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

fn make_folder(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|error| Error::Open {
        path: folder.into(),
        reason: error.to_string(),
    })
}

/// Takes the lock of a database. The system gives it back when this process ends, however it does.
fn lock(path: &Path) -> Result<File, Error> {
    let beside = beside(path, ".lock");
    let cannot = |error: std::io::Error| Error::Open {
        path: beside.clone(),
        reason: error.to_string(),
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&beside)
        .map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // It is only for the message.
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim();
            return Err(Error::InUse {
                path: path.into(),
                holder: if holder.is_empty() {
                    String::new()
                } else {
                    format!(" (process {holder})")
                },
            });
        }
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    file.set_len(0).map_err(cannot)?;
    file.rewind().map_err(cannot)?;
    writeln!(file, "{}", std::process::id()).map_err(cannot)?;
    Ok(file)
}
