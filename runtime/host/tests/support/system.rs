//! A coordinator and a worker in a folder of their own, and `torhost` run there.
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

const COORDINATOR: &str = "package require tor 1
puts [tor::coordinator serve -port 0 -backoff 0 -attempts 2 {*}{OPTIONS}]
close stdout
vwait forever
";
/// Triples numbers; fails at -13.
const WORKER: &str = "package require tor 1
proc work {data} {
    if {$data == -13} {error \"no thirteen\"}
    return [expr {$data * 3}]
}
tor::worker serve localhost:[lindex $argv 0] -name w1 -slots 4 -handler work
vwait forever
";

pub struct System {
    folder: PathBuf,
    coordinator: Option<Running>,
    worker: Option<Running>,
    port: u16,
}

/// A program that is killed when this is dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What a run of `torhost` has said.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// What it printed, if all was well.
    pub fn ok(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        &self.out
    }

    /// What it said was wrong.
    pub fn fails(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{}", self.err);
        &self.err
    }
}

impl System {
    /// An empty folder.
    pub fn new(name: &str) -> System {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("jobs-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        System {
            folder,
            coordinator: None,
            worker: None,
            port: 0,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The names of all that is in the folder.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Starts a coordinator and a worker.
    pub fn start(&mut self) -> Client {
        let client = self.start_coordinator();
        self.start_worker();
        client
    }

    pub fn start_coordinator(&mut self) -> Client {
        self.start_coordinator_with("")
    }

    /// Starts a coordinator with further options of `tor::coordinator serve`.
    pub fn start_coordinator_with(&mut self, options: &str) -> Client {
        let (coordinator, port) = self.start_number(&COORDINATOR.replace("OPTIONS", options));
        (self.coordinator, self.port) = (Some(coordinator), port);
        self.connect()
    }

    /// Starts a script, and waits until it prints something.
    pub fn start_script(&self, script: &str) -> Running {
        self.start_number(script).0
    }

    /// Starts a script, and waits for the number that it prints.
    fn start_number(&self, script: &str) -> (Running, u16) {
        fs::write(self.path("coordinator.tor"), script).unwrap();
        let mut command = self.command();
        let mut child = command
            .arg("coordinator.tor")
            .stdout(Stdio::piped())
            .stderr(self.log("coordinator"))
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let running = Running(child);
        let log = || fs::read_to_string(self.path("coordinator.log")).unwrap();
        let number = line.trim().parse().unwrap_or_else(|_| panic!("{}", log()));
        (running, number)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn start_worker(&mut self) {
        fs::write(self.path("worker.tor"), WORKER).unwrap();
        let mut command = self.command();
        command.args(["worker.tor", &self.port.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(self.log("worker")).spawn();
        self.worker = Some(Running(child.unwrap()));
    }

    fn log(&self, name: &str) -> fs::File {
        let path = self.path(&format!("{name}.log"));
        fs::File::options().create(true).append(true).open(path).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.coordinator.as_ref().unwrap().0.id()
    }

    /// Kills the coordinator with SIGKILL, and the worker.
    pub fn kill(&mut self) {
        (self.coordinator, self.worker) = (None, None);
    }

    /// Stops the coordinator with SIGTERM, as `torhost down` does, and the worker.
    pub fn stop(&mut self) {
        let pid = self.pid().to_string();
        self.worker = None;
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let status = self.coordinator.as_mut().unwrap().0.wait().unwrap();
        assert!(status.success(), "{status}");
        self.coordinator = None;
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(("localhost", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            writer: stream.try_clone().unwrap(),
            lines: BufReader::new(stream),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_torhost"));
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .env_remove("TOR_TOPOLOGY")
            .env_remove("RUST_LOG");
        command
    }

    /// Starts `torhost` with arguments.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Runs `torhost` with arguments, to its end.
    pub fn run(&self, arguments: &[&str]) -> Run {
        let output = self.spawn(arguments).wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A connection to the coordinator.
pub struct Client {
    writer: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Client {
    pub fn try_say(&mut self, line: &str) -> std::io::Result<()> {
        self.try_bytes(format!("{line}\n").as_bytes())
    }

    pub fn try_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// The next line; none once the coordinator is gone.
    pub fn try_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => Some(line.trim_end_matches('\n').to_owned()),
            _ => None,
        }
    }

    /// Says a line, and returns the answer: the next line that is no result.
    pub fn ask(&mut self, line: &str) -> String {
        self.try_say(line).unwrap();
        loop {
            let answer = self.try_line().unwrap();
            if !answer.starts_with("JOB_RESULT:") {
                return answer;
            }
        }
    }

    pub fn object(&mut self, line: &str) -> Value {
        let answer = self.ask(line);
        let (_, object) = answer.split_once(":{").unwrap_or_else(|| panic!("{answer}"));
        serde_json::from_str(&format!("{{{object}")).unwrap()
    }

    pub fn status(&mut self) -> Value {
        self.object("STATUS")
    }

    /// What the coordinator knows of a job.
    pub fn job(&mut self, job: u64) -> Value {
        self.object(&format!("JOB:JOB-{job}"))
    }

    /// Submits the numbers from 1 on, and waits for their results.
    pub fn complete(&mut self, most: u64) {
        for number in 1..=most {
            self.try_say(&format!("SUBMIT_JOB:{number}")).unwrap();
        }
        let mut results = 0;
        while results < most {
            results += u64::from(self.try_line().unwrap().starts_with("JOB_RESULT:"));
        }
    }
}

/// Waits for a condition.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not so after a minute: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
