//! Schedules: jobs that are submitted at their times.
//!
//! When a run is due is told by `torhost_schedule` from the time of day, which is looked at anew at each wake: clocks are set, and machines
//! sleep. That no run is submitted twice is the engine's doing, by the key of the run.
use super::Coordinator;
use crate::reactor::Io;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use torhost_journal::Note;
use torhost_protocol::{JobId, SubmitOptions};
use torhost_schedule::{MOST_DUE, Missed, Schedule, rfc3339};

/// The longest time between two looks at the clock.
const LOOK: Duration = Duration::from_secs(60);
/// How soon a run is tried again that was refused.
const AGAIN: Duration = Duration::from_secs(1);
/// A clock that is set back by more than this, in seconds, was wrong before.
const DAY: i64 = 24 * 60 * 60;

/// A job that is submitted at its times.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) name: String,
    /// The times.
    pub(crate) times: Schedule,
    /// The expression and the time zone of the times, as they were written.
    pub(crate) written: (String, String),
    pub(crate) missed: Missed,
    pub(crate) data: Arc<[u8]>,
    /// What the routes do not say of the job; the key is each run's own.
    pub(crate) options: SubmitOptions,
}

/// A run that was submitted. Whoever keeps its time can go on from there after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// The schedule's name.
    pub(crate) name: String,
    /// When it was due, in seconds since 1970.
    pub(crate) time: i64,
    pub(crate) job: JobId,
}

/// The schedules of a coordinator.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    entries: Vec<Entry>,
    /// When to look at the clock again; none where there is nothing to look for.
    wake: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    definition: Definition,
    /// The runs until then have been looked at. None before the first look.
    until: Option<i64>,
    /// The first run after that.
    next: Option<i64>,
    /// Runs that are due, the oldest first.
    waiting: VecDeque<i64>,
    /// The run that was refused last.
    refused: Option<i64>,
    last: Option<Ran>,
    /// The last run before this start.
    before: Option<i64>,
}

impl Schedules {
    /// Schedules, each of which goes on after the last run that is known of it, or else begins now.
    pub(crate) fn new(definitions: Vec<Definition>, known: impl Fn(&str) -> Option<Known>) -> Schedules {
        let entries = definitions.into_iter().map(|definition| {
            let known = known(&definition.name);
            let before = match known {
                Some(Known::Ran(time)) => Some(time),
                Some(Known::Began(_)) | None => None,
            };
            Entry {
                definition,
                until: known.map(Known::time),
                next: None,
                waiting: VecDeque::new(),
                refused: None,
                last: None,
                before,
            }
        });
        let entries: Vec<Entry> = entries.collect();
        Schedules {
            wake: (!entries.is_empty()).then(Instant::now),
            entries,
        }
    }

    /// When to be called again.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Has what is due submitted, each run with its key, and returns what was. `clock` is the time since 1970.
    pub(crate) fn run(
        &mut self,
        now: Instant,
        clock: Duration,
        mut submit: impl FnMut(&Definition, String) -> Result<JobId, String>,
    ) -> Vec<Ran> {
        let mut ran = Vec::new();
        for entry in &mut self.entries {
            entry.look(clock.as_secs() as i64);
            entry.submit(&mut submit, &mut ran);
        }
        let waits = self.entries.iter().map(|entry| entry.wait(clock));
        self.wake = waits.min().and_then(|wait| now.checked_add(wait));
        ran
    }

    /// The schedules as `SCHEDULES` has them.
    pub(crate) fn value(&self) -> Value {
        let list: Vec<Value> = self.entries.iter().map(Entry::value).collect();
        json!({ "schedules": list })
    }
}

impl Entry {
    /// Notes what has become due.
    fn look(&mut self, clock: i64) {
        let Definition {
            name, times, missed, ..
        } = &self.definition;
        let mut until = self.until.unwrap_or(clock);
        if until.saturating_sub(clock) > DAY {
            log::warn!("schedule {name}: the clock was set back by more than a day");
            until = clock;
        }
        if self.next.is_none_or(|next| next <= clock) {
            let due = times.due(until, clock, *missed);
            if due.are_others_left_out {
                log::warn!("schedule {name}: runs until {} were missed", rfc3339(clock));
            }
            if !due.runs.is_empty() && *missed != Missed::All {
                self.waiting.clear();
            }
            self.waiting.extend(due.runs);
            let too_many = self.waiting.len().saturating_sub(MOST_DUE);
            self.waiting.drain(..too_many);
        }
        let until = until.max(clock);
        self.until = Some(until);
        self.next = times.next(until);
    }

    /// Submits what waits, until one is refused.
    fn submit(
        &mut self,
        submit: &mut impl FnMut(&Definition, String) -> Result<JobId, String>,
        ran: &mut Vec<Ran>,
    ) {
        let name = &self.definition.name;
        while let Some(&time) = self.waiting.front() {
            let shown = rfc3339(time);
            match submit(&self.definition, format!("schedule:{name}:{shown}")) {
                Ok(job) => {
                    log::info!("schedule {name}: the run of {shown} is {job}");
                    self.waiting.pop_front();
                    let run = Ran {
                        name: name.clone(),
                        time,
                        job,
                    };
                    self.last = Some(run.clone());
                    ran.push(run);
                }
                Err(error) => {
                    if self.refused.replace(time) != Some(time) {
                        log::warn!(
                            "schedule {name}: the run of {shown} cannot be submitted, and is tried again: {error}"
                        );
                    }
                    return;
                }
            }
        }
    }

    /// How long until there is something to do, from a time since 1970.
    fn wait(&self, clock: Duration) -> Duration {
        if !self.waiting.is_empty() {
            return AGAIN;
        }
        let next = self.next.and_then(|next| u64::try_from(next).ok());
        let wait = next.map(|next| Duration::from_secs(next).saturating_sub(clock));
        wait.unwrap_or(LOOK).min(LOOK)
    }

    fn value(&self) -> Value {
        let milliseconds = |time: i64| json!(time.saturating_mul(1000));
        let (cron, timezone) = &self.definition.written;
        let next = self.waiting.front().copied().or(self.next);
        let last = self.last.as_ref();
        let fields = [
            Some(("name", json!(self.definition.name))),
            Some(("cron", json!(cron))),
            Some(("timezone", json!(timezone))),
            next.map(|next| ("next_ms", milliseconds(next))),
            last.map(|run| run.time)
                .or(self.before)
                .map(|time| ("last_ms", milliseconds(time))),
            last.map(|run| ("last_job", json!(run.job.to_string()))),
        ];
        let fields = fields.into_iter().flatten();
        Value::Object(
            fields
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Map<_, _>>(),
        )
    }
}

impl Coordinator {
    /// Submits what the schedules have due, if it is time to look.
    pub(super) fn run_schedules(&mut self, io: &mut Io) {
        if self.schedules.wake().is_none_or(|wake| wake > io.now()) {
            return;
        }
        let mut schedules = std::mem::take(&mut self.schedules);
        let ran = schedules.run(io.now(), torhost_journal::now(), |definition, key| {
            let mut options = SubmitOptions {
                key: Some(key),
                ..definition.options.clone()
            };
            self.serving.routes.apply(&definition.data, &mut options);
            let accepted = self.take(io, definition.data.clone(), options, None);
            Ok(accepted.map_err(|refusal| refusal.text)?.job)
        });
        self.schedules = schedules;
        // In one batch with the jobs: either both are kept, or neither.
        for Ran { name, time, .. } in ran {
            self.keep_schedule(&name, Known::Ran(time));
        }
        self.act(io);
    }

    /// Goes on with the schedules where the journal says that they stopped; new ones begin now.
    pub(super) fn start_schedules(&mut self, definitions: Vec<Definition>) {
        let now = torhost_journal::now().as_secs() as i64;
        for definition in &definitions {
            if self.keeping.schedule(&definition.name).is_none() {
                self.keep_schedule(&definition.name, Known::Began(now));
            }
        }
        self.schedules = Schedules::new(definitions, |name| self.keeping.schedule(name));
    }

    fn keep_schedule(&mut self, name: &str, known: Known) {
        self.keeping
            .note(|| Note::Setting(schedule_setting(name), known.to_string()));
    }
}

/// What the journal knows of a schedule, by seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its last run was due then.
    Ran(i64),
    /// It began then, and has not run since.
    Began(i64),
}

impl Known {
    fn time(self) -> i64 {
        match self {
            Known::Ran(time) | Known::Began(time) => time,
        }
    }

    /// What was said of it.
    pub(super) fn parse(text: &str) -> Option<Known> {
        match text.strip_prefix("began ") {
            Some(time) => time.parse().ok().map(Known::Began),
            None => text.parse().ok().map(Known::Ran),
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Known::Ran(time) => write!(f, "{time}"),
            Known::Began(time) => write!(f, "began {time}"),
        }
    }
}

/// The name under which the journal keeps what is known of a schedule.
pub(super) fn schedule_setting(name: &str) -> String {
    format!("schedule {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z
    const HOUR: i64 = 3600;
    const NONE: [i64; 0] = [];

    fn hourly(missed: Missed) -> Definition {
        Definition {
            name: "hourly".to_owned(),
            times: Schedule {
                cron: "0 * * * *".parse().unwrap(),
                zone: "UTC".parse().unwrap(),
            },
            written: ("0 * * * *".to_owned(), "UTC".to_owned()),
            missed,
            data: b"x".as_slice().into(),
            options: SubmitOptions::default(),
        }
    }

    /// A world in which only the clock passes.
    struct World {
        schedules: Schedules,
        start: Instant,
        keys: Vec<String>,
        is_full: bool,
    }

    impl World {
        fn new(missed: Missed, last: Option<i64>) -> World {
            World {
                schedules: Schedules::new(vec![hourly(missed)], |name| {
                    last.filter(|_| name == "hourly").map(Known::Ran)
                }),
                start: Instant::now(),
                keys: Vec::new(),
                is_full: false,
            }
        }

        /// The runs that are submitted when the clock shows a time, in seconds from midnight; and how long is waited then.
        fn at(&mut self, time: i64) -> (Vec<i64>, Duration) {
            let clock = Duration::from_secs((MIDNIGHT + time) as u64);
            let ran = self.schedules.run(self.start, clock, |_, key| {
                if self.is_full {
                    return Err("too many jobs wait".to_owned());
                }
                self.keys.push(key);
                Ok(JobId(self.keys.len() as u64))
            });
            let wait = self.schedules.wake().unwrap() - self.start;
            (ran.iter().map(|run| run.time - MIDNIGHT).collect(), wait)
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn runs_come_at_their_times_and_the_clock_is_looked_at_every_minute() {
        let mut world = World::new(Missed::Once, None);
        assert_eq!(world.at(10), (vec![], LOOK), "it begins at the start");
        assert_eq!(world.at(HOUR - 20), (vec![], seconds(20)));
        assert_eq!(world.at(HOUR - 1), (vec![], seconds(1)), "woken too early");
        assert_eq!(world.at(HOUR), (vec![HOUR], LOOK));
        assert_eq!(world.at(HOUR), (vec![], LOOK));
        assert_eq!(world.keys, ["schedule:hourly:2026-01-01T01:00:00Z"]);
        let expected = json!({"schedules": [{
            "name": "hourly", "cron": "0 * * * *", "timezone": "UTC", "next_ms": (MIDNIGHT + 2 * HOUR) * 1000,
            "last_ms": (MIDNIGHT + HOUR) * 1000, "last_job": "JOB-1",
        }]});
        assert_eq!(world.schedules.value(), expected);
    }

    #[test]
    fn what_was_missed_is_left_out_or_submitted() {
        let now = 3 * HOUR + 600;
        let ran = |missed| World::new(missed, Some(MIDNIGHT)).at(now).0;
        assert_eq!(ran(Missed::Skip), NONE);
        assert_eq!(ran(Missed::Once), [3 * HOUR]);
        assert_eq!(ran(Missed::All), [HOUR, 2 * HOUR, 3 * HOUR]);
        let mut world = World::new(Missed::Skip, Some(MIDNIGHT));
        world.at(now);
        assert_eq!(world.at(4 * HOUR + 1).0, [4 * HOUR], "the next is not missed");
    }

    #[test]
    fn a_clock_that_leaps_misses_runs_and_one_that_is_set_back_repeats_none() {
        let mut world = World::new(Missed::Once, None);
        world.at(0);
        assert_eq!(world.at(5 * HOUR + 100).0, [5 * HOUR]);
        assert_eq!(world.at(2 * HOUR).0, NONE);
        assert_eq!(world.at(5 * HOUR).0, NONE);
        assert_eq!(world.at(6 * HOUR).0, [6 * HOUR]);
        assert_eq!(
            world.at(-300 * HOUR).0,
            NONE,
            "what the clock showed before was wrong"
        );
        assert_eq!(world.at(-299 * HOUR).0, [-299 * HOUR]);
    }

    #[test]
    fn a_refused_run_is_tried_again_until_the_next_is_due() {
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            let mut world = World::new(missed, None);
            world.at(0);
            world.is_full = true;
            assert_eq!(world.at(HOUR), (vec![], AGAIN));
            assert_eq!(world.at(HOUR + 1), (vec![], AGAIN));
            let next = &world.schedules.value()["schedules"][0]["next_ms"];
            assert_eq!(*next, json!((MIDNIGHT + HOUR) * 1000));
            world.is_full = false;
            assert_eq!(world.at(HOUR + 600), (vec![HOUR], LOOK));
            world.is_full = true;
            for hour in 2..200 {
                assert_eq!(world.at(hour * HOUR).0, NONE);
            }
            world.is_full = false;
            let ran = world.at(199 * HOUR + 1).0;
            let count = if missed == Missed::All { MOST_DUE } else { 1 };
            assert_eq!((ran.len(), ran.last()), (count, Some(&(199 * HOUR))));
        }
    }

    #[test]
    fn without_schedules_there_is_nothing_to_wake_for() {
        let schedules = Schedules::new(Vec::new(), |_| None);
        assert_eq!(schedules.wake(), None);
        assert_eq!(schedules.value(), json!({"schedules": []}));
    }

    #[test]
    fn one_that_has_begun_and_never_ran_has_no_last_run() {
        let began = Known::parse(&Known::Began(MIDNIGHT).to_string());
        assert_eq!(began, Some(Known::Began(MIDNIGHT)));
        let ran = Known::Ran(MIDNIGHT + HOUR);
        assert_eq!(Known::parse(&ran.to_string()), Some(ran));
        let last_ms = |known| {
            let schedules = Schedules::new(vec![hourly(Missed::Skip)], |_| Some(known));
            schedules.value()["schedules"][0]["last_ms"].as_i64()
        };
        assert_eq!(last_ms(Known::Began(MIDNIGHT)), None);
        assert_eq!(last_ms(ran), Some((MIDNIGHT + HOUR) * 1000));
    }
}
