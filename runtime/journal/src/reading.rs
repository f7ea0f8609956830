//! Reading some of the jobs, or all: without holding them all in memory, and without holding the file for long.
use crate::row::{self, COLUMNS, micros, state_number};
use crate::store::{Error, Store};
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::time::Duration;
use torhost_dispatch::{Stored, StoredState};
use torhost_protocol::{JobId, State};

/// So many jobs are read at a time at most, and so many bytes of them; more bytes only of one job alone.
const AT_ONCE: usize = 500;
const BYTES_AT_ONCE: usize = 4 << 20;

/// Which jobs to read. Without anything it is all of them, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// In any of these states; in any at all if there are none.
    pub states: Vec<State>,
    /// Whose last attempt was of this worker.
    pub worker: Option<String>,
    /// With this submission key.
    pub key: Option<String>,
    /// That ended before this time, since 1970.
    pub ended_before: Option<Duration>,
    /// Those with the highest numbers first.
    pub newest_first: bool,
    /// So many at most.
    pub limit: Option<u64>,
}

/// An attempt of a job that failed or lost its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// Whose it was.
    pub worker: Option<String>,
    /// When it was over, since 1970.
    pub over: Duration,
    /// `retried`: it failed; `requeued`: its worker was lost.
    pub outcome: String,
    /// Why.
    pub reason: Option<String>,
}

/// An event that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When, since 1970.
    pub at: Duration,
    /// What.
    pub name: String,
    /// The number of the attempt.
    pub attempt: Option<u32>,
    /// The worker's name.
    pub worker: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Query {
    /// The condition of a statement whose first parameter is where to go on, and the further parameters.
    fn condition(&self) -> (String, Vec<Value>) {
        let mut sql = format!("id {} ?1", if self.newest_first { "<=" } else { ">=" });
        let mut values = Vec::new();
        if !self.states.is_empty() {
            let numbers: Vec<String> = self
                .states
                .iter()
                .map(|&state| state_number(state).to_string())
                .collect();
            // Writing to a text cannot fail.
            let _ = write!(sql, " and state in ({})", numbers.join(", "));
        }
        let mut and = |column: &str, value: Option<Value>| {
            if let Some(value) = value {
                values.push(value);
                let _ = write!(sql, " and {column} ?{}", values.len() + 1);
            }
        };
        and("worker =", self.worker.clone().map(Value::Text));
        and("key =", self.key.clone().map(Value::Text));
        and("ended <", self.ended_before.map(|at| Value::Integer(micros(at))));
        (sql, values)
    }
}

/// How far a reading has come.
struct Scan<'a> {
    query: &'a Query,
    condition: String,
    values: Vec<Value>,
    /// The number to go on with; there need not be such a job.
    next: i64,
    left: u64,
    is_over: bool,
}

/// A job, or which one is damaged, and how.
type Found = Result<Stored, String>;

impl Store {
    /// Reads jobs, and has `take` take each, or the name of one that is damaged and what is wrong with it, until it breaks.
    ///
    /// Between some hundred jobs nothing is held open, so that `take` may take its time; what is written meanwhile may be seen or not.
    /// Each job is as it was at one moment.
    ///
    /// # Errors
    /// If the database cannot be read at all.
    pub fn each(
        &self,
        query: &Query,
        mut take: impl FnMut(Result<Stored, String>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (condition, values) = query.condition();
        let mut scan = Scan {
            query,
            condition,
            values,
            next: if query.newest_first { i64::MAX } else { 0 },
            left: query.limit.unwrap_or(u64::MAX),
            is_over: false,
        };
        while !scan.is_over && scan.left > 0 {
            for found in self.some(&mut scan)? {
                if take(found).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The next few jobs.
    fn some(&self, scan: &mut Scan<'_>) -> Result<Vec<Found>, Error> {
        let order = if scan.query.newest_first { "desc" } else { "asc" };
        let most = scan.left.min(AT_ONCE as u64);
        let sql = format!(
            "select {COLUMNS} from job where {} order by id {order} limit {most}",
            scan.condition
        );
        let mut found = Vec::new();
        let mut bytes = 0;
        let read = self.rows(&sql, scan, |scan, row| {
            let id: i64 = row.get(0)?;
            if !scan.is_ahead(id) {
                scan.is_over = true;
                found.push(Err(format!("JOB-{id} is out of its order")));
                return Ok(ControlFlow::Break(()));
            }
            scan.left -= 1;
            scan.go_beyond(id);
            match row::read(row) {
                Ok(job) => {
                    bytes += size(&job);
                    found.push(Ok(job));
                }
                Err(Error::Damaged(what)) => found.push(Err(what)),
                Err(error) => return Err(error),
            }
            Ok(if bytes < BYTES_AT_ONCE {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        });
        match read {
            Ok(is_end) => scan.is_over |= is_end && (found.len() as u64) < most,
            Err(Error::Damaged(what)) => found.push(Err(self.skip(scan, &what)?)),
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    /// Calls `each` with the rows of a statement, until it breaks. Whether that were all.
    fn rows(
        &self,
        sql: &str,
        scan: &mut Scan<'_>,
        mut each: impl FnMut(&mut Scan<'_>, &Row<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<bool, Error> {
        let mut statement = self.sql().prepare_cached(sql)?;
        let values = scan.values.iter().cloned();
        let values = std::iter::once(Value::Integer(scan.next)).chain(values);
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            if each(scan, row)?.is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The file is damaged where the next job is. Goes on behind that, and names what is left out.
    fn skip(&self, scan: &mut Scan<'_>, what: &str) -> Result<String, Error> {
        let (beyond, forth, back) = if scan.query.newest_first {
            ("<=", "desc", "asc")
        } else {
            (">=", "asc", "desc")
        };
        // What is too long for its page, as data may be, is elsewhere than the number.
        let sql = format!("select id from job where id {beyond} ? order by id {forth} limit 1");
        if let Ok(id) = self.sql().query_row(&sql, [scan.next], |row| row.get(0))
            && scan.is_ahead(id)
        {
            scan.go_beyond(id);
            return Ok(format!("JOB-{id}: {what}"));
        }
        // The page cannot be read, nor which jobs are on it. What can be read from the other end is behind it.
        let sql = format!("select id from job where id {beyond} ? order by id {back}");
        let mut statement = self.sql().prepare(&sql)?;
        let mut rows = statement.query([scan.next])?;
        let mut nearest: Option<i64> = None;
        while let Ok(Some(row)) = rows.next() {
            let id = row.get(0)?;
            if !scan.is_ahead(id) {
                break;
            }
            nearest = Some(id);
        }
        let from = scan.next;
        match nearest {
            // It can be read from the one side and not from the other.
            Some(nearest) if nearest == from => scan.go_beyond(nearest),
            Some(nearest) => scan.next = nearest,
            None => scan.is_over = true,
        }
        let to = match nearest {
            Some(nearest) => format!(" to before JOB-{nearest}"),
            None => " on".to_owned(),
        };
        Ok(match from {
            0 | i64::MAX => format!("jobs from the first{to} cannot be read: {what}"),
            _ => format!("jobs from JOB-{from}{to} cannot be read: {what}"),
        })
    }

    /// The attempts of a job that failed or lost their worker, in their order.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn attempts(&self, job: JobId) -> Result<Vec<Attempt>, Error> {
        let sql = "select attempt, worker, over, outcome, reason from attempt where job = ? order by attempt";
        let mut statement = self.sql().prepare_cached(sql)?;
        let attempts = statement.query_map([job.0 as i64], |row| {
            Ok(Attempt {
                attempt: row.get(0)?,
                worker: row.get(1)?,
                over: row::duration(row.get(2)?),
                outcome: row.get(3)?,
                reason: row.get(4)?,
            })
        })?;
        Ok(attempts.collect::<Result<_, _>>()?)
    }

    /// What is kept of the events of a job, in their order.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn events(&self, job: JobId) -> Result<Vec<Happened>, Error> {
        let sql = "select at, event, attempt, worker, reason from event where job = ? order by number";
        let mut statement = self.sql().prepare_cached(sql)?;
        let events = statement.query_map([job.0 as i64], |row| {
            Ok(Happened {
                at: row::duration(row.get(0)?),
                name: row.get(1)?,
                attempt: row.get(2)?,
                worker: row.get(3)?,
                reason: row.get(4)?,
            })
        })?;
        Ok(events.collect::<Result<_, _>>()?)
    }
}

impl Scan<'_> {
    fn is_ahead(&self, id: i64) -> bool {
        if self.query.newest_first {
            id <= self.next
        } else {
            id >= self.next
        }
    }

    fn go_beyond(&mut self, id: i64) {
        let next = if self.query.newest_first {
            id.checked_sub(1)
        } else {
            id.checked_add(1)
        };
        self.next = next.unwrap_or(id);
        self.is_over |= next.is_none();
    }
}

/// What a job takes in memory, near enough.
fn size(job: &Stored) -> usize {
    let result = match &job.state {
        StoredState::Ended { result, .. } => result.len(),
        _ => 0,
    };
    job.submission.data.len() + result + job.info.as_ref().map_or(0, |info| info.len())
}
