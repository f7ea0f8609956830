//! Names of jobs and of their attempts.
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// A job's number: `JOB-1`, `JOB-2`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A job's attempt: `JOB-1` is the first, `JOB-1.2` the second. What a worker is sent, and answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    /// The job.
    pub job: JobId,
    /// Counted from 1.
    pub attempt: u32,
}

/// A text that names no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a job, such as JOB-1 or JOB-1.2")]
pub struct NoSuchName;

impl JobId {
    /// Reads `JOB-<number>`, in the form that [`fmt::Display`] writes and no other.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &[u8]) -> Result<JobId, NoSuchName> {
        let digits = text.strip_prefix(b"JOB-").ok_or(NoSuchName)?;
        number(digits).map(JobId).ok_or(NoSuchName)
    }
}

impl Handle {
    /// The first attempt of a job.
    pub fn first(job: JobId) -> Handle {
        Handle { job, attempt: 1 }
    }

    /// Reads `JOB-<number>` or `JOB-<number>.<attempt>`, where the attempt is 2 or more.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &[u8]) -> Result<Handle, NoSuchName> {
        let Some(dot) = text.iter().position(|&byte| byte == b'.') else {
            return JobId::parse(text).map(Handle::first);
        };
        let attempt = number(&text[dot + 1..]).and_then(|number| u32::try_from(number).ok());
        match attempt {
            Some(attempt @ 2..) => Ok(Handle {
                job: JobId::parse(&text[..dot])?,
                attempt,
            }),
            _ => Err(NoSuchName),
        }
    }
}

/// A number above 0 without leading zeros.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.first().is_none_or(|&first| first == b'0') {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JOB-{}", self.0)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.job.fmt(f)?;
        if self.attempt > 1 {
            f.write_char('.')?;
            self.attempt.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for JobId {
    type Err = NoSuchName;

    fn from_str(text: &str) -> Result<JobId, NoSuchName> {
        JobId::parse(text.as_bytes())
    }
}

impl FromStr for Handle {
    type Err = NoSuchName;

    fn from_str(text: &str) -> Result<Handle, NoSuchName> {
        Handle::parse(text.as_bytes())
    }
}
