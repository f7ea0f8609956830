//! Writing messages. Each function appends one line, with its `\n`.
//!
//! Data are bytes, and stay as they are where a message holds them verbatim. In JSON, what is not UTF-8 becomes U+FFFD.
use crate::id::{Handle, JobId};
use crate::order::Registered;
use crate::refusal::Code;
use crate::request::{Registration, SubmitOptions};
use crate::state::{Format, State};
use crate::tcl::{self, Newlines};
use memchr::memchr2;
use serde_json::Value;
use std::time::Duration;

/// `JOB_ACCEPTED:<id>`: the answer to a submission.
pub fn accepted(out: &mut Vec<u8>, id: JobId) {
    out.extend_from_slice(b"JOB_ACCEPTED:");
    put_job(out, id);
    out.push(b'\n');
}

/// `JOB_RESULT:<id>:<outcome>:<data>`. In the data, newlines appear as `\n` and carriage returns as `\r`.
pub fn result(out: &mut Vec<u8>, id: JobId, outcome: State, data: &[u8]) {
    out.extend_from_slice(b"JOB_RESULT:");
    put_job(out, id);
    out.push(b':');
    out.extend_from_slice(outcome.as_str().as_bytes());
    out.push(b':');
    put_one_line(out, data, b"\\n", b"\\r");
    out.push(b'\n');
}

/// `PROCESS_JOB:<handle>:<data>`, or the JSON form if the data has newlines or carriage returns; only workers with
/// `protocol` 1 or more understand that one.
pub fn process_job(out: &mut Vec<u8>, handle: Handle, data: &[u8]) {
    out.extend_from_slice(b"PROCESS_JOB:");
    put_data(out, handle, "data", data);
}

/// `JOB_COMPLETE:<handle>:<result>`, or the JSON form if the result has newlines or carriage returns.
pub fn complete(out: &mut Vec<u8>, handle: Handle, result: &[u8]) {
    out.extend_from_slice(b"JOB_COMPLETE:");
    put_data(out, handle, "result", result);
}

/// `JOB_FAILED:<handle>:<message>`, or the JSON form if there is `info`, or the message has newlines or carriage returns.
/// A coordinator in plain Tcl does not understand the JSON form.
pub fn failed(out: &mut Vec<u8>, handle: Handle, message: &[u8], info: Option<&str>) {
    out.extend_from_slice(b"JOB_FAILED:");
    let Some(info) = info else {
        put_data(out, handle, "message", message);
        return;
    };
    put_object(out, handle, "message", message);
    out.extend_from_slice(b",\"info\":");
    put_string(out, info);
    out.extend_from_slice(b"}\n");
}

/// `JOB_PROGRESS:<handle>:<percent>:<note>`. Newlines in the note become blanks.
pub fn progress(out: &mut Vec<u8>, handle: Handle, percent: f64, note: &[u8]) {
    out.extend_from_slice(b"JOB_PROGRESS:");
    put_handle(out, handle);
    out.push(b':');
    // Without a point where it is whole.
    out.extend_from_slice(percent.to_string().as_bytes());
    out.push(b':');
    put_one_line(out, note, b" ", b" ");
    out.push(b'\n');
}

/// `CANCEL_JOB:<handle>`: the worker is to stop this attempt.
pub fn cancel_job(out: &mut Vec<u8>, handle: Handle) {
    out.extend_from_slice(b"CANCEL_JOB:");
    put_handle(out, handle);
    out.push(b'\n');
}

/// `RETURN_JOB:<handle>`: the worker is to give this attempt back, if it has not begun it.
pub fn return_job(out: &mut Vec<u8>, handle: Handle) {
    out.extend_from_slice(b"RETURN_JOB:");
    put_handle(out, handle);
    out.push(b'\n');
}

/// `JOB_RETURNED:<handle>`: the worker has not begun this attempt, and will not.
pub fn job_returned(out: &mut Vec<u8>, handle: Handle) {
    out.extend_from_slice(b"JOB_RETURNED:");
    put_handle(out, handle);
    out.push(b'\n');
}

/// `ERROR:<code>:<text>`. Newlines and other control characters in the text become blanks.
pub fn error(out: &mut Vec<u8>, code: Code, text: &str) {
    out.extend_from_slice(b"ERROR:");
    out.extend_from_slice(code.as_str().as_bytes());
    out.push(b':');
    if text.chars().any(char::is_control) {
        out.extend_from_slice(text.replace(char::is_control, " ").as_bytes());
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'\n');
}

/// `REGISTER:{json}`: this connection is a worker's.
pub fn register(out: &mut Vec<u8>, registration: &Registration) {
    out.extend_from_slice(b"REGISTER:{\"id\":");
    put_string(out, &registration.id);
    out.extend_from_slice(b",\"type\":");
    put_string(out, &registration.kind);
    out.extend_from_slice(b",\"capabilities\":");
    put_strings(out, &registration.capabilities);
    out.extend_from_slice(b",\"slots\":");
    put_number(out, registration.slots);
    if registration.prefetch > 0 {
        out.extend_from_slice(b",\"prefetch\":");
        put_number(out, registration.prefetch);
    }
    if let Some(weight) = registration.weight {
        out.extend_from_slice(b",\"weight\":");
        put_number(out, weight);
    }
    out.extend_from_slice(b",\"protocol\":");
    put_number(out, registration.protocol);
    if let Some(token) = &registration.token {
        out.extend_from_slice(b",\"token\":");
        put_string(out, token);
    }
    if !registration.running.is_empty() {
        let running: Vec<String> = registration.running.iter().map(Handle::to_string).collect();
        out.extend_from_slice(b",\"running\":");
        put_strings(out, &running);
        out.extend_from_slice(b",\"epoch\":");
        put_string(out, &registration.epoch);
    }
    out.extend_from_slice(b"}\n");
}

/// `REGISTERED:{json}`: the answer to `REGISTER`.
pub fn registered(out: &mut Vec<u8>, registered: &Registered) {
    out.extend_from_slice(b"REGISTERED:{\"protocol\":");
    put_number(out, registered.protocol);
    out.extend_from_slice(b",\"id\":");
    put_string(out, &registered.id);
    out.extend_from_slice(b",\"heartbeat_ms\":");
    put_number(out, milliseconds(registered.heartbeat));
    out.extend_from_slice(b",\"max_line\":");
    put_number(out, registered.max_line);
    out.extend_from_slice(b",\"epoch\":");
    put_string(out, &registered.epoch);
    out.extend_from_slice(b"}\n");
}

/// `HEARTBEAT:<clock>` or `HEARTBEAT:<clock>:<interp_ms>`: the worker's clock in seconds, and how long ago in milliseconds its
/// interpreters last answered. A coordinator in plain Tcl shows both as the clock.
pub fn heartbeat(out: &mut Vec<u8>, clock_secs: u64, interp_ms: Option<u64>) {
    out.extend_from_slice(b"HEARTBEAT:");
    put_number(out, clock_secs);
    if let Some(interp_ms) = interp_ms {
        out.push(b':');
        put_number(out, interp_ms);
    }
    out.push(b'\n');
}

/// `SUBMIT_JOB:<data>`, or `SUBMIT:{json}` if there are options, or newlines or carriage returns in the data. Durations are
/// sent to the millisecond, beyond eleven days to the second; 31 years are the longest.
pub fn submit(out: &mut Vec<u8>, data: &[u8], options: &SubmitOptions) {
    if *options == SubmitOptions::default() && memchr2(b'\n', b'\r', data).is_none() {
        out.extend_from_slice(b"SUBMIT_JOB:");
        out.extend_from_slice(data);
        out.push(b'\n');
        return;
    }
    out.extend_from_slice(b"SUBMIT:{\"data\":");
    put_string(out, &String::from_utf8_lossy(data));
    if let Some(priority) = options.priority {
        out.extend_from_slice(b",\"priority\":");
        put_number(out, priority);
    }
    if let Some(requires) = &options.requires {
        out.extend_from_slice(b",\"requires\":");
        put_strings(out, requires);
    }
    if let Some(after) = &options.after {
        out.extend_from_slice(b",\"after\":\"");
        for (at, &id) in after.iter().enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            put_job(out, id);
        }
        out.push(b'"');
    }
    if let Some(at) = options.at {
        let at = format!(",\"at\":\"{}.{:03}\"", at.as_secs(), at.subsec_millis());
        out.extend_from_slice(at.as_bytes());
    }
    for (name, duration) in [
        ("delay", options.delay),
        ("timeout", options.timeout),
        ("deadline", options.deadline),
    ] {
        if let Some(duration) = duration {
            put_name(out, name);
            out.push(b'"');
            put_duration(out, duration);
            out.push(b'"');
        }
    }
    if let Some(retries) = options.retries {
        out.extend_from_slice(b",\"retries\":");
        put_number(out, retries);
    }
    for (name, text) in [("key", &options.key), ("affinity", &options.affinity)] {
        if let Some(text) = text {
            put_name(out, name);
            put_string(out, text);
        }
    }
    out.extend_from_slice(b"}\n");
}

/// `VERB:{json}`, or `VERB:` and a Tcl dict or list on one line, which `dict get` and `lindex` read exactly. A value that is
/// a text alone is written as a list with one element.
pub fn answer(out: &mut Vec<u8>, verb: &str, format: Format, value: &Value) {
    out.extend_from_slice(verb.as_bytes());
    out.push(b':');
    match (format, value) {
        (Format::Json, value) => put_json(out, value),
        (Format::Tcl, Value::String(text)) => tcl::element(out, text.as_bytes(), Newlines::Escaped, true),
        (Format::Tcl, value) => tcl::value(out, value, Newlines::Escaped),
    }
    out.push(b'\n');
}

fn put_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put_job(out: &mut Vec<u8>, id: JobId) {
    out.extend_from_slice(b"JOB-");
    put_number(out, id.0);
}

fn put_handle(out: &mut Vec<u8>, handle: Handle) {
    put_job(out, handle.job);
    if handle.attempt > 1 {
        out.push(b'.');
        put_number(out, handle.attempt);
    }
}

/// `<handle>:<data>`, or `{"handle":…,"<name>":…}` if the data would not stay on the line.
fn put_data(out: &mut Vec<u8>, handle: Handle, name: &str, data: &[u8]) {
    if memchr2(b'\n', b'\r', data).is_some() {
        put_object(out, handle, name, data);
        out.push(b'}');
    } else {
        put_handle(out, handle);
        out.push(b':');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// `{"handle":…,"<name>":…`, not closed.
fn put_object(out: &mut Vec<u8>, handle: Handle, name: &str, data: &[u8]) {
    out.extend_from_slice(b"{\"handle\":\"");
    put_handle(out, handle);
    out.push(b'"');
    put_name(out, name);
    put_string(out, &String::from_utf8_lossy(data));
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn put_one_line(out: &mut Vec<u8>, mut text: &[u8], newline: &[u8], carriage_return: &[u8]) {
    while let Some(at) = memchr2(b'\n', b'\r', text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(if text[at] == b'\n' {
            newline
        } else {
            carriage_return
        });
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    put_json(out, text);
}

fn put_strings(out: &mut Vec<u8>, texts: &[String]) {
    put_json(out, texts);
}

fn put_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Texts have a JSON form, and memory is no file that could be full.
    let _ = serde_json::to_writer(out, value);
}

/// With at most 9 digits, which is what is read.
fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    const MOST: u64 = 999_999_999;
    let milliseconds = milliseconds(duration);
    if milliseconds <= MOST {
        put_number(out, milliseconds);
        out.extend_from_slice(b"ms");
    } else {
        put_number(out, duration.as_secs().min(MOST));
        out.push(b's');
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
