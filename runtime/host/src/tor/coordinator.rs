//! `tor::coordinator`.
use super::Command;
use super::dispatch::serve_by;
use super::options::Options;
use super::settings::{EngineSettings, Listener, ServingSettings, cannot_listen, take_options};
use super::stop::on_sigterm;
use crate::coordinator::{Coordinator, Serving};
use crate::reactor::{self, Reach};
use std::net::SocketAddr;
use torhost_tcl::{Interp, Obj, Result};

const OPTIONS: Options = Options("COORDINATOR");

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "tor::coordinator serve",
    usage: "?-option value …?",
    help: "Serves as a coordinator: takes jobs from clients, spreads them over workers, watches the workers and gives every job \
           one result. Returns the port. All of it runs beside the script, which may compute for as long as it likes; the \
           script must only not end, as by `vwait forever`. On SIGTERM it hands out no more jobs, and the process ends by `exit 0` when all \
           that is known is in the database; on a second one, at once.\n\n\
           Where there is a topology, what no option says is as it has it: the port and address of the node that this is (`tor::topology \
           self`), its policies, its routes and its schedules. In the script of a node `tor::coordinator serve` is enough.\n\n\
           | option | is | default |\n|---|---|---|\n\
           | `-port` | the TCP port; 0 takes a free one | the node's, or must be given |\n\
           | `-address` | the host name or address to listen on | the node's, or `localhost` |\n\
           | `-policy` | how a worker is chosen: `round_robin` (each in turn), `least_loaded` (the smallest share of its slots in \
           use), `weighted` (in proportion to the weights that workers register with, or else their slots), `power_of_two` (the less \
           loaded of two chosen at random), `affinity` (consistent hashing of the job's affinity key) | `round_robin` |\n\
           | `-policy-command` | the command prefix of a policy in Tcl, in place of `-policy` | |\n\
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
           | `-max-pending` | what a connection may leave unread, in bytes, while it takes nothing for 5 s, before it is closed; 16 times as much is too much at any time | 16777216 |\n\
           | `-max-queued` | jobs that wait | 1000000 |\n\
           | `-max-resident` | queued jobs that are in memory whole; the others are in the database until their turn comes | 100000 |\n\
           | `-keep` | ended jobs that are remembered | 10000 |\n\
           | `-keep-for` | for how long | `24h` |\n\
           | `-durability` | when an accepted job is on disk: `commit` (before the client is told), `interval` and a duration (within that time), \
           or `none` (never: jobs are in memory alone). See [durability.md](../durability.md) | `commit` |\n\
           | `-journal` | the database that jobs are kept in, which is made if it is not there | the topology's, or `data/jobs.db` |\n\
           | `-routes` | what jobs need whose data match a glob of `string match`, where they do not say it themselves: a list of dicts as \
           `tor::topology routes` returns it, with the key `glob` and any of `requires priority timeout retries`. The first that \
           matches counts | the topology's, or none |\n\
           | `-schedules` | whether the topology's schedules are run here | whether this is its first master |\n\
           | `-admit` | the command prefix of a hook that says whether a submission is taken | |\n\
           | `-route` | the command prefix of a hook that says what else is asked for a submission | |\n\
           | `-dispatch` | the command of an engine of [`tor::dispatch create`](tor-dispatch.md), which is to listen. The options of the \
           engine are given there, and are errors here | an engine of its own |\n\
           | `-on event` | followed by the command prefix that is called with each such event; may be given repeatedly | |\n\n\
           Durations are `500ms`, `10s`, `2m` or `1h`; a bare number is seconds, but milliseconds for the `timeout` of a route. A port that \
           is taken is an error with `-errorcode {TOR COORDINATOR LISTEN}`, a bad option one with `-errorcode {TOR COORDINATOR OPTION}`, \
           a database that cannot be used one with `-errorcode {TOR COORDINATOR JOURNAL}`. \
           The protocol is described in [protocol.md](../protocol.md).\n\n\
           Hooks are called by the script's event loop, at global level, with a dict as their argument: `data`, `client` (the other side's \
           address and port), `priority`, `requires`, and where they are set `after at_ms delay_ms timeout_ms deadline_ms retries key affinity`, as the \
           submission and the routes have it. `-admit` returns a boolean. If it is false, the client is told `ERROR:refused`; if it is \
           an error, with the error's message, and it goes to `interp bgerror` as well, unless it was raised with `-errorcode {TOR \
           REFUSED}`. `-route` returns a dict with the options to set, also if the submission says otherwise: any of `priority \
           requires delay timeout retries affinity`, as for `SUBMIT`. An error of it refuses the job, too. While a script decides, or \
           is busy, everything but its submissions goes on: a connection's further submissions go to the script as well, and other \
           requests of that connection wait, so that answers keep their order. At most 10,000 submissions are with the script; \
           connections with more to say are read no further. A submission whose client has gone is taken all the same.\n\n\
           Events are those of `WATCH`: `submitted assigned progress completed failed retried requeued cancelled expired worker-up \
           worker-down worker-suspect`. The dict has `event` and `time_ms`, and what applies of `job worker attempt reason percent note`; \
           that of a job that has ended has its `result`. If the script falls behind by 100,000 events, further ones are lost until it has caught up.\n\n\
           A policy in Tcl is called with a list of the workers that have what the job requires and a free slot, or, if none has, room for a job \
           [beforehand](../workers.md#short-jobs), each a dict with `name slots \
           running prefetched capabilities weight completed failed silent_ms`, and a dict of the job: `id data priority requires attempt`, and \
           `affinity` if it has one. It returns the name of one of them. If that one is free no more, or there is none of that name (which the log tells, once a minute), or \
           the policy fails (which goes to `interp bgerror`), the next in turn gets the job. One job is asked about at a time, in the \
           order of the queue, so that a busy script delays all jobs; what a job costs grows with the number of workers that are free.",
    example: "proc admit {job} {\n    \
              if {[string length [dict get $job data]] > 1000} {\n        \
              return -code error -errorcode {TOR REFUSED} \"at most 1000 characters\"\n    \
              }\n    \
              return true\n\
              }\n\
              set port [tor::coordinator serve -port 0 -durability none -policy least_loaded -routes {{glob *gpu* requires gpu}} \\\n    \
              -admit admit -on completed {apply {{event} {puts [dict get $event result]}}}]",
    arguments: (0, None),
    run: serve,
}];

fn serve(interp: &Interp, args: &[Obj]) -> Result<Obj> {
    const USAGE: &str = "tor::coordinator serve ?-option value …?";
    if let Some(at) = args.iter().position(|arg| arg.to_text_lossy() == "-dispatch") {
        let [dispatch, rest @ ..] = &args[at + 1..] else {
            return Err(OPTIONS.missing_value(&args[at]));
        };
        return serve_by(interp, dispatch, &[&args[..at], rest].concat());
    }
    let mut engine = EngineSettings::new(OPTIONS)?;
    let mut serving = ServingSettings::new(OPTIONS)?;
    let known = [
        ServingSettings::NAMES,
        EngineSettings::NAMES,
        &["-on", "-dispatch"],
    ];
    let listeners = take_options(OPTIONS, interp, args, USAGE, &known.concat(), |option, value| {
        Ok(engine.take(interp, option, value)? || serving.take(interp, option, value)?)
    })?;
    let (serving, addresses) = serving.addresses(engine.health_check())?;
    let coordinator = reactor::add(engine.coordinator()?);
    let bound = listen(interp, coordinator, serving, addresses, listeners);
    if bound.is_err() {
        coordinator.close();
    }
    bound
}

/// Has a coordinator listen, and returns its port.
pub(super) fn listen(
    interp: &Interp,
    coordinator: Reach<Coordinator>,
    serving: Serving,
    addresses: Vec<SocketAddr>,
    listeners: Vec<Listener>,
) -> Result<Obj> {
    let bound = coordinator
        .call(move |coordinator, io| {
            let bound = coordinator.listen(io, serving, &addresses)?;
            coordinator.start_keeping(io)?;
            for (event, callback) in listeners {
                coordinator.on(event, callback);
            }
            Ok(bound)
        })
        .map_err(|gone| cannot_listen(gone.to_string()))?
        .map_err(cannot_listen)?;
    on_sigterm(interp, move |exit| {
        coordinator.post(move |coordinator, io| coordinator.stop(io, exit));
    })?;
    log::info!("Coordinator listening on port {bound}");
    Ok(Obj::from(u32::from(bound)))
}
