//! A check of all that is in a database.
use crate::reading::Query;
use crate::row;
use crate::store::{Error, Store};
use std::ops::ControlFlow;
use torhost_protocol::State;

/// So many of SQLite's findings are told at most. One damaged page is reason for many.
const MOST_FINDINGS: u32 = 100;

/// How many jobs there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    counts: [u64; State::ALL.len()],
}

impl Census {
    fn add(&mut self, state: State) {
        for (count, known) in self.counts.iter_mut().zip(State::ALL) {
            *count += u64::from(known == state);
        }
    }

    /// How many there are of each state.
    pub fn states(&self) -> impl Iterator<Item = (State, u64)> {
        State::ALL.into_iter().zip(self.counts)
    }

    /// How many there are in all.
    pub fn jobs(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Store {
    /// Looks at everything: the structure of the file, all jobs and all settings with their checksums. `tell` is called with each thing that is
    /// wrong, and has the name of the job in it if it is one job's. Returns how many sound jobs there are.
    ///
    /// # Errors
    /// If the database cannot be read for another reason than damage.
    pub fn examine(&self, mut tell: impl FnMut(&str)) -> Result<Census, Error> {
        tell_damage(self.check_structure(&mut tell), &mut tell)?;
        tell_damage(self.check_settings(&mut tell), &mut tell)?;
        let mut census = Census {
            counts: [0; State::ALL.len()],
        };
        let read = self.each(&Query::default(), |found| {
            match found {
                Ok(job) => census.add(job.state.name()),
                Err(what) => tell(&what),
            }
            ControlFlow::Continue(())
        });
        tell_damage(read, &mut tell)?;
        Ok(census)
    }

    fn check_structure(&self, tell: &mut impl FnMut(&str)) -> Result<(), Error> {
        let sql = format!("pragma integrity_check({MOST_FINDINGS})");
        let mut statement = self.sql().prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let found: String = row.get(0)?;
            let is_finding = |line: &&str| *line != "ok" && !line.starts_with("***");
            found.lines().filter(is_finding).for_each(&mut *tell);
        }
        Ok(())
    }

    fn check_settings(&self, tell: &mut impl FnMut(&str)) -> Result<(), Error> {
        let mut statement = self
            .sql()
            .prepare("select name, value, value_check from setting")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // Damage may have changed the type of a value as well.
            let text = |column| row.get::<_, String>(column);
            let sound = match (text(0), text(1), row.get::<_, i64>(2)) {
                (Ok(name), Ok(value), Ok(check)) => row::setting_check(&name, &value) == check,
                _ => false,
            };
            if !sound {
                let name = text(0).unwrap_or_else(|_| "?".to_owned());
                tell(&format!("the setting \"{name}\": its checksum is wrong"));
            }
        }
        Ok(())
    }
}

/// Damage is told, and all else that goes wrong is an error.
fn tell_damage(done: Result<(), Error>, tell: &mut impl FnMut(&str)) -> Result<(), Error> {
    match done {
        Err(Error::Damaged(what)) => {
            tell(&what);
            Ok(())
        }
        done => done,
    }
}
