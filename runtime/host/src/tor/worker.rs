//! `tor::worker` and `tor::job`.
use super::options::Options;
use super::stop::on_sigterm;
use super::{Command, topology};
use crate::reactor::{self, Limits, Reach};
use crate::worker::{
    self, Answer, Current, ExecutorHandle, Executors, Program, Settings, Setup, Start, Status, Worker,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use torhost_protocol::{Handle, MAX_CAPABILITIES, Registration, is_worker_id};
use torhost_tcl::{Error, Interp, Obj, Result};
use torhost_topology::Isolation;

const SERVE_USAGE: &str = "coordinators -handler command ?-option value …?";

const OPTIONS: Options = Options("WORKER");

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "tor::worker serve",
        usage: SERVE_USAGE,
        help: "Serves as a worker: connects to a coordinator, and calls the handler for each job that it sends. `coordinators` is a list \
               of nodes of the topology that have a port, or of `host:port`; they are tried in turn, for ever, with ever longer waits \
               between (random, up to `-max-wait`).\n\n\
               The handler is a command prefix, to which the job's data is appended. What it returns is the job's result; its error is the \
               failure of this attempt, and the coordinator is told the `errorInfo` too. `tor::job` tells a handler more of its job.\n\n\
               Jobs do not run in the interpreter that calls this command but in executors: one for each slot, an interpreter in a \
               thread of its own, in which the script is evaluated up to this command. So what stands before it (packages, procedures, \
               variables) is there for the handler, in each executor anew; what stands behind it is done once. The socket and the heartbeat are \
               the host's affair: a handler that computes for an hour is no dead worker. A job that is cancelled, or runs past its timeout, is \
               stopped wherever it is, whatever it catches. A command written in C that does not end can be stopped only with `-isolation \
               process`.\n\n\
               | option | is | default |\n|---|---|---|\n\
               | `-handler` | the command prefix | must be given |\n\
               | `-name` | the worker's name, 1 to 64 letters, digits or `_ . @ -`; a second worker of that name takes the place of the first | `tor::topology self` |\n\
               | `-type` | a word for people | `worker` |\n\
               | `-capabilities` | what its jobs may require, at most 64 | the node's in the topology |\n\
               | `-slots` | jobs at once, 1 to 1000 | the node's `resources cpu`, or else 1 |\n\
               | `-prefetch` | how many jobs it is sent beforehand, beyond its slots, 0 to 1000, so that it need not wait for the next: see \
               [Short jobs](../workers.md#short-jobs) | 0 |\n\
               | `-weight` | its share of the work compared with others, under the policy `weighted` | the slots |\n\
               | `-heartbeat` | how often to beat | what the coordinator says |\n\
               | `-max-wait` | the longest wait between two attempts to connect | `10s` |\n\
               | `-isolation` | `thread`: executors are threads of this process; `process`: each is a process of its own, which is killed if a \
               job that is to be stopped does not stop, and replaced if it dies | the node's, or else `thread` |\n\
               | `-grace` | how long such a process may take to stop a job | `2s` |\n\
               | `-drain` | how long jobs may go on after SIGTERM | `10s` |\n\
               | `-setup` | a script for the executors to evaluate in place of the script's file; only for threads | the script's file |\n\n\
               Returns the worker's name, when all executors are ready; the connection is made afterwards, and made again whenever it \
               is lost. On SIGTERM the worker takes no more jobs, and the process ends by `exit 0` when those that run are answered; on a second \
               one, at once. Results that could not be reported meanwhile are reported then, if the coordinator is the same and has not been \
               restarted. Errors have the `-errorcode` `{TOR WORKER OPTION}`, or that of the script in an executor.",
        example: "tor::worker serve localhost:9000 -name upper -slots 2 -handler {string toupper} -setup {}",
        arguments: (1, None),
        run: serve,
    },
    Command {
        name: "tor::worker status",
        usage: "?name?",
        help: "Returns a dict about this process's worker, or the one of that name if there are several: `state` (`connecting`, `connected`, `draining` or `closed`), `coordinator` \
               (host and port), `running` (handles), `prefetched` (handles of those that it has not begun), `begun`, `completed` and `failed` (how many jobs), `unreported` (answers that \
               no coordinator has been told yet). In a handler it is the worker that the handler works for, but with `-isolation process` only what its own process has done.",
        example: "tor::worker serve localhost:9000 -name counter -handler list -setup {}\n\
                  dict get [tor::worker status counter] completed",
        arguments: (0, Some(1)),
        run: |_, args| {
            let status = reach(args.first())?
                .call(|worker: &mut Worker, _| worker.status())
                .map_err(|gone| Error::new(gone.to_string()))?;
            let Status {
                state,
                coordinator,
                running,
                prefetched,
                begun,
                completed,
                failed,
                unreported,
            } = status;
            Ok(Obj::dict([
                ("state", Obj::from(state)),
                ("coordinator", Obj::from(coordinator)),
                ("running", Obj::list(running.iter().map(Handle::to_string))),
                ("prefetched", Obj::list(prefetched.iter().map(Handle::to_string))),
                ("begun", Obj::from(begun)),
                ("completed", Obj::from(completed)),
                ("failed", Obj::from(failed)),
                ("unreported", Obj::from(unreported)),
            ]))
        },
    },
    Command {
        name: "tor::worker drain",
        usage: "?name?",
        help: "Takes no more jobs. The connection is closed once those that run are answered; `tor::worker status` then says `closed`.",
        example: "tor::worker serve localhost:9000 -name brief -handler list -setup {}\ntor::worker drain brief",
        arguments: (0, Some(1)),
        run: |_, args| {
            reach(args.first())?.post(|worker: &mut Worker, io| worker.drain(io));
            Ok(Obj::empty())
        },
    },
    Command {
        name: "tor::worker reconnect",
        usage: "?name?",
        help: "Drops the connection and connects again, as if the worker had broken down: jobs that run are stopped, and their answers \
               forgotten. For tests of what happens then.",
        example: "proc work {data} {if {$data eq \"break\"} {tor::worker reconnect}; return $data}",
        arguments: (0, Some(1)),
        run: |_, args| {
            reach(args.first())?.post(|worker: &mut Worker, io| worker.reconnect(io));
            Ok(Obj::empty())
        },
    },
    Command {
        name: "tor::job id",
        usage: "",
        help: "Returns the id of the job that this executor does, such as `JOB-7`. Where there is none, as outside handlers, this and \
               those below that take no handle are errors with `-errorcode {TOR JOB NONE}`.",
        example: "proc work {data} {return \"[tor::job id]: $data\"}",
        arguments: (0, Some(0)),
        run: |_, _| Ok(Obj::from(job()?.handle.job.to_string())),
    },
    Command {
        name: "tor::job handle",
        usage: "",
        help: "Returns the handle of this attempt, such as `JOB-7` for the first and `JOB-7.2` for the second.",
        example: "proc work {data} {tor::log debug begins handle [tor::job handle]}",
        arguments: (0, Some(0)),
        run: |_, _| Ok(Obj::from(job()?.handle.to_string())),
    },
    Command {
        name: "tor::job attempt",
        usage: "",
        help: "Returns which attempt at the job this is: 1 for the first.",
        example: "proc work {data} {if {[tor::job attempt] > 1} {tor::log warn \"again: $data\"}}",
        arguments: (0, Some(0)),
        run: |_, _| Ok(Obj::from(job()?.handle.attempt)),
    },
    Command {
        name: "tor::job data",
        usage: "",
        help: "Returns the job's data, as the handler got it.",
        example: "proc work {args} {string length [tor::job data]}",
        arguments: (0, Some(0)),
        run: |_, _| Ok(job()?.data),
    },
    Command {
        name: "tor::job progress",
        usage: "percent ?note?",
        help: "Tells the coordinator, and through it the client, how far the job is: 0 to 100 per cent, and a note. The attempt's timeout \
               begins anew.",
        example: "proc work {data} {tor::job progress 40 \"half way\"}",
        arguments: (1, Some(2)),
        run: |_, args| {
            let percent = args[0].to_f64()?;
            if !(0.0..=100.0).contains(&percent) {
                let given = args[0].to_text_lossy();
                return Err(
                    Error::new(format!("bad progress \"{given}\": must be 0 to 100 per cent"))
                        .with_code(["TOR", "JOB", "PROGRESS"]),
                );
            }
            let note = args.get(1).map(Obj::to_text_lossy).unwrap_or_default();
            worker::progress(percent, note)
                .then(Obj::empty)
                .ok_or_else(no_job)
        },
    },
    Command {
        name: "tor::job defer",
        usage: "",
        help: "Has the job go on after the handler has returned, and returns its handle. It is answered later by `tor::job complete` or \
               `tor::job fail`, as from `after` or a `fileevent`; the executor's event loop runs meanwhile, and its slot stays taken. An error of \
               the handler still is the failure of the job. A handler may also wait by `yield`, without this: it is called in a \
               coroutine.",
        example: "proc work {data} {after 100 [list tor::job complete [tor::job defer] done]}",
        arguments: (0, Some(0)),
        run: |_, _| {
            let handle = job()?.handle;
            worker::defer();
            Ok(Obj::from(handle.to_string()))
        },
    },
    Command {
        name: "tor::job complete",
        usage: "handle result",
        help: "Answers an attempt with its result. Returns 1, or 0 if nobody waits for it any more: it was cancelled, or is answered \
               already.",
        example: "proc fetched {handle token} {tor::job complete $handle [http::data $token]}",
        arguments: (2, Some(2)),
        run: |_, args| {
            let result = args[1].to_text_lossy().into_bytes();
            Ok(Obj::from(worker::answer(
                handle(&args[0])?,
                Answer::Complete(result),
            )))
        },
    },
    Command {
        name: "tor::job fail",
        usage: "handle message",
        help: "Answers an attempt with a failure; the job is tried again if it has attempts left. Returns as `tor::job complete`.",
        example: "proc timed_out {handle} {tor::job fail $handle \"no answer within 30 s\"}",
        arguments: (2, Some(2)),
        run: |_, args| {
            let message = args[1].to_text_lossy();
            let answer = Answer::Failed { message, info: None };
            Ok(Obj::from(worker::answer(handle(&args[0])?, answer)))
        },
    },
    Command {
        name: "tor::job cancelled?",
        usage: "handle",
        help: "Returns whether nobody waits for an answer to this attempt any more. A handler need not ask, since it is stopped then; what \
               it left in `after` or a `fileevent` may want to.",
        example: "proc poll {handle} {if {![tor::job cancelled? $handle]} {after 1000 [list poll $handle]}}",
        arguments: (1, Some(1)),
        run: |_, args| {
            let handle = handle(&args[0])?;
            Ok(Obj::from(
                worker::current().is_none_or(|job| job.handle != handle),
            ))
        },
    },
];

/// This process's workers, by name.
static WORKERS: Mutex<Vec<(String, Reach<Worker>)>> = Mutex::new(Vec::new());

fn workers() -> MutexGuard<'static, Vec<(String, Reach<Worker>)>> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker of a name, or else the one of this executor, or else the only one.
fn reach(name: Option<&Obj>) -> Result<Reach<Worker>> {
    let none = |message: String| Error::new(message).with_code(["TOR", "WORKER", "NONE"]);
    let workers = workers();
    if let Some(name) = name {
        let name = name.to_text_lossy();
        let named = workers.iter().find(|(other, _)| *other == name);
        return named
            .map(|(_, reach)| *reach)
            .ok_or_else(|| none(format!("there is no worker \"{name}\" in this process")));
    }
    match (worker::own(), &workers[..]) {
        (Some(reach), _) | (None, &[(_, reach)]) => Ok(reach),
        (None, []) => Err(none(
            "there is no worker in this process: call tor::worker serve first".into(),
        )),
        (None, _) => Err(none(
            "there are several workers in this process: say which".into(),
        )),
    }
}

fn job() -> Result<Current> {
    worker::current().ok_or_else(no_job)
}

fn no_job() -> Error {
    Error::new("there is no job: this is for handlers of tor::worker serve, while they work")
        .with_code(["TOR", "JOB", "NONE"])
}

fn handle(value: &Obj) -> Result<Handle> {
    let text = value.to_text_lossy();
    Handle::parse(text.as_bytes()).map_err(|_| {
        Error::new(format!(
            "bad handle \"{text}\": must be one such as JOB-7 or JOB-7.2"
        ))
        .with_code(["TOR", "JOB", "HANDLE"])
    })
}

fn serve(interp: &Interp, args: &[Obj]) -> Result<Obj> {
    if worker::current().is_some() {
        let message = "a handler cannot serve: tor::worker serve is for the script that it is in";
        return Err(Error::new(message).with_code(["TOR", "WORKER", "SERVES"]));
    }
    if worker::own().is_some() {
        return Err(worker::end_of_script());
    }
    let mut name = None;
    let mut kind = "worker".to_owned();
    let mut capabilities = None;
    let mut slots = None;
    let mut prefetch = 0;
    let mut weight = None;
    let mut heartbeat = None;
    let mut max_wait = Duration::from_secs(10);
    let mut isolation = None;
    let mut grace = Duration::from_secs(2);
    let mut drain = Duration::from_secs(10);
    let mut handler = None;
    let mut setup = None;
    let pairs = OPTIONS.pairs(&args[1..], &format!("tor::worker serve {SERVE_USAGE}"))?;
    for [option, value] in pairs {
        match option.to_text_lossy().as_str() {
            "-handler" => {
                let expected = |_| OPTIONS.bad_value(option, value, "a command prefix, which is a list");
                handler = Some(words(value).map_err(expected)?);
            }
            "-name" => name = Some(value.to_text()?),
            "-type" => kind = value.to_text()?,
            "-capabilities" => {
                let words = value
                    .to_list()
                    .ok()
                    .filter(|words| words.len() <= MAX_CAPABILITIES);
                let expected = format!("a list of at most {MAX_CAPABILITIES} words");
                let words = words.ok_or_else(|| OPTIONS.bad_value(option, value, &expected))?;
                capabilities = Some(words.iter().map(Obj::to_text_lossy).collect());
            }
            "-slots" => slots = Some(OPTIONS.whole(option, value, 1, 1000)? as u32),
            "-prefetch" => prefetch = OPTIONS.whole(option, value, 0, 1000)? as u32,
            "-weight" => weight = Some(OPTIONS.whole(option, value, 1, 10_000)? as u32),
            "-heartbeat" => heartbeat = Some(OPTIONS.duration(option, value, 10)?),
            "-max-wait" => max_wait = OPTIONS.duration(option, value, 10)?,
            "-isolation" => isolation = Some(isolated(value)?),
            "-grace" => grace = OPTIONS.duration(option, value, 10)?,
            "-drain" => drain = OPTIONS.duration(option, value, 10)?,
            "-setup" => setup = Some(Setup::Script(value.to_text()?)),
            other => {
                return Err(OPTIONS.bad(format!(
                    "bad option \"{other}\": must be -handler, -name, -type, -capabilities, -slots, -prefetch, -weight, -heartbeat, \
                     -max-wait, -isolation, -grace, -drain, or -setup"
                )));
            }
        }
    }
    let handler = handler.filter(|words| !words.is_empty());
    let handler =
        handler.ok_or_else(|| OPTIONS.bad("the option -handler must be given, and name a command"))?;
    let name = match name {
        Some(name) => name,
        // Without a topology there is no name either.
        None => topology::own_name()
            .ok()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| {
                OPTIONS.bad("the option -name must be given, since this script is no node of a topology")
            })?,
    };
    if !is_worker_id(&name) {
        return Err(OPTIONS.bad(format!(
            "bad value \"{name}\" for -name: must be 1 to 64 letters, digits or _ . @ -, as coordinators take no other"
        )));
    }
    let node = topology::topology()
        .ok()
        .and_then(|topology| topology.node(&name));
    let slots = slots.or(node.map(|node| node.resources.cpu)).unwrap_or(1);
    let settings = Settings {
        coordinators: coordinators(&args[0])?,
        registration: Registration {
            id: name.clone(),
            kind,
            capabilities: capabilities
                .or(node.map(|node| node.capabilities.clone()))
                .unwrap_or_default(),
            slots,
            prefetch,
            weight,
            protocol: 1,
            token: None,
            running: Vec::new(),
            epoch: String::new(),
        },
        heartbeat,
        max_wait,
        grace,
        limits: Limits {
            max_line: 1 << 30,
            max_pending: 1 << 30,
        },
    };
    let isolation = isolation.or(node.map(|node| node.isolation)).unwrap_or_default();
    if let Some(parent) = worker::parent(interp)? {
        let reach = reactor::add(Worker::new(settings));
        return worker::serve_here(interp, &handler, reach, |executor| {
            reach.post(|worker, io| worker.start_child(io, executor, parent));
        });
    }
    if workers().iter().any(|(other, _)| *other == name) {
        let message = format!("this process serves as worker \"{name}\" already");
        return Err(Error::new(message).with_code(["TOR", "WORKER", "SERVES"]));
    }
    let reach = reactor::add(Worker::new(settings));
    // The list is not locked while the executors start.
    let executors = match (isolation, setup) {
        (Isolation::Process, None) => {
            let program = program(interp)?;
            Executors::Processes(program.start_all(slots)?, program)
        }
        (Isolation::Process, Some(_)) => {
            return Err(
                OPTIONS.bad("the option -setup is for executors in threads, not for -isolation process")
            );
        }
        (Isolation::Thread, setup) => {
            let setup = setup.map_or_else(|| script_file(interp), Ok)?;
            let start = Start {
                setup,
                handler,
                reach,
            };
            Executors::Threads(ExecutorHandle::start(&start, slots)?)
        }
    };
    on_sigterm(interp, move |exit| {
        reach.post(move |worker, io| worker.drain_then(io, drain, exit));
    })?;
    workers().push((name.clone(), reach));
    reach.post(|worker, io| worker.start(io, executors));
    Ok(Obj::from(name))
}

/// What executors in threads evaluate: the script's file.
fn script_file(interp: &Interp) -> Result<Setup> {
    let Program { script, argv, .. } = program(interp)?;
    let file = script
        .to_str()
        .ok_or_else(|| OPTIONS.bad("the script's path is not UTF-8"))?;
    Ok(Setup::File {
        file: file.to_owned(),
        argv,
    })
}

/// The script that this process runs, and its arguments.
fn program(interp: &Interp) -> Result<Program> {
    let script = topology::script().ok_or_else(|| {
        OPTIONS.bad(
            "the option -setup must be given, since there is no script's file for the executors to evaluate",
        )
    })?;
    let argv = interp.global("argv").map(|argv| words(&argv)).transpose()?;
    Ok(Program {
        script: script.to_owned(),
        argv: argv.unwrap_or_default(),
        topology: topology::named(),
    })
}

fn isolated(value: &Obj) -> Result<Isolation> {
    let word = value.to_text_lossy();
    Isolation::from_word(&word).ok_or_else(|| {
        let known = Isolation::WORDS.join(" or ");
        OPTIONS.bad(format!("bad value \"{word}\" for -isolation: must be {known}"))
    })
}

fn coordinators(list: &Obj) -> Result<Vec<(String, u16)>> {
    let coordinators: Result<Vec<_>> = words(list)?.iter().map(|word| coordinator(word)).collect();
    let coordinators = coordinators?;
    if coordinators.is_empty() {
        return Err(OPTIONS
            .bad("the list of coordinators is empty: it must have nodes of the topology, or host:port"));
    }
    Ok(coordinators)
}

fn coordinator(word: &str) -> Result<(String, u16)> {
    topology::endpoint(word)?.ok_or_else(|| {
        OPTIONS.bad(format!(
            "bad coordinator \"{word}\": must be a node of the topology that has a port, or host:port"
        ))
    })
}

fn words(list: &Obj) -> Result<Vec<String>> {
    let words = list.to_list()?;
    words.iter().map(|word| Ok(word.to_text()?)).collect()
}
