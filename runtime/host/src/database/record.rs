//! A job as JSON, for other programs.
//!
//! Texts are texts. Bytes that are not UTF-8 have no text, and are in base64 (RFC 4648) under the name of the field with `_base64` after it.
use serde_json::{Map, Value, json};
use std::time::Duration;
use torhost_dispatch::{Stored, StoredState};
use torhost_journal::{Attempt, Happened};
use torhost_protocol::JobId;

/// All of a job that the database has in its row, under the names that the protocol has for it.
pub(super) fn job(job: &Stored) -> Map<String, Value> {
    let submission = &job.submission;
    let mut record = Record(Map::new());
    record.put("id", json!(job.id.to_string()));
    record.put("state", json!(job.state.name().as_str()));
    record.put("worker", json!(job.worker.as_deref().unwrap_or_default()));
    record.put("attempt", json!(job.attempt));
    record.put("failures", json!(job.failures));
    record.put("losses", json!(job.losses));
    record.put("priority", json!(submission.priority));
    record.put("requires", json!(submission.requires));
    if !submission.after.is_empty() {
        record.put("after", submission.after.iter().map(JobId::to_string).collect());
    }
    record.put_some("key", submission.key.as_ref());
    record.put_some("affinity", submission.affinity.as_ref());
    record.put_some(
        "retries",
        submission.attempts.map(|attempts| attempts.saturating_sub(1)),
    );
    record.put_time("delay_ms", some(submission.delay));
    record.put_time("timeout_ms", submission.timeout);
    record.put_time("deadline_ms", submission.deadline);
    record.put_time("at_ms", some(submission.not_before));
    record.put_time("submitted_ms", Some(job.submitted));
    record.put_bytes("data", &submission.data);
    match &job.state {
        StoredState::Delayed { until } => record.put_time("due_ms", Some(*until)),
        StoredState::Ended { at, result, .. } => {
            record.put_time("ended_ms", Some(*at));
            record.put_bytes("result", result);
        }
        StoredState::Held | StoredState::Queued | StoredState::Running => {}
    }
    record.put_some("info", job.info.as_deref());
    record.0
}

/// An attempt that failed or lost its worker.
pub(super) fn attempt(attempt: &Attempt) -> Value {
    let mut record = Record(Map::new());
    record.put("attempt", json!(attempt.attempt));
    record.put_some("worker", attempt.worker.as_ref());
    record.put("outcome", json!(attempt.outcome));
    record.put_time("over_ms", Some(attempt.over));
    record.put_some("reason", attempt.reason.as_ref());
    Value::Object(record.0)
}

/// An event.
pub(super) fn event(event: &Happened) -> Value {
    let mut record = Record(Map::new());
    record.put_time("time_ms", Some(event.at));
    record.put("event", json!(event.name));
    record.put_some("attempt", event.attempt);
    record.put_some("worker", event.worker.as_ref());
    record.put_some("reason", event.reason.as_ref());
    Value::Object(record.0)
}

struct Record(Map<String, Value>);

impl Record {
    fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn put_some(&mut self, name: &str, value: Option<impl serde::Serialize>) {
        if let Some(value) = value {
            self.put(name, json!(value));
        }
    }

    fn put_time(&mut self, name: &str, time: Option<Duration>) {
        self.put_some(name, time.map(|time| time.as_millis() as u64));
    }

    fn put_bytes(&mut self, name: &str, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.put(name, json!(text)),
            Err(_) => self.put(&format!("{name}_base64"), json!(base64(bytes))),
        }
    }
}

fn some(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * at) & 63) as usize];
            text.push(if at > group.len() { '=' } else { digit.into() });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4648.
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
