//! When scheduled work is due: cron expressions in time zones.
//!
//! ```
//! use torhost_schedule::{Missed, Schedule, rfc3339};
//!
//! let nightly = Schedule {
//!     cron: "0 3 * * *".parse().unwrap(),
//!     zone: "Europe/Lisbon".parse().unwrap(),
//! };
//! let midsummer = 1_782_000_000; // 2026-06-21T00:00:00Z
//! assert_eq!(rfc3339(nightly.next(midsummer).unwrap()), "2026-06-21T02:00:00Z");
//!
//! let week = 7 * 24 * 60 * 60;
//! assert_eq!(nightly.due(midsummer, midsummer + week, Missed::All).runs.len(), 7);
//! assert_eq!(nightly.due(midsummer, midsummer + week, Missed::Once).runs.len(), 1);
//! ```
//!
//! All is a function of what it is given: this crate has no clock, and knows nothing of jobs or topologies. Times are whole seconds
//! since 1970, in UTC. What it reads from outside is the system's table of time zones; where there is none, one is built in.
//!
//! # Where clocks are changed
//!
//! An expression that names one second, one minute and one hour runs once on each of its days: where the clock leaps over its time, at the
//! first moment after the leap, and where its time comes twice, the first time. All others go by what clocks show: a time that is leapt
//! over is left out, and one that comes twice counts twice, so that `*/10 * * * *` is every ten minutes on such a night as well.
#![forbid(unsafe_code)]

mod cron;

pub use cron::{BadCron, Cron};

use croner::Direction;
use jiff::tz::{self, TimeZone};
use jiff::{Timestamp, Zoned};
use std::str::FromStr;

/// How many runs are due at once, at most.
pub const MOST_DUE: usize = 100;
/// A run that is due for no longer than this is on time, in seconds.
pub const ON_TIME: i64 = 60;

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// There is no time zone of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such time zone")]
pub struct UnknownZone;

impl FromStr for Zone {
    type Err = UnknownZone;

    /// Reads a name of the IANA's: `Europe/Lisbon`, `UTC`.
    fn from_str(name: &str) -> Result<Zone, UnknownZone> {
        TimeZone::get(name).map(Zone).map_err(|_| UnknownZone)
    }
}

impl Zone {
    /// The names that there are.
    pub fn names() -> Vec<String> {
        tz::db().available().map(|name| name.to_string()).collect()
    }
}

/// What is to become of runs whose time came while nobody was there to see to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// The latest of them is done.
    #[default]
    Once,
    /// Each of them is done, but no more than the latest [`MOST_DUE`].
    All,
}

/// When something is to run.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// What clocks show then.
    pub cron: Cron,
    /// Which clocks.
    pub zone: Zone,
}

/// The runs that are due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// Their times, the oldest first.
    pub runs: Vec<i64>,
    /// Whether there were others, which are left out.
    pub are_others_left_out: bool,
}

impl Schedule {
    /// The time of the first run after a time. None where the calendar ends.
    pub fn next(&self, after: i64) -> Option<i64> {
        self.find(after, Direction::Forward)
    }

    /// The time of the last run before a time.
    fn previous(&self, before: i64) -> Option<i64> {
        self.find(before, Direction::Backward)
    }

    fn find(&self, from: i64, direction: Direction) -> Option<i64> {
        let from = self.zoned(from)?;
        let found = match direction {
            Direction::Forward => self.cron.0.find_next_occurrence(&from, false),
            Direction::Backward => self.cron.0.find_previous_occurrence(&from, false),
        };
        found.ok().map(|found| found.timestamp().as_second())
    }

    fn zoned(&self, time: i64) -> Option<Zoned> {
        let time = Timestamp::from_second(time).ok()?;
        Some(time.to_zoned(self.zone.0.clone()))
    }

    /// What is to be run now, of the runs after the last one.
    ///
    /// The latest run is on time if it has been due for [`ON_TIME`] at most. All others were missed. What this costs does not grow with how
    /// long ago the last run was.
    pub fn due(&self, last: i64, now: i64, missed: Missed) -> Due {
        let most = if missed == Missed::All { MOST_DUE } else { 1 };
        let mut due = Due::default();
        let mut at = now.saturating_add(1);
        while let Some(run) = self.previous(at).filter(|&run| run > last) {
            if due.runs.len() == most || missed == Missed::Skip && now - run > ON_TIME {
                due.are_others_left_out = true;
                break;
            }
            due.runs.push(run);
            at = run;
        }
        due.runs.reverse();
        due
    }
}

/// A time as RFC 3339 has it, in UTC: `2026-06-21T02:00:00Z`.
pub fn rfc3339(time: i64) -> String {
    Timestamp::from_second(time).map_or_else(|_| time.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule {
            cron: cron.parse().unwrap(),
            zone: zone.parse().unwrap(),
        }
    }

    fn at(time: &str) -> i64 {
        time.parse::<Timestamp>().unwrap().as_second()
    }

    /// The runs after one time and until another.
    fn runs(schedule: &Schedule, after: &str, until: &str) -> Vec<String> {
        let next = |run: &i64| schedule.next(*run);
        std::iter::successors(schedule.next(at(after)), next)
            .take_while(|&run| run <= at(until))
            .map(rfc3339)
            .collect()
    }

    #[test]
    fn the_next_run_is_strictly_after() {
        let nightly = schedule("0 3 * * *", "UTC");
        let three = at("2026-03-01T03:00:00Z");
        assert_eq!(nightly.next(three - 1), Some(three));
        assert_eq!(nightly.next(three), Some(at("2026-03-02T03:00:00Z")));
        let often = schedule("*/2 * * * * *", "UTC");
        assert_eq!(often.next(three), Some(three + 2));
        assert_eq!(often.next(three + 1), Some(three + 2));
        let leap = schedule("0 0 29 2 *", "UTC");
        assert_eq!(leap.next(three), Some(at("2028-02-29T00:00:00Z")));
        let either = schedule("0 0 13 * FRI", "UTC");
        assert_eq!(
            runs(&either, "2026-02-10T00:00:00Z", "2026-02-27T00:00:00Z"),
            [
                "2026-02-13T00:00:00Z",
                "2026-02-20T00:00:00Z",
                "2026-02-27T00:00:00Z"
            ],
            "of a day of the month and a weekday, either counts"
        );
        let both = schedule("0 0 13 * +FRI", "UTC");
        assert_eq!(rfc3339(both.next(three).unwrap()), "2026-03-13T00:00:00Z");
        let last = schedule("@monthly", "Asia/Kathmandu");
        assert_eq!(rfc3339(last.next(three).unwrap()), "2026-03-31T18:15:00Z");
    }

    // On 29 March 2026, clocks in Berlin leap from 2:00 to 3:00, 1:00 UTC. On 25 October, 3:00, also 1:00 UTC, is 2:00 again.

    #[test]
    fn a_daily_run_whose_time_is_leapt_over_comes_right_after_the_leap() {
        let nightly = schedule("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            runs(&nightly, "2026-03-28T00:00:00Z", "2026-03-30T23:00:00Z"),
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
    }

    #[test]
    fn a_daily_run_whose_time_comes_twice_comes_once() {
        let nightly = schedule("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            runs(&nightly, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn others_go_by_what_clocks_show() {
        let often = schedule("*/30 1-3 * * *", "Europe/Berlin");
        assert_eq!(
            runs(&often, "2026-03-28T23:59:00Z", "2026-03-29T10:00:00Z"),
            [
                "2026-03-29T00:00:00Z",
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z"
            ]
        );
        assert_eq!(
            runs(&often, "2026-10-25T00:10:00Z", "2026-10-25T10:00:00Z"),
            [
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z",
                "2026-10-25T02:30:00Z"
            ]
        );
    }

    #[test]
    fn what_was_missed_is_left_out_or_done_once_or_done() {
        let hourly = schedule("0 * * * *", "UTC");
        let (last, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T03:30:00Z"));
        let hour = |hour: i64| last + hour * 3600;
        let due = |now, missed| {
            let due = hourly.due(last, now, missed);
            (due.runs, due.are_others_left_out)
        };
        assert_eq!(due(now, Missed::Skip), (vec![], true));
        assert_eq!(due(now, Missed::Once), (vec![hour(3)], true));
        assert_eq!(due(now, Missed::All), (vec![hour(1), hour(2), hour(3)], false));
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            assert_eq!(due(hour(1) - 1, missed), (vec![], false), "nothing is due yet");
            assert_eq!(due(hour(1), missed), (vec![hour(1)], false), "now");
            assert_eq!(due(hour(1) + ON_TIME, missed), (vec![hour(1)], false), "on time");
            assert_eq!(
                due(last - 5000, missed),
                (vec![], false),
                "the clock was set back"
            );
        }
        assert_eq!(due(hour(2), Missed::Skip), (vec![hour(2)], true));
    }

    #[test]
    fn no_more_are_due_than_there_may_be_and_years_take_no_time() {
        let often = schedule("* * * * * *", "America/New_York");
        let (last, now) = (at("2000-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        let due = often.due(last, now, Missed::All);
        let latest: Vec<i64> = (0..MOST_DUE as i64).rev().map(|age| now - age).collect();
        assert_eq!((due.runs, due.are_others_left_out), (latest, true));
    }

    #[test]
    fn times_beyond_the_calendar_are_no_failure() {
        let nightly = schedule("0 3 * * *", "Europe/Lisbon");
        for time in [i64::MIN, i64::MAX] {
            assert_eq!(nightly.next(time), None);
            assert!(!rfc3339(time).is_empty());
        }
        assert_eq!(nightly.due(i64::MIN, i64::MAX, Missed::All), Due::default());
        assert_eq!(nightly.due(i64::MAX, i64::MIN, Missed::Once), Due::default());
    }

    #[test]
    fn zones_have_the_names_that_are_known() {
        assert!(Zone::names().iter().any(|name| name == "Europe/Lisbon"));
        for bad in ["", "Europe/Atlantis", "UTC+1", "../etc/passwd", "/etc/localtime"] {
            assert_eq!(bad.parse::<Zone>(), Err(UnknownZone), "{bad}");
        }
    }

    fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            2 => Just("*".to_owned()),
            2 => (least..=most).prop_map(|one| one.to_string()),
            1 => (2_u32..8).prop_map(|step| format!("*/{step}")),
            1 => (least..=most, least..=most).prop_map(|(one, other)| format!("{},{}", one.min(other), one.max(other))),
            1 => (least..=most, least..=most).prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn what_is_due_is_what_next_says(
            second in prop_oneof![Just("0".to_owned()), field(0, 59)],
            minute in field(0, 59),
            hour in field(0, 23),
            weekday in prop_oneof![3 => Just("*".to_owned()), 1 => field(0, 7)],
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca",
                "Asia/Beirut",
            ]),
            // Around the changes of clocks of 2026, or anywhere.
            near in prop::sample::select(vec!["2026-03-08T06:00:00Z", "2026-03-29T01:00:00Z", "2026-04-04T15:00:00Z",
                "2026-10-25T01:00:00Z", "2026-11-01T06:00:00Z", "2026-10-03T15:30:00Z", "2026-07-01T00:00:00Z"]),
            before in 0_i64..8 * 3600,
            window in 0_i64..12 * 3600,
        ) {
            let schedule = schedule(&format!("{second} {minute} {hour} * * {weekday}"), zone);
            let last = at(near) - before;
            let now = last + window;
            let runs: Vec<i64> = std::iter::successors(schedule.next(last), |&run| schedule.next(run))
                .take_while(|&run| run <= now)
                .collect();
            prop_assert!(runs.is_sorted_by(|one, other| one < other));
            let latest = &runs[runs.len().saturating_sub(MOST_DUE)..];
            let due = schedule.due(last, now, Missed::All);
            prop_assert_eq!(&due.runs, latest);
            prop_assert_eq!(due.are_others_left_out, runs.len() > MOST_DUE);
            let once = schedule.due(last, now, Missed::Once);
            prop_assert_eq!(once.runs.first(), runs.last());
        }
    }
}
