//! The systems that are measured: how their programs are started, and what load they get.

use serde::Deserialize;
use shared::{
    Result,
    limits::processor_time,
    process::{Process, free_address},
};
use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    awake::Awake,
    beanstalkd::Beanstalkd,
    gearmand::Gearmand,
    load::{Interrupt, Load, Protocol, Sample},
    throughput::Plan,
    torhost::Torhost,
};

/// How long each load runs unmeasured first.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a coordinator may take to answer `STATUS`.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// What the workers of the classic system put in front of a job's data.
const CLASSIC_PREFIX: &[u8] = b"Processado_";

/// One way to run one system.
pub struct System {
    /// What it is called.
    pub name: &'static str,
    /// How it is run, if it is measured in several ways; the best is reported.
    pub variant: String,
    /// What it is.
    pub kind: Kind,
}

/// What a system is, with its programs.
pub enum Kind {
    /// A coordinator under torhost, in memory or with a database; the load is its workers.
    Torhost {
        /// The shell.
        program: PathBuf,
        /// Gets the port, and the database if there is one.
        script: PathBuf,
        /// Where a folder for its database is made, if it is to have one.
        folder: Option<PathBuf>,
        /// Jobs that a worker takes beforehand.
        prefetch: usize,
    },
    /// beanstalkd, in memory or with a log.
    Beanstalkd {
        /// The server.
        program: PathBuf,
        /// Where a folder for its log is made, if it is to have one.
        folder: Option<PathBuf>,
        /// Connections that submit.
        submitters: usize,
        /// Jobs that a worker reserves at once.
        reserves: usize,
    },
    /// gearmand, in memory.
    Gearmand {
        /// The server.
        program: PathBuf,
        /// Its I/O threads.
        threads: u32,
        /// Worker connections for each worker of the plan.
        connections: usize,
        /// Jobs that each asks for at once.
        grabs: usize,
    },
    /// A coordinator under torhost, and workers with Tcl handlers.
    TorhostHandlers {
        /// The shell.
        program: PathBuf,
        /// Gets the port.
        script: PathBuf,
        /// Gets host, port, name and slots.
        worker_script: PathBuf,
    },
    /// The classic coordinator and its two workers, all under tclsh.
    ClassicHandlers {
        /// The shell.
        program: PathBuf,
        /// Where the scripts are.
        folder: PathBuf,
    },
}

/// What one run of one system measured.
pub struct Run {
    /// What its load saw.
    pub sample: Sample,
    /// Cores that the load kept busy, 1 being all that it can have.
    pub load_cores: f64,
    /// Cores that the system's processes kept busy.
    pub system_cores: f64,
}

impl System {
    /// The name, and the variant if there are several.
    pub fn title(&self) -> String {
        format!("{} {}", self.name, self.variant).trim_end().to_owned()
    }

    /// Starts the system, puts it under load, and stops it.
    pub fn measure(
        &self,
        plan: &Plan,
        span: Duration,
        awake: Option<&Awake>,
        interrupt: &Interrupt,
    ) -> Result<Run> {
        interrupt.check()?;
        let mut running = match awake {
            Some(awake) => awake.start_server(|| self.start(plan))?,
            None => self.start(plan)?,
        };
        let run = self.load(&running, plan, span, interrupt);
        run.map_err(|error| format!("{}: {error}{}", self.title(), running.endings()))
    }

    /// Starts the programs and waits until they can be used.
    pub fn start(&self, plan: &Plan) -> Result<Running> {
        let address = free_address()?;
        let port = address.port().to_string();
        let mut running = Running {
            processes: Vec::new(),
            address,
            log_folder: None,
        };
        match &self.kind {
            Kind::Torhost {
                program,
                script,
                folder,
                ..
            } => {
                let mut database = String::new();
                if let Some(folder) = folder {
                    let folder = Folder::create(folder)?;
                    database = folder.0.join("jobs.db").display().to_string();
                    running.log_folder = Some(folder);
                }
                running.start_shell(program, "--torhost", script, [&port, &database])?;
            }
            Kind::Beanstalkd { program, folder, .. } => {
                let mut command = Command::new(program);
                command.args(["-l", "127.0.0.1", "-p", &port]);
                if let Some(folder) = folder {
                    let folder = Folder::create(folder)?;
                    command.arg("-b").arg(&folder.0).args(["-f", "0"]);
                    running.log_folder = Some(folder);
                }
                running.start_server(command, "--beanstalkd")?;
            }
            Kind::Gearmand { program, threads, .. } => {
                let mut command = Command::new(program);
                command.args(["-l", "stderr", "--listen", "127.0.0.1", "-p", &port]);
                command.args(["-t", &threads.to_string()]);
                running.start_server(command, "--gearmand")?;
            }
            Kind::TorhostHandlers {
                program,
                script,
                worker_script,
            } => {
                running.start_shell(program, "--torhost", script, [&port])?;
                for worker in 1..=plan.workers {
                    let (name, slots) = (format!("worker{worker}"), plan.slots.to_string());
                    running.start_worker(
                        program,
                        "--torhost",
                        worker_script,
                        ["127.0.0.1", &port, &name, &slots],
                    )?;
                }
                running.wait_for_workers(plan.workers)?;
            }
            Kind::ClassicHandlers { program, folder } => {
                running.start_shell(program, "--tclsh", &folder.join("coordinator.tor"), [&port])?;
                for worker in 1..=plan.workers {
                    let script = folder.join(format!("worker{worker}.tor"));
                    let slots = plan.slots.to_string();
                    let arguments = ["127.0.0.1", &port, "--slots", &slots];
                    running.start_worker(program, "--tclsh", &script, arguments)?;
                }
                running.wait_for_workers(plan.workers)?;
            }
        }
        Ok(running)
    }

    fn load(&self, running: &Running, plan: &Plan, span: Duration, interrupt: &Interrupt) -> Result<Run> {
        match &self.kind {
            Kind::Torhost { prefetch, .. } => {
                let protocol = Torhost::new(plan.slots, *prefetch);
                run(running, protocol, 1 + plan.workers, plan, span, interrupt)
            }
            Kind::Beanstalkd {
                submitters, reserves, ..
            } => {
                let submitters = (*submitters).min(plan.in_flight);
                let protocol = Beanstalkd::new(submitters, *reserves);
                run(
                    running,
                    protocol,
                    submitters + plan.workers,
                    plan,
                    span,
                    interrupt,
                )
            }
            Kind::Gearmand {
                connections, grabs, ..
            } => {
                let protocol = Gearmand::new(*grabs);
                let connections = 1 + plan.workers * connections;
                run(running, protocol, connections, plan, span, interrupt)
            }
            Kind::TorhostHandlers { .. } => {
                let protocol = Torhost::with_other_workers(b"");
                run(running, protocol, 1, plan, span, interrupt)
            }
            Kind::ClassicHandlers { .. } => {
                let protocol = Torhost::with_other_workers(CLASSIC_PREFIX);
                run(running, protocol, 1, plan, span, interrupt)
            }
        }
    }
}

fn run(
    running: &Running,
    protocol: impl Protocol,
    connections: usize,
    plan: &Plan,
    span: Duration,
    interrupt: &Interrupt,
) -> Result<Run> {
    let mut load = Load::new(protocol, interrupt)?;
    load.connect(running.address, connections)?;
    load.run(plan.in_flight, WARM_UP)?;
    let load_before = processor_time(std::process::id())?;
    let system_before = running.processor_time()?;
    let sample = load.run(plan.in_flight, span)?;
    let load_used = processor_time(std::process::id())? - load_before;
    let system_used = running.processor_time()? - system_before;
    Ok(Run {
        load_cores: load_used.as_secs_f64() / sample.span.as_secs_f64(),
        system_cores: system_used.as_secs_f64() / sample.span.as_secs_f64(),
        sample,
    })
}

/// A system's programs, stopped when dropped.
pub struct Running {
    /// The server, then its workers.
    processes: Vec<Process>,
    /// Where the server listens.
    pub address: SocketAddr,
    /// After the processes, so that it is removed when they have gone.
    log_folder: Option<Folder>,
}

impl Running {
    /// The server's process id.
    pub fn server(&self) -> Option<u32> {
        self.processes.first().map(Process::id)
    }

    /// What is known of programs that have ended by themselves.
    pub fn endings(&mut self) -> String {
        self.processes
            .iter_mut()
            .filter_map(|process| {
                let ending = process.ending()?;
                Some(format!("; {} {ending}", process.name()))
            })
            .collect()
    }

    fn processor_time(&self) -> Result<Duration> {
        self.processes
            .iter()
            .map(|process| processor_time(process.id()))
            .sum()
    }

    fn start_shell<const N: usize>(
        &mut self,
        program: &Path,
        option: &str,
        script: &Path,
        arguments: [&str; N],
    ) -> Result<()> {
        let mut command = Command::new(program);
        command.arg(script).args(arguments);
        self.start_server(command, option)
    }

    fn start_server(&mut self, command: Command, option: &str) -> Result<()> {
        let mut process = start(command, option)?;
        process.wait_until_listening(self.address)?;
        self.processes.push(process);
        Ok(())
    }

    fn start_worker<const N: usize>(
        &mut self,
        program: &Path,
        option: &str,
        script: &Path,
        arguments: [&str; N],
    ) -> Result<()> {
        let mut command = Command::new(program);
        command.arg(script).args(arguments);
        self.processes.push(start(command, option)?);
        Ok(())
    }

    /// Waits until so many workers have registered.
    fn wait_for_workers(&mut self, workers: usize) -> Result<()> {
        let mut status = Status::connect(self.address)?;
        // The one started last registers last, as a rule; if another one has ended, the limit of time tells.
        let Some(last) = self.processes.last_mut() else {
            return Ok(());
        };
        let what = format!("register, or another of {workers} workers does not,");
        last.wait_until(&what, || Ok(status.workers()? == workers))
    }
}

/// The field of `STATUS` that is of interest.
#[derive(Deserialize)]
struct Answer {
    workers: Workers,
}

#[derive(Deserialize)]
struct Workers {
    connected: usize,
}

/// A connection that asks a coordinator for its status.
struct Status(BufReader<TcpStream>);

impl Status {
    fn connect(address: SocketAddr) -> Result<Self> {
        let connect = || {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            Ok(Self(BufReader::new(stream)))
        };
        connect().map_err(|error: std::io::Error| format!("cannot connect to {address}: {error}"))
    }

    /// The number of connected workers.
    fn workers(&mut self) -> Result<usize> {
        let mut line = String::new();
        self.0
            .get_mut()
            .write_all(b"STATUS\n")
            .and_then(|()| self.0.read_line(&mut line))
            .map_err(|error| format!("the coordinator does not answer STATUS: {error}"))?;
        line.strip_prefix("STATUS:")
            .and_then(|json| serde_json::from_str::<Answer>(json).ok())
            .map(|answer| answer.workers.connected)
            .ok_or_else(|| format!("the coordinator's STATUS does not tell of workers: {line}"))
    }
}

/// Starts a program, which `option` names.
fn start(command: Command, option: &str) -> Result<Process> {
    let program = command.get_program().to_string_lossy().into_owned();
    let arguments = command
        .get_args()
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    Process::start(format!("{program} {arguments}"), command, |error| {
        format!("cannot start {program}: {error}; name it with {option}")
    })
}

/// A folder of our own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn create(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("peers-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| {
            format!(
                "cannot make the folder {}: {error}; name another place with --with-fsync=FOLDER",
                path.display()
            )
        })?;
        Ok(Self(path))
    }
}

/// How long it takes to append 4 KiB to a file in a folder and to sync it: the median of some hundred times, in µs.
pub fn sync_time(folder: &Path) -> Result<f64> {
    let folder = Folder::create(folder)?;
    let path = folder.0.join("sync");
    let measure = || {
        let mut file = File::create(&path)?;
        let mut times = Vec::new();
        for _ in 0..300 {
            file.write_all(&[0; 4096])?;
            let began = Instant::now();
            file.sync_all()?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
        times.sort_unstable_by(f64::total_cmp);
        Ok::<_, std::io::Error>(times[times.len() / 2])
    };
    measure().map_err(|error| format!("cannot sync {}: {error}", path.display()))
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind, it harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
