//! What a coordinator receives.
use crate::duration::parse_duration;
use crate::id::{Handle, JobId};
use crate::json;
use crate::refusal::{Code, Refusal, excerpt};
use crate::state::{Format, State};
use crate::time::parse_time;
use memchr::memchr;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::time::Duration;

/// A line from a worker or a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Request<'a> {
    /// An empty line, or a `PONG`: nothing to answer.
    Empty,
    /// A job.
    Submit(Submission<'a>),
    /// This connection is a worker's.
    Register(Registration),
    /// A worker is alive.
    Heartbeat(Beat<'a>),
    /// An attempt has a result.
    Complete {
        /// The attempt.
        handle: Handle,
        /// The result.
        result: Cow<'a, [u8]>,
    },
    /// An attempt failed.
    Failed {
        /// The attempt.
        handle: Handle,
        /// Why, for people.
        message: Cow<'a, [u8]>,
        /// Where in the script: Tcl's `errorInfo`.
        info: Option<String>,
    },
    /// An attempt goes on.
    Progress {
        /// The attempt.
        handle: Handle,
        /// 0 to 100.
        percent: f64,
        /// What is being done.
        note: &'a [u8],
    },
    /// A worker gives back an attempt that it has not begun.
    Returned(Handle),
    /// A worker's answer to an attempt that there cannot be.
    Misnamed(Misnamed<'a>),
    /// A worker takes no more jobs.
    Drain,
    /// Counts of jobs, workers and slots.
    Status,
    /// Everything about one job.
    Job(JobId),
    /// A page of jobs.
    Jobs(JobsQuery),
    /// The workers.
    Workers,
    /// The schedules.
    Schedules,
    /// The result of this job when it has ended.
    Wait(JobId),
    /// End this job.
    Cancel(JobId),
    /// Queue a failed or expired job again, with its attempts counted anew.
    Retry(JobId),
    /// Forget an ended job and its result now.
    Purge(JobId),
    /// Hand out no more jobs.
    Pause,
    /// Hand out jobs again.
    Resume,
    /// Whether events are to be sent.
    Watch(bool),
    /// The form of structured answers from now on.
    Format(Format),
    /// A token.
    Auth(&'a [u8]),
    /// The verbs: [`VERBS`].
    Help,
    /// To be answered with `PONG`.
    Ping,
}

/// How many jobs a job may be after.
pub const MAX_AFTER: usize = 64;

/// A job that a client wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission<'a> {
    /// What to process, verbatim.
    pub data: Cow<'a, [u8]>,
    /// How.
    pub options: SubmitOptions,
}

/// How a job is to be done. What is not said is left to routes and settings; what is said, even 0 or an empty list, goes
/// before them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubmitOptions {
    /// -100 to 100; higher is sooner.
    pub priority: Option<i32>,
    /// What a worker must be capable of: at most 16, sorted, each once.
    pub requires: Option<Vec<String>>,
    /// The jobs that must have completed before: at most [`MAX_AFTER`], sorted, each once.
    pub after: Option<Vec<JobId>>,
    /// The time before which it is not queued, since 1970, to the millisecond.
    pub at: Option<Duration>,
    /// How long to wait before it is queued, to the millisecond.
    pub delay: Option<Duration>,
    /// How long one attempt may take, to the millisecond; 0 for no limit.
    pub timeout: Option<Duration>,
    /// How long all may take from the submission on, to the millisecond; 0 for no limit.
    pub deadline: Option<Duration>,
    /// How often to try again after a failure: 0 to 100.
    pub retries: Option<u32>,
    /// A submission with the key of an earlier one means the same job. Never empty.
    pub key: Option<String>,
    /// Jobs of one affinity go to the same worker where possible. Never empty.
    pub affinity: Option<String>,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// 1 to 64 letters, digits or `_ . @ -`.
    pub id: String,
    /// Its `type`: a word for people.
    pub kind: String,
    /// At most 64, as they were given.
    pub capabilities: Vec<String>,
    /// How many jobs it does at once: 1 to 1000.
    pub slots: u32,
    /// How many more it takes beforehand: 0 to 1000.
    pub prefetch: u32,
    /// Its share of the work compared with others: 1 to 10,000.
    pub weight: Option<u32>,
    /// 1 or more: it understands the JSON forms.
    pub protocol: u32,
    /// What lets it in, where that is asked for.
    pub token: Option<String>,
    /// The attempts that it still does, or has answers to which it could not report: at most [`MAX_RUNNING`].
    pub running: Vec<Handle>,
    /// The life of the coordinator that those are of.
    pub epoch: String,
}

/// How many capabilities a worker can register.
pub const MAX_CAPABILITIES: usize = 64;

/// Whether a worker can register under a name: 1 to 64 letters, digits or `_ . @ -`.
pub fn is_worker_id(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '@' | '-');
    name.chars().all(fits) && (1..=64).contains(&name.chars().count())
}

/// How many attempts a worker can say that it still does.
pub const MAX_RUNNING: usize = 1000;

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat<'a> {
    /// The worker's clock, to be shown and not to be judged by.
    pub clock: &'a [u8],
    /// How long ago, in milliseconds, the worker's interpreters last answered.
    pub interp_ms: Option<u64>,
}

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsQuery {
    /// Only these.
    pub state: Option<State>,
    /// 1 to 1000.
    pub limit: usize,
    /// Only older ones than this. There need not be such a job.
    pub after: Option<JobId>,
}

/// A worker's answer with a handle that no attempt can have. What is wrong with it depends on what the coordinator knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misnamed<'a> {
    handle: Cow<'a, [u8]>,
    progress: bool,
}

impl Misnamed<'_> {
    /// How it is refused: to a connection that has or has not registered, by a coordinator that knows some jobs.
    pub fn refusal(&self, registered: bool, known: impl FnOnce(JobId) -> bool) -> Refusal {
        if self.progress {
            return Refusal::new(Code::StaleAttempt, excerpt(&self.handle));
        }
        if !registered {
            return not_a_worker();
        }
        let job = self.job().filter(|&job| known(job));
        let code = if job.is_some() {
            Code::StaleAttempt
        } else {
            Code::UnknownJob
        };
        Refusal::new(code, excerpt(&self.handle))
    }

    /// The job that it is about: `JOB-1.1` and `JOB-1.01` are about `JOB-1`.
    fn job(&self) -> Option<JobId> {
        let dot = memchr(b'.', &self.handle)?;
        let attempt = &self.handle[dot + 1..];
        if attempt.is_empty() || !attempt.iter().all(u8::is_ascii_digit) {
            return None;
        }
        JobId::parse(&self.handle[..dot]).ok()
    }
}

/// What to answer to `HEARTBEAT`, `JOB_COMPLETE`, `JOB_FAILED` and `JOB_RETURNED` from a connection that has not registered.
fn not_a_worker() -> Refusal {
    Refusal::new(Code::NotAWorker, "REGISTER first")
}

/// What a client can say, and what becomes of it: the answer to `HELP`.
pub const VERBS: &[(&str, &str)] = &[
    (
        "SUBMIT_JOB:<data>",
        "submit a job; JOB_ACCEPTED now, JOB_RESULT when it is done",
    ),
    (
        "SUBMIT:{json}",
        "the same with options: data priority requires after at delay timeout deadline retries key affinity",
    ),
    ("STATUS", "counts of jobs, workers and slots"),
    ("JOB:<id>", "everything about one job"),
    ("JOBS:{json}", "a page of jobs, newest first: state limit after"),
    ("WORKERS", "the workers"),
    (
        "SCHEDULES",
        "what is submitted at which times, and when it last was",
    ),
    ("WAIT:<id>", "be sent the JOB_RESULT of this job"),
    ("CANCEL:<id>", "cancel a job"),
    ("RETRY:<id>", "queue a failed, expired or cancelled job again"),
    ("PURGE:<id>", "forget an ended job and its result now"),
    ("PAUSE", "hand out no more jobs; RESUME goes on"),
    ("RESUME", "hand out jobs again"),
    ("WATCH", "be sent EVENT lines; WATCH:off ends it"),
    (
        "FORMAT:json|tcl",
        "the form of structured answers on this connection",
    ),
    ("AUTH:<token>", "show a token, where one is asked for"),
    ("PING", "PONG"),
    ("HELP", "this"),
];

/// Reads a line, without its `\n`, from a worker or a client. A `\r` at its end is dropped.
///
/// # Errors
/// `unknown-verb`, `bad-json`, `bad-request`, and `unknown-job` for what is not even the name of a job.
pub fn parse_request(line: &[u8]) -> Result<Request<'_>, Refusal> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (verb, given) = match memchr(b':', line) {
        Some(colon) => (&line[..colon], Some(&line[colon + 1..])),
        None => (line, None),
    };
    let rest = given.unwrap_or_default();
    Ok(match verb {
        b"SUBMIT_JOB" => Request::Submit(Submission {
            data: Cow::Borrowed(given.ok_or_else(|| Refusal::bad_request("expected SUBMIT_JOB:<data>"))?),
            options: SubmitOptions::default(),
        }),
        b"JOB_COMPLETE" => complete(rest)?,
        b"HEARTBEAT" => Request::Heartbeat(beat(rest)),
        b"PING" => alone("PING", rest, Request::Ping)?,
        b"PONG" => Request::Empty,
        b"" if given.is_none() => Request::Empty,
        b"JOB_PROGRESS" => progress(rest)?,
        b"JOB_FAILED" => failed(rest)?,
        b"JOB_RETURNED" => match Handle::parse(rest) {
            Ok(handle) => Request::Returned(handle),
            Err(_) => misnamed(Cow::Borrowed(rest), false),
        },
        b"SUBMIT" => Request::Submit(submission(json::object(rest)?)?),
        b"REGISTER" => Request::Register(registration(json::object(rest)?)?),
        b"DRAIN" => alone("DRAIN", rest, Request::Drain)?,
        b"STATUS" => alone("STATUS", rest, Request::Status)?,
        b"JOB" => Request::Job(job("JOB", rest)?),
        b"JOBS" if rest.is_empty() => Request::Jobs(jobs_query(Map::new())?),
        b"JOBS" => Request::Jobs(jobs_query(json::object(rest)?)?),
        b"WORKERS" => alone("WORKERS", rest, Request::Workers)?,
        b"SCHEDULES" => alone("SCHEDULES", rest, Request::Schedules)?,
        b"WAIT" => Request::Wait(job("WAIT", rest)?),
        b"CANCEL" => Request::Cancel(job("CANCEL", rest)?),
        b"RETRY" => Request::Retry(job("RETRY", rest)?),
        b"PURGE" => Request::Purge(job("PURGE", rest)?),
        b"PAUSE" => alone("PAUSE", rest, Request::Pause)?,
        b"RESUME" => alone("RESUME", rest, Request::Resume)?,
        b"WATCH" => Request::Watch(match rest {
            b"" | b"on" => true,
            b"off" => false,
            _ => return Err(Refusal::bad_request("expected WATCH or WATCH:off")),
        }),
        b"FORMAT" => Request::Format(match rest {
            b"json" => Format::Json,
            b"tcl" => Format::Tcl,
            _ => return Err(Refusal::bad_request("expected FORMAT:json or FORMAT:tcl")),
        }),
        b"AUTH" => Request::Auth(rest),
        b"HELP" => alone("HELP", rest, Request::Help)?,
        _ => return Err(unknown_verb(verb)),
    })
}

#[cold]
fn unknown_verb(verb: &[u8]) -> Refusal {
    let printable = |c: char| matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1;
    if verb.is_empty() {
        let text = "there is none before the colon (HELP lists the verbs)";
        return Refusal::new(Code::UnknownVerb, text);
    }
    let shown: String = excerpt(verb)
        .chars()
        .map(|c| if printable(c) { c } else { '?' })
        .collect();
    Refusal::new(Code::UnknownVerb, format!("{shown} (HELP lists the verbs)"))
}

/// `<handle>:<rest>`.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b':', text) {
        Some(colon) => (&text[..colon], &text[colon + 1..]),
        None => (text, &[]),
    }
}

/// A request of a verb that nothing follows.
fn alone<'a>(verb: &str, rest: &[u8], request: Request<'a>) -> Result<Request<'a>, Refusal> {
    if rest.is_empty() {
        Ok(request)
    } else {
        Err(Refusal::bad_request(format!("expected {verb} alone")))
    }
}

fn job(verb: &str, name: &[u8]) -> Result<JobId, Refusal> {
    if name.is_empty() {
        return Err(Refusal::bad_request(format!(
            "expected {verb}:<id>, such as {verb}:JOB-7"
        )));
    }
    JobId::parse(name).map_err(|_| Refusal::new(Code::UnknownJob, excerpt(name)))
}

fn misnamed(handle: Cow<'_, [u8]>, progress: bool) -> Request<'_> {
    Request::Misnamed(Misnamed { handle, progress })
}

fn complete(rest: &[u8]) -> Result<Request<'_>, Refusal> {
    let (name, result) = if rest.first() == Some(&b'{') {
        let mut fields = json::object(rest)?;
        let (Some(name), Some(result)) = (fields.remove("handle"), fields.remove("result")) else {
            return Err(Refusal::bad_request(
                "expected JOB_COMPLETE:{\"handle\":...,\"result\":...}",
            ));
        };
        (owned(name), owned(result))
    } else {
        let (name, result) = split(rest);
        (Cow::Borrowed(name), Cow::Borrowed(result))
    };
    Ok(match Handle::parse(&name) {
        Ok(handle) => Request::Complete { handle, result },
        Err(_) => misnamed(name, false),
    })
}

fn failed(rest: &[u8]) -> Result<Request<'_>, Refusal> {
    let (name, message, info) = if rest.first() == Some(&b'{') {
        let mut fields = json::object(rest)?;
        let (Some(name), Some(message)) = (fields.remove("handle"), fields.remove("message")) else {
            return Err(Refusal::bad_request(
                "expected JOB_FAILED:{\"handle\":...,\"message\":...}",
            ));
        };
        (owned(name), owned(message), fields.remove("info").map(json::text))
    } else {
        let (name, message) = split(rest);
        (Cow::Borrowed(name), Cow::Borrowed(message), None)
    };
    Ok(match Handle::parse(&name) {
        Ok(handle) => Request::Failed {
            handle,
            message,
            info,
        },
        Err(_) => misnamed(name, false),
    })
}

fn owned<'a>(value: Value) -> Cow<'a, [u8]> {
    Cow::Owned(json::text(value).into_bytes())
}

fn progress(rest: &[u8]) -> Result<Request<'_>, Refusal> {
    let (name, rest) = split(rest);
    let (percent, note) = split(rest);
    let Ok(handle) = Handle::parse(name) else {
        return Ok(misnamed(Cow::Borrowed(name), true));
    };
    let percent = percentage(percent)
        .ok_or_else(|| Refusal::bad_request("expected JOB_PROGRESS:<handle>:<percent>:<note>"))?;
    Ok(Request::Progress {
        handle,
        percent,
        note,
    })
}

fn percentage(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let number = match text.parse() {
        Ok(number) => number,
        // 0x10 is a number to Tcl.
        Err(_) => json::integer(text)? as f64,
    };
    // No -0.
    Some(number + 0.0).filter(|number| (0.0..=100.0).contains(number))
}

fn beat(rest: &[u8]) -> Beat<'_> {
    let (clock, age) = split(rest);
    let interp_ms = std::str::from_utf8(age).ok().and_then(|age| age.parse().ok());
    Beat {
        // Whatever else has a colon is a clock.
        clock: if interp_ms.is_some() { clock } else { rest },
        interp_ms,
    }
}

/// A whole number in a range.
fn ranged(value: Value, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    json::integer(&json::text(value)).filter(|number| range.contains(number))
}

fn submission<'a>(fields: Map<String, Value>) -> Result<Submission<'a>, Refusal> {
    if !fields.contains_key("data") {
        return Err(Refusal::bad_request("expected SUBMIT:{\"data\":...}"));
    }
    let mut data = Cow::Borrowed(&b""[..]);
    let mut options = SubmitOptions::default();
    for (name, value) in fields {
        let refuse = |text: &str| Refusal::bad_request(text);
        match name.as_str() {
            "data" => data = owned(value),
            "priority" => {
                let number = ranged(value, -100..=100)
                    .ok_or_else(|| refuse("priority is a whole number from -100 to 100"))?;
                options.priority = Some(number as i32);
            }
            "requires" => {
                let mut words = json::words(value, 16)
                    .ok_or_else(|| refuse("requires is a list of at most 16 capabilities"))?;
                if words.iter().any(String::is_empty) {
                    return Err(refuse(
                        "requires has an empty word, and no worker has such a capability",
                    ));
                }
                words.sort_unstable();
                words.dedup();
                options.requires = Some(words);
            }
            "after" => {
                let mut jobs = jobs(value)
                    .ok_or_else(|| refuse("after is a list of at most 64 jobs, such as JOB-1 JOB-2"))?;
                jobs.sort_unstable();
                jobs.dedup();
                options.after = Some(jobs);
            }
            "at" => {
                let time = parse_time(&json::text(value)).ok_or_else(|| {
                    refuse("at is a time such as 2030-12-24T18:00:00Z, or in seconds since 1970")
                })?;
                options.at = Some(time);
            }
            "delay" => options.delay = Some(duration(&name, value)?),
            "timeout" => options.timeout = Some(duration(&name, value)?),
            "deadline" => options.deadline = Some(duration(&name, value)?),
            "retries" => {
                let number = ranged(value, 0..=100)
                    .ok_or_else(|| refuse("retries is a whole number from 0 to 100"))?;
                options.retries = Some(number as u32);
            }
            "key" => options.key = Some(json::text(value)).filter(|key| !key.is_empty()),
            "affinity" => options.affinity = Some(json::text(value)).filter(|name| !name.is_empty()),
            _ => {
                return Err(Refusal::bad_request(format!(
                    "unknown option {}: expected data, priority, requires, after, at, delay, timeout, deadline, retries, key or affinity",
                    excerpt(name.as_bytes())
                )));
            }
        }
    }
    Ok(Submission { data, options })
}

fn jobs(value: Value) -> Option<Vec<JobId>> {
    let names = json::words(value, MAX_AFTER)?;
    names.iter().map(|name| name.parse().ok()).collect()
}

fn duration(name: &str, value: Value) -> Result<Duration, Refusal> {
    parse_duration(&json::text(value)).ok_or_else(|| {
        Refusal::bad_request(format!(
            "{name} is a duration such as 500ms, 10s or 2m (a bare number is seconds)"
        ))
    })
}

fn registration(mut fields: Map<String, Value>) -> Result<Registration, Refusal> {
    let id = fields.remove("id").map(json::text).unwrap_or_default();
    if !is_worker_id(&id) {
        return Err(Refusal::bad_request(
            "id must be 1 to 64 letters, digits or _ . @ -",
        ));
    }
    let mut number = |name: &str, range, otherwise| match fields.remove(name) {
        Some(value) => ranged(value, range),
        None => Some(otherwise),
    };
    let most = i64::from(u32::MAX);
    let (slots, prefetch, protocol, weight) = (
        number("slots", 1..=1000, 1),
        number("prefetch", 0..=1000, 0),
        number("protocol", -most..=most, 0),
        number("weight", 1..=10_000, 0),
    );
    let capabilities = match fields.remove("capabilities") {
        Some(value) => json::words(value, MAX_CAPABILITIES),
        None => Some(Vec::new()),
    };
    let refuse = |text: &str| Refusal::bad_request(text);
    let slots = slots.ok_or_else(|| refuse("slots is a whole number from 1 to 1000"))?;
    let prefetch = prefetch.ok_or_else(|| refuse("prefetch is a whole number from 0 to 1000"))?;
    let capabilities = capabilities.ok_or_else(|| refuse("capabilities is a list of at most 64 words"))?;
    let protocol = protocol.ok_or_else(|| refuse("protocol is a whole number"))?;
    let running = match fields.remove("running") {
        Some(value) => json::words(value, MAX_RUNNING)
            .and_then(|handles| handles.iter().map(|handle| handle.parse().ok()).collect()),
        None => Some(Vec::new()),
    };
    let running =
        running.ok_or_else(|| refuse("running is a list of at most 1000 handles such as JOB-7.2"))?;
    let weight = weight.ok_or_else(|| refuse("weight is a whole number from 1 to 10000"))?;
    Ok(Registration {
        id,
        kind: fields
            .remove("type")
            .map_or_else(|| "worker".to_owned(), json::text),
        capabilities,
        slots: slots as u32,
        prefetch: prefetch as u32,
        weight: Some(weight as u32).filter(|&weight| weight > 0),
        protocol: u32::try_from(protocol).unwrap_or(0),
        token: fields.remove("token").map(json::text),
        running,
        epoch: fields.remove("epoch").map(json::text).unwrap_or_default(),
    })
}

fn jobs_query(mut fields: Map<String, Value>) -> Result<JobsQuery, Refusal> {
    if let Some(name) = fields
        .keys()
        .find(|name| !["state", "limit", "after"].contains(&name.as_str()))
    {
        return Err(Refusal::bad_request(format!(
            "unknown option {}: expected state, limit or after",
            excerpt(name.as_bytes())
        )));
    }
    let limit = match fields.remove("limit") {
        Some(value) => ranged(value, 1..=1000)
            .ok_or_else(|| Refusal::bad_request("limit is a whole number from 1 to 1000"))?,
        None => 50,
    };
    let mut text = |name: &str| {
        fields
            .remove(name)
            .map(json::text)
            .filter(|text| !text.is_empty())
    };
    let state = match text("state") {
        Some(state) => Some(state.parse().map_err(|_| {
            let mut names = State::ALL.map(State::as_str);
            names.sort_unstable();
            Refusal::bad_request(format!("state is one of {}", names.join(", ")))
        })?),
        None => None,
    };
    let after = match text("after") {
        Some(after) => Some(page_end(&after).ok_or_else(|| Refusal::bad_request("after is a job id"))?),
        None => None,
    };
    Ok(JobsQuery {
        state,
        limit: limit as usize,
        after,
    })
}

/// `JOB-` and up to 15 digits.
fn page_end(text: &str) -> Option<JobId> {
    let digits = text.strip_prefix("JOB-")?;
    if digits.len() > 15 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(JobId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request<'_>, String> {
        parse_request(line.as_bytes()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn words_alone() {
        for (line, expected) in [
            ("", Request::Empty),
            ("\r", Request::Empty),
            ("PONG", Request::Empty),
            ("PING", Request::Ping),
            ("PING\r", Request::Ping),
            ("STATUS", Request::Status),
            ("WORKERS", Request::Workers),
            ("SCHEDULES", Request::Schedules),
            ("HELP", Request::Help),
            ("DRAIN", Request::Drain),
            ("PAUSE", Request::Pause),
            ("RESUME", Request::Resume),
            ("WATCH", Request::Watch(true)),
            ("WATCH:off", Request::Watch(false)),
            ("FORMAT:json", Request::Format(Format::Json)),
            ("FORMAT:tcl", Request::Format(Format::Tcl)),
            ("AUTH:a:b", Request::Auth(b"a:b")),
            ("JOB:JOB-1", Request::Job(JobId(1))),
            ("WAIT:JOB-2", Request::Wait(JobId(2))),
            ("CANCEL:JOB-3", Request::Cancel(JobId(3))),
            ("RETRY:JOB-4", Request::Retry(JobId(4))),
        ] {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_too_much_or_too_little() {
        for (line, expected) in [
            (
                ":",
                "unknown-verb:there is none before the colon (HELP lists the verbs)",
            ),
            (
                "::x",
                "unknown-verb:there is none before the colon (HELP lists the verbs)",
            ),
            ("JOB", "bad-request:expected JOB:<id>, such as JOB:JOB-7"),
            ("WAIT:", "bad-request:expected WAIT:<id>, such as WAIT:JOB-7"),
            ("CANCEL", "bad-request:expected CANCEL:<id>, such as CANCEL:JOB-7"),
            ("RETRY", "bad-request:expected RETRY:<id>, such as RETRY:JOB-7"),
            ("PURGE", "bad-request:expected PURGE:<id>, such as PURGE:JOB-7"),
            ("JOB:x", "unknown-job:x"),
            ("WATCH:maybe", "bad-request:expected WATCH or WATCH:off"),
            ("PAUSE:1", "bad-request:expected PAUSE alone"),
            ("STATUS:x", "bad-request:expected STATUS alone"),
            ("PING:x", "bad-request:expected PING alone"),
            ("SCHEDULES:x", "bad-request:expected SCHEDULES alone"),
            (
                r#"SUBMIT:{"data":"x","requires":["gpu",""]}"#,
                "bad-request:requires has an empty word, and no worker has such a capability",
            ),
        ] {
            assert_eq!(parse(line), Err(expected.to_owned()), "{line}");
        }
        assert_eq!(parse("WATCH:on"), Ok(Request::Watch(true)));
        assert_eq!(parse("STATUS:"), Ok(Request::Status));
    }

    #[test]
    fn classic_lines_are_not_copied() {
        for line in ["SUBMIT_JOB:a:b", "JOB_COMPLETE:JOB-1:a:b", "JOB_FAILED:JOB-1:a:b"] {
            let (Request::Submit(Submission { data, .. })
            | Request::Complete { result: data, .. }
            | Request::Failed { message: data, .. }) = parse(line).unwrap()
            else {
                panic!("{line}");
            };
            assert!(matches!(data, Cow::Borrowed(b"a:b")), "{line}");
        }
    }

    #[test]
    fn data_are_verbatim_bytes() {
        let Ok(Request::Submit(job)) = parse_request(b"SUBMIT_JOB:\xff\0 :{\r\r") else {
            panic!("not a submission");
        };
        assert_eq!(&*job.data, b"\xff\0 :{\r");
    }

    #[test]
    fn every_option_of_a_submission() {
        let line = r#"SUBMIT:{"data":"a\nb","priority":-5,"requires":["gpu","data","gpu"],"delay":"20ms","timeout":1.5,
            "after":["JOB-9","JOB-2","JOB-9"],"at":"2030-12-24T18:00:00Z",
            "deadline":"1h","retries":"7","key":"k","affinity":"tenant-7"}"#;
        let options = SubmitOptions {
            priority: Some(-5),
            requires: Some(vec!["data".into(), "gpu".into()]),
            after: Some(vec![JobId(2), JobId(9)]),
            at: Some(Duration::from_secs(1_924_365_600)),
            delay: Some(Duration::from_millis(20)),
            timeout: Some(Duration::from_millis(1500)),
            deadline: Some(Duration::from_secs(3600)),
            retries: Some(7),
            key: Some("k".into()),
            affinity: Some("tenant-7".into()),
        };
        let data = Cow::Borrowed(&b"a\nb"[..]);
        assert_eq!(parse(line), Ok(Request::Submit(Submission { data, options })));
    }

    #[test]
    fn the_mistakes_of_new_fields() {
        for (line, expected) in [
            (
                r#"SUBMIT:{"data":1,"deadline":"soon"}"#,
                "bad-request:deadline is a duration such as 500ms, 10s or 2m (a bare number is seconds)",
            ),
            (
                r#"SUBMIT:{"data":1,"after":"JOB-1 x"}"#,
                "bad-request:after is a list of at most 64 jobs, such as JOB-1 JOB-2",
            ),
            (
                r#"SUBMIT:{"data":1,"at":"tomorrow"}"#,
                "bad-request:at is a time such as 2030-12-24T18:00:00Z, or in seconds since 1970",
            ),
            (
                r#"SUBMIT:{"data":1,"nope":1}"#,
                "bad-request:unknown option nope: expected data, priority, requires, after, at, delay, timeout, deadline, retries, key or affinity",
            ),
            (
                r#"REGISTER:{"id":"w","weight":0}"#,
                "bad-request:weight is a whole number from 1 to 10000",
            ),
            (
                r#"JOB_FAILED:{"handle":"JOB-1"}"#,
                "bad-request:expected JOB_FAILED:{\"handle\":...,\"message\":...}",
            ),
            ("RETRY:x", "unknown-job:x"),
        ] {
            assert_eq!(parse(line), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_job_may_be_after_64_others() {
        let submit = |count: usize| {
            let names: Vec<String> = (1..=count).map(|number| format!("JOB-{number}")).collect();
            let (list, words) = (names.join("\",\""), names.join(" "));
            [format!("[\"{list}\"]"), format!("\"{words}\"")]
                .map(|after| parse(&format!("SUBMIT:{{\"data\":1,\"after\":{after}}}")).is_ok())
        };
        assert_eq!((submit(64), submit(65)), ([true; 2], [false; 2]));
    }

    #[test]
    fn heartbeats() {
        for (line, clock, interp_ms) in [
            ("HEARTBEAT", "", None),
            ("HEARTBEAT:1633046400", "1633046400", None),
            ("HEARTBEAT:1633046400:12", "1633046400", Some(12)),
            ("HEARTBEAT:12:34:56", "12:34:56", None),
        ] {
            let clock = clock.as_bytes();
            assert_eq!(
                parse(line),
                Ok(Request::Heartbeat(Beat { clock, interp_ms })),
                "{line}"
            );
        }
    }

    #[test]
    fn a_handle_that_there_cannot_be() {
        for (line, registered, expected) in [
            ("JOB_COMPLETE", false, "not-a-worker:REGISTER first"),
            ("JOB_COMPLETE:JOB-1.1:x", true, "stale-attempt:JOB-1.1"),
            ("JOB_COMPLETE:JOB-2.1:x", true, "unknown-job:JOB-2.1"),
            ("JOB_FAILED:JOB-01:x", true, "unknown-job:JOB-01"),
            ("JOB_PROGRESS:a:b", false, "stale-attempt:a"),
        ] {
            let Ok(Request::Misnamed(answer)) = parse(line) else {
                panic!("{line}");
            };
            let refusal = answer.refusal(registered, |job| job == JobId(1));
            assert_eq!(refusal.to_string(), expected, "{line}");
        }
    }

    #[test]
    fn surrogates_without_their_other_half() {
        for (text, expected) in [
            (r"\ud83d\ude00", "😀"),
            (r"\uD83D\uDE00", "😀"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (r"\ud83d\ud83d\ude00!", "\u{fffd}😀!"),
            (r"\\ud83d", r"\ud83d"),
            (r"ç\\\ud83dç", "ç\\\u{fffd}ç"),
        ] {
            let line = format!("SUBMIT:{{\"data\":\"{text}\"}}");
            let Ok(Request::Submit(job)) = parse(&line) else {
                panic!("{line}");
            };
            assert_eq!(String::from_utf8_lossy(&job.data), expected, "{text}");
        }
    }

    #[test]
    fn help_names_every_verb_of_clients() {
        for (usage, _) in VERBS {
            let verb = usage.split(':').next().unwrap_or_default();
            let refusal = parse_request(verb.as_bytes()).err();
            assert!(
                refusal.is_none_or(|refusal| refusal.code != Code::UnknownVerb),
                "{verb}"
            );
        }
    }
}
