//! Which jobs are meant.
use std::time::Duration;
use torhost_journal::Query;
use torhost_protocol::{JobId, State, parse_duration};

/// The options by which jobs are chosen.
#[derive(clap::Args)]
pub(crate) struct Filters {
    /// Only jobs in this state; may be given more than once
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    states: Vec<State>,
    /// Only jobs whose last attempt was this worker's
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Only jobs that were submitted with this key
    #[arg(long)]
    key: Option<String>,
}

impl Filters {
    /// What to ask the database for.
    pub(super) fn query(&self) -> Query {
        Query {
            states: self.states.clone(),
            worker: self.worker.clone(),
            key: self.key.clone(),
            ..Query::default()
        }
    }
}

/// The names of the options of [`Selection`] that choose jobs.
const FILTERS: [&str; 4] = ["states", "worker", "key", "older_than"];

/// Jobs by name, or chosen.
#[derive(clap::Args)]
pub(crate) struct Selection {
    /// The jobs, such as JOB-7 or 7
    #[arg(value_name = "ID", value_parser = job, conflicts_with_all = FILTERS, required_unless_present_any = FILTERS)]
    pub(super) jobs: Vec<JobId>,
    #[command(flatten)]
    filters: Filters,
    /// Only jobs that ended longer ago than this: 90s, 15m, 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = age)]
    older_than: Option<Duration>,
}

impl Selection {
    /// What to ask the database for, if the jobs are not named.
    pub(super) fn query(&self) -> Option<Query> {
        self.jobs.is_empty().then(|| Query {
            ended_before: self
                .older_than
                .map(|age| torhost_journal::now().saturating_sub(age)),
            ..self.filters.query()
        })
    }
}

/// Reads `JOB-7` or `7`.
pub(super) fn job(text: &str) -> Result<JobId, String> {
    let name = format!("JOB-{}", text.strip_prefix("JOB-").unwrap_or(text));
    let job = name.parse::<JobId>().ok();
    // The protocol knows no more digits.
    job.filter(|job| job.0 < 999_999_999_999_999)
        .ok_or_else(|| "expected the name of a job, such as JOB-7 or 7".to_owned())
}

fn state(text: &str) -> Result<State, String> {
    text.parse().map_err(|_| {
        let names = State::ALL.map(State::as_str);
        format!("expected one of {}", names.join(", "))
    })
}

fn age(text: &str) -> Result<Duration, String> {
    let days = |text: &str| {
        let hours = parse_duration(&format!("{text}h"))?;
        hours.checked_mul(24)
    };
    let age = match text.strip_suffix('d') {
        Some(number) => days(number),
        None => parse_duration(text),
    };
    age.ok_or_else(|| "expected a duration, such as 90s, 15m, 12h or 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_ages_are_read() {
        assert_eq!(job("JOB-7"), Ok(JobId(7)));
        assert_eq!(job("7"), Ok(JobId(7)));
        for wrong in ["", "0", "07", "JOB-", "7.2", "x", "18446744073709551615"] {
            assert!(job(wrong).is_err(), "{wrong}");
        }
        let hours = |hours: u64| Ok(Duration::from_secs(hours * 3600));
        assert_eq!(age("30d"), hours(720));
        assert_eq!(age("1.5h"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "d", "-1d", "1w", "1dd"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
