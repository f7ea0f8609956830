//! A job as a row.
use crate::store::Error;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, Statement, ToSql};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use torhost_dispatch::{Outcome, Stored, StoredState, Submission};
use torhost_protocol::{JobId, State};

/// What [`read`] expects, in this order.
pub(crate) const COLUMNS: &str = "id, state, rank, due, ended, attempt, failures, failed_attempt, losses, worker, info, state_check, \
     submitted, priority, requires, delay, timeout, deadline, attempts, key, affinity, submission_check, data, result, after, \
     not_before";

pub(crate) const INSERT: &str = "insert into job (id, state, rank, due, ended, attempt, failures, failed_attempt, losses, worker, info, \
     state_check, result, submitted, priority, requires, delay, timeout, deadline, attempts, key, affinity, after, not_before, \
     submission_check, data) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

pub(crate) const UPDATE: &str = "update job set state = ?2, rank = ?3, due = ?4, ended = ?5, attempt = ?6, failures = ?7, \
     failed_attempt = ?8, losses = ?9, worker = ?10, info = ?11, state_check = ?12, result = ?13, submitted = ?14 where id = ?1";

/// The time since 1970, to the microsecond, as the database has it.
pub fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_micros(now.as_micros() as u64)
}

pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn duration(micros: i64) -> Duration {
    Duration::from_micros(micros.max(0) as u64)
}

/// The number of a state in the database.
pub(crate) fn state_number(state: State) -> i64 {
    match state {
        State::Delayed => 0,
        State::Queued => 1,
        State::Running => 2,
        State::Completed => 3,
        State::Failed => 4,
        State::Cancelled => 5,
        State::Expired => 6,
        State::Held => 7,
    }
}

/// A checksum over fields, each with its length, so that none can pass into its neighbour. One is made for many rows.
struct Check {
    /// Short fields are gathered, since each call costs more than their bytes.
    gathered: Vec<u8>,
    sum: crc32fast::Hasher,
}

impl Check {
    fn new() -> Check {
        Check {
            gathered: Vec::with_capacity(256),
            sum: crc32fast::Hasher::new(),
        }
    }

    fn number(&mut self, number: impl Into<Option<i64>>) {
        match number.into() {
            Some(number) => self.gathered.extend_from_slice(&number.to_le_bytes()),
            None => self.gathered.push(0),
        }
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.number(bytes.map(|bytes| bytes.len() as i64));
        let bytes = bytes.unwrap_or_default();
        if bytes.len() < 1024 {
            self.gathered.extend_from_slice(bytes);
        } else {
            self.sum.update(&self.gathered);
            self.gathered.clear();
            self.sum.update(bytes);
        }
    }

    /// That over the fields since the last one.
    fn sum(&mut self) -> i64 {
        self.sum.update(&self.gathered);
        self.gathered.clear();
        std::mem::take(&mut self.sum).finalize().into()
    }
}

/// The parts of a row that change, as the database has them.
struct Changing {
    state: i64,
    due: Option<i64>,
    ended: Option<i64>,
}

impl Changing {
    fn of(job: &Stored) -> Changing {
        let (due, ended) = match job.state {
            StoredState::Delayed { until } => (Some(micros(until)), None),
            StoredState::Ended { at, .. } => (None, Some(micros(at))),
            StoredState::Held | StoredState::Queued | StoredState::Running => (None, None),
        };
        Changing {
            state: state_number(job.state.name()),
            due,
            ended,
        }
    }

    fn check(&self, check: &mut Check, job: &Stored) -> i64 {
        check.number(job.id.0 as i64);
        check.number(self.state);
        check.number(job.rank as i64);
        check.number(self.due);
        check.number(self.ended);
        for number in [job.attempt, job.failures, job.failed_attempt, job.losses] {
            check.number(i64::from(number));
        }
        check.number(micros(job.submitted));
        check.bytes(job.worker.as_deref().map(str::as_bytes));
        check.bytes(job.info.as_deref().map(str::as_bytes));
        check.bytes(result(job));
        check.sum()
    }
}

fn result(job: &Stored) -> Option<&[u8]> {
    match &job.state {
        StoredState::Ended { result, .. } => Some(result),
        _ => None,
    }
}

fn submission_check(
    check: &mut Check,
    id: JobId,
    submission: &Submission,
    requires: Option<&str>,
    after: Option<&str>,
) -> i64 {
    check.number(id.0 as i64);
    check.number(i64::from(submission.priority));
    check.bytes(requires.map(str::as_bytes));
    check.bytes(after.map(str::as_bytes));
    check.number(some_micros(submission.not_before));
    check.number(some_micros(submission.delay));
    check.number(submission.timeout.map(micros));
    check.number(submission.deadline.map(micros));
    check.number(submission.attempts.map(i64::from));
    check.bytes(submission.key.as_deref().map(str::as_bytes));
    check.bytes(submission.affinity.as_deref().map(str::as_bytes));
    check.bytes(Some(&submission.data));
    check.sum()
}

pub(crate) fn setting_check(name: &str, value: &str) -> i64 {
    let mut check = Check::new();
    check.bytes(Some(name.as_bytes()));
    check.bytes(Some(value.as_bytes()));
    check.sum()
}

fn some_micros(time: Duration) -> Option<i64> {
    Some(micros(time)).filter(|&time| time > 0)
}

/// A JSON array; none for nothing.
fn json(list: Vec<impl Into<serde_json::Value>>) -> Option<String> {
    (!list.is_empty()).then(|| serde_json::Value::from(list).to_string())
}

/// What [`json`] made, as it stands in the column, and read.
fn list<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<(Option<String>, Vec<T>)> {
    let text: Option<String> = row.get(column)?;
    let list = text.as_deref().map(serde_json::from_str).transpose();
    let list =
        list.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))?;
    Ok((text, list.unwrap_or_default()))
}

/// How many jobs one statement appends. Beginning and ending a statement costs as much as a row or two.
const TOGETHER: [usize; 3] = [16, 4, 1];

/// A statement whose parameters are given one after the other.
struct Binding<'a, 'db> {
    statement: &'a mut Statement<'db>,
    bound: usize,
}

impl<'a, 'db> Binding<'a, 'db> {
    fn of(statement: &'a mut Statement<'db>) -> Binding<'a, 'db> {
        Binding { statement, bound: 0 }
    }

    /// Made for each type of value, so that nothing is left to find out about it each time.
    fn next(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }
}

/// Whether nothing particular was asked for and nothing has gone wrong, as it is with nearly all jobs.
pub(crate) fn is_plain(job: &Stored) -> bool {
    matches!(job, Stored {
        submission: Submission {
            data: _,
            priority: 0,
            requires,
            after,
            delay: Duration::ZERO,
            not_before: Duration::ZERO,
            timeout: None,
            deadline: None,
            attempts: None,
            key: None,
            affinity: None,
        },
        failures: 0,
        failed_attempt: 0,
        losses: 0,
        info: None,
        ..
    } if requires.is_empty() && after.is_empty() && !matches!(job.state, StoredState::Delayed { .. }))
}

/// Adds jobs that are plain and have the very numbers that SQLite gives to the next rows, which it need not look for then.
pub(crate) fn append(db: &Connection, jobs: &[Stored]) -> rusqlite::Result<()> {
    let mut check = Check::new();
    let mut left = jobs;
    for rows in TOGETHER {
        if left.len() < rows {
            continue;
        }
        let mut statement = db.prepare_cached(&append_sql(rows))?;
        while let Some((these, others)) = left.split_at_checked(rows) {
            let mut binding = Binding::of(&mut statement);
            for job in these {
                let changing = Changing::of(job);
                binding.next(changing.state)?;
                binding.next(job.rank as i64)?;
                binding.next(changing.ended)?;
                binding.next(job.attempt)?;
                binding.next(job.worker.as_deref())?;
                binding.next(changing.check(&mut check, job))?;
                binding.next(micros(job.submitted))?;
                binding.next(submission_check(&mut check, job.id, &job.submission, None, None))?;
                binding.next(&*job.submission.data)?;
                binding.next(result(job))?;
            }
            statement.raw_execute()?;
            left = others;
        }
    }
    Ok(())
}

/// Columns that are not named are null. Without `or fail` SQLite would keep a copy of each page, to take back a statement that fails half-way;
/// the whole transaction is taken back then.
fn append_sql(rows: usize) -> String {
    let values = ["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0)"; TOGETHER[0]][..rows].join(", ");
    format!(
        "insert or fail into job (state, rank, ended, attempt, worker, state_check, submitted, submission_check, data, result, \
         failures, failed_attempt, losses, priority) values {values}"
    )
}

/// Adds the job, or changes what is kept of it.
pub(crate) fn write(statement: &mut CachedStatement<'_>, job: &Stored, is_new: bool) -> rusqlite::Result<()> {
    let changing = Changing::of(job);
    let mut check = Check::new();
    let mut binding = Binding::of(statement);
    binding.next(job.id.0 as i64)?;
    binding.next(changing.state)?;
    binding.next(job.rank as i64)?;
    binding.next(changing.due)?;
    binding.next(changing.ended)?;
    binding.next(job.attempt)?;
    binding.next(job.failures)?;
    binding.next(job.failed_attempt)?;
    binding.next(job.losses)?;
    binding.next(job.worker.as_deref())?;
    binding.next(job.info.as_deref())?;
    binding.next(changing.check(&mut check, job))?;
    binding.next(result(job))?;
    binding.next(micros(job.submitted))?;
    if is_new {
        let submission = &job.submission;
        let requires = json(submission.requires.clone());
        let after = json(submission.after.iter().map(|job| job.0).collect());
        binding.next(submission.priority)?;
        binding.next(requires.as_deref())?;
        binding.next(some_micros(submission.delay))?;
        binding.next(submission.timeout.map(micros))?;
        binding.next(submission.deadline.map(micros))?;
        binding.next(submission.attempts)?;
        binding.next(submission.key.as_deref())?;
        binding.next(submission.affinity.as_deref())?;
        binding.next(after.as_deref())?;
        binding.next(some_micros(submission.not_before))?;
        binding.next(submission_check(
            &mut check,
            job.id,
            submission,
            requires.as_deref(),
            after.as_deref(),
        ))?;
        binding.next(&*submission.data)?;
    }
    statement.raw_execute().map(drop)
}

/// The job of a row with [`COLUMNS`].
///
/// # Errors
/// [`Error::Damaged`] if it is not what was written.
pub(crate) fn read(row: &Row<'_>) -> Result<Stored, Error> {
    let id = JobId(row.get::<_, i64>(0)? as u64);
    let damaged = |what: &str| Error::Damaged(format!("{id}: {what}"));
    // Damage may have changed the type of a value as well.
    parse(row, id)
        .map_err(|error| damaged(&error.to_string()))?
        .ok_or_else(|| damaged("its checksum is wrong"))
}

fn parse(row: &Row<'_>, id: JobId) -> rusqlite::Result<Option<Stored>> {
    let (requires, names) = list(row, 14)?;
    let (after, numbers) = list(row, 24)?;
    let submission = Submission {
        after: numbers.into_iter().map(JobId).collect(),
        not_before: duration(row.get::<_, Option<i64>>(25)?.unwrap_or(0)),
        data: bytes(row, 22)?.unwrap_or_default(),
        priority: row.get(13)?,
        requires: names,
        delay: duration(row.get::<_, Option<i64>>(15)?.unwrap_or(0)),
        timeout: row.get::<_, Option<i64>>(16)?.map(duration),
        deadline: row.get::<_, Option<i64>>(17)?.map(duration),
        attempts: row.get(18)?,
        key: row.get(19)?,
        affinity: row.get(20)?,
    };
    let at = |column| Ok::<_, rusqlite::Error>(duration(row.get::<_, Option<i64>>(column)?.unwrap_or(0)));
    let ended = |outcome| {
        let result = bytes(row, 23)?.unwrap_or_default();
        Ok::<_, rusqlite::Error>(StoredState::Ended {
            outcome,
            at: at(4)?,
            result,
        })
    };
    let state = match row.get::<_, i64>(1)? {
        0 => StoredState::Delayed { until: at(3)? },
        1 => StoredState::Queued,
        2 => StoredState::Running,
        3 => ended(Outcome::Completed)?,
        4 => ended(Outcome::Failed)?,
        5 => ended(Outcome::Cancelled)?,
        6 => ended(Outcome::Expired)?,
        7 => StoredState::Held,
        _ => return Ok(None),
    };
    let job = Stored {
        id,
        submitted: duration(row.get(12)?),
        state,
        rank: row.get::<_, i64>(2)? as u64,
        attempt: row.get(5)?,
        failures: row.get(6)?,
        failed_attempt: row.get(7)?,
        losses: row.get(8)?,
        worker: row.get(9)?,
        info: row.get(10)?,
        submission,
    };
    let mut check = Check::new();
    let is_whole = Changing::of(&job).check(&mut check, &job) == row.get::<_, i64>(11)?
        && submission_check(
            &mut check,
            id,
            &job.submission,
            requires.as_deref(),
            after.as_deref(),
        ) == row.get::<_, i64>(21)?;
    Ok(is_whole.then_some(job))
}

fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Arc<[u8]>>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Ok(Some(bytes.into())),
        other => Err(rusqlite::Error::InvalidColumnType(
            column,
            String::new(),
            other.data_type(),
        )),
    }
}
