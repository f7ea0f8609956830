//! `torhost up`, `ps` and `down`: starting a topology's nodes on this machine and keeping them running.
//!
//! - `plan`: what of a topology is to be started here;
//! - `supervise`: the loop that starts, restarts and stops nodes; `process`, `probe` and `restart` are its parts;
//! - `instance`: one system, one supervisor: the lock and the control socket;
//! - `control`: what is said over that socket;
//! - `voice`, `table`, `log_file`, `error`: what a person gets to read.
mod control;
mod error;
mod instance;
mod log_file;
mod plan;
mod probe;
mod process;
mod restart;
mod supervise;
mod table;
mod voice;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setsid, test_kill_process};
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::Duration;

use control::{Report, Request, Status};
use error::Error;
use instance::{Claim, Instance};
use plan::Plan;
use supervise::Settings;
use voice::Voice;

/// Tells a node's process which process supervises it.
const SUPERVISOR_VARIABLE: &str = "TOR_SUPERVISOR";

/// The exit code of `ps` and `down` when there is no supervisor.
const NOT_RUNNING: u8 = 3;

/// The subcommands of the supervisor.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Start the nodes of a topology that belong on this machine, and keep them running
    Up(Up),
    /// Show the nodes that `up` started: exit code 0 when all are ready, 1 when not, 3 when the system is not running
    Ps {
        /// The topology; by default $TOR_TOPOLOGY, else config/system.top
        topology: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop the nodes that `up` started: clients, then workers, then masters
    Down {
        /// The topology; by default $TOR_TOPOLOGY, else config/system.top
        topology: Option<PathBuf>,
        /// How long nodes have to stop before they are killed
        #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
        grace: Duration,
    },
}

/// What `up` is told.
#[derive(clap::Args)]
pub struct Up {
    /// The topology; by default $TOR_TOPOLOGY, else config/system.top
    topology: Option<PathBuf>,
    /// Go on in the background once everything is ready
    #[arg(long)]
    detach: bool,
    /// How long a node may take to become ready
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// How long nodes have to stop before they are killed
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    grace: Duration,
    /// How long to wait before a node that died is started again; each time in a row twice as long, up to 30s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    restart_delay: Duration,
    /// How many times in a row a node that dies is started again
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    restart_limit: u32,
    /// Be the background process that --detach starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Up(up) if up.detach => detach(&up),
        Command::Up(up) => start(&up),
        Command::Ps { topology, json } => ps(topology, json),
        Command::Down { topology, grace } => down(topology, grace),
    };
    done.unwrap_or_else(|error| {
        eprintln!("torhost: {error}");
        match error {
            Error::NotRunning(_) => ExitCode::from(NOT_RUNNING),
            _ => ExitCode::FAILURE,
        }
    })
}

/// Has this process end with its supervisor, when it is a node that one started.
///
/// What the node starts in turn inherits the variable too, and is left alone as long as the supervisor lives.
pub(crate) fn bind_to_parent() {
    let Some(supervisor) = env::var(SUPERVISOR_VARIABLE)
        .ok()
        .and_then(|pid| Pid::from_raw(pid.parse().ok()?))
    else {
        return;
    };
    if getppid() == Some(supervisor) {
        if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
            log::warn!("this node may outlive its supervisor: {error}");
        }
        if getppid() == Some(supervisor) {
            return;
        }
    } else if test_kill_process(supervisor) != Err(Errno::SRCH) {
        return;
    }
    eprintln!(
        "torhost: the supervisor (pid {}) is gone, and so this node ends",
        supervisor.as_raw_pid()
    );
    std::process::exit(1);
}

/// Runs the supervisor in this process.
fn start(up: &Up) -> Result<ExitCode, Error> {
    let path = topology_path(up.topology.clone())?;
    let mut voice = Voice::Terminal;
    if up.detached {
        setsid().map_err(|error| Error::system("leave the terminal")(error.into()))?;
        crate::logging::set_level(log::LevelFilter::Info);
        voice = Voice::Detached { starter_waits: true };
    }
    let (plan, claim) = match prepare(&path)? {
        Ok(prepared) => prepared,
        Err(running) => {
            voice.say(&running);
            return Ok(ExitCode::SUCCESS);
        }
    };
    if !plan.warnings.is_empty() {
        voice.say(&plan.warnings);
    }
    for why in &plan.left_alone {
        voice.say(&format!("Left alone: {why}"));
    }
    let settings = Settings {
        timeout: up.timeout,
        grace: up.grace,
        restart: restart::Policy {
            delay: up.restart_delay,
            limit: up.restart_limit,
        },
    };
    supervise::supervise(&plan, claim, settings, voice, &hint(&plan))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the supervisor as a process of its own, and waits until the system has been started.
fn detach(up: &Up) -> Result<ExitCode, Error> {
    let path = topology_path(up.topology.clone())?;
    let plan = match prepare(&path)? {
        // The claim is given back: the process that is started makes its own.
        Ok((plan, _)) => plan,
        Err(running) => {
            tell(&running);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let log_path = plan.root.join("logs/torhost.log");
    let (log, log_from) = log_file::append(&log_path).map_err(Error::file("open the log", &log_path))?;
    let time = |time: Duration| format!("{}ms", time.as_millis());
    let mut supervisor = env::current_exe()
        .and_then(|program| {
            Process::new(program)
                .arg("up")
                .arg(&path)
                .arg("--detached")
                .args(["--timeout", &time(up.timeout), "--grace", &time(up.grace)])
                .args(["--restart-delay", &time(up.restart_delay)])
                .args(["--restart-limit", &up.restart_limit.to_string()])
                .current_dir(&plan.root)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(log)
                .spawn()
        })
        .map_err(Error::system("start the supervisor"))?;
    for report in supervisor.stdout.take().into_iter().flat_map(control::reports) {
        match report.map_err(Error::NoAnswer)? {
            Report::Say(text) => tell(&text),
            Report::Status(status) => {
                tell(&format!(
                    "\n{}\nSupervisor: pid {}, log {}\n{}",
                    shown(&status),
                    status.pid,
                    near(&log_path),
                    hint(&plan)
                ));
                return Ok(code(&status));
            }
        }
    }
    // It told why on its way out, or in its log.
    match supervisor
        .wait()
        .map_err(Error::system("wait for the supervisor"))?
    {
        status if status.success() => Ok(ExitCode::SUCCESS),
        _ => Err(Error::EndedEarly {
            tail: log_file::tail(&log_path, log_from),
            log: log_path,
        }),
    }
}

fn ps(topology: Option<PathBuf>, json: bool) -> Result<ExitCode, Error> {
    let status = control::status(&Instance::of(&topology_path(topology)?)?)?;
    if json {
        let text = serde_json::to_string_pretty(&status).map_err(|error| Error::NoAnswer(error.into()))?;
        tell(&text);
    } else {
        tell(shown(&status).trim_end());
    }
    Ok(code(&status))
}

fn down(topology: Option<PathBuf>, grace: Duration) -> Result<ExitCode, Error> {
    let instance = Instance::of(&topology_path(topology)?)?;
    for report in control::reports(control::ask(&instance, Request::Down { grace })?) {
        if let Report::Say(text) = report.map_err(Error::NoAnswer)? {
            tell(&text);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output. Nobody may read it any more (`torhost down | head -1`); what is being done is done all the same.
fn tell(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Becomes the supervisor of a topology, when everything that can be known beforehand is well; or tells who is it already.
fn prepare(path: &Path) -> Result<Result<(Plan, Claim), String>, Error> {
    let claim = match Instance::of(path)?.claim()? {
        Ok(claim) => claim,
        Err(pid) => {
            let pid = pid
                .map(|pid| format!(" (supervisor's pid {pid})"))
                .unwrap_or_default();
            let path = near(path);
            return Ok(Err(format!(
                "The system of {path} is running already{pid}, and nothing is changed. See `torhost ps {path}`, `torhost down {path}`."
            )));
        }
    };
    let plan = Plan::of(path)?;
    plan.check_ports()?;
    let logs = plan.root.join("logs");
    fs::create_dir_all(&logs).map_err(Error::file("make the folder", logs))?;
    Ok(Ok((plan, claim)))
}

/// The canonical path of the topology that is meant.
fn topology_path(given: Option<PathBuf>) -> Result<PathBuf, Error> {
    let path = given
        .or_else(|| env::var_os("TOR_TOPOLOGY").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("config/system.top"));
    path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Topology(format!(
            "there is no topology {}: name one, or set TOR_TOPOLOGY, or run this where config/system.top is",
            path.display()
        )),
        _ => Error::file("find the topology", &path)(error),
    })
}

/// What to do next, once a system is up.
fn hint(plan: &Plan) -> String {
    let mut text = String::new();
    let client = plan.root.join("nodes/client.tor");
    if let Some((address, port)) = plan.entrance.as_ref().filter(|_| client.is_file()) {
        text = format!("Start a client: tclsh {} {address} {port}\n", near(&client));
    }
    // As it was called, so that the line can be copied where torhost is not on the PATH.
    let program = env::args_os().next().unwrap_or_else(|| "torhost".into());
    text + &format!("Stop it all: {} down {}", program.display(), near(&plan.topology))
}

/// The table of a status, with logs named from here.
fn shown(status: &Status) -> String {
    table::table(status, |log| near(Path::new(log)))
}

fn code(status: &Status) -> ExitCode {
    if status.is_well() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A path as seen from the current folder.
fn near(path: &Path) -> String {
    let here = env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}

/// Reads a duration: a number with `ms`, `s` (also without a unit) or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err("expected a time, such as 500ms, 5s or 2m".to_owned()),
    };
    let longest = Duration::from_secs(24 * 60 * 60);
    let number: f64 = digits
        .parse()
        .map_err(|_| "expected a time, such as 500ms, 5s or 2m".to_owned())?;
    match Duration::try_from_secs_f64(number * unit) {
        Ok(time) if time <= longest => Ok(time),
        Ok(_) => Err("expected a time of at most a day".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5s"), duration("5"));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "s", "5 s", "-1s", "5h", "1e30s", "1e15s", "1441m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
