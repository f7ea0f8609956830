//! `tor::topology`.
use super::{Command, stats};
use log::LevelFilter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use torhost_tcl::{Error, Obj, Result};
use torhost_topology::{Connection, Node, NodeKind, Period, Policies, Route, Schedule, Size, Topology};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "tor::topology nodes",
        usage: "?-type type?",
        help: "Returns the names of all nodes, or of those of a type: `master`, `worker` or `client`.\n\n\
               The topology of a script is the file that `--topology` names, else `$TOR_TOPOLOGY`, else `config/system.top` \
               beside the script's folder. It is read once, when it is first asked for. Where there is none, all commands of \
               `tor::topology` are errors with `-errorcode {TOR TOPOLOGY NONE}`; where it has mistakes, the error shows them, \
               with `-errorcode {TOR TOPOLOGY INVALID}`.\n\n\
               Durations are milliseconds, sizes bytes, rates bits per second, booleans 0 or 1.",
        example: "foreach name [tor::topology nodes -type worker] {puts $name}",
        arguments: (0, Some(2)),
        run: |_, args| nodes(args),
    },
    Command {
        name: "tor::topology node",
        usage: "name ?key …?",
        help: "Returns a node's settings as a dict: `name type address capabilities isolation resources services`, and `port` and `script` \
               if it has them (the script as an absolute path). With keys, returns the one setting they lead to.\n\n\
               An unknown node or key is an error with `-errorcode {TOR TOPOLOGY UNKNOWN}`.",
        example: "tor::topology node worker2 resources cpu",
        arguments: (1, None),
        run: |_, args| {
            let name = args[0].to_text()?;
            let settings = node_dict(topology()?, node(&name)?);
            pick(settings, &args[1..], &format!("the node \"{name}\""))
        },
    },
    Command {
        name: "tor::topology connection",
        usage: "node node ?key?",
        help: "Returns what is set for the connection of two nodes as a dict, or one of its settings: `protocol bandwidth latency \
               encrypted`. `bandwidth` and `latency` are there only if they are set.\n\n\
               Nodes without a connection are an error with `-errorcode {TOR TOPOLOGY UNKNOWN}`.",
        example: "tor::topology connection coordinator worker1 latency   ;# → 10",
        arguments: (2, Some(3)),
        run: |_, args| {
            let (one, other) = (args[0].to_text()?, args[1].to_text()?);
            match topology()?.connection(&one, &other) {
                Some(connection) => pick(connection_dict(connection), &args[2..], "the connection"),
                None => Err(unknown(format!(
                    "there is no connection of \"{one}\" and \"{other}\""
                ))),
            }
        },
    },
    Command {
        name: "tor::topology policy",
        usage: "name ?key? ?default?",
        help: "Returns the settings of a policy (`load_balancing`, `limits`, `retry` or `results`) as a dict, or one of them. All have a value, set or default; `default` is for a key that \
               this version of torhost does not know.\n\n\
               An unknown policy or key is an error with `-errorcode {TOR TOPOLOGY UNKNOWN}`.",
        example: "tor::topology policy load_balancing health_check_interval   ;# → 30000",
        arguments: (1, Some(3)),
        run: |_, args| policy(args),
    },
    Command {
        name: "tor::topology routes",
        usage: "",
        help: "Returns the routes, in order, as a list of dicts with the keys `glob requires priority`, and `timeout` and `retries` where they \
               are set.",
        example: "foreach route [tor::topology routes] {puts [dict get $route glob]}",
        arguments: (0, Some(0)),
        run: |_, _| Ok(Obj::list(topology()?.routes.iter().map(route_dict))),
    },
    Command {
        name: "tor::topology schedules",
        usage: "",
        help: "Returns the schedules, in order, as a list of dicts with the keys `name cron timezone missed submit`, and those of `priority \
               requires timeout deadline retries affinity` that are set.",
        example: "foreach schedule [tor::topology schedules] {puts [dict get $schedule name]}",
        arguments: (0, Some(0)),
        run: |_, _| Ok(Obj::list(topology()?.schedules.iter().map(schedule_dict))),
    },
    Command {
        name: "tor::topology setting",
        usage: "name ?default?",
        help: "Returns what `set NAME value` set in the topology, such as `SYSTEM_NAME`; or the default, if one is given and it is \
               not set.",
        example: "tor::topology setting SYSTEM_NAME \"no name\"",
        arguments: (1, Some(2)),
        run: |_, args| {
            let name = args[0].to_text()?;
            match (topology()?.settings.get(&name), args.get(1)) {
                (Some(value), _) => Ok(Obj::from(value)),
                (None, Some(default)) => Ok(default.clone()),
                (None, None) => Err(unknown(format!("the topology does not set \"{name}\""))),
            }
        },
    },
    Command {
        name: "tor::topology self",
        usage: "",
        help: "Returns the name of the node that this process is: `$TOR_NODE`, which `torhost up` sets, else the node whose script this \
               is. Empty if it is none. If several nodes share the script and `TOR_NODE` is not set, that is an error with \
               `-errorcode {TOR TOPOLOGY SELF}`.",
        example: "set me [tor::topology self]",
        arguments: (0, Some(0)),
        run: |_, _| own_name().map(Obj::from),
    },
    Command {
        name: "tor::topology file",
        usage: "",
        help: "Returns the path of the topology's file.",
        example: "puts \"settings are from [tor::topology file]\"",
        arguments: (0, Some(0)),
        run: |_, _| Ok(path_obj(&topology()?.file)),
    },
    Command {
        name: "tor::topology root",
        usage: "",
        help: "Returns the folder that paths in the topology are relative to: the one that holds its file, or the one above if that is \
               called `config`.",
        example: "set logs [file join [tor::topology root] logs]",
        arguments: (0, Some(0)),
        run: |_, _| Ok(path_obj(topology()?.root())),
    },
];

/// What decides which topology is the script's.
#[derive(Default)]
struct Origin {
    named: Option<PathBuf>,
    script: Option<PathBuf>,
}

static ORIGIN: OnceLock<Origin> = OnceLock::new();
static TOPOLOGY: OnceLock<std::result::Result<Topology, Error>> = OnceLock::new();

/// The `-errorcode` where there is no topology.
const NONE: [&str; 3] = ["TOR", "TOPOLOGY", "NONE"];

/// Notes where the topology is to be looked for, and the script that is about to run. Made absolute now: a script may change
/// directory.
pub(super) fn set_origin(topology: Option<PathBuf>, script: Option<PathBuf>) {
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let named = topology.or_else(|| {
        env::var_os("TOR_TOPOLOGY")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    });
    ORIGIN.get_or_init(|| Origin {
        named: named.map(absolute),
        script: script.map(absolute),
    });
    stats::start_clock();
}

/// The file of the script that this process runs, if it runs one.
pub(super) fn script() -> Option<&'static Path> {
    ORIGIN.get()?.script.as_deref()
}

/// The topology file that was named, rather than found.
pub(super) fn named() -> Option<PathBuf> {
    ORIGIN.get()?.named.clone()
}

/// The script's topology.
pub(super) fn topology() -> Result<&'static Topology> {
    TOPOLOGY.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Topology> {
    let origin = ORIGIN.get_or_init(Origin::default);
    let beside = || {
        Some(
            origin
                .script
                .as_ref()?
                .parent()?
                .parent()?
                .join("config/system.top"),
        )
    };
    let file = match &origin.named {
        Some(named) => named.clone(),
        None => beside().filter(|file| file.is_file()).ok_or_else(|| {
            let looked = beside().map_or(String::new(), |file| {
                format!(", and {} is not there", file.display())
            });
            Error::new(format!(
                "no topology: neither --topology nor TOR_TOPOLOGY names one{looked}"
            ))
            .with_code(NONE)
        })?,
    };
    Topology::load(&file).map_err(|mistakes| {
        Error::new(mistakes.to_string().trim_end()).with_code(["TOR", "TOPOLOGY", "INVALID"])
    })
}

/// The host and port that a word names, which is `host:port` or a node that has a port; none if it names none.
pub(super) fn endpoint(word: &str) -> Result<Option<(String, u16)>> {
    if let Some((host, port)) = word.rsplit_once(':') {
        // An address of IPv6 is written in brackets, for its colons.
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().ok().filter(|&port| port > 0 && !host.is_empty());
        return Ok(port.map(|port| (host.to_owned(), port)));
    }
    let node = topology()?.node(word);
    Ok(node.and_then(|node| Some((node.address.clone(), node.port?))))
}

/// A node of the script's topology.
pub(super) fn node(name: &str) -> Result<&'static Node> {
    let topology = topology()?;
    topology.node(name).ok_or_else(|| {
        let known = listed(topology.nodes.iter().map(|node| node.name.as_str()));
        unknown(format!("there is no node \"{name}\": the topology has {known}"))
    })
}

/// The script's topology; none where there is none.
pub(super) fn topology_if_any() -> Result<Option<&'static Topology>> {
    match topology() {
        Ok(topology) => Ok(Some(topology)),
        Err(error) if error.code() == NONE => Ok(None),
        Err(error) => Err(error),
    }
}

/// The node that this process is; none if it is none of them.
pub(super) fn own_node() -> Result<Option<&'static Node>> {
    if topology_if_any()?.is_none() {
        return Ok(None);
    }
    let name = own_name()?;
    (!name.is_empty()).then(|| node(&name)).transpose()
}

/// The topology's `LOG_LEVEL`; none where there is no topology.
pub(super) fn log_level() -> Option<LevelFilter> {
    topology().ok()?.settings.get("LOG_LEVEL")?.parse().ok()
}

/// Holds a node that `torhost up` started to the memory that the topology gives it.
pub(super) fn limit_memory() {
    let own = env::var("TOR_NODE")
        .ok()
        .filter(|_| env::var_os("TOR_SUPERVISOR").is_some());
    let memory = own.and_then(|name| topology().ok()?.node(&name)?.resources.memory);
    if let Some(Size(bytes)) = memory {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: getrlimit(Resource::Data).maximum,
        };
        if let Err(error) = setrlimit(Resource::Data, limit) {
            log::warn!("cannot limit the memory of this node to {bytes} bytes: {error}");
        }
    }
}

fn nodes(args: &[Obj]) -> Result<Obj> {
    let kind =
        match args {
            [] => None,
            [option, kind] if option.to_text_lossy() == "-type" => {
                let word = kind.to_text()?;
                let known = [NodeKind::Master, NodeKind::Worker, NodeKind::Client];
                let kind = known.into_iter().find(|kind| kind.as_str() == word);
                Some(kind.ok_or_else(|| {
                    unknown(format!("bad type \"{word}\": must be master, worker, or client"))
                })?)
            }
            _ => return Err(Error::wrong_args("tor::topology nodes ?-type type?")),
        };
    let of_kind = |node: &&Node| kind.is_none_or(|kind| node.kind == kind);
    Ok(Obj::list(
        topology()?.nodes.iter().filter(of_kind).map(|node| &node.name),
    ))
}

fn policy(args: &[Obj]) -> Result<Obj> {
    let Policies {
        load_balancing,
        limits,
        retry,
        results,
        persistence,
    } = &topology()?.policies;
    let name = args[0].to_text()?;
    let settings = match name.as_str() {
        "load_balancing" => Obj::dict([
            ("algorithm", Obj::from(load_balancing.algorithm.as_str())),
            (
                "health_check_interval",
                milliseconds(load_balancing.health_check_interval),
            ),
            (
                "heartbeat_interval",
                milliseconds(load_balancing.heartbeat_interval),
            ),
            ("detector", Obj::from(load_balancing.detector.as_str())),
            ("phi_threshold", Obj::from(load_balancing.phi_threshold)),
            ("failover", Obj::from(load_balancing.failover)),
        ]),
        "limits" => Obj::dict([
            ("max_line", Obj::from(limits.max_line.0)),
            ("max_connections", Obj::from(limits.max_connections)),
            ("max_pending", Obj::from(limits.max_pending.0)),
            ("max_queued", Obj::from(limits.max_queued)),
            ("max_resident", Obj::from(limits.max_resident)),
        ]),
        "retry" => Obj::dict([
            ("attempts", Obj::from(retry.attempts)),
            ("backoff", milliseconds(retry.backoff)),
            ("max_backoff", milliseconds(retry.max_backoff)),
            ("max_losses", Obj::from(retry.max_losses)),
        ]),
        "results" => Obj::dict([
            ("keep", Obj::from(results.keep)),
            ("keep_for", milliseconds(results.keep_for)),
        ]),
        "persistence" => Obj::dict([
            ("durability", Obj::from(persistence.durability.to_string())),
            ("path", Obj::from(&persistence.path)),
        ]),
        _ => {
            let known = listed(["load_balancing", "limits", "retry", "results", "persistence"]);
            return Err(unknown(format!(
                "there is no policy \"{name}\": there are {known}"
            )));
        }
    };
    match &args[1..] {
        [key, default] => Ok(settings.get(&key.to_text()?)?.unwrap_or_else(|| default.clone())),
        keys => pick(settings, keys, &format!("the policy \"{name}\"")),
    }
}

pub(super) fn own_name() -> Result<String> {
    let topology = topology()?;
    if let Ok(name) = env::var("TOR_NODE") {
        return Ok(name);
    }
    let canonical = |path: &Path| path.canonicalize().ok();
    let own = ORIGIN.get().and_then(|origin| canonical(origin.script.as_ref()?));
    let Some(own) = own else { return Ok(String::new()) };
    let same = |node: &&Node| {
        topology
            .script_path(node)
            .and_then(|path| canonical(&path))
            .as_ref()
            == Some(&own)
    };
    let names: Vec<&str> = topology
        .nodes
        .iter()
        .filter(same)
        .map(|node| node.name.as_str())
        .collect();
    match names[..] {
        [] => Ok(String::new()),
        [name] => Ok(name.to_owned()),
        _ => {
            let message = format!(
                "this is the script of several nodes ({}): say which with TOR_NODE",
                names.join(", ")
            );
            Err(Error::new(message).with_code(["TOR", "TOPOLOGY", "SELF"]))
        }
    }
}

fn node_dict(topology: &Topology, node: &Node) -> Obj {
    let resources = [
        Some(("cpu", Obj::from(node.resources.cpu))),
        node.resources.memory.map(|size| ("memory", Obj::from(size.0))),
        node.resources.storage.map(|size| ("storage", Obj::from(size.0))),
    ];
    let services = [
        ("job_scheduler", node.services.job_scheduler),
        ("load_balancer", node.services.load_balancer),
        ("monitor", node.services.monitor),
    ];
    let settings = [
        Some(("name", Obj::from(&node.name))),
        Some(("type", Obj::from(node.kind.as_str()))),
        Some(("address", Obj::from(&node.address))),
        node.port.map(|port| ("port", Obj::from(u32::from(port)))),
        topology.script_path(node).map(|path| ("script", path_obj(&path))),
        Some(("capabilities", Obj::list(&node.capabilities))),
        Some(("isolation", Obj::from(node.isolation.as_str()))),
        Some(("resources", Obj::dict(resources.into_iter().flatten()))),
        Some(("services", Obj::dict(services))),
    ];
    Obj::dict(settings.into_iter().flatten())
}

fn connection_dict(connection: &Connection) -> Obj {
    let settings = [
        Some(("protocol", Obj::from(&connection.protocol))),
        connection.bandwidth.map(|rate| ("bandwidth", Obj::from(rate.0))),
        connection
            .latency
            .map(|latency| ("latency", milliseconds(latency))),
        Some(("encrypted", Obj::from(connection.encrypted))),
    ];
    Obj::dict(settings.into_iter().flatten())
}

fn route_dict(route: &Route) -> Obj {
    let settings = [
        Some(("glob", Obj::from(&route.glob))),
        Some(("requires", Obj::list(&route.requires))),
        Some(("priority", Obj::from(route.priority))),
        route.timeout.map(|timeout| ("timeout", milliseconds(timeout))),
        route.retries.map(|retries| ("retries", Obj::from(retries))),
    ];
    Obj::dict(settings.into_iter().flatten())
}

fn schedule_dict(schedule: &Schedule) -> Obj {
    let requires = schedule.requires.as_ref();
    let settings = [
        Some(("name", Obj::from(&schedule.name))),
        Some(("cron", Obj::from(&schedule.cron))),
        Some(("timezone", Obj::from(&schedule.timezone))),
        Some(("missed", Obj::from(schedule.missed.as_str()))),
        Some(("submit", Obj::from(&schedule.submit))),
        schedule
            .priority
            .map(|priority| ("priority", Obj::from(priority))),
        requires.map(|requires| ("requires", Obj::list(requires))),
        schedule.timeout.map(|timeout| ("timeout", milliseconds(timeout))),
        schedule
            .deadline
            .map(|deadline| ("deadline", milliseconds(deadline))),
        schedule.retries.map(|retries| ("retries", Obj::from(retries))),
        schedule
            .affinity
            .as_ref()
            .map(|affinity| ("affinity", Obj::from(affinity))),
    ];
    Obj::dict(settings.into_iter().flatten())
}

/// Goes down a dict by keys.
fn pick(mut settings: Obj, keys: &[Obj], of: &str) -> Result<Obj> {
    for key in keys {
        let key = key.to_text()?;
        settings = match settings.get(&key) {
            Ok(Some(value)) => value,
            Ok(None) => {
                let known: Vec<String> = settings
                    .to_dict()?
                    .iter()
                    .map(|(key, _)| key.to_text_lossy())
                    .collect();
                let known = listed(known.iter().map(String::as_str));
                return Err(unknown(format!("\"{key}\" is not set for {of}: it has {known}")));
            }
            Err(_) => return Err(unknown(format!("there is no \"{key}\" in {of}"))),
        };
    }
    Ok(settings)
}

/// Rounded up, so that a wait is never cut short to none.
fn milliseconds(period: Period) -> Obj {
    Obj::from(u64::try_from(period.0.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
}

fn path_obj(path: &Path) -> Obj {
    Obj::from(path.to_string_lossy().into_owned())
}

fn unknown(message: String) -> Error {
    Error::new(message).with_code(["TOR", "TOPOLOGY", "UNKNOWN"])
}

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}
