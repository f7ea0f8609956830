//! `torhost db`.
use super::error::Error;
use super::place::Place;
use super::text::{census, counted, size};
use crate::coordinator::{EPOCH, LAST_JOB};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use torhost_journal::{Access, Note, Store};

/// What a coordinator that goes on with a backup skips of the numbers after it, since they may have been given to jobs that the backup does
/// not have.
const SKIPPED: u64 = 1_000_000;

/// The subcommands of `db`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check all of the database: its structure, and the checksums of every job and setting. Exit code 1 if anything is wrong
    ///
    /// A coordinator may run meanwhile. Every job that is damaged is named.
    Check {
        #[command(flatten)]
        place: Place,
    },
    /// Copy the database into a new file, and check the copy
    ///
    /// A coordinator may run meanwhile: the copy has what was there at one moment. How it is put back is in docs/durability.md.
    Backup {
        /// The file, which must not be there yet
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Give the pages that are free back to the file system, while no coordinator runs
    Vacuum {
        #[command(flatten)]
        place: Place,
    },
}

/// Runs one of them.
pub(super) fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Check { place } => check(&place),
        Command::Backup { file, place } => backup(&place, &file),
        Command::Vacuum { place } => vacuum(&place),
    }
}

fn check(place: &Place) -> Result<ExitCode, Error> {
    let path = place.path()?;
    let shown = path.display();
    let mut wrong = 0;
    let mut tell = |what: &str| {
        wrong += 1;
        say(what);
    };
    let store = match Store::open(&path, Access::Read) {
        Ok(store) => store,
        Err(torhost_journal::Error::Damaged(what)) => {
            tell(&what);
            say(&format!(
                "{shown} is damaged so that nothing in it can be read. {RESTORE}"
            ));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    let found = store.examine(&mut tell)?;
    // What is damaged has been told already.
    let is_missing = |name| matches!(store.setting(name), Ok(None));
    for name in [EPOCH, LAST_JOB] {
        if found.jobs() > 0 && is_missing(name) {
            tell(&format!("the setting \"{name}\" is missing"));
        }
    }
    if wrong == 0 {
        say(&format!("{shown} is sound: {}", census(&found)));
        return Ok(ExitCode::SUCCESS);
    }
    let wrong = counted(wrong, "finding");
    say(&format!(
        "{shown} is damaged: {wrong}. Sound are {}. {RESTORE}",
        census(&found)
    ));
    Ok(ExitCode::FAILURE)
}

/// What to do about damage.
const RESTORE: &str = "Restore it from a backup, as docs/durability.md says";

fn backup(place: &Place, file: &Path) -> Result<ExitCode, Error> {
    let (_, store) = place.read()?;
    let backup = store.backup(file, differing)?;
    let (census, size) = (census(&backup.census), size(backup.bytes));
    say(&format!("{}: {census}, {size}, checked", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// What is otherwise in a backup. Jobs were, or will be, accepted after it, of which a coordinator that goes on with it knows nothing; nor
/// do those jobs' clients and workers know that. So it skips numbers, and takes an epoch of its own, which tells them.
fn differing(copy: &Store) -> Result<Vec<Note>, torhost_journal::Error> {
    let last_job: Option<u64> = copy.setting(LAST_JOB)?.and_then(|number| number.parse().ok());
    // A coordinator has never kept anything in it.
    let Some(last_job) = last_job else {
        return Ok(Vec::new());
    };
    Ok(vec![
        Note::Setting(LAST_JOB.to_owned(), last_job.saturating_add(SKIPPED).to_string()),
        Note::Setting(EPOCH.to_owned(), String::new()),
    ])
}

fn vacuum(place: &Place) -> Result<ExitCode, Error> {
    let path = place.path()?;
    let mut store = Store::open(&path, Access::Write).map_err(Error::in_use(
        "it could keep no job while the whole file is written anew, and would refuse them; stop it first. Free pages are used again for \
         new jobs in any case",
    ))?;
    let (before, after) = store.vacuum()?;
    say(&format!(
        "{}: {} before, {} now",
        path.display(),
        size(before),
        size(after)
    ));
    Ok(ExitCode::SUCCESS)
}

/// Writes a line to standard output. Nobody may read it any more (`torhost db check | head -1`).
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
