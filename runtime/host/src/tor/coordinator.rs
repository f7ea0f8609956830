//! `tor::coordinator`.
use super::Command;
use super::options::Options;
use super::settings::{EngineSettings, ServingSettings, cannot_listen, one_of};
use crate::coordinator::Coordinator;
use crate::reactor;
use torhost_tcl::{Error, Interp, Obj, Result};

const OPTIONS: Options = Options("COORDINATOR");

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "tor::coordinator serve",
    usage: "?-option value …?",
    help: "Serves as a coordinator: takes jobs from clients, spreads them over workers, watches the workers and gives every job \
           one result. Returns the port. All of it runs beside the script, which may compute for as long as it likes; the \
           script must only not end, as by `vwait forever`.\n\n\
           Where there is a topology, what no option says is as it has it: the port and address of the node that this is (`tor::topology \
           self`), its policies and its routes. In the script of a node `tor::coordinator serve` is enough.\n\n\
           | option | is | default |\n|---|---|---|\n\
           | `-port` | the TCP port; 0 takes a free one | the node's, or must be given |\n\
           | `-address` | the host name or address to listen on | the node's, or `localhost` |\n\
           | `-policy` | how a worker is chosen: `round_robin` (each in turn), `least_loaded` (the smallest share of its slots in \
           use), `weighted` (in proportion to the weights that workers register with, or else their slots), `power_of_two` (the less \
           loaded of two chosen at random), `affinity` (consistent hashing of the job's affinity key) | `round_robin` |\n\
           | `-heartbeat` | how often workers are told to beat | `10s` |\n\
           | `-health-check` | a worker that is silent for longer loses its jobs to the others | `30s` |\n\
           | `-detector` | `fixed`, or `phi_accrual`: a worker loses its jobs already when its silence has become improbable, given how \
           regularly it used to beat | `fixed` |\n\
           | `-phi-threshold` | how improbable: one in ten to this power, 1 to 16 | 8 |\n\
           | `-failover` | whether they go to the others; if not, they fail | `true` |\n\
           | `-attempts` | how often a job is tried, if it does not say so itself | 3 |\n\
           | `-backoff` | the wait before the second attempt, which doubles with each further one; `0` is at once | `1s` |\n\
           | `-max-backoff` | the longest such wait | `1m` |\n\
           | `-max-losses` | how many workers may be lost while they have a job, before it fails | 3 |\n\
           | `-max-connections` | connections open at once | 100000 |\n\
           | `-max-line` | the longest line, in bytes | 1048576 |\n\
           | `-max-pending` | what a connection may leave unread, in bytes, before it is closed | 16777216 |\n\
           | `-max-queued` | jobs that wait | 1000000 |\n\
           | `-keep` | ended jobs that are remembered | 10000 |\n\
           | `-keep-for` | for how long | `24h` |\n\
           | `-routes` | what jobs need whose data match a glob of `string match`, where they do not say it themselves: a list of dicts as \
           `tor::topology routes` returns it, with the key `glob` and any of `requires priority timeout retries`. The first that \
           matches counts | the topology's, or none |\n\n\
           Durations are `500ms`, `10s`, `2m` or `1h`; a bare number is seconds, but milliseconds for the `timeout` of a route. A port that \
           is taken is an error with `-errorcode {TOR COORDINATOR LISTEN}`, a bad option one with `-errorcode {TOR COORDINATOR OPTION}`. \
           The protocol is described in [protocol.md](../protocol.md).",
    example: "set port [tor::coordinator serve -port 0 -policy least_loaded -routes {{glob *gpu* requires gpu}}]",
    arguments: (0, None),
    run: serve,
}];

fn serve(_: &Interp, args: &[Obj]) -> Result<Obj> {
    let (pairs, []) = args.as_chunks::<2>() else {
        return Err(Error::wrong_args("tor::coordinator serve ?-option value …?"));
    };
    let mut engine = EngineSettings::new(OPTIONS)?;
    let mut serving = ServingSettings::new(OPTIONS)?;
    for [option, value] in pairs {
        if !engine.take(option, value)? && !serving.take(option, value)? {
            let known = [ServingSettings::NAMES, EngineSettings::NAMES].concat();
            let option = option.to_text_lossy();
            return Err(OPTIONS.bad(format!("bad option \"{option}\": must be {}", one_of(&known))));
        }
    }
    let (serving, addresses) = serving.addresses()?;
    let bound = reactor::add(Coordinator::new(engine.config(), serving))
        .call(move |coordinator: &mut Coordinator, io| coordinator.listen(io, &addresses))
        .map_err(|gone| cannot_listen(gone.to_string()))?
        .map_err(cannot_listen)?;
    log::info!("Coordinator listening on port {bound}");
    Ok(Obj::from(u32::from(bound)))
}
