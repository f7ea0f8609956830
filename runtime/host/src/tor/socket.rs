//! `tor::socket`.
use super::Command;
use super::options::Options;
use super::topology;
use crate::reactor::Limits;
use crate::sockets::{self, Calls, Dial, Found, Kind, NotOpen, Shared};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use torhost_tcl::{Error, Interp, Obj, Result};

const OPTIONS: Options = Options("SOCKET");
const LISTEN_USAGE: &str = "-port port -line prefix ?-option value …?";
const CONNECT_USAGE: &str = "target ?port? -line prefix ?-option value …?";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "tor::socket listen",
        usage: LISTEN_USAGE,
        help: "Takes connections that speak in lines, and returns a name for the listener, such as `tor-listener1`.\n\n\
               Lines come in and go out beside the script, on a thread of their own, whatever the script does. The script is \
               called, by the event loop and at global level, with words appended to these command prefixes:\n\n\
               | option | is called | with |\n|---|---|---|\n\
               | `-accept` | when a connection is there | its name, such as `tor-socket3`, and the peer's address |\n\
               | `-line` | for each line, in the order they come; must be given | the name and the line, without its end (`\\n` or `\\r\\n`); what comes last without one is dropped |\n\
               | `-close` | when the other side has closed the connection or it broke, after all of its lines; not when the script itself \
               closes it | the name and the reason |\n\n\
               Each call is an event of its own, so `vwait` returns after the one that sets its variable. An error goes to \
               `interp bgerror`. A coroutine may be a prefix: `-line [info coroutine]`, which then gets both words as a list by \
               `yieldto return -level 0`.\n\n\
               | option | is | default |\n|---|---|---|\n\
               | `-port` | the TCP port; 0 takes a free one, which `tor::socket info` tells | must be given |\n\
               | `-address` | the host name or address to listen on; `0.0.0.0` is all of IPv4 | `localhost` |\n\
               | `-encoding` | `utf-8`: lines are text, and what comes and is no UTF-8 appears as U+FFFD. `binary`: lines are \
               bytes | `utf-8` |\n\
               | `-max-connections` | connections at once; one more is closed at once. A connection counts until the script was told of its \
               end | 10000 |\n\
               | `-max-line` | the longest line, in bytes; a longer one closes the connection | 1048576 |\n\
               | `-max-pending` | what the other side may leave unread, in bytes, while it takes nothing for 5 s, before the connection is closed; 16 times as much is too much at any time | 16777216 |\n\n\
               While the script computes, at most 256 KiB of lines of a connection wait for it (a line counts 256 bytes more than \
               it has); the rest stays unread, so that the other side has to wait. When the interpreter is deleted, its \
               listeners and connections are closed.\n\n\
               A port that is taken is an error with `-errorcode {TOR SOCKET LISTEN}`, a bad option one with \
               `-errorcode {TOR SOCKET OPTION}`. The example is a chat server.",
        example: "namespace eval chat {variable members {}}\n\
                  proc chat::joined {socket peer} {\n    \
                  variable members\n    \
                  dict set members $socket $peer\n    \
                  say $socket \"has joined\"\n\
                  }\n\
                  proc chat::say {socket line} {\n    \
                  variable members\n    \
                  set from [dict get $members $socket]\n    \
                  foreach member [dict keys $members] {\n        \
                  # One that has just gone is about to leave.\n        \
                  catch {tor::socket send $member \"$from: $line\"}\n    \
                  }\n\
                  }\n\
                  proc chat::left {socket reason} {\n    \
                  variable members\n    \
                  say $socket \"has left: $reason\"\n    \
                  dict unset members $socket\n\
                  }\n\
                  set listener [tor::socket listen -port 0 -accept chat::joined -line chat::say -close chat::left]\n\
                  puts \"the chat is on port [dict get [tor::socket info $listener] port]\"",
        arguments: (2, None),
        run: listen,
    },
    Command {
        name: "tor::socket connect",
        usage: CONNECT_USAGE,
        help: "Connects to a node of the topology, by its name, or to `host:port` or `host port`, and returns a name for the socket, such as \
               `tor-socket4`, at once.\n\n\
               The command prefix of `-open` is called with the name and the peer's address when the connection stands, those of `-line` and \
               `-close` as for `tor::socket listen`; `-close` also when no connection could be made. The options `-encoding`, `-max-line` and \
               `-max-pending` are as there.\n\n\
               With `-reconnect true`, a connection that cannot be made or is lost is made again, for ever, and the name stays the same. \
               `-open` and `-close` are called each time that it stands and that it is lost; why an attempt has failed is `reason` in \
               `tor::socket info`. Before each attempt is a wait, chosen at random between nothing and a bound, which is \
               100 ms at first and doubles with each attempt, up to 30 s. A connection that stood for longer than the bound begins \
               with 100 ms again.\n\n\
               A target that is none of the three, such as a node without a port (only masters have one), is an error with `-errorcode {TOR SOCKET \
               TARGET}`, a bad option one with `-errorcode {TOR SOCKET OPTION}`.",
        example: "proc opened {socket peer} {tor::socket send $socket PING}\n\
                  proc answered {socket line} {puts \"$socket said $line\"}\n\
                  set socket [tor::socket connect coordinator -open opened -line answered -reconnect true]",
        arguments: (3, None),
        run: connect,
    },
    Command {
        name: "tor::socket send",
        usage: "socket line",
        help: "Sends a line, and adds its end.\n\nText is sent as UTF-8; with `-encoding binary`, each character is a byte. A line with a newline \
               in it is an error with `-errorcode {TOR SOCKET LINE}`. While there is no connection, because it does not stand yet or was lost, it \
               is one with `-errorcode {TOR SOCKET CLOSED}`: nothing is kept for later. What is sent just when a connection breaks is lost, \
               as with any socket. Sockets may be sent to from all interpreters and threads of the process.",
        example: "proc done {socket line} {set ::answer $line}\n\
                  set listener [tor::socket listen -port 0 -line {apply {{s line} {tor::socket send $s \"you said $line\"}}}]\n\
                  set port [dict get [tor::socket info $listener] port]\n\
                  set socket [tor::socket connect localhost $port -line done -open {apply {{s peer} {tor::socket send $s hello}}}]\n\
                  vwait answer   ;# you said hello",
        arguments: (2, Some(2)),
        run: |_, args| send(args),
    },
    Command {
        name: "tor::socket info",
        usage: "socket",
        help: "Returns what there is to know of a socket or a listener, as a dict.\n\n\
               Of a socket: `name`, `state`, `peer` and `local` (addresses), `sent` and `received` (lines), `pending` (bytes that the other side has not taken), \
               `waiting` (lines that the script has not been called with) and `reason` (why there is no connection). The state is `connecting`, \
               `open`, `waiting` (to connect again), or `closed`: there is a connection no more, and the script is about to be told.\n\n\
               Of a listener: `name`, `state` (`listening`), `local` (a list of addresses), `port`, `connections` (those it has now) and \
               `accepted` (those it has had).\n\n\
               A name that stands for nothing any longer is an error with `-errorcode {TOR SOCKET CLOSED}`, another with \
               `-errorcode {TOR SOCKET UNKNOWN}`.",
        example: "set listener [tor::socket listen -port 0 -line list]\n\
                  dict get [tor::socket info $listener] port",
        arguments: (1, Some(1)),
        run: |_, args| info(args),
    },
    Command {
        name: "tor::socket close",
        usage: "socket",
        help: "Closes a socket, once what was sent has left, or a listener, whose connections stay.\n\nThe script is called for it no more, not \
               even with lines that have come. Closing what is closed already does nothing.",
        example: "set listener [tor::socket listen -port 0 -line list]\n\
                  tor::socket close $listener",
        arguments: (1, Some(1)),
        run: |_, args| {
            if let Some(shared) = find(&args[0])? {
                shared.close();
            }
            Ok(Obj::empty())
        },
    },
    Command {
        name: "tor::socket names",
        usage: "",
        help: "Returns the names of the sockets and listeners that this interpreter has, oldest first.",
        example: "foreach name [tor::socket names] {puts [tor::socket info $name]}",
        arguments: (0, Some(0)),
        run: |interp, _| Ok(Obj::list(sockets::names(sockets::owner(interp)))),
    },
];

/// Options, as they were given.
struct Given {
    port: Option<u16>,
    address: String,
    max_connections: usize,
    reconnect: bool,
    is_binary: bool,
    limits: Limits,
    calls: Calls,
}

fn parse(interp: &Interp, kind: Kind, pairs: &[[Obj; 2]]) -> Result<Given> {
    let (mut port, mut address, mut max_connections) = (None, "localhost".to_owned(), 10_000);
    let (mut reconnect, mut is_binary) = (false, false);
    let (mut open, mut line, mut close) = (None, None, None);
    let mut limits = Limits {
        max_line: 1 << 20,
        max_pending: 16 << 20,
    };
    for [option, value] in pairs {
        match (option.to_text_lossy().as_str(), kind) {
            ("-port", Kind::Listener) => {
                port = Some(OPTIONS.whole(option, value, 0, u64::from(u16::MAX))? as u16);
            }
            ("-address", Kind::Listener) => address = value.to_text()?,
            ("-max-connections", Kind::Listener) => {
                max_connections = OPTIONS.whole(option, value, 1, 1_000_000)? as usize;
            }
            ("-reconnect", Kind::Socket) => reconnect = OPTIONS.boolean(option, value)?,
            ("-accept", Kind::Listener) | ("-open", Kind::Socket) => {
                open = OPTIONS.callback(interp, option, value)?;
            }
            ("-line", _) => line = OPTIONS.callback(interp, option, value)?,
            ("-close", _) => close = OPTIONS.callback(interp, option, value)?,
            ("-encoding", _) => {
                is_binary = match value.to_text_lossy().as_str() {
                    "utf-8" => false,
                    "binary" => true,
                    _ => return Err(OPTIONS.bad_value(option, value, "utf-8 or binary")),
                }
            }
            ("-max-line", _) => limits.max_line = OPTIONS.whole(option, value, 1, 1 << 30)? as usize,
            ("-max-pending", _) => limits.max_pending = OPTIONS.whole(option, value, 1, 1 << 40)? as usize,
            (other, kind) => {
                let own = match kind {
                    Kind::Listener => "-port, -address, -accept, -max-connections",
                    Kind::Socket => "-open, -reconnect",
                };
                return Err(OPTIONS.bad(format!(
                    "bad option \"{other}\": must be {own}, -line, -close, -encoding, -max-line, or -max-pending"
                )));
            }
        }
    }
    let line = line.ok_or_else(|| OPTIONS.bad("the option -line must be given"))?;
    Ok(Given {
        port,
        address,
        max_connections,
        reconnect,
        is_binary,
        limits,
        calls: Calls { open, line, close },
    })
}

fn listen(interp: &Interp, args: &[Obj]) -> Result<Obj> {
    let pairs = OPTIONS.pairs(args, &format!("tor::socket listen {LISTEN_USAGE}"))?;
    let given = parse(interp, Kind::Listener, pairs)?;
    let port = given
        .port
        .ok_or_else(|| OPTIONS.bad("the option -port must be given"))?;
    let cannot = |why: String| Error::new(why).with_code(["TOR", "SOCKET", "LISTEN"]);
    let addresses: Vec<SocketAddr> = (given.address.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| cannot(format!("cannot resolve \"{}\": {error}", given.address)))?
        .collect();
    let shared = Shared::new(Kind::Listener, sockets::owner(interp), given.is_binary);
    let name = Obj::from(&shared.name);
    let (calls, limits, most) = (given.calls, given.limits, given.max_connections);
    sockets::reach()
        .call(move |sockets, io| sockets.listen(io, shared, calls, limits, most, &addresses))
        .map_err(|gone| cannot(gone.to_string()))?
        .map_err(cannot)?;
    Ok(name)
}

fn connect(interp: &Interp, args: &[Obj]) -> Result<Obj> {
    let has_port = !args[1].to_text_lossy().starts_with('-');
    let pairs = OPTIONS.pairs(
        &args[1 + usize::from(has_port)..],
        &format!("tor::socket connect {CONNECT_USAGE}"),
    )?;
    let given = parse(interp, Kind::Socket, pairs)?;
    let (host, port) = target(&args[0], args.get(1).filter(|_| has_port))?;
    let shared = Shared::new(Kind::Socket, sockets::owner(interp), given.is_binary);
    let name = Obj::from(&shared.name);
    let (calls, limits) = (given.calls, given.limits);
    let dial = Dial {
        host,
        port,
        reconnect: given.reconnect,
    };
    sockets::reach().post(move |sockets, io| sockets.connect(io, shared, calls, limits, dial));
    Ok(name)
}

/// The host and port of a node, of `host:port`, or of a host and a port.
fn target(target: &Obj, port: Option<&Obj>) -> Result<(String, u16)> {
    let target = target.to_text()?;
    let found = match port {
        Some(port) => port.to_text()?.parse().ok().map(|port| (target.clone(), port)),
        None => topology::endpoint(&target)?,
    };
    found.filter(|&(_, port)| port > 0).ok_or_else(|| {
        let message = format!(
            "cannot connect to \"{target}\": expected a node of the topology that has a port (only masters have one), host:port, or \
             a host and a port from 1 to 65535"
        );
        Error::new(message).with_code(["TOR", "SOCKET", "TARGET"])
    })
}

fn send(args: &[Obj]) -> Result<Obj> {
    let shared = connection(&args[0])?;
    let line = line(&args[1], shared.is_binary)?;
    shared.send(line).map_err(|NotOpen| closed(&shared.name))?;
    Ok(Obj::empty())
}

/// The bytes of a line that a script gives.
pub(super) fn line(line: &Obj, is_binary: bool) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::new(why).with_code(["TOR", "SOCKET", "LINE"]);
    let bytes = if is_binary {
        line.to_bytes().map_err(|error| bad(error.message()))?
    } else {
        line.to_text()
            .map_err(|error| bad(&error.to_string()))?
            .into_bytes()
    };
    if bytes.contains(&b'\n') {
        return Err(bad(
            "a line cannot have a newline in it: send the parts, or write it as \\n",
        ));
    }
    Ok(bytes)
}

fn info(args: &[Obj]) -> Result<Obj> {
    let shared = find(&args[0])?.ok_or_else(|| closed(&args[0].to_text_lossy()))?;
    let number = shared.number;
    match sockets::reach().call(move |sockets, io| sockets.info(io, number)) {
        Ok(Some(info)) => Ok(Obj::dict(info)),
        _ => Err(closed(&shared.name)),
    }
}

/// The connection of a name.
pub(super) fn connection(name: &Obj) -> Result<Arc<Shared>> {
    let shared = find(name)?.ok_or_else(|| closed(&name.to_text_lossy()))?;
    if shared.kind == Kind::Listener {
        return Err(unknown(format!("{} is no socket but a listener", shared.name)));
    }
    Ok(shared)
}

/// What a name stands for; none if it is closed.
fn find(name: &Obj) -> Result<Option<Arc<Shared>>> {
    let name = name.to_text_lossy();
    match sockets::find(&name) {
        Found::Here(shared) => Ok(Some(shared)),
        Found::Closed => Ok(None),
        Found::Unknown => Err(unknown(format!(
            "there is no socket \"{name}\": tor::socket names lists them"
        ))),
    }
}

fn unknown(message: String) -> Error {
    Error::new(message).with_code(["TOR", "SOCKET", "UNKNOWN"])
}

pub(super) fn closed(name: &str) -> Error {
    Error::new(format!("{name} has no connection")).with_code(["TOR", "SOCKET", "CLOSED"])
}
