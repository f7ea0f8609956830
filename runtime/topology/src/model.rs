//! What a topology says, typed. Every setting has its value, the default where the file is silent.
use crate::value::{Durability, Period, Rate, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An enum of words of the language, each of which is written in one place.
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$note:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$note])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words for them, in the order of the reference.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it in the language.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            /// What a word of the language stands for.
            pub fn from_word(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

/// A whole topology.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Topology {
    /// What `set NAME value` set, such as `SYSTEM_NAME` and `LOG_LEVEL`.
    pub settings: BTreeMap<String, String>,
    /// The nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// The connections, in the order of the file.
    pub connections: Vec<Connection>,
    /// The policies.
    pub policies: Policies,
    /// The routes, in the order of the file: the first whose glob matches counts.
    pub routes: Vec<Route>,
    /// What is submitted at its times, in the order of the file.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
    /// The file it was read from; empty if it was read from a text.
    #[serde(skip)]
    pub file: PathBuf,
}

/// A program of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// Its name, by which connections and the logs know it.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NodeKind,
    /// The host that it runs on.
    pub address: String,
    /// The TCP port on which it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its script, as the file has it; [`Topology::script_path`] tells where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<PathBuf>,
    /// What it offers, if it is a worker.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Where it runs its jobs, if it is a worker.
    pub isolation: Isolation,
    /// What it may use.
    pub resources: Resources,
    /// What it offers besides, if it is a master.
    pub services: Services,
}

words! {
    /// What a node is.
    pub enum NodeKind {
        /// Takes jobs and spreads them: a coordinator.
        Master = "master",
        /// Does jobs.
        Worker = "worker",
        /// Submits jobs.
        Client = "client",
    }
}

words! {
    /// Where a worker runs its jobs.
    #[derive(Default)]
    pub enum Isolation {
        /// In interpreters of the worker's process.
        #[default]
        Thread = "thread",
        /// Each slot in a child process, which can be killed.
        Process = "process",
    }
}

/// What a node may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// How many jobs a worker runs at once.
    pub cpu: u32,
    /// The limit on its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Room for its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Size>,
}

impl Default for Resources {
    fn default() -> Resources {
        Resources {
            cpu: 1,
            memory: None,
            storage: None,
        }
    }
}

/// What a master offers besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Services {
    /// It schedules jobs.
    pub job_scheduler: bool,
    /// It balances load.
    pub load_balancer: bool,
    /// It has a dashboard.
    pub monitor: bool,
}

impl Default for Services {
    fn default() -> Services {
        Services {
            job_scheduler: true,
            load_balancer: true,
            monitor: false,
        }
    }
}

/// Two nodes that talk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// The node before the arrow.
    pub from: String,
    /// The node after it.
    pub to: String,
    /// How they talk: `tcp`.
    pub protocol: String,
    /// What the line carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Rate>,
    /// What the line takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Period>,
    /// Whether they talk by TLS.
    pub encrypted: bool,
}

/// The policies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Policies {
    /// How jobs are spread, and when a worker counts as lost.
    pub load_balancing: LoadBalancing,
    /// What a coordinator puts up with.
    pub limits: Limits,
    /// What happens to jobs that fail.
    pub retry: Retry,
    /// What is remembered of jobs that have ended.
    pub results: Results,
    /// How jobs outlive the coordinator.
    pub persistence: Persistence,
}

words! {
    /// How a coordinator chooses among the workers that could take a job.
    #[derive(Default)]
    pub enum Algorithm {
        /// Each in turn.
        #[default]
        RoundRobin = "round_robin",
        /// The one with the smallest share of its slots in use.
        LeastLoaded = "least_loaded",
        /// In proportion to their [`Resources::cpu`].
        Weighted = "weighted",
        /// The less loaded of two chosen at random.
        PowerOfTwo = "power_of_two",
        /// The same one for jobs with the same affinity key, while it has a free slot: consistent hashing. Jobs without a
        /// key go round robin.
        Affinity = "affinity",
    }
}

words! {
    /// How a coordinator tells that a worker is lost.
    #[derive(Default)]
    pub enum Detector {
        /// It is silent for longer than [`LoadBalancing::health_check_interval`].
        #[default]
        Fixed = "fixed",
        /// Its silence has become improbable, given how regularly its beats used to arrive.
        PhiAccrual = "phi_accrual",
    }
}

/// How jobs are spread, and when a worker counts as lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadBalancing {
    /// How a worker is chosen.
    pub algorithm: Algorithm,
    /// How long a worker may be silent: 1ms to 366d.
    pub health_check_interval: Period,
    /// How often a worker says that it is alive: 1ms to 366d.
    pub heartbeat_interval: Period,
    /// How the loss of a worker is told.
    pub detector: Detector,
    /// How improbable a silence must be for [`Detector::PhiAccrual`]: one in ten to this power. 1 to 16.
    pub phi_threshold: u32,
    /// Whether the jobs of a lost worker go to the others.
    pub failover: bool,
}

impl Default for LoadBalancing {
    fn default() -> LoadBalancing {
        LoadBalancing {
            algorithm: Algorithm::default(),
            health_check_interval: Period(Duration::from_secs(30)),
            heartbeat_interval: Period(Duration::from_secs(10)),
            detector: Detector::default(),
            phi_threshold: 8,
            failover: true,
        }
    }
}

/// What a coordinator puts up with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// The longest line it reads: 1KiB to 1GiB.
    pub max_line: Size,
    /// How many connections may be open at once: 1 to 1,000,000.
    pub max_connections: u32,
    /// What one connection may leave unread before it is cut: 1KiB to 1TiB.
    pub max_pending: Size,
    /// How many jobs may wait: 1 to 100,000,000.
    pub max_queued: u32,
    /// How many queued jobs are kept in memory whole, if there is a journal: 1 to 100,000,000.
    pub max_resident: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_line: Size(1 << 20),
            max_connections: 100_000,
            max_pending: Size(16 << 20),
            max_queued: 1_000_000,
            max_resident: 100_000,
        }
    }
}

/// What happens to jobs that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retry {
    /// How often a job is tried: 1 to 1000.
    pub attempts: u32,
    /// The wait before the second attempt, which doubles with each further one, before jitter: 0s (at once) to 366d.
    pub backoff: Period,
    /// The longest such wait, not less than `backoff`.
    pub max_backoff: Period,
    /// How many workers may be lost while they have a job, before it is a dead letter: 1 to 1000.
    pub max_losses: u32,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 3,
            backoff: Period(Duration::from_secs(1)),
            max_backoff: Period(Duration::from_secs(60)),
            max_losses: 3,
        }
    }
}

/// What is remembered of jobs that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// How many ended jobs: 0 to 100,000,000.
    pub keep: u32,
    /// For how long: 1s to 366d.
    pub keep_for: Period,
}

impl Default for Results {
    fn default() -> Results {
        Results {
            keep: 10_000,
            keep_for: Period(Duration::from_secs(24 * 60 * 60)),
        }
    }
}

/// How jobs outlive the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Persistence {
    /// When an accepted job is on disk.
    pub durability: Durability,
    /// The database, relative to [`Topology::root`].
    pub path: String,
}

impl Default for Persistence {
    fn default() -> Persistence {
        Persistence {
            durability: Durability::Commit,
            path: "data/jobs.db".to_owned(),
        }
    }
}

/// What jobs whose data match a glob need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// As `string match` in Tcl has it.
    pub glob: String,
    /// The capabilities that a worker must have.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Jobs of a higher priority go first: -100 to 100.
    pub priority: i32,
    /// How long one attempt may take: 1ms to 366d; without it, as long as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// How often a job is tried again, 0 to 100; without it, [`Retry::attempts`] counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

words! {
    /// What becomes of runs whose time came while no coordinator was there.
    #[derive(Default)]
    pub enum Missed {
        /// They are left out.
        Skip = "skip",
        /// The latest of them is submitted.
        #[default]
        Once = "once",
        /// Each of them is submitted, but no more than the latest 100.
        All = "all",
    }
}

/// A job that is submitted at its times. What it does not say of the job is left to the routes and policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Schedule {
    /// Its name, by which it is listed and its jobs have their keys.
    pub name: String,
    /// The times, as a cron expression.
    pub cron: String,
    /// The time zone of these times, by its IANA name.
    pub timezone: String,
    /// What becomes of missed runs.
    pub missed: Missed,
    /// The data of the job.
    pub submit: String,
    /// Jobs of a higher priority go first: -100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The capabilities that a worker must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Vec<String>>,
    /// How long one attempt may take: 1ms to 366d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// How long all of it may take, from its submission on: 1ms to 366d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Period>,
    /// How often the job is tried again: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Jobs of one affinity go to the same worker where possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
}

impl Topology {
    /// The node that runs the schedules: the first master.
    pub fn scheduler(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.kind == NodeKind::Master)
    }

    /// The node of a name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The connection between two nodes, whichever comes before the arrow.
    pub fn connection(&self, one: &str, other: &str) -> Option<&Connection> {
        self.connections.iter().find(|connection| {
            (connection.from == one && connection.to == other)
                || (connection.from == other && connection.to == one)
        })
    }

    /// The folder that paths in the topology are relative to: the one that holds the file, or the one above if that is called
    /// `config`.
    pub fn root(&self) -> &Path {
        root_of(&self.file)
    }

    /// Where the coordinator keeps its jobs.
    pub fn journal_path(&self) -> PathBuf {
        self.root().join(&self.policies.persistence.path)
    }

    /// Where a node's script is, if it has one.
    pub fn script_path(&self, node: &Node) -> Option<PathBuf> {
        node.script.as_ref().map(|script| self.root().join(script))
    }
}

/// The folder that the paths in a topology of this file are relative to.
pub(crate) fn root_of(file: &Path) -> &Path {
    let folder = file.parent().unwrap_or(Path::new(""));
    match folder.parent() {
        Some(above) if folder.file_name().is_some_and(|name| name == "config") => above,
        _ => folder,
    }
}
