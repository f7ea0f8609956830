//! What a coordinator can be set to: from the topology where there is one, and by options.
use super::options::Options;
use super::{Callback, topology};
use crate::coordinator::{
    Coordinator, Definition, EVENTS, Glob, Hooks, JournalSettings, Route, Routes, Serving, set_option,
};
use crate::reactor::Limits;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;
use torhost_dispatch::{Config, Detection, Policy};
use torhost_journal::{Error as JournalError, Sync};
use torhost_protocol::SubmitOptions;
use torhost_schedule::{Missed, Schedule};
use torhost_tcl::{Error, Interp, Obj, Result};
use torhost_topology::{self as language, Algorithm, Detector, Durability, LoadBalancing, Policies};

/// The settings of an engine.
pub(super) struct EngineSettings {
    options: Options,
    config: Config,
    detector: Detector,
    phi_threshold: u32,
    chooser: Option<Callback>,
    /// The option that said how workers are chosen, if one did.
    chosen_by: Option<&'static str>,
    /// What holds where no option says otherwise.
    persistence: (Durability, PathBuf),
    durability: Option<Durability>,
    journal: Option<PathBuf>,
}

impl EngineSettings {
    pub(super) const NAMES: &[&str] = &[
        "-policy",
        "-policy-command",
        "-health-check",
        "-detector",
        "-phi-threshold",
        "-failover",
        "-attempts",
        "-backoff",
        "-max-backoff",
        "-max-losses",
        "-max-queued",
        "-max-resident",
        "-keep",
        "-keep-for",
        "-durability",
        "-journal",
    ];

    /// What the topology says, or else the defaults.
    ///
    /// # Errors
    /// A topology with mistakes.
    pub(super) fn new(options: Options) -> Result<EngineSettings> {
        let Policies {
            load_balancing,
            limits,
            retry,
            results,
            persistence,
        } = policies()?;
        let config = Config {
            policy: policy(load_balancing.algorithm),
            health_check_interval: load_balancing.health_check_interval.0,
            failover: load_balancing.failover,
            attempts: retry.attempts,
            backoff: retry.backoff.0,
            max_backoff: retry.max_backoff.0,
            max_losses: retry.max_losses,
            max_queued: limits.max_queued as usize,
            max_resident: limits.max_resident as usize,
            keep: results.keep as usize,
            keep_for: results.keep_for.0,
            ..Config::default()
        };
        Ok(EngineSettings {
            options,
            config,
            detector: load_balancing.detector,
            phi_threshold: load_balancing.phi_threshold,
            chooser: None,
            chosen_by: None,
            persistence: match topology::topology_if_any()? {
                Some(topology) => (persistence.durability, topology.journal_path()),
                None => (persistence.durability, persistence.path.into()),
            },
            durability: None,
            journal: None,
        })
    }

    /// Has jobs in memory alone, unless an option says where to keep them.
    pub(super) fn in_memory(mut self) -> EngineSettings {
        self.persistence.0 = Durability::None;
        self
    }

    /// Takes an option; false if it is none of these.
    ///
    /// # Errors
    /// A value that it cannot have.
    pub(super) fn take(&mut self, interp: &Interp, option: &Obj, value: &Obj) -> Result<bool> {
        let (options, config) = (self.options, &mut self.config);
        match option.to_text_lossy().as_str() {
            name @ ("-policy" | "-policy-command") if self.chosen_by.is_some_and(|other| other != name) => {
                return Err(
                    options.bad("the options -policy and -policy-command exclude each other: give one")
                );
            }
            "-policy" => {
                config.policy = policy_of(options, value)?;
                self.chosen_by = Some("-policy");
            }
            "-policy-command" => {
                self.chosen_by = Some("-policy-command");
                self.chooser = options.callback(interp, option, value)?;
                config.policy = match &self.chooser {
                    Some(_) => Policy::Asked,
                    None => Policy::RoundRobin,
                };
            }
            "-health-check" => config.health_check_interval = options.duration(option, value, 10)?,
            "-detector" => {
                let detector = Detector::from_word(&value.to_text_lossy());
                self.detector =
                    detector.ok_or_else(|| options.bad_value(option, value, &one_of(Detector::WORDS)))?;
            }
            "-phi-threshold" => self.phi_threshold = options.whole(option, value, 1, 16)? as u32,
            "-failover" => config.failover = options.boolean(option, value)?,
            "-attempts" => config.attempts = options.whole(option, value, 1, 1000)? as u32,
            "-backoff" => config.backoff = options.duration(option, value, 0)?,
            "-max-backoff" => config.max_backoff = options.duration(option, value, 0)?,
            "-max-losses" => config.max_losses = options.whole(option, value, 1, 1000)? as u32,
            "-max-queued" => config.max_queued = options.whole(option, value, 1, 100_000_000)? as usize,
            "-max-resident" => config.max_resident = options.whole(option, value, 1, 100_000_000)? as usize,
            "-keep" => config.keep = options.whole(option, value, 0, 100_000_000)? as usize,
            "-keep-for" => config.keep_for = options.duration(option, value, 1000)?,
            "-durability" => {
                let expected = "commit, interval and a duration from 1ms to 1h, or none";
                let durability = value.to_text_lossy().parse();
                self.durability = Some(durability.map_err(|_| options.bad_value(option, value, expected))?);
            }
            "-journal" => {
                let path = value.to_text()?;
                if path.is_empty() {
                    return Err(options.bad_value(option, value, "the path of a file"));
                }
                self.journal = Some(path.into());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A coordinator with these settings, which goes on with the jobs in its journal if it has one.
    ///
    /// # Errors
    /// A journal that cannot be used.
    pub(super) fn coordinator(mut self) -> Result<Coordinator> {
        let (default, path) = std::mem::take(&mut self.persistence);
        let durability = self.durability.unwrap_or(match (&self.journal, default) {
            // Who names a database wants it written.
            (Some(_), Durability::None) => Durability::Commit,
            _ => default,
        });
        let path = self.journal.take().unwrap_or(path);
        let sync = match durability {
            Durability::Commit => Some(Sync::Commit),
            Durability::Interval(interval) => Some(Sync::Interval(interval.0)),
            Durability::None => None,
        };
        let journal = sync.map(|sync| JournalSettings { path, sync });
        let (config, chooser) = self.config();
        let file = journal.as_ref().map(|journal| journal.path.display().to_string());
        Coordinator::new(config, chooser, journal).map_err(|error| {
            let whose = match error {
                JournalError::Damaged(_) | JournalError::Sql(_) => {
                    format!(" in {}", file.unwrap_or_default())
                }
                // These name it.
                _ => String::new(),
            };
            Error::new(format!("cannot keep jobs{whose}: {error}")).with_code([
                "TOR",
                "COORDINATOR",
                "JOURNAL",
            ])
        })
    }

    /// The settings, and whom to ask for workers.
    fn config(self) -> (Config, Option<Callback>) {
        let detection = match self.detector {
            Detector::Fixed => Detection::Fixed,
            Detector::PhiAccrual => Detection::PhiAccrual {
                threshold: f64::from(self.phi_threshold),
            },
        };
        let config = Config {
            detection,
            ..self.config
        };
        (config, self.chooser)
    }

    /// For how long a worker may be silent.
    pub(super) fn health_check(&self) -> Duration {
        self.config.health_check_interval
    }
}

/// The settings of serving, and where.
pub(super) struct ServingSettings {
    options: Options,
    port: Option<u16>,
    host: Option<String>,
    /// Whether the topology's schedules are run here, if that was said.
    runs_schedules: Option<bool>,
    heartbeat: Option<Duration>,
    serving: Serving,
}

impl ServingSettings {
    pub(super) const NAMES: &[&str] = &[
        "-port",
        "-address",
        "-heartbeat",
        "-max-connections",
        "-max-line",
        "-max-pending",
        "-routes",
        "-schedules",
        "-admit",
        "-route",
    ];

    /// As [`EngineSettings::new`].
    pub(super) fn new(options: Options) -> Result<ServingSettings> {
        let LoadBalancing {
            heartbeat_interval, ..
        } = policies()?.load_balancing;
        let limits = policies()?.limits;
        let routes = topology::topology_if_any()?.map_or(&[][..], |topology| &topology.routes);
        let routes = routes.iter().map(|route| Route {
            glob: Glob::new(&route.glob),
            options: SubmitOptions {
                priority: Some(route.priority),
                requires: Some(route.requires.clone()),
                timeout: route.timeout.map(|timeout| timeout.0),
                retries: route.retries,
                ..SubmitOptions::default()
            },
        });
        Ok(ServingSettings {
            options,
            port: None,
            host: None,
            runs_schedules: None,
            heartbeat: None,
            serving: Serving {
                heartbeat: heartbeat_interval.0,
                limits: Limits {
                    max_line: limits.max_line.0 as usize,
                    max_pending: limits.max_pending.0 as usize,
                },
                max_connections: limits.max_connections as usize,
                routes: Routes(routes.collect()),
                schedules: Vec::new(),
                hooks: Hooks::default(),
            },
        })
    }

    /// As [`EngineSettings::take`].
    pub(super) fn take(&mut self, interp: &Interp, option: &Obj, value: &Obj) -> Result<bool> {
        let (options, serving) = (self.options, &mut self.serving);
        match option.to_text_lossy().as_str() {
            "-port" => self.port = Some(options.whole(option, value, 0, u64::from(u16::MAX))? as u16),
            "-address" => self.host = Some(value.to_text()?),
            "-heartbeat" => self.heartbeat = Some(options.duration(option, value, 10)?),
            "-max-connections" => {
                serving.max_connections = options.whole(option, value, 1, 1_000_000)? as usize;
            }
            "-max-line" => serving.limits.max_line = options.whole(option, value, 1, 1 << 30)? as usize,
            "-max-pending" => serving.limits.max_pending = options.whole(option, value, 1, 1 << 40)? as usize,
            "-routes" => serving.routes = routes(options, option, value)?,
            "-schedules" => self.runs_schedules = Some(options.boolean(option, value)?),
            "-admit" => serving.hooks.admit = options.callback(interp, option, value)?,
            "-route" => serving.hooks.route = options.callback(interp, option, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How to serve, and at which addresses: those that were given, or else the own node's. Workers beat often enough for the health check, where
    /// it is not said how often.
    ///
    /// # Errors
    /// No port; a host that is not known; a node that cannot be told, if it matters for who runs the schedules.
    pub(super) fn addresses(mut self, health_check: Duration) -> Result<(Serving, Vec<SocketAddr>)> {
        let often = self.serving.heartbeat.min(health_check / 3);
        self.serving.heartbeat = self.heartbeat.unwrap_or(often);
        self.serving.schedules = schedules(self.runs_schedules)?;
        let node = match (&self.host, self.port) {
            (Some(_), Some(_)) => None,
            _ => topology::own_node()?,
        };
        let port = self.port.or_else(|| node?.port).ok_or_else(|| {
            self.options
                .bad("the option -port must be given: the topology has none for this script")
        })?;
        let host = self.host.or_else(|| Some(node?.address.clone()));
        let host = host.unwrap_or_else(|| "localhost".to_owned());
        let addresses = (host.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| cannot_listen(format!("cannot resolve \"{host}\": {error}")))?;
        Ok((self.serving, addresses.collect()))
    }
}

/// The error of an address that cannot be had.
pub(super) fn cannot_listen(why: String) -> Error {
    Error::new(why).with_code(["TOR", "COORDINATOR", "LISTEN"])
}

fn policies() -> Result<Policies> {
    let topology = topology::topology_if_any()?;
    Ok(topology.map_or_else(Policies::default, |topology| topology.policies.clone()))
}

/// The topology's schedules, if they are run here: because that was said, or because this is the topology's first master.
fn schedules(is_said: Option<bool>) -> Result<Vec<Definition>> {
    let Some(topology) = topology::topology_if_any()?.filter(|topology| !topology.schedules.is_empty())
    else {
        return Ok(Vec::new());
    };
    let runs_them = match is_said {
        Some(said) => said,
        None => topology::own_node()?.is_some_and(|own| topology.scheduler() == Some(own)),
    };
    let schedules: &[language::Schedule] = if runs_them { &topology.schedules } else { &[] };
    schedules.iter().map(definition).collect()
}

fn definition(schedule: &language::Schedule) -> Result<Definition> {
    // A topology that was read has been checked, but the time zones of a system may go.
    let bad = |what: &dyn std::fmt::Display| {
        Error::new(format!("the schedule {}: {what}", schedule.name))
            .with_code(["TOR", "TOPOLOGY", "INVALID"])
    };
    Ok(Definition {
        name: schedule.name.clone(),
        times: Schedule {
            cron: schedule.cron.parse().map_err(|error| bad(&error))?,
            zone: schedule.timezone.parse().map_err(|error| bad(&error))?,
        },
        written: (schedule.cron.clone(), schedule.timezone.clone()),
        missed: match schedule.missed {
            language::Missed::Skip => Missed::Skip,
            language::Missed::Once => Missed::Once,
            language::Missed::All => Missed::All,
        },
        data: schedule.submit.as_bytes().into(),
        options: SubmitOptions {
            priority: schedule.priority,
            requires: schedule.requires.clone(),
            timeout: schedule.timeout.map(|timeout| timeout.0),
            deadline: schedule.deadline.map(|deadline| deadline.0),
            retries: schedule.retries,
            affinity: schedule.affinity.clone(),
            ..SubmitOptions::default()
        },
    })
}

/// A policy by its word.
pub(super) fn policy_of(options: Options, word: &Obj) -> Result<Policy> {
    let word = word.to_text_lossy();
    let algorithm = Algorithm::from_word(&word).ok_or_else(|| {
        let words = one_of(Algorithm::WORDS);
        options.bad(format!("bad policy \"{word}\": must be {words}"))
    })?;
    Ok(policy(algorithm))
}

fn policy(algorithm: Algorithm) -> Policy {
    match algorithm {
        Algorithm::RoundRobin => Policy::RoundRobin,
        Algorithm::LeastLoaded => Policy::LeastLoaded,
        Algorithm::Weighted => Policy::Weighted,
        Algorithm::PowerOfTwo => Policy::PowerOfTwo,
        Algorithm::Affinity => Policy::Affinity,
    }
}

/// Routes as `tor::topology routes` returns them.
fn routes(options: Options, option: &Obj, value: &Obj) -> Result<Routes> {
    let not_a_list = |_| options.bad_value(option, value, "a list of dicts");
    let routes = value.to_list().map_err(not_a_list)?;
    let routes = routes.iter().map(|route| {
        let bad = |expected: &str| {
            let route = route.to_text_lossy();
            options.bad(format!("bad route \"{route}\": {expected}"))
        };
        let entries = route.to_dict();
        let entries = entries.map_err(|_| bad("must be a dict with the key glob"))?;
        let (mut glob, mut asked) = (None, SubmitOptions::default());
        for (key, value) in entries {
            match key.to_text_lossy().as_str() {
                "glob" => glob = Some(Glob::new(&value.to_text()?)),
                // A bare number is milliseconds here, since that is what `tor::topology routes` returns.
                "timeout" if value.to_i64().is_ok() => {
                    let value = Obj::from(format!("{value}ms"));
                    set_option(&mut asked, "timeout", &value).map_err(bad)?;
                }
                name @ ("priority" | "requires" | "timeout" | "retries") => {
                    set_option(&mut asked, name, &value).map_err(bad)?;
                }
                _ => return Err(bad("its keys are glob, requires, priority, timeout and retries")),
            }
        }
        Ok(Route {
            glob: glob.ok_or_else(|| bad("must have the key glob"))?,
            options: asked,
        })
    });
    routes.collect::<Result<_>>().map(Routes)
}

/// Whom to tell of which event.
pub(super) type Listener = (&'static str, Callback);

/// Whom to tell of an event; none for an empty prefix.
///
/// # Errors
/// An event that there is not.
pub(super) fn listener(
    options: Options,
    interp: &Interp,
    event: &Obj,
    prefix: &Obj,
) -> Result<Option<Listener>> {
    let name = event.to_text_lossy();
    let known = EVENTS.iter().find(|known| **known == name).ok_or_else(|| {
        let events = one_of(EVENTS);
        options.bad(format!("bad event \"{name}\": must be {events}"))
    })?;
    let callback = options.callback(interp, &Obj::from("-on"), prefix)?;
    Ok(callback.map(|callback| (*known, callback)))
}

/// Has `take` take each option and its value, and returns what `-on event prefix` gave.
///
/// # Errors
/// An option without its values, one that `take` does not know, and what `take` finds wrong.
pub(super) fn take_options(
    options: Options,
    interp: &Interp,
    args: &[Obj],
    usage: &str,
    known: &[&str],
    mut take: impl FnMut(&Obj, &Obj) -> Result<bool>,
) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let mut rest = args;
    while let [option, values @ ..] = rest {
        let name = option.to_text_lossy();
        rest = match values {
            [event, prefix, rest @ ..] if name == "-on" => {
                listeners.extend(listener(options, interp, event, prefix)?);
                rest
            }
            [value, rest @ ..] if name != "-on" => {
                if !take(option, value)? {
                    return Err(options.bad(format!("bad option \"{name}\": must be {}", one_of(known))));
                }
                rest
            }
            _ if name.starts_with('-') => return Err(options.missing_value(option)),
            _ => return Err(Error::wrong_args(usage)),
        };
    }
    Ok(listeners)
}

/// `a, b, or c`.
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, other] => format!("{one} or {other}"),
        [rest @ .., last] => format!("{}, or {last}", rest.join(", ")),
    }
}
