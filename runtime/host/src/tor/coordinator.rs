//! `tor::coordinator`.
use super::Command;
use super::options::Options;
use crate::coordinator::{Coordinator, Settings};
use crate::reactor::{self, Limits};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;
use torhost_dispatch::{Config, Policy};
use torhost_tcl::{Error, Interp, Obj, Result};

const OPTIONS: Options = Options("COORDINATOR");

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "tor::coordinator serve",
    usage: "-port port ?-option value …?",
    help: "Serves as a coordinator: takes jobs from clients, spreads them over workers, watches the workers and gives every job \
           one result. Returns the port. All of it runs beside the script, which may compute for as long as it likes; the \
           script must only not end, as by `vwait forever`.\n\n\
           | option | is | default |\n|---|---|---|\n\
           | `-port` | the TCP port; 0 takes a free one | must be given |\n\
           | `-address` | the host name or address to listen on | `localhost` |\n\
           | `-policy` | how a worker is chosen: `round_robin` (each in turn), `least_loaded` (the smallest share of its slots in \
           use), `weighted` (in proportion to the weights that workers register with, or else their slots), `power_of_two` (the less \
           loaded of two chosen at random), `affinity` (consistent hashing of the job's affinity key) | `round_robin` |\n\
           | `-heartbeat` | how often workers are told to beat | `10s` |\n\
           | `-health-check` | a worker that is silent for longer loses its jobs to the others | `30s` |\n\
           | `-failover` | whether they go to the others; if not, they fail | `true` |\n\
           | `-attempts` | how often a job is tried, if it does not say so itself | 3 |\n\
           | `-backoff` | the wait before the second attempt, which doubles with each further one, up to a minute; `0` is at \
           once | `1s` |\n\
           | `-max-losses` | how many workers may be lost while they have a job, before it fails | 3 |\n\
           | `-max-connections` | connections open at once | 100000 |\n\
           | `-max-line` | the longest line, in bytes | 1048576 |\n\
           | `-max-pending` | what a connection may leave unread, in bytes, before it is closed | 16777216 |\n\
           | `-max-queued` | jobs that wait | 1000000 |\n\
           | `-keep` | ended jobs that are remembered | 10000 |\n\n\
           Durations are `500ms`, `10s`, `2m` or `1h`; a bare number is seconds. A port that is taken is an error with \
           `-errorcode {TOR COORDINATOR LISTEN}`, a bad option one with `-errorcode {TOR COORDINATOR OPTION}`. The protocol is \
           described in [protocol.md](../protocol.md).",
    example: "set port [tor::coordinator serve -port 0 -policy least_loaded]",
    arguments: (2, None),
    run: serve,
}];

fn serve(_: &Interp, args: &[Obj]) -> Result<Obj> {
    let mut host = "localhost".to_owned();
    let mut port: Option<u16> = None;
    let mut settings = Settings {
        engine: Config::default(),
        heartbeat: Duration::from_secs(10),
        limits: Limits {
            max_line: 1 << 20,
            max_pending: 16 << 20,
        },
        max_connections: 100_000,
    };
    let (pairs, []) = args.as_chunks::<2>() else {
        return Err(Error::wrong_args(
            "tor::coordinator serve -port port ?-option value …?",
        ));
    };
    for [option, value] in pairs {
        let engine = &mut settings.engine;
        match option.to_text_lossy().as_str() {
            "-port" => port = Some(whole(option, value, 0, u64::from(u16::MAX))? as u16),
            "-address" => host = value.to_text()?,
            "-policy" => engine.policy = policy(value)?,
            "-heartbeat" => settings.heartbeat = duration(option, value, 10)?,
            "-health-check" => engine.health_check_interval = duration(option, value, 10)?,
            "-failover" => engine.failover = value.to_bool()?,
            "-attempts" => engine.attempts = whole(option, value, 1, 1000)? as u32,
            "-backoff" => engine.backoff = duration(option, value, 0)?,
            "-max-losses" => engine.max_losses = whole(option, value, 1, 1000)? as u32,
            "-max-connections" => settings.max_connections = whole(option, value, 1, 1_000_000)? as usize,
            "-max-line" => settings.limits.max_line = whole(option, value, 1, 1 << 30)? as usize,
            "-max-pending" => settings.limits.max_pending = whole(option, value, 1, 1 << 40)? as usize,
            "-max-queued" => engine.max_queued = whole(option, value, 1, 100_000_000)? as usize,
            "-keep" => engine.keep = whole(option, value, 0, 100_000_000)? as usize,
            other => {
                return Err(bad(format!(
                    "bad option \"{other}\": must be -port, -address, -policy, -heartbeat, -health-check, -failover, \
                     -attempts, -backoff, -max-losses, -max-connections, -max-line, -max-pending, -max-queued, or -keep"
                )));
            }
        }
    }
    let port = port.ok_or_else(|| bad("the option -port must be given"))?;
    let cannot = |why: String| Error::new(why).with_code(["TOR", "COORDINATOR", "LISTEN"]);
    let addresses: Vec<SocketAddr> = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| cannot(format!("cannot resolve \"{host}\": {error}")))?
        .collect();
    let bound = reactor::add(Coordinator::new(settings))
        .call(move |coordinator: &mut Coordinator, io| coordinator.listen(io, &addresses))
        .map_err(|gone| cannot(gone.to_string()))?
        .map_err(cannot)?;
    log::info!("Coordinator listening on port {bound}");
    Ok(Obj::from(u32::from(bound)))
}

fn policy(value: &Obj) -> Result<Policy> {
    Ok(match value.to_text_lossy().as_str() {
        "round_robin" => Policy::RoundRobin,
        "least_loaded" => Policy::LeastLoaded,
        "weighted" => Policy::Weighted,
        "power_of_two" => Policy::PowerOfTwo,
        "affinity" => Policy::Affinity,
        other => {
            return Err(bad(format!(
                "bad policy \"{other}\": must be round_robin, least_loaded, weighted, power_of_two, or affinity"
            )));
        }
    })
}

fn whole(option: &Obj, value: &Obj, least: u64, most: u64) -> Result<u64> {
    OPTIONS.whole(option, value, least, most)
}

fn duration(option: &Obj, value: &Obj, least_ms: u64) -> Result<Duration> {
    OPTIONS.duration(option, value, least_ms)
}

fn bad(message: impl Into<String>) -> Error {
    OPTIONS.bad(message)
}
