//! What a topology says, typed. Every setting has its value, the default where the file is silent.
use crate::value::{Period, Rate, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// What it may use.
    pub resources: Resources,
    /// What it offers besides, if it is a master.
    pub services: Services,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Takes jobs and spreads them: a coordinator.
    Master,
    /// Does jobs.
    Worker,
    /// Submits jobs.
    Client,
}

impl NodeKind {
    /// The word for it in the language.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeKind::Master => "master",
            NodeKind::Worker => "worker",
            NodeKind::Client => "client",
        }
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
}

/// How jobs are spread, and when a worker counts as lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadBalancing {
    /// How a worker is chosen: `round_robin`.
    pub algorithm: String,
    /// How long a worker may be silent.
    pub health_check_interval: Period,
    /// How often a worker says that it is alive.
    pub heartbeat_interval: Period,
    /// Whether the jobs of a lost worker go to the others.
    pub failover: bool,
}

impl Default for LoadBalancing {
    fn default() -> LoadBalancing {
        LoadBalancing {
            algorithm: "round_robin".to_owned(),
            health_check_interval: Period(Duration::from_secs(30)),
            heartbeat_interval: Period(Duration::from_secs(10)),
            failover: true,
        }
    }
}

/// What a coordinator puts up with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// The longest line it reads.
    pub max_line: Size,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_line: Size(1 << 20),
        }
    }
}

/// What happens to jobs that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retry {
    /// How often a job is tried.
    pub attempts: u32,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { attempts: 3 }
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
    /// Jobs of a higher priority go first.
    pub priority: u32,
}

impl Topology {
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
        let folder = self.file.parent().unwrap_or(Path::new(""));
        match folder.parent() {
            Some(above) if folder.file_name().is_some_and(|name| name == "config") => above,
            _ => folder,
        }
    }

    /// Where a node's script is, if it has one.
    pub fn script_path(&self, node: &Node) -> Option<PathBuf> {
        node.script.as_ref().map(|script| self.root().join(script))
    }
}
