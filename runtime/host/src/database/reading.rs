//! `torhost jobs list`, `show` and `export`.
use super::error::Error;
use super::output::Output;
use super::place::Place;
use super::record;
use super::selection::Filters;
use super::text::{block, brief, time};
use crate::columns::aligned;
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use torhost_dispatch::{Stored, StoredState};
use torhost_journal::{Attempt, Happened, Query, Store};
use torhost_protocol::JobId;

/// Lists jobs, the newest first.
pub(super) fn list(place: &Place, filters: &Filters, limit: u64, json: bool) -> Result<ExitCode, Error> {
    let (_, store) = place.read()?;
    let query = Query {
        newest_first: true,
        limit: Some(limit),
        ..filters.query()
    };
    if json {
        return lines(&store, &query, Output::standard());
    }
    let heads = [
        "JOB",
        "STATE",
        "ATTEMPT",
        "WORKER",
        "SUBMITTED",
        "ENDED",
        "DATA",
        "RESULT",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    let code = each(&store, &query, |job| {
        rows.push(row(job));
        ControlFlow::Continue(())
    })?;
    let mut output = Output::standard();
    let _ = output.write(&aligned(&rows));
    output.finish()?;
    Ok(code)
}

/// Writes jobs as JSON, one a line, the oldest first.
pub(super) fn export(place: &Place, filters: &Filters, file: Option<&Path>) -> Result<ExitCode, Error> {
    let (_, store) = place.read()?;
    let output = match file {
        Some(file) => Output::file(file)?,
        None => Output::standard(),
    };
    lines(&store, &filters.query(), output)
}

fn lines(store: &Store, query: &Query, mut output: Output) -> Result<ExitCode, Error> {
    let code = each(store, query, |job| {
        let line = Value::Object(record::job(job));
        output.write(&format!("{line}\n"))
    });
    output.finish()?;
    code
}

/// Reads jobs. Those that are damaged are told of, and make it a failure.
pub(super) fn each(
    store: &Store,
    query: &Query,
    mut take: impl FnMut(&Stored) -> ControlFlow<()>,
) -> Result<ExitCode, Error> {
    let mut code = ExitCode::SUCCESS;
    store.each(query, |found| match found {
        Ok(job) => take(&job),
        Err(what) => {
            eprintln!("torhost: left out, as it is damaged: {what}; see `torhost db check`");
            code = ExitCode::FAILURE;
            ControlFlow::Continue(())
        }
    })?;
    Ok(code)
}

fn row(job: &Stored) -> [String; 8] {
    let (ended, result) = match &job.state {
        StoredState::Ended { at, result, .. } => (time(*at), brief(result)),
        _ => (String::new(), String::new()),
    };
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    [
        job.id.to_string(),
        job.state.name().to_string(),
        job.attempt.to_string(),
        or_dash(brief(job.worker.as_deref().unwrap_or_default().as_bytes())),
        time(job.submitted),
        or_dash(ended),
        or_dash(brief(&job.submission.data)),
        or_dash(result),
    ]
}

/// Shows all there is of some jobs.
pub(super) fn show(place: &Place, jobs: &[JobId], json: bool) -> Result<ExitCode, Error> {
    let (_, store) = place.read()?;
    let mut code = ExitCode::SUCCESS;
    let mut output = Output::standard();
    let mut is_first = true;
    for &id in jobs {
        let Some(job) = store.job(id)? else {
            eprintln!("torhost: {id}: no such job, or it is forgotten");
            code = ExitCode::FAILURE;
            continue;
        };
        let history = History::of(&store, &job)?;
        let text = if json {
            history.json(&job)
        } else {
            history.text(&job)
        };
        let gap = if json || is_first { "" } else { "\n" };
        is_first = false;
        if output.write(gap).is_break() || output.write(&text).is_break() {
            break;
        }
    }
    output.finish()?;
    Ok(code)
}

/// What happened to a job.
struct History {
    attempts: Vec<Attempt>,
    events: Vec<Happened>,
}

impl History {
    fn of(store: &Store, job: &Stored) -> Result<History, Error> {
        let mut attempts = store.attempts(job.id)?;
        // The last one is in the job's row, unless it was over before the job was.
        if let StoredState::Ended { at, outcome, result } = &job.state
            && job.attempt > 0
            && attempts.iter().all(|attempt| attempt.attempt != job.attempt)
        {
            let is_completed = *outcome == torhost_dispatch::Outcome::Completed;
            attempts.push(Attempt {
                attempt: job.attempt,
                worker: job.worker.as_deref().map(str::to_owned),
                over: *at,
                outcome: outcome.as_str().to_owned(),
                reason: (!is_completed).then(|| String::from_utf8_lossy(result).into_owned()),
            });
        }
        Ok(History {
            attempts,
            events: store.events(job.id)?,
        })
    }

    fn json(&self, job: &Stored) -> String {
        let mut object = record::job(job);
        let attempts = self.attempts.iter().map(record::attempt).collect();
        let events = self.events.iter().map(record::event).collect();
        object.insert("attempts".to_owned(), attempts);
        object.insert("events".to_owned(), events);
        format!("{}\n", Value::Object(object))
    }

    fn text(&self, job: &Stored) -> String {
        let mut text = aligned(&fields(job));
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let shown = |text: &Option<String>| or_dash(text.as_ref().map(|text| brief(text.as_bytes())));
        if !self.attempts.is_empty() {
            let heads = ["ATTEMPT", "WORKER", "OUTCOME", "OVER", "REASON"];
            let mut rows = vec![heads.map(str::to_owned)];
            rows.extend(self.attempts.iter().map(|attempt| {
                [
                    attempt.attempt.to_string(),
                    shown(&attempt.worker),
                    attempt.outcome.clone(),
                    time(attempt.over),
                    shown(&attempt.reason),
                ]
            }));
            text += &format!("\n{}", aligned(&rows));
        }
        if !self.events.is_empty() {
            let heads = ["TIME", "EVENT", "ATTEMPT", "WORKER", "REASON"];
            let mut rows = vec![heads.map(str::to_owned)];
            rows.extend(self.events.iter().map(|event| {
                [
                    time(event.at),
                    event.name.clone(),
                    or_dash(event.attempt.map(|attempt| attempt.to_string())),
                    shown(&event.worker),
                    shown(&event.reason),
                ]
            }));
            text += &format!("\n{}", aligned(&rows));
        }
        text += &format!("\nDATA\n{}", block(&job.submission.data));
        if let StoredState::Ended { result, .. } = &job.state {
            text += &format!("\nRESULT\n{}", block(result));
        }
        if let Some(info) = &job.info {
            text += &format!("\nINFO\n{}", block(info.as_bytes()));
        }
        text
    }
}

/// What can be told of a job in a line each: a name and a value.
fn fields(job: &Stored) -> Vec<[String; 2]> {
    let mut fields = Vec::new();
    for (name, value) in record::job(job) {
        let is_long = ["data", "result", "info", "data_base64", "result_base64"].contains(&name.as_str());
        if is_long {
            continue;
        }
        let moment = ["submitted_ms", "ended_ms", "due_ms", "at_ms"].contains(&name.as_str());
        let (name, value) = match (name.strip_suffix("_ms"), value) {
            (Some(name), Value::Number(number)) => {
                let number = number.as_u64().unwrap_or_default();
                let value = if moment {
                    time(std::time::Duration::from_millis(number))
                } else {
                    format!("{number} ms")
                };
                (name.to_owned(), value)
            }
            (_, Value::Array(list)) => {
                let words = list
                    .iter()
                    .filter_map(Value::as_str)
                    .map(|word| brief(word.as_bytes()));
                (name, words.collect::<Vec<_>>().join(" "))
            }
            (_, Value::String(text)) => (name, brief(text.as_bytes())),
            (_, other) => (name, other.to_string()),
        };
        if !value.is_empty() {
            fields.push([name, value]);
        }
    }
    fields
}
