//! Hooks: what a script says to submissions, before they are taken, and what it is told of events.
use super::{Coordinator, event_fields, is_of_worker};
use crate::reactor::{Conn, Io, Reach, Service as _};
use crate::tor::{Callback, failure, report_of};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use torhost_dispatch::Event;
use torhost_protocol::{Code, JobId, MAX_AFTER, Refusal, Request, SubmitOptions, parse_duration, parse_time};
use torhost_tcl::{Error, Interp, Obj, Result};

/// How many submissions may be with the script. Connections that have more to submit are read no further.
const MOST_UNDECIDED: usize = 10_000;
/// How many events may wait for the script. More are lost.
const MOST_EVENTS: usize = 100_000;
/// How much of what a hook returned is quoted, in characters.
const MOST_QUOTED: usize = 100;

/// What can be listened to, in the order of `docs/protocol.md`.
pub(crate) const EVENTS: &[&str] = &[
    "submitted",
    "assigned",
    "progress",
    "completed",
    "failed",
    "retried",
    "requeued",
    "cancelled",
    "expired",
    "worker-up",
    "worker-down",
    "worker-suspect",
];

/// Who is asked about each submission.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    /// Whether it is taken.
    pub(crate) admit: Option<Callback>,
    /// What else is asked for it.
    pub(crate) route: Option<Callback>,
}

impl Hooks {
    pub(super) fn are_set(&self) -> bool {
        self.admit.is_some() || self.route.is_some()
    }
}

/// A submission that a script is asked about.
struct Asked {
    data: Arc<[u8]>,
    options: SubmitOptions,
    /// Where it comes from.
    client: String,
}

/// What it comes to: the options, or why it is not taken.
type Decision = Result<SubmitOptions, Refusal>;

/// Submissions that are with the script.
#[derive(Default)]
pub(super) struct Undecided {
    queues: HashMap<Conn, Queue>,
    /// How many there are in all.
    count: usize,
    last: u64,
    /// Connections with a line that waits for room.
    waiting: VecDeque<Conn>,
}

/// Those of a connection, in the order in which they came.
#[derive(Default)]
struct Queue {
    submissions: VecDeque<Submission>,
    /// A line that must wait. The connection is held meanwhile.
    line: Option<Vec<u8>>,
}

struct Submission {
    number: u64,
    data: Arc<[u8]>,
    decision: Option<Decision>,
}

/// What a coordinator does with a script's answer; none if nobody answers, as when the interpreter is deleted.
type Then<A> = Box<dyn FnOnce(&mut Coordinator, &mut Io, Option<A>) + Send>;

/// What a coordinator has asked a script.
pub(super) struct Question<A: Send + 'static> {
    reach: Reach<Coordinator>,
    then: Option<Then<A>>,
}

impl<A: Send + 'static> Question<A> {
    pub(super) fn new(
        io: &Io,
        then: impl FnOnce(&mut Coordinator, &mut Io, Option<A>) + Send + 'static,
    ) -> Question<A> {
        Question {
            reach: io.reach(),
            then: Some(Box::new(then)),
        }
    }

    pub(super) fn answer(mut self, answer: A) {
        self.tell(Some(answer));
    }

    fn tell(&mut self, answer: Option<A>) {
        if let Some(then) = self.then.take() {
            self.reach
                .post(move |coordinator, io| then(coordinator, io, answer));
        }
    }
}

impl<A: Send + 'static> Drop for Question<A> {
    fn drop(&mut self) {
        self.tell(None);
    }
}

impl Coordinator {
    /// Whether a line must wait for what came before it on its connection, or for room.
    pub(super) fn must_wait(&self, conn: Conn, request: &std::result::Result<Request<'_>, Refusal>) -> bool {
        match request {
            Ok(Request::Submit(_)) => self.is_busy(),
            // A worker that does what it should is not answered, so that there is no order to keep.
            Ok(request)
                if is_of_worker(request)
                    && self.peers.get(&conn).is_some_and(|peer| peer.worker.is_some()) =>
            {
                false
            }
            _ => self.undecided.queues.contains_key(&conn),
        }
    }

    /// Keeps a line that must wait, and reads no further.
    pub(super) fn keep_line(&mut self, io: &mut Io, conn: Conn, line: &[u8]) {
        self.undecided.queues.entry(conn).or_default().line = Some(line.to_vec());
        if self.is_busy() {
            self.undecided.waiting.push_back(conn);
        }
        io.hold(conn, true);
    }

    /// Whether further submissions must wait, for the script or for the journal.
    fn is_busy(&self) -> bool {
        let undecided = self.undecided.count;
        undecided >= MOST_UNDECIDED || self.is_full(undecided)
    }

    /// Reads connections on whose submissions had to wait.
    pub(super) fn read_on(&mut self, io: &mut Io) {
        while !self.is_busy()
            && let Some(conn) = self.undecided.waiting.pop_front()
        {
            self.go_on(io, conn);
        }
    }

    /// A connection that is owed answers stays, even if the other side says no more.
    pub(super) fn owe(&self, io: &mut Io, conn: Conn) {
        io.owe(
            conn,
            self.undecided.queues.contains_key(&conn) || self.keeping.owes(conn),
        );
    }

    /// Forgets what a connection that is gone has said and was not looked at. What is with the script will be decided.
    pub(super) fn forget_line(&mut self, conn: Conn) {
        if let Some(queue) = self.undecided.queues.get_mut(&conn) {
            queue.line = None;
        }
    }

    /// Asks the script about a submission.
    pub(super) fn ask(&mut self, io: &mut Io, conn: Conn, data: Arc<[u8]>, options: SubmitOptions) {
        let client = io.addresses(conn).map(|(peer, _)| peer.to_string());
        io.owe(conn, true);
        let undecided = &mut self.undecided;
        undecided.last += 1;
        undecided.count += 1;
        undecided
            .queues
            .entry(conn)
            .or_default()
            .submissions
            .push_back(Submission {
                number: undecided.last,
                data: data.clone(),
                decision: None,
            });
        let number = undecided.last;
        let question = Question::new(io, move |coordinator, io, decision| {
            let gone = || Err(refused("the script that would admit it is gone"));
            coordinator.decided(io, conn, number, decision.unwrap_or_else(gone));
        });
        let asked = Arc::new(Asked {
            data,
            options,
            client: client.unwrap_or_default(),
        });
        ask_admit(self.serving.hooks.clone(), asked, question);
    }

    /// The script has decided. Submissions are taken, and answered, in the order in which they came.
    fn decided(&mut self, io: &mut Io, conn: Conn, number: u64, decision: Decision) {
        let Some(queue) = self.undecided.queues.get_mut(&conn) else {
            return;
        };
        let mut submissions = queue.submissions.iter_mut();
        if let Some(submission) = submissions.find(|submission| submission.number == number) {
            submission.decision = Some(decision);
        }
        while let Some(queue) = self.undecided.queues.get_mut(&conn)
            && let Some(submission) = queue.submissions.front_mut()
            && let Some(decision) = submission.decision.take()
        {
            let data = submission.data.clone();
            queue.submissions.pop_front();
            self.undecided.count -= 1;
            let taken = decision.and_then(|options| self.take_from(io, conn, data, options));
            self.finish(io, conn, taken);
        }
        if self
            .undecided
            .queues
            .get(&conn)
            .is_some_and(|queue| queue.submissions.is_empty())
        {
            self.go_on(io, conn);
        }
        self.read_on(io);
    }

    /// Reads a connection again, from the line on that had to wait.
    fn go_on(&mut self, io: &mut Io, conn: Conn) {
        let Some(queue) = self.undecided.queues.get_mut(&conn) else {
            return;
        };
        let line = queue.line.take();
        if queue.submissions.is_empty() {
            self.undecided.queues.remove(&conn);
            self.owe(io, conn);
        }
        io.hold(conn, false);
        if let Some(line) = line {
            self.line(io, conn, &line);
        }
    }

    /// Has a script told of events of a kind: one of [`EVENTS`].
    pub(crate) fn on(&mut self, event: &'static str, callback: Callback) {
        self.listeners.push((event, callback));
        self.report_events();
    }

    /// Tells those who watch and listen what happened.
    pub(super) fn tell_event(&mut self, io: &mut Io, event: &Event) {
        let is_heard = self.listeners.iter().any(|(name, _)| *name == event.name);
        if self.watching.is_empty() && !is_heard {
            return;
        }
        let mut fields = event_fields(event, Self::wall(self.now(io)));
        if !self.watching.is_empty() {
            let object = fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()));
            let value = Value::Object(object.collect());
            for conn in self.watching.iter().copied().collect::<Vec<_>>() {
                self.answer(io, conn, "EVENT", &value);
            }
        }
        if !is_heard || self.is_behind() {
            return;
        }
        // Clients are sent results by themselves.
        let ended = event.job.and_then(|job| Some(&self.engine.job(job)?.state));
        if let Some(torhost_dispatch::State::Ended { result, .. }) = ended {
            fields.push(("result", Value::from(String::from_utf8_lossy(result))));
        }
        for (name, callback) in self.listeners.iter().filter(|(name, _)| *name == event.name) {
            let (name, fields, counted) = (*name, fields.clone(), self.backlog.clone());
            let args = move || {
                drop(counted);
                let fields = fields
                    .iter()
                    .map(|(name, value)| (*name, crate::tor::to_tcl(value)));
                vec![Obj::dict(fields)]
            };
            callback.call_then(args, move |interp, outcome| {
                report_of(&format!("the listener -on {name}"), interp, outcome);
            });
        }
    }

    /// Whether too many events wait for the script. Once they do, half of them must have been told before there are more.
    fn is_behind(&mut self) -> bool {
        let waiting = Arc::strong_count(&self.backlog) - 1;
        if waiting >= MOST_EVENTS && !self.loses_events {
            log::warn!(
                "the script is behind by {waiting} events: it is not told of further ones until it has caught up"
            );
            self.loses_events = true;
        } else if waiting < MOST_EVENTS / 2 {
            self.loses_events = false;
        }
        self.loses_events
    }
}

fn refused(text: impl Into<String>) -> Refusal {
    Refusal::new(Code::Refused, text)
}

/// Asks whether a submission is to be taken, and then what else is asked for it.
fn ask_admit(hooks: Hooks, asked: Arc<Asked>, question: Question<Decision>) {
    let Hooks { admit, route } = hooks;
    let Some(admit) = admit else {
        return ask_route(route, asked, question);
    };
    let job = asked.clone();
    admit.call_then(
        move || vec![job.dict()],
        move |interp, outcome| match admitted(interp, outcome) {
            Ok(()) => ask_route(route, asked, question),
            Err(refusal) => question.answer(Err(refusal)),
        },
    );
}

fn ask_route(route: Option<Callback>, asked: Arc<Asked>, question: Question<Decision>) {
    let Some(route) = route else {
        return question.answer(Ok(asked.options.clone()));
    };
    let job = asked.clone();
    route.call_then(
        move || vec![job.dict()],
        move |interp, outcome| {
            let options = outcome.and_then(|answer| routed(asked.options.clone(), &answer));
            question.answer(options.map_err(|error| refusal("the hook -route", interp, &error)));
        },
    );
}

fn admitted(interp: &Interp, outcome: Result<Obj>) -> Result<(), Refusal> {
    let truth = |answer: Obj| {
        let expected = |_| bad_answer("-admit", &answer, "a boolean, such as true or 0");
        answer.to_bool().map_err(expected)
    };
    match outcome.and_then(truth) {
        Ok(true) => Ok(()),
        Ok(false) => Err(refused("this job is not admitted")),
        Err(error) => Err(refusal("the hook -admit", interp, &error)),
    }
}

/// The error of a hook that returned something else than it should.
fn bad_answer(hook: &str, answer: &Obj, expected: &str) -> Error {
    let answer: String = answer.to_text_lossy().chars().take(MOST_QUOTED).collect();
    Error::new(format!(
        "the hook {hook} returned \"{answer}\": expected {expected}"
    ))
}

/// What an error of a hook means for the client. One that does not say that it is meant to is reported as a mistake, too.
fn refusal(hook: &str, interp: &Interp, error: &Error) -> Refusal {
    let failure = failure(hook, error);
    if !error
        .code()
        .starts_with(&["TOR".to_owned(), "REFUSED".to_owned()])
    {
        interp.background_error(&failure);
    }
    refused(failure.message())
}

/// The options of a submission, with those that a script sets.
fn routed(mut options: SubmitOptions, answer: &Obj) -> Result<SubmitOptions> {
    let entries = answer.to_dict();
    let entries = entries.map_err(|_| bad_answer("-route", answer, "a dict of options"))?;
    for (name, value) in entries {
        let name = name.to_text_lossy();
        let known = ["priority", "requires", "delay", "timeout", "retries", "affinity"];
        let set = if known.contains(&name.as_str()) {
            set_option(&mut options, &name, &value)
        } else {
            Err(
                "the options that a route can set are priority, requires, delay, timeout, retries and affinity",
            )
        };
        set.map_err(|expected| {
            Error::new(format!("the hook -route set a bad option \"{name}\": {expected}"))
        })?;
    }
    Ok(options)
}

/// Sets an option of a submission to a value of a script's.
///
/// # Errors
/// What the value must be.
pub(crate) fn set_option(options: &mut SubmitOptions, name: &str, value: &Obj) -> Result<(), &'static str> {
    let whole = |range: std::ops::RangeInclusive<i64>| value.to_i64().ok().filter(|n| range.contains(n));
    let text = || Some(value.to_text_lossy()).filter(|text| !text.is_empty());
    let duration = || parse_duration(&value.to_text_lossy());
    match name {
        "priority" => {
            let priority = whole(-100..=100).ok_or("priority is a whole number from -100 to 100")?;
            options.priority = Some(priority as i32);
        }
        "requires" => {
            let words = value.to_list().ok().filter(|words| words.len() <= 16);
            let words = words.ok_or("requires is a list of at most 16 capabilities")?;
            let words: Vec<String> = words.iter().map(Obj::to_text_lossy).collect();
            if words.iter().any(String::is_empty) {
                return Err("requires has an empty word, and no worker has such a capability");
            }
            options.requires = Some(words);
        }
        "after" => {
            let words = value.to_list().ok().filter(|words| words.len() <= MAX_AFTER);
            let jobs = words.and_then(|words| words.iter().map(job).collect());
            options.after = Some(jobs.ok_or("after is a list of at most 64 jobs, such as JOB-1 JOB-2")?);
        }
        "at" => {
            let time = parse_time(&value.to_text_lossy());
            options.at =
                Some(time.ok_or("at is a time such as 2030-12-24T18:00:00Z, or in seconds since 1970")?);
        }
        "delay" => {
            options.delay = Some(duration().ok_or("delay is a duration such as 500ms, 10s or 2m")?);
        }
        "timeout" => {
            options.timeout = Some(duration().ok_or("timeout is a duration such as 500ms, 10s or 2m")?);
        }
        "deadline" => {
            options.deadline = Some(duration().ok_or("deadline is a duration such as 500ms, 10s or 2m")?);
        }
        "retries" => {
            let retries = whole(0..=100).ok_or("retries is a whole number from 0 to 100")?;
            options.retries = Some(retries as u32);
        }
        "key" => options.key = text(),
        "affinity" => options.affinity = text(),
        _ => return Err("unknown option"),
    }
    Ok(())
}

fn job(name: &Obj) -> Option<JobId> {
    name.to_text_lossy().parse().ok()
}

impl Asked {
    /// The submission as a script sees it.
    fn dict(&self) -> Obj {
        let options = &self.options;
        let milliseconds = |duration: std::time::Duration| Obj::from(duration.as_millis() as u64);
        let requires = options.requires.as_deref().unwrap_or_default();
        let entries = [
            Some((
                "data",
                Obj::from(String::from_utf8_lossy(&self.data).into_owned()),
            )),
            Some(("client", Obj::from(&self.client))),
            Some(("priority", Obj::from(options.priority.unwrap_or(0)))),
            Some(("requires", Obj::list(requires))),
            options
                .after
                .as_ref()
                .map(|after| ("after", Obj::list(after.iter().map(JobId::to_string)))),
            options.at.map(|at| ("at_ms", milliseconds(at))),
            options.delay.map(|delay| ("delay_ms", milliseconds(delay))),
            options
                .timeout
                .map(|timeout| ("timeout_ms", milliseconds(timeout))),
            options
                .deadline
                .map(|deadline| ("deadline_ms", milliseconds(deadline))),
            options.retries.map(|retries| ("retries", Obj::from(retries))),
            options.key.as_ref().map(|key| ("key", Obj::from(key))),
            options
                .affinity
                .as_ref()
                .map(|affinity| ("affinity", Obj::from(affinity))),
        ];
        Obj::dict(entries.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::EVENTS;

    #[test]
    fn the_page_on_the_protocol_has_these_events() {
        let page = include_str!("../../../../docs/protocol.md");
        let events = page
            .split("They are `submitted ")
            .nth(1)
            .and_then(|rest| rest.split('`').next())
            .unwrap();
        let events: Vec<&str> = std::iter::once("submitted")
            .chain(events.split_whitespace())
            .collect();
        assert_eq!(events, EVENTS);
    }
}
