//! All settings of the language, in one table: what the reader checks by, and what `docs/topology.md` shows.

use crate::model::{Algorithm, Detector, Isolation, Missed, NodeKind};
use crate::value::{Period, Size};
use std::time::Duration;

/// A setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The block that it stands in: `node`, `node resources`, `policy limits`, …
    pub section: &'static str,
    /// Its name.
    pub key: &'static str,
    /// What it may be set to.
    pub kind: Kind,
    /// What holds where it is not set, for people.
    pub default: &'static str,
    /// What it does.
    pub effect: &'static str,
}

/// What a setting may be set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number in a range.
    Number(i64, i64),
    /// `true false yes no on off`.
    Boolean,
    /// A size in a range.
    Size(Size, Size),
    /// [`crate::Rate`].
    Rate,
    /// A duration in a range.
    Period(Period, Period),
    /// Words, each of letters, digits, `_`, `-` and `.`: in a block or one after the other.
    Names,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// [`crate::Durability`].
    Durability,
    /// A cron expression.
    Cron,
    /// A time zone, by its IANA name.
    TimeZone,
    /// A block of settings of its own: those of the section that is named after the two.
    Block,
}

impl Kind {
    /// What is expected, in words.
    pub fn expected(self) -> String {
        match self {
            Kind::Text => "a text that is not empty".into(),
            Kind::Number(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Boolean => "`true` or `false` (or `yes no on off`)".into(),
            Kind::Size(Size(0), Size(u64::MAX)) => "a size, such as `4GB` or `512MiB`".into(),
            Kind::Size(least, most) => format!("a size from `{least}` to `{most}`"),
            Kind::Rate => "a rate, such as `1Gbps`".into(),
            Kind::Period(Period(Duration::ZERO), Period(Duration::MAX)) => {
                "a duration, such as `10ms` or `30s` (a bare number is seconds)".into()
            }
            Kind::Period(least, most) => {
                format!("a duration from `{least}` to `{most}` (a bare number is seconds)")
            }
            Kind::Names => "names, such as `{ gpu realtime }`".into(),
            Kind::Choice(words) => one_of(words),
            Kind::Durability => "`commit`, `interval` and a duration up to `1h`, or `none`".into(),
            Kind::Cron => "a cron expression, such as `\"0 3 * * *\"`".into(),
            Kind::TimeZone => "a time zone, such as `Europe/Lisbon` or `UTC`".into(),
            Kind::Block => "a block in `{` and `}`".into(),
        }
    }
}

/// "`a`, `b` or `c`".
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [most @ .., last] => format!("`{}` or `{last}`", most.join("`, `")),
    }
}

const fn setting(
    section: &'static str,
    key: &'static str,
    kind: Kind,
    default: &'static str,
    effect: &'static str,
) -> Setting {
    Setting {
        section,
        key,
        kind,
        default,
        effect,
    }
}

const KIB: Size = Size(1 << 10);
const GIB: Size = Size(1 << 30);
const TIB: Size = Size(1 << 40);
const ANY_SIZE: Kind = Kind::Size(Size(0), Size(u64::MAX));

const NO_TIME: Period = Period(Duration::ZERO);
const MILLISECOND: Period = Period(Duration::from_millis(1));
const SECOND: Period = Period(Duration::from_secs(1));
const YEAR: Period = Period(Duration::from_secs(366 * 24 * 60 * 60));
const ANY_PERIOD: Kind = Kind::Period(NO_TIME, Period(Duration::MAX));

/// The settings, in the order of the reference.
pub const SETTINGS: &[Setting] = &[
    setting(
        "node",
        "type",
        Kind::Choice(NodeKind::WORDS),
        "none: must be set",
        "What the node is. A master takes jobs and spreads them, a worker does them, a client submits them. `torhost up` starts masters first, then workers, then clients.",
    ),
    setting(
        "node",
        "address",
        Kind::Text,
        "`localhost`",
        "The host that the node runs on, and by which others reach it. `torhost up` starts the nodes whose address is this machine.",
    ),
    setting(
        "node",
        "port",
        Kind::Number(1, 65535),
        "none; a master must have one",
        "The TCP port on which the node listens.",
    ),
    setting(
        "node",
        "script",
        Kind::Text,
        "none",
        "The node's script, relative to the folder that holds the topology, or to the one above if that folder is called `config`. `torhost up` does not start a node without one.",
    ),
    setting(
        "node",
        "capabilities",
        Kind::Names,
        "none",
        "What a worker offers. Jobs that require something go only to workers that offer it.",
    ),
    setting(
        "node",
        "isolation",
        Kind::Choice(Isolation::WORDS),
        "`thread`",
        "Where a worker runs its jobs. `thread`: in interpreters of its own process. `process`: each slot in a child process, which is killed when its job cannot be stopped otherwise.",
    ),
    setting("node", "resources", Kind::Block, "", "What the node may use."),
    setting(
        "node",
        "services",
        Kind::Block,
        "",
        "What a master offers besides.",
    ),
    setting(
        "node resources",
        "cpu",
        Kind::Number(1, 1000),
        "1",
        "How many jobs a worker runs at once: its slots.",
    ),
    setting(
        "node resources",
        "memory",
        ANY_SIZE,
        "no limit",
        "The limit on the memory that the node's process can allocate (`RLIMIT_DATA`), when `torhost up` runs it.",
    ),
    setting(
        "node resources",
        "storage",
        ANY_SIZE,
        "no limit",
        "Stated for people: shown by `torhost show` and `torhost graph`.",
    ),
    setting(
        "node services",
        "job_scheduler",
        Kind::Boolean,
        "true",
        "Stated for people. A master schedules jobs in any case.",
    ),
    setting(
        "node services",
        "load_balancer",
        Kind::Boolean,
        "true",
        "Stated for people. How a master balances is set by `policy load_balancing`.",
    ),
    setting(
        "node services",
        "monitor",
        Kind::Boolean,
        "false",
        "Stated for people, until torhost has a dashboard for it to turn on.",
    ),
    setting(
        "connection",
        "protocol",
        Kind::Choice(&["tcp"]),
        "`tcp`",
        "How the two nodes talk.",
    ),
    setting(
        "connection",
        "bandwidth",
        Kind::Rate,
        "not stated",
        "Stated for people: shown by `torhost show` and `torhost graph`.",
    ),
    setting(
        "connection",
        "latency",
        ANY_PERIOD,
        "not stated",
        "Stated for people: shown by `torhost show` and `torhost graph`.",
    ),
    setting(
        "connection",
        "encrypted",
        Kind::Boolean,
        "false",
        "`true` is refused: it needs a certificate, and there is no setting for one yet.",
    ),
    setting(
        "policy load_balancing",
        "algorithm",
        Kind::Choice(Algorithm::WORDS),
        "`round_robin`",
        "How the coordinator chooses among the workers that could take a job. `round_robin`: each in turn. `least_loaded`: the one with the smallest share of its slots in use. `weighted`: in proportion to their `resources { cpu … }`. `power_of_two`: the less loaded of two chosen at random. `affinity`: jobs with the same affinity key go to the same worker while it has a free slot, by consistent hashing; jobs without a key go round robin.",
    ),
    setting(
        "policy load_balancing",
        "health_check_interval",
        Kind::Period(MILLISECOND, YEAR),
        "30s",
        "A worker that is silent for longer loses its jobs to the others, whatever the `detector`.",
    ),
    setting(
        "policy load_balancing",
        "heartbeat_interval",
        Kind::Period(MILLISECOND, YEAR),
        "10s",
        "How often a worker says that it is alive. At most half the health-check interval.",
    ),
    setting(
        "policy load_balancing",
        "detector",
        Kind::Choice(Detector::WORDS),
        "`fixed`",
        "When a worker is suspected. `fixed`: when it is silent for longer than `health_check_interval`. `phi_accrual`: when its silence has become improbable, given how regularly its beats used to arrive, and never later than `health_check_interval`.",
    ),
    setting(
        "policy load_balancing",
        "phi_threshold",
        Kind::Number(1, 16),
        "8",
        "How improbable a silence must be for `phi_accrual`: one in ten to this power, so one in 100,000,000 by default. Less finds lost workers sooner, and suspects more that are not.",
    ),
    setting(
        "policy load_balancing",
        "failover",
        Kind::Boolean,
        "true",
        "Whether the jobs of a lost worker go to the others. If not, they fail.",
    ),
    setting(
        "policy limits",
        "max_line",
        Kind::Size(KIB, GIB),
        "1MiB",
        "The longest line that a coordinator reads. A longer one is answered with `ERROR:line-too-long`, and the connection closed.",
    ),
    setting(
        "policy limits",
        "max_connections",
        Kind::Number(1, 1_000_000),
        "100000",
        "How many connections may be open at once, as far as the system's limit of descriptors goes. One more is answered with `ERROR:busy`, and closed.",
    ),
    setting(
        "policy limits",
        "max_pending",
        Kind::Size(KIB, TIB),
        "16MiB",
        "What one connection may leave unread while it takes nothing for 5 s, before it is cut. 16 times as much is too much at any time.",
    ),
    setting(
        "policy limits",
        "max_queued",
        Kind::Number(1, 100_000_000),
        "1000000",
        "How many jobs may wait. One more is answered with `ERROR:queue-full`.",
    ),
    setting(
        "policy limits",
        "max_resident",
        Kind::Number(1, 100_000_000),
        "100000",
        "How many queued jobs are kept in memory whole. Of those behind them only their place is, and the rest in the database.",
    ),
    setting(
        "policy retry",
        "attempts",
        Kind::Number(1, 1000),
        "3",
        "How often a job is tried before it has failed for good. The `retries` of a route or of the job itself go before it.",
    ),
    setting(
        "policy retry",
        "backoff",
        Kind::Period(NO_TIME, YEAR),
        "1s",
        "The wait before the second attempt. It doubles with each further one. How much of it is waited is drawn from half to all, so that jobs that failed together do not come back together. `0s`: every attempt is made at once.",
    ),
    setting(
        "policy retry",
        "max_backoff",
        Kind::Period(NO_TIME, YEAR),
        "1m",
        "The longest wait between two attempts. Not less than `backoff`.",
    ),
    setting(
        "policy retry",
        "max_losses",
        Kind::Number(1, 1000),
        "3",
        "How many workers may be lost while they have a job, before it is a dead letter: it may be what ends them.",
    ),
    setting(
        "policy results",
        "keep",
        Kind::Number(0, 100_000_000),
        "10000",
        "How many ended jobs are remembered, with their results. Beyond that the oldest are forgotten.",
    ),
    setting(
        "policy results",
        "keep_for",
        Kind::Period(SECOND, YEAR),
        "1d",
        "How long an ended job is remembered at most.",
    ),
    setting(
        "policy persistence",
        "durability",
        Kind::Durability,
        "`commit`",
        "When an accepted job is on disk. `commit`: before the client is told. `interval 100ms`: within that time, so that a power failure loses what was accepted in it, though a crash of the coordinator does not. `none`: never; jobs are in memory alone, and lost with the coordinator.",
    ),
    setting(
        "policy persistence",
        "path",
        Kind::Text,
        "`data/jobs.db`",
        "The database that jobs are kept in, relative to the folder that holds the topology, or to the one above if that folder is called `config`. It is made if it is not there.",
    ),
    setting(
        "route",
        "requires",
        Kind::Names,
        "none",
        "The capabilities that a job needs of a worker.",
    ),
    setting(
        "route",
        "priority",
        Kind::Number(-100, 100),
        "0",
        "Jobs of a higher priority go first, unless the job itself says which it has.",
    ),
    setting(
        "route",
        "timeout",
        Kind::Period(MILLISECOND, YEAR),
        "no limit",
        "How long one attempt may take, unless the job itself says. One that takes longer has failed.",
    ),
    setting(
        "route",
        "retries",
        Kind::Number(0, 100),
        "one less than the `attempts` of `policy retry`",
        "How often a job is tried again after its first attempt, unless the job itself says.",
    ),
    setting(
        "schedule",
        "cron",
        Kind::Cron,
        "none: must be set",
        "When the job is submitted: minute, hour, day of the month, month and weekday, or six fields with the second first.",
    ),
    setting(
        "schedule",
        "timezone",
        Kind::TimeZone,
        "`UTC`",
        "Whose clocks the expression is about.",
    ),
    setting(
        "schedule",
        "missed",
        Kind::Choice(Missed::WORDS),
        "`once`",
        "What becomes of runs whose time came while the coordinator was not there, or that are more than a minute late. `skip`: they are left out. `once`: the latest is submitted, in place of all. `all`: each is submitted, but no more than the latest 100.",
    ),
    setting(
        "schedule",
        "submit",
        Kind::Text,
        "none: must be set",
        "The data of the job.",
    ),
    setting(
        "schedule",
        "priority",
        Kind::Number(-100, 100),
        "its route's",
        "The job's priority. Higher is sooner.",
    ),
    setting(
        "schedule",
        "requires",
        Kind::Names,
        "its route's",
        "The capabilities that the job needs of a worker.",
    ),
    setting(
        "schedule",
        "timeout",
        Kind::Period(MILLISECOND, YEAR),
        "its route's",
        "How long one attempt may take. One that takes longer has failed.",
    ),
    setting(
        "schedule",
        "deadline",
        Kind::Period(MILLISECOND, YEAR),
        "no limit",
        "How long all of the job may take, from its submission on.",
    ),
    setting(
        "schedule",
        "retries",
        Kind::Number(0, 100),
        "its route's",
        "How often the job is tried again after its first attempt.",
    ),
    setting(
        "schedule",
        "affinity",
        Kind::Text,
        "none",
        "Jobs with the same one go to the same worker where possible, under `algorithm affinity`.",
    ),
];

/// The settings of a section.
pub(crate) fn section(name: &str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.section == name)
}
