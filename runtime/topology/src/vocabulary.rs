//! All settings of the language, in one table: what the reader checks by, and what `docs/topology.md` shows.

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
    Number(u64, u64),
    /// `true false yes no on off`.
    Boolean,
    /// [`crate::Size`].
    Size,
    /// [`crate::Rate`].
    Rate,
    /// [`crate::Period`].
    Period,
    /// Words, each of letters, digits, `_`, `-` and `.`: in a block or one after the other.
    Names,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A block of settings of its own: those of the section that is named after the two.
    Block,
}

impl Kind {
    /// What is expected, in words.
    pub fn expected(self) -> String {
        match self {
            Kind::Text => "a text".into(),
            Kind::Number(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Boolean => "`true` or `false` (or `yes no on off`)".into(),
            Kind::Size => "a size, such as `4GB` or `512MiB`".into(),
            Kind::Rate => "a rate, such as `1Gbps`".into(),
            Kind::Period => "a duration, such as `10ms` or `30s` (a bare number is seconds)".into(),
            Kind::Names => "names, such as `{ gpu realtime }`".into(),
            Kind::Choice(words) => one_of(words),
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

/// The settings, in the order of the reference.
pub const SETTINGS: &[Setting] = &[
    setting(
        "node",
        "type",
        Kind::Choice(&["master", "worker", "client"]),
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
        Kind::Number(1, 4096),
        "1",
        "How many jobs a worker runs at once: its slots.",
    ),
    setting(
        "node resources",
        "memory",
        Kind::Size,
        "no limit",
        "The limit on the memory that the node's process can allocate (`RLIMIT_DATA`), when `torhost up` runs it.",
    ),
    setting(
        "node resources",
        "storage",
        Kind::Size,
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
        Kind::Period,
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
        Kind::Choice(&["round_robin"]),
        "`round_robin`",
        "How the coordinator chooses among the workers that could take a job: each in turn.",
    ),
    setting(
        "policy load_balancing",
        "health_check_interval",
        Kind::Period,
        "30s",
        "A worker that is silent for longer loses its jobs to the others.",
    ),
    setting(
        "policy load_balancing",
        "heartbeat_interval",
        Kind::Period,
        "10s",
        "How often a worker says that it is alive. At most half the health-check interval.",
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
        Kind::Size,
        "1MiB",
        "The longest line that a coordinator reads. A longer one is answered with `ERROR:line-too-long`, and the connection closed.",
    ),
    setting(
        "policy retry",
        "attempts",
        Kind::Number(1, 1000),
        "3",
        "How often a job is tried before it has failed for good.",
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
        Kind::Number(0, 1_000_000),
        "0",
        "Jobs of a higher priority go first.",
    ),
];

/// The settings of a section.
pub(crate) fn section(name: &str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.section == name)
}
