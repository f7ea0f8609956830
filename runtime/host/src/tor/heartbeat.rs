//! `tor::heartbeat`.
use super::options::Options;
use super::{Command, socket};
use crate::heartbeat::{Status, Terms, WatchKey};
use crate::sockets::{self, Beat, NotOpen};
use std::time::{Duration, Instant};
use torhost_dispatch::Detection;
use torhost_tcl::{Error, Interp, Obj, Result};

const OPTIONS: Options = Options("HEARTBEAT");
const WATCH_USAGE: &str = "name ?-option value …?";
const SEND_USAGE: &str = "socket -interval interval ?-line text?";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "tor::heartbeat watch",
        usage: WATCH_USAGE,
        help: "Watches a name, which may stand for anything, and calls the script when it has been silent for too long and when it is heard \
               again.\n\n\
               A sign of life is a `tor::heartbeat beat` or, with `-socket`, any line that comes on that socket. Silence counts from the \
               beginning of the watch, by the clock of this process alone, and on a thread of its own: a script that computes for a minute \
               makes nobody late whose lines come meanwhile. A socket that is not read for the time being, because the script does \
               not get to its lines, is not silent.\n\n\
               | option | is | default |\n|---|---|---|\n\
               | `-interval` | how often the name is to be heard | `10s` |\n\
               | `-timeout` | the longest silence | three intervals |\n\
               | `-detector` | `fixed`: the timeout decides. `phi_accrual`: a silence is too long when, by the intervals between the last \
               hundred beats, it is too unlikely; the timeout holds all the same, and alone until there were eight | `fixed` |\n\
               | `-phi-threshold` | how unlikely: 8 is one in 10⁸ | 8 |\n\
               | `-down` | the command prefix that is called with the name and the milliseconds of silence when it has been too long | |\n\
               | `-up` | the command prefix that is called with the same when the name is heard again | |\n\
               | `-socket` | the socket whose lines are signs of life. When it is closed, that is silence, and the watch goes on | |\n\n\
               For `phi_accrual`, only signs that are half an interval or more apart are counted as beats, so that a burst of lines promises \
               nothing. Names are the interpreter's own, and its watches end with it. A name that is watched already is watched anew.\n\n\
               A bad option is an error with `-errorcode {TOR HEARTBEAT OPTION}`.",
        example: "proc lost {name silent_ms} {puts \"$name has been silent for $silent_ms ms\"}\n\
                  proc found {name silent_ms} {puts \"$name is back\"}\n\
                  tor::heartbeat watch worker1 -interval 10s -timeout 30s -down lost -up found",
        arguments: (1, None),
        run: watch,
    },
    Command {
        name: "tor::heartbeat beat",
        usage: "name",
        help: "Tells that a name was heard of just now.\n\nA name that is not watched is an error with `-errorcode {TOR HEARTBEAT UNKNOWN}`.",
        example: "tor::heartbeat watch importer -interval 1m\n\
                  tor::heartbeat beat importer",
        arguments: (1, Some(1)),
        run: |interp, args| {
            let (key, now) = (key(interp, &args[0])?, Instant::now());
            let is_watched = ask(move |sockets| sockets.watches.heard(&key, now));
            known(is_watched, &args[0]).map(|()| Obj::empty())
        },
    },
    Command {
        name: "tor::heartbeat unwatch",
        usage: "name",
        help: "Watches a name no longer. Its callbacks are not called any more.\n\nA name that is not watched is an error with `-errorcode {TOR \
               HEARTBEAT UNKNOWN}`.",
        example: "tor::heartbeat watch importer -interval 1m\n\
                  tor::heartbeat unwatch importer",
        arguments: (1, Some(1)),
        run: |interp, args| {
            let key = key(interp, &args[0])?;
            let was_watched = ask(move |sockets| sockets.unwatch(&key));
            known(was_watched, &args[0]).map(|()| Obj::empty())
        },
    },
    Command {
        name: "tor::heartbeat send",
        usage: SEND_USAGE,
        help: "Has a line sent on a socket again and again, whatever the script does: `HEARTBEAT:` and the seconds since 1970, which is a beat \
               of the [protocol](../protocol.md), or the text of `-line`.\n\n\
               The first is sent after one interval. When a socket with `-reconnect` is connected again, it goes on, again after one \
               interval, so that the script can say something first. An interval of 0 ends it; a second call replaces the first.\n\n\
               A bad option is an error with `-errorcode {TOR HEARTBEAT OPTION}`, and the errors of a socket are those of \
               `tor::socket send`.",
        example: "set socket [tor::socket connect coordinator -line list -reconnect true]\n\
                  tor::heartbeat send $socket -interval 10s",
        arguments: (3, Some(5)),
        run: |_, args| send(args),
    },
    Command {
        name: "tor::heartbeat status",
        usage: "?name?",
        help: "Returns what is known of a name as a dict: `state` (`up` or `down`), `silent_ms`, `beats`, `interval_ms`, `timeout_ms`, and with \
               `phi_accrual`, as soon as there were enough beats, `phi`: how unlikely the silence is by now. Without a name, returns a dict of all names and \
               what is known of them.\n\n\
               A name that is not watched is an error with `-errorcode {TOR HEARTBEAT UNKNOWN}`.",
        example: "tor::heartbeat watch importer -interval 1m\n\
                  dict get [tor::heartbeat status importer] state   ;# → up",
        arguments: (0, Some(1)),
        run: status,
    },
];

fn watch(interp: &Interp, args: &[Obj]) -> Result<Obj> {
    let pairs = OPTIONS.pairs(&args[1..], &format!("tor::heartbeat watch {WATCH_USAGE}"))?;
    let (mut interval, mut timeout) = (Duration::from_secs(10), None);
    let (mut is_accrual, mut threshold) = (false, 8.0);
    let (mut on_down, mut on_up, mut on_socket) = (None, None, None);
    for [option, value] in pairs {
        match option.to_text_lossy().as_str() {
            "-interval" => interval = OPTIONS.duration(option, value, 10)?,
            "-timeout" => timeout = Some(OPTIONS.duration(option, value, 10)?),
            "-detector" => {
                is_accrual = match value.to_text_lossy().as_str() {
                    "fixed" => false,
                    "phi_accrual" => true,
                    _ => return Err(OPTIONS.bad_value(option, value, "fixed or phi_accrual")),
                }
            }
            "-phi-threshold" => {
                let number = value
                    .to_f64()
                    .ok()
                    .filter(|number| (1.0..=100.0).contains(number));
                threshold =
                    number.ok_or_else(|| OPTIONS.bad_value(option, value, "a number from 1 to 100"))?;
            }
            "-down" => on_down = OPTIONS.callback(interp, option, value)?,
            "-up" => on_up = OPTIONS.callback(interp, option, value)?,
            "-socket" => on_socket = Some(socket::connection(value)?),
            other => {
                return Err(OPTIONS.bad(format!(
                    "bad option \"{other}\": must be -interval, -timeout, -detector, -phi-threshold, -down, -up, or -socket"
                )));
            }
        }
    }
    let terms = Terms {
        interval,
        timeout: timeout.unwrap_or(interval.saturating_mul(3)),
        detection: if is_accrual {
            Detection::PhiAccrual { threshold }
        } else {
            Detection::Fixed
        },
        socket: on_socket.as_ref().map(|shared| shared.number),
        on_down,
        on_up,
    };
    let key = key(interp, &args[0])?;
    let watched = sockets::reach().call(move |sockets, io| sockets.watch(io, key, terms));
    match (watched, on_socket) {
        (Ok(Err(NotOpen)), Some(shared)) => Err(socket::closed(&shared.name)),
        _ => Ok(Obj::empty()),
    }
}

fn send(args: &[Obj]) -> Result<Obj> {
    let pairs = OPTIONS.pairs(&args[1..], &format!("tor::heartbeat send {SEND_USAGE}"))?;
    let shared = socket::connection(&args[0])?;
    let (mut interval, mut line) = (None, None);
    for [option, value] in pairs {
        match option.to_text_lossy().as_str() {
            "-interval" => interval = Some(OPTIONS.duration(option, value, 0)?),
            "-line" => line = Some(socket::line(value, shared.is_binary)?),
            other => {
                return Err(OPTIONS.bad(format!("bad option \"{other}\": must be -interval or -line")));
            }
        }
    }
    let interval = interval.ok_or_else(|| OPTIONS.bad("the option -interval must be given"))?;
    if !interval.is_zero() && interval < Duration::from_millis(10) {
        return Err(OPTIONS.bad("bad value for -interval: must be 10ms or more, or 0 to end the beats"));
    }
    let beat = (!interval.is_zero()).then_some(Beat { interval, line });
    let number = shared.number;
    match sockets::reach().call(move |sockets, io| sockets.beat(io, number, beat)) {
        Ok(Ok(())) => Ok(Obj::empty()),
        _ => Err(socket::closed(&shared.name)),
    }
}

fn status(interp: &Interp, args: &[Obj]) -> Result<Obj> {
    let now = Instant::now();
    if let [name] = args {
        let key = key(interp, name)?;
        let status = ask(move |sockets| sockets.watches.status(&key, now));
        known(status.is_some(), name)?;
        return Ok(status.map_or_else(Obj::empty, |status| status_dict(&status)));
    }
    let owner = sockets::owner(interp);
    let all = ask(move |sockets| {
        let keys = sockets.watches.names(owner).into_iter();
        keys.filter_map(|key| Some((key.1.clone(), sockets.watches.status(&key, now)?)))
            .collect::<Vec<_>>()
    });
    Ok(Obj::dict(
        all.iter().map(|(name, status)| (&**name, status_dict(status))),
    ))
}

fn status_dict(status: &Status) -> Obj {
    let ms = |duration: Duration| Obj::from(duration.as_millis() as u64);
    let entries = [
        Some(("state", Obj::from(if status.is_down { "down" } else { "up" }))),
        Some(("silent_ms", ms(status.silent))),
        Some(("beats", Obj::from(status.beats))),
        Some(("interval_ms", ms(status.interval))),
        Some(("timeout_ms", ms(status.timeout))),
        status.phi.map(|phi| ("phi", Obj::from(phi))),
    ];
    Obj::dict(entries.into_iter().flatten())
}

fn key(interp: &Interp, name: &Obj) -> Result<WatchKey> {
    Ok((sockets::owner(interp), name.to_text()?.into()))
}

/// Asks the service, which is there for as long as the process is.
fn ask<T: Send + Default + 'static>(question: impl FnOnce(&mut sockets::Sockets) -> T + Send + 'static) -> T {
    sockets::reach()
        .call(move |sockets, _| question(sockets))
        .unwrap_or_default()
}

fn known(is_known: bool, name: &Obj) -> Result<()> {
    if is_known {
        return Ok(());
    }
    let message = format!(
        "\"{}\" is not watched: tor::heartbeat status lists what is",
        name.to_text_lossy()
    );
    Err(Error::new(message).with_code(["TOR", "HEARTBEAT", "UNKNOWN"]))
}
