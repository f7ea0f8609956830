//! `tor::dispatch`.
use super::Command;
use super::coordinator::listen;
use super::options::Options;
use super::settings::{EngineSettings, ServingSettings, listener, one_of, policy_of, take_options};
use crate::coordinator::{Coordinator, OwnWorker, WorkerTaken, set_option};
use crate::reactor::{self, Gone, Io, Reach};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use torhost_dispatch::{AnswerError, Joining, Policy, Progress};
use torhost_protocol::{Code, Handle, JobId, JobsQuery, Refusal, State, SubmitOptions};
use torhost_tcl::{Error, Interp, Obj, Result};

const OPTIONS: Options = Options("DISPATCH");

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "tor::dispatch create",
    usage: "?-option value …?",
    help: "Creates a dispatch engine and returns the command by which it is used. It is what a coordinator has inside: jobs with \
           priorities, requirements, delays, timeouts and retries, spread over workers, each with one result. It runs beside the \
           script, and needs no connection: the script itself may submit, and work.\n\n\
           The options are those of [`tor::coordinator serve`](tor-coordinator.md) for the engine, with the same defaults from the \
           topology: `-policy -policy-command -health-check -detector -phi-threshold -failover -attempts -backoff -max-backoff \
           -max-losses -max-queued -max-resident -keep -keep-for`, and `-on event prefix`. Jobs are in memory, unless `-journal` names a database or \
           `-durability` says how to keep them; what a script is told of jobs is then kept before. A database that cannot be used is an \
           error with `-errorcode {TOR COORDINATOR JOURNAL}`.\n\n\
           | with the command `$d` | |\n|---|---|\n\
           | `$d submit data ?-option value …?` | submits a job and returns its id. The options are `-priority -requires -after -at -delay \
           -timeout -deadline -retries -key -affinity`, as those of [`SUBMIT`](../protocol.md). It must not be after a job that is not known |\n\
           | `$d worker add name -assign prefix ?-option value …?` | adds a worker in the script. The prefix is called with a handle and \
           the data for each attempt, which the next three answer, at once or later; an error of it fails the attempt. `-slots` is \
           how many it takes at once (1), `-capabilities` what it offers, `-weight` its share under `weighted`, `-cancel` the prefix that is \
           called with the handle of an attempt which is to stop. It still answers that one, to free the slot |\n\
           | `$d worker remove name` | removes it: its jobs go to others |\n\
           | `$d complete handle result` | the attempt has a result |\n\
           | `$d fail handle message` | it could not be done |\n\
           | `$d progress handle percent ?note?` | it goes on: 0 to 100 |\n\
           | `$d status` | counts of jobs, workers and slots, as a dict as `STATUS` has it |\n\
           | `$d job id` | all about a job, as `JOB` has it |\n\
           | `$d jobs ?-option value …?` | a page of jobs, as `JOBS` has it: `-state -limit -after` |\n\
           | `$d cancel id` | cancels a job and returns its state |\n\
           | `$d pause` | no more jobs are handed out |\n\
           | `$d resume` | they are again |\n\
           | `$d drain` | workers are to take no more jobs for good, and finish what they have. Returns how many jobs that is |\n\
           | `$d on event prefix` | has the prefix called with each such event, as `-on` |\n\
           | `$d policy algorithm` | workers are chosen in this way from now on |\n\
           | `$d policy params body` | by this policy in Tcl: the body is evaluated as that of a procedure with these two parameters, \
           as `-policy-command {apply {params body}}` |\n\
           | `$d serve ?-option value …?` | listens for workers and clients, once. The options are those of `tor::coordinator serve` that \
           are not the engine's. The same as `tor::coordinator serve -dispatch $d ?-option value …?` |\n\
           | `$d destroy` | ends it, with its listeners and connections, as does `rename $d {}`. What was on its way to the script still comes |\n\n\
           Errors have `-errorcode {TOR DISPATCH …}`: `UNKNOWN_JOB`, `STALE_ATTEMPT` (a handle that no worker of the script has, or that counts \
           no more), `QUEUE_FULL`, `OVERLOADED` (jobs cannot be kept), `WORKER` (a name that is taken, or unknown), `OPTION` (bad options and values).",
    example: "set d [tor::dispatch create -policy least_loaded -on completed {apply {{event} {puts [dict get $event result]}}}]\n\
              proc work {d handle data} {$d complete $handle [string toupper $data]}\n\
              $d worker add shouter -slots 2 -capabilities text -assign [list work $d]\n\
              $d policy {candidates job} {dict get [lindex $candidates end] name}\n\
              $d submit hello -priority 5 -requires text -timeout 10s\n\
              set port [tor::coordinator serve -dispatch $d -port 0]\n\
              $d destroy",
    arguments: (0, None),
    run: create,
}];

/// A subcommand of an engine's command.
struct Method {
    name: &'static str,
    usage: &'static str,
    /// How many arguments it takes; without an upper bound for `None`.
    arguments: (usize, Option<usize>),
    run: fn(&Interp, &Dispatch, &[Obj]) -> Result<Obj>,
}

const METHODS: &[Method] = &[
    Method {
        name: "submit",
        usage: "data ?-option value …?",
        arguments: (1, None),
        run: submit,
    },
    Method {
        name: "worker",
        usage: "add name -assign prefix ?-option value …?",
        arguments: (2, None),
        run: worker,
    },
    Method {
        name: "complete",
        usage: "handle result",
        arguments: (2, Some(2)),
        run: |_, dispatch, args| {
            let (handle, result) = (handle(&args[0])?, args[1].to_text_lossy().into_bytes());
            dispatch.answer(&args[0], move |coordinator, io| {
                coordinator.complete(io, handle, result)
            })
        },
    },
    Method {
        name: "fail",
        usage: "handle message",
        arguments: (2, Some(2)),
        run: |_, dispatch, args| {
            let (handle, message) = (handle(&args[0])?, args[1].to_text_lossy());
            dispatch.answer(&args[0], move |coordinator, io| {
                coordinator.fail(io, handle, &message)
            })
        },
    },
    Method {
        name: "progress",
        usage: "handle percent ?note?",
        arguments: (2, Some(3)),
        run: |_, dispatch, args| {
            let handle = handle(&args[0])?;
            let percent = args[1]
                .to_f64()
                .ok()
                .filter(|percent| (0.0..=100.0).contains(percent));
            let percent = percent
                .ok_or_else(|| OPTIONS.bad(format!("bad percentage \"{}\": must be 0 to 100", args[1])))?;
            let note = args.get(2).map(Obj::to_text_lossy).unwrap_or_default();
            let progress = Progress { percent, note };
            dispatch.answer(&args[0], move |coordinator, io| {
                coordinator.progress(io, handle, progress)
            })
        },
    },
    Method {
        name: "status",
        usage: "",
        arguments: (0, Some(0)),
        run: |_, dispatch, _| {
            let status = dispatch.call(|coordinator, io| coordinator.status_value(io))?;
            Ok(super::to_tcl(&status))
        },
    },
    Method {
        name: "job",
        usage: "id",
        arguments: (1, Some(1)),
        run: |_, dispatch, args| {
            let id = job(&args[0])?;
            let found = dispatch.call_kept(move |coordinator, _| coordinator.job_dict(id))?;
            found.map(|job| super::to_tcl(&job)).map_err(refused)
        },
    },
    Method {
        name: "jobs",
        usage: "?-option value …?",
        arguments: (0, None),
        run: jobs,
    },
    Method {
        name: "cancel",
        usage: "id",
        arguments: (1, Some(1)),
        run: |_, dispatch, args| {
            let id = job(&args[0])?;
            let state = dispatch.call_kept(move |coordinator, io| coordinator.cancel(io, id))?;
            state.map(Obj::from).map_err(refused)
        },
    },
    Method {
        name: "pause",
        usage: "",
        arguments: (0, Some(0)),
        run: |_, dispatch, _| {
            dispatch.call(|coordinator, io| coordinator.pause(io, true))?;
            Ok(Obj::empty())
        },
    },
    Method {
        name: "resume",
        usage: "",
        arguments: (0, Some(0)),
        run: |_, dispatch, _| {
            dispatch.call(|coordinator, io| coordinator.pause(io, false))?;
            Ok(Obj::empty())
        },
    },
    Method {
        name: "drain",
        usage: "",
        arguments: (0, Some(0)),
        run: |_, dispatch, _| dispatch.call(Coordinator::drain).map(Obj::from),
    },
    Method {
        name: "on",
        usage: "event prefix",
        arguments: (2, Some(2)),
        run: |interp, dispatch, args| {
            if let Some((event, callback)) = listener(OPTIONS, interp, &args[0], &args[1])? {
                dispatch.call(move |coordinator, _| coordinator.on(event, callback))?;
            }
            Ok(Obj::empty())
        },
    },
    Method {
        name: "policy",
        usage: "params body",
        arguments: (1, Some(2)),
        run: policy,
    },
    Method {
        name: "serve",
        usage: "?-option value …?",
        arguments: (0, None),
        run: serve,
    },
];

/// What `submit` can be asked for besides, without the hyphens.
const SUBMIT_OPTIONS: &[&str] = &[
    "priority", "requires", "after", "at", "delay", "timeout", "deadline", "retries", "key", "affinity",
];

thread_local! {
    /// Whether an engine's command has been asked to serve.
    static ASKED_TO_SERVE: Cell<bool> = const { Cell::new(false) };
}

/// An engine, which ends when its command is deleted.
struct Dispatch(Reach<Coordinator>);

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Dispatch {
    /// Has the engine do something, and waits for it.
    fn call<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Coordinator, &mut Io) -> T + Send + 'static,
    ) -> Result<T> {
        self.0.call(ask).map_err(|Gone| error("GONE", "it was destroyed"))
    }

    /// Has the engine do something or tell of jobs, and waits until what it knew then is kept.
    fn call_kept<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Coordinator, &mut Io) -> T + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.0.post(move |coordinator, io| {
            let answer = ask(coordinator, io);
            coordinator.then(io, move |_, _| {
                // The one who asked may have been stopped meanwhile.
                let _ = sender.send(answer);
            });
        });
        receiver.recv().map_err(|_| error("GONE", "it was destroyed"))
    }

    /// Has the engine take an answer to an attempt.
    fn answer(
        &self,
        handle: &Obj,
        ask: impl FnOnce(&mut Coordinator, &mut Io) -> std::result::Result<(), AnswerError> + Send + 'static,
    ) -> Result<Obj> {
        match self.call(ask)? {
            Ok(()) => Ok(Obj::empty()),
            Err(AnswerError::UnknownJob) => Err(unknown_job(handle)),
            Err(AnswerError::StaleAttempt) => {
                let text = format!(
                    "the attempt {handle} does not count: it was superseded or answered, or is no worker's of this script"
                );
                Err(error("STALE_ATTEMPT", text))
            }
        }
    }
}

fn create(interp: &Interp, args: &[Obj]) -> Result<Obj> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let mut engine = EngineSettings::new(OPTIONS)?.in_memory();
    let known = [EngineSettings::NAMES, &["-on"]].concat();
    let usage = "tor::dispatch create ?-option value …?";
    let listeners = take_options(OPTIONS, interp, args, usage, &known, |option, value| {
        engine.take(interp, option, value)
    })?;
    let mut coordinator = engine.coordinator()?;
    for (event, callback) in listeners {
        coordinator.on(event, callback);
    }
    let dispatch = Rc::new(Dispatch(reactor::add(coordinator)));
    let started = dispatch.call(Coordinator::start_keeping)?;
    started.map_err(|reason| error("JOURNAL", reason))?;
    let name = format!("::tor::dispatch{}", LAST.fetch_add(1, Ordering::Relaxed) + 1);
    interp.create_command(&name, move |interp, words| run(interp, &dispatch, words))?;
    Ok(Obj::from(name))
}

/// Runs a subcommand; `words` begin with the command's name.
fn run(interp: &Interp, dispatch: &Dispatch, words: &[Obj]) -> Result<Obj> {
    let [command, subcommand, args @ ..] = words else {
        return Err(Error::wrong_args(&format!("{} subcommand ?arg …?", words[0])));
    };
    let name = subcommand.to_text_lossy();
    if name == "destroy" && args.is_empty() {
        return interp.call(&[Obj::from("rename"), command.clone(), Obj::empty()]);
    }
    let Some(method) = METHODS.iter().find(|method| method.name == name) else {
        let mut names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        names.push("destroy");
        let text = format!("unknown subcommand \"{name}\": must be {}", one_of(&names));
        return Err(Error::new(text).with_code(["TCL", "LOOKUP", "SUBCOMMAND", &name]));
    };
    let (least, most) = method.arguments;
    if args.len() < least || most.is_some_and(|most| args.len() > most) {
        let usage = format!("{command} {name} {}", method.usage);
        return Err(Error::wrong_args(usage.trim_end()));
    }
    (method.run)(interp, dispatch, args)
}

fn submit(_: &Interp, dispatch: &Dispatch, args: &[Obj]) -> Result<Obj> {
    let data = args[0].to_text_lossy().into_bytes();
    let mut options = SubmitOptions::default();
    for (option, name, value) in pairs(&args[1..])? {
        if !SUBMIT_OPTIONS.contains(&&*name) {
            let known: Vec<String> = SUBMIT_OPTIONS.iter().map(|name| format!("-{name}")).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            return Err(OPTIONS.bad(format!("bad option \"{option}\": must be {}", one_of(&known))));
        }
        set_option(&mut options, &name, &value)
            .map_err(|expected| OPTIONS.bad(format!("bad option {option} \"{value}\": {expected}")))?;
    }
    let job = dispatch.call_kept(move |coordinator, io| coordinator.submit(io, data, options))?;
    job.map(|job| Obj::from(job.to_string())).map_err(refused)
}

/// What the coordinator says to a client, as an error.
fn refused(refusal: Refusal) -> Error {
    match refusal.code {
        Code::UnknownJob => unknown_job(&Obj::from(refusal.text)),
        Code::BadRequest => OPTIONS.bad(refusal.text),
        code => error(&code.as_str().replace('-', "_").to_uppercase(), refusal.text),
    }
}

fn worker(interp: &Interp, dispatch: &Dispatch, args: &[Obj]) -> Result<Obj> {
    let name = args[1].to_text()?;
    match (args[0].to_text_lossy().as_str(), &args[2..]) {
        ("remove", []) => {
            let named = name.clone();
            if !dispatch.call(move |coordinator, io| coordinator.remove_worker(io, &named))? {
                let text = format!("the script has no worker \"{name}\"");
                return Err(error("WORKER", text));
            }
        }
        ("add", options) => {
            let mut joining = Joining::new(name.clone());
            let (mut assign, mut cancel, mut weight) = (None, None, None);
            for (option, key, value) in pairs(options)? {
                match key.as_str() {
                    "slots" => joining.slots = OPTIONS.whole(&option, &value, 1, 1000)? as u32,
                    "weight" => weight = Some(OPTIONS.whole(&option, &value, 1, 10_000)? as u32),
                    "capabilities" => {
                        let words = value.to_list();
                        let words = words.map_err(|_| OPTIONS.bad_value(&option, &value, "a list"))?;
                        joining.capabilities = words.iter().map(Obj::to_text_lossy).collect();
                    }
                    "assign" => assign = OPTIONS.callback(interp, &option, &value)?,
                    "cancel" => cancel = OPTIONS.callback(interp, &option, &value)?,
                    _ => {
                        let known = ["-slots", "-weight", "-capabilities", "-assign", "-cancel"];
                        return Err(
                            OPTIONS.bad(format!("bad option \"{option}\": must be {}", one_of(&known)))
                        );
                    }
                }
            }
            joining.weight = weight.unwrap_or(joining.slots);
            let assign = assign.ok_or_else(|| OPTIONS.bad("the option -assign must be given"))?;
            let own = OwnWorker { assign, cancel };
            let added = dispatch.call(move |coordinator, io| coordinator.add_worker(io, joining, own))?;
            added.map_err(|WorkerTaken| error("WORKER", format!("there is a worker \"{name}\" already")))?;
        }
        (other, _) => {
            let text = format!(
                "bad use of worker \"{other}\": must be worker add name -assign prefix ?-option value …?, or worker remove name"
            );
            return Err(OPTIONS.bad(text));
        }
    }
    Ok(Obj::empty())
}

fn jobs(_: &Interp, dispatch: &Dispatch, args: &[Obj]) -> Result<Obj> {
    let mut query = JobsQuery {
        state: None,
        limit: 50,
        after: None,
    };
    for (option, name, value) in pairs(args)? {
        let is_empty = value.to_text_lossy().is_empty();
        match name.as_str() {
            "state" | "after" if is_empty => {}
            "state" => {
                let states = one_of(&State::ALL.map(State::as_str));
                let state = value.to_text_lossy().parse();
                query.state = Some(state.map_err(|_| OPTIONS.bad_value(&option, &value, &states))?);
            }
            "limit" => query.limit = OPTIONS.whole(&option, &value, 1, 1000)? as usize,
            "after" => query.after = Some(job(&value)?),
            _ => {
                return Err(OPTIONS.bad(format!(
                    "bad option \"{option}\": must be -state, -limit, or -after"
                )));
            }
        }
    }
    let page = dispatch.call_kept(move |coordinator, _| coordinator.jobs_dict(&query))?;
    Ok(super::to_tcl(&page))
}

fn policy(interp: &Interp, dispatch: &Dispatch, args: &[Obj]) -> Result<Obj> {
    let (policy, chooser) = match args {
        [params, body] => {
            let lambda = Obj::list([params, body]);
            let prefix = Obj::list([Obj::from("apply"), lambda]);
            let chooser = OPTIONS.callback(interp, &Obj::from("policy"), &prefix)?;
            (Policy::Asked, chooser)
        }
        _ => (policy_of(OPTIONS, &args[0])?, None),
    };
    dispatch.call(move |coordinator, io| coordinator.set_policy(io, policy, chooser))?;
    Ok(Obj::empty())
}

/// Has the engine of a command listen. Commands may be renamed, and so only what is called can tell whether it is one.
pub(super) fn serve_by(interp: &Interp, command: &Obj, args: &[Obj]) -> Result<Obj> {
    let words = [&[command.clone(), Obj::from("serve")], args].concat();
    ASKED_TO_SERVE.set(false);
    let outcome = interp.call(&words);
    if ASKED_TO_SERVE.take() {
        return outcome;
    }
    let expected = "the command of an engine, as tor::dispatch create returns it";
    Err(Options("COORDINATOR").bad_value(&Obj::from("-dispatch"), command, expected))
}

fn serve(interp: &Interp, dispatch: &Dispatch, args: &[Obj]) -> Result<Obj> {
    ASKED_TO_SERVE.set(true);
    let mut serving = ServingSettings::new(OPTIONS)?;
    let known = [ServingSettings::NAMES, &["-on"]].concat();
    let usage = "tor::coordinator serve -dispatch command ?-option value …?";
    let listeners = take_options(OPTIONS, interp, args, usage, &known, |option, value| {
        if EngineSettings::NAMES.contains(&option.to_text_lossy().as_str()) {
            return Err(OPTIONS.bad(format!(
                "bad option \"{option}\": it belongs to tor::dispatch create"
            )));
        }
        serving.take(interp, option, value)
    })?;
    let health_check = dispatch.call(|coordinator, _| coordinator.health_check())?;
    let (serving, addresses) = serving.addresses(health_check)?;
    listen(interp, dispatch.0, serving, addresses, listeners)
}

/// Options with their names, without the hyphen, and values.
fn pairs(args: &[Obj]) -> Result<Vec<(Obj, String, Obj)>> {
    let (pairs, rest) = args.as_chunks::<2>();
    if let [option] = rest {
        return Err(OPTIONS.missing_value(option));
    }
    let named = pairs.iter().map(|[option, value]| {
        let name = option.to_text_lossy();
        match name.strip_prefix('-') {
            Some(name) => Ok((option.clone(), name.to_owned(), value.clone())),
            None => Err(OPTIONS.bad(format!("bad option \"{name}\": options begin with a hyphen"))),
        }
    });
    named.collect()
}

fn job(name: &Obj) -> Result<JobId> {
    name.to_text_lossy().parse().map_err(|_| unknown_job(name))
}

fn handle(name: &Obj) -> Result<Handle> {
    name.to_text_lossy().parse().map_err(|_| unknown_job(name))
}

fn unknown_job(name: &Obj) -> Error {
    error(
        "UNKNOWN_JOB",
        format!("there is no job \"{name}\", or it ended so long ago that it is forgotten"),
    )
}

fn error(code: &str, text: impl Into<String>) -> Error {
    Error::new(text).with_code(["TOR", "DISPATCH", code])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_every_subcommand() {
        for method in METHODS {
            let usage = format!("| `$d {} {}", method.name, method.usage);
            let usage = format!("{}` |", usage.trim_end());
            assert!(COMMANDS[0].help.contains(&usage), "{usage}");
        }
    }
}
