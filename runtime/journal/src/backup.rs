//! A copy of a database, made while it is written.
//!
//! It is made by `VACUUM INTO` rather than by SQLite's backup interface. Both copy what the database is at one moment, beside a coordinator that
//! goes on writing. But the backup interface copies in steps and begins anew whenever another process has written between two of them, so that
//! beside a busy coordinator it must take all pages in one step anyway, the free ones too; and what is damaged it copies as it
//! is. `VACUUM INTO` writes what is in the tables: the copy is as small as it can be, and a table that cannot be read is noticed.
use crate::check::Census;
use crate::journal::Note;
use crate::store::{Access, BATCHES, Error, Store, beside, write_note};
use rusqlite::Connection;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its size in bytes.
    pub bytes: u64,
    /// The jobs in it.
    pub census: Census,
}

impl Store {
    /// Copies the database, as it is at this moment, into a new file. `differing` is given the copy and says what is to be kept otherwise in
    /// it. When this returns, the copy has been checked, as [`Store::examine`] does, and is on disk.
    ///
    /// Until then it has another name, the file's with `.part` at its end, so that one which was not finished is not taken for a
    /// backup. The next backup of this name replaces it.
    ///
    /// # Errors
    /// If the file is there, or cannot be written; if the database is damaged.
    pub fn backup(
        &self,
        file: &Path,
        differing: impl FnOnce(&Store) -> Result<Vec<Note>, Error>,
    ) -> Result<Backup, Error> {
        let is_there = || fs::symlink_metadata(file).is_ok();
        if is_there() {
            return Err(Error::Exists(file.into()));
        }
        let part = Part::new(beside(file, ".part"))?;
        self.copy(&part)?;
        let census = part.check(differing)?;
        if is_there() {
            return Err(Error::Exists(file.into()));
        }
        fs::rename(&part.path, file).map_err(cannot_write(file))?;
        sync_folder(file).map_err(cannot_write(file))?;
        let bytes = part.file.metadata().map_err(cannot_write(file))?.len();
        Ok(Backup { bytes, census })
    }

    fn copy(&self, part: &Part) -> Result<(), Error> {
        // Who may not read the one may not read the other.
        let source = PathBuf::from(self.sql().path().unwrap_or_default());
        let rights = fs::metadata(source).and_then(|source| part.file.set_permissions(source.permissions()));
        rights.map_err(cannot_write(&part.path))?;
        let name = part.path.to_str().ok_or_else(|| Error::Write {
            path: part.path.clone(),
            reason: "its name is not UTF-8".to_owned(),
        })?;
        self.sql()
            .execute("vacuum into ?", [name])
            .map_err(|error| match Error::from(error) {
                Error::Sql(error) => Error::Write {
                    path: part.path.clone(),
                    reason: error.to_string(),
                },
                other => other,
            })?;
        Ok(())
    }
}

/// A backup that is not finished. It is removed if it is not renamed.
struct Part {
    path: PathBuf,
    /// Locked, so that no other backup of the same name is written at the same time.
    file: File,
}

impl Part {
    fn new(path: PathBuf) -> Result<Part, Error> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(cannot_write(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Write {
                    path,
                    reason: "another backup is written there now".to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(cannot_write(&path)(error)),
        }
        // One that was killed may have left something.
        file.set_len(0).map_err(cannot_write(&path))?;
        Ok(Part { path, file })
    }

    /// Writes what differs, has all of it on disk, and reads it again.
    fn check(&self, differing: impl FnOnce(&Store) -> Result<Vec<Note>, Error>) -> Result<Census, Error> {
        let copy = Store::open(&self.path, Access::Read)?;
        let mut notes = differing(&copy)?;
        // Not to be compared with what was written to the database.
        notes.push(Note::Setting(BATCHES.to_owned(), String::new()));
        let mut db = Connection::open(&self.path)?;
        // It is to be one file.
        db.pragma_update(None, "journal_mode", "delete")?;
        let transaction = db.transaction()?;
        for note in &notes {
            write_note(&transaction, note)?;
        }
        transaction.commit()?;
        drop(db);
        self.file.sync_all().map_err(cannot_write(&self.path))?;
        let mut wrong = Vec::new();
        let census = copy.examine(|what| wrong.push(what.to_owned()))?;
        match wrong.into_iter().next() {
            Some(what) => Err(Error::Damaged(what)),
            None => Ok(census),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is not there if it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

/// Has the names in the folder of a file on disk.
fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Write {
        path,
        reason: error.to_string(),
    }
}
