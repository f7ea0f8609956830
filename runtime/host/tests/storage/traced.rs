//! A coordinator whose system calls are seen, and may be made to fail, by strace.

use crate::support::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// It serves until it is told to stop, and then ends its engine and waits until the journal is free.
const COORDINATOR: &str = "package require tor 1
set engine [tor::dispatch create -durability [lindex $argv 0] -backoff 0]
puts [tor::coordinator serve -port 0 -dispatch $engine]
flush stdout
gets stdin
$engine destroy
while {[catch {tor::dispatch create -durability [lindex $argv 0]} message] && [string match {*is in use*} $message]} {
    after 1
}
exit
";

/// What is traced: a call of which nothing is said is not known to the tests.
const CALLS: &str =
    "openat,mkdir,pwrite64,pwritev,write,fdatasync,fsync,ftruncate,fallocate,unlink,rename,sendto";

/// The files that a journal is made of.
pub fn files(folder: &Path) -> [PathBuf; 5] {
    let data = folder.join("data");
    [
        "jobs.db",
        "jobs.db-wal",
        "jobs.db-journal",
        "jobs.db-shm",
        "jobs.db.lock",
    ]
    .map(|name| data.join(name))
}

/// A system call that fails: `pwrite64:error=EIO:when=3`, as strace has it. It counts the calls of each thread by themselves.
pub type Fault = String;

/// How a coordinator is started.
pub enum Trace<'a> {
    None,
    /// With calls on the journal's files that fail, and a record of the calls of that kind.
    Fault(&'a Fault),
    /// With a record of all that is written anywhere, and perhaps a fault.
    Record(Option<&'a Fault>),
}

pub struct Coordinator {
    /// The coordinator, or strace.
    child: Child,
    is_traced: bool,
    folder: PathBuf,
}

impl Coordinator {
    /// Starts one. What it says goes to `errors`, what strace has seen to `record` in the folder.
    pub fn start(folder: &Path, durability: &str, trace: &Trace<'_>) -> Coordinator {
        fs::write(folder.join("coordinator.tor"), COORDINATOR).unwrap();
        let program = env!("CARGO_BIN_EXE_torhost");
        let mut command = match trace {
            Trace::None => Command::new(program),
            Trace::Fault(fault) => {
                let mut strace = strace(folder);
                let (call, _) = fault.split_once(':').unwrap();
                strace
                    .arg(format!("--trace={call}"))
                    .arg(format!("--inject={fault}"));
                for file in files(folder) {
                    strace.arg("--trace-path").arg(file);
                }
                strace.arg(program);
                strace
            }
            Trace::Record(fault) => {
                let mut strace = strace(folder);
                strace.args(["-xx", "-ttt", "--string-limit=2000000"]);
                strace.arg(format!("--trace={CALLS}"));
                if let Some(fault) = fault {
                    strace.arg(format!("--inject={fault}"));
                }
                strace.arg(program);
                strace
            }
        };
        let errors = File::create(folder.join("errors")).unwrap();
        let child = command
            .args(["coordinator.tor", durability])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", command.get_program().display()));
        Coordinator {
            child,
            is_traced: !matches!(trace, Trace::None),
            folder: folder.into(),
        }
    }

    /// Its port, once it serves.
    ///
    /// # Errors
    /// How it ended instead, and what it said.
    pub fn port(&mut self) -> Result<u16, (ExitStatus, String)> {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        line.trim().parse().map_err(|_| (self.ended(), self.said()))
    }

    /// What it has said on standard error.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.join("errors")).unwrap()
    }

    fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.said());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Has it stop as it should.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            return;
        }
        if !self.is_traced {
            self.child.kill().unwrap();
        } else if let Some(program) = self.traced() {
            // Strace ends with it, once all is in the record.
            let _ = kill_process(program, Signal::KILL);
        }
        self.child.wait().unwrap();
    }

    /// The process that strace has started.
    fn traced(&self) -> Option<Pid> {
        let strace = self.child.id();
        let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).unwrap();
        Pid::from_raw(children.split_whitespace().next()?.parse().unwrap())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.end();
    }
}

fn strace(folder: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args([
        "--follow-forks",
        "--seccomp-bpf",
        "--decode-fds=path",
        "--quiet=attach,exit",
    ]);
    strace.arg("--output").arg(folder.join("record"));
    strace
}

/// What strace has recorded.
pub fn record(folder: &Path) -> String {
    fs::read_to_string(folder.join("record")).unwrap()
}

/// Sees that strace can do what the tests need.
pub fn require_strace() {
    let tried = Command::new("strace")
        .args(["--follow-forks", "--seccomp-bpf", "--output=/dev/null", "true"])
        .output();
    let why = match tried {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    panic!(
        "these tests need strace, and it does not work here: {why}\n\
         Install it (scripts/install-deps.sh strace), and let processes be traced: a container needs the capability SYS_PTRACE, and \
         /proc/sys/kernel/yama/ptrace_scope must be below 3."
    );
}
