//! `torhost up`, `ps` and `down`, seen as their user sees them: the real program, real nodes, real signals.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "support/port.rs"]
mod port;

use port::Port;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A coordinator that knows its workers, and answers `WORKERS`.
const COORDINATOR: &str = include_str!("supervisor/coordinator.tor");
/// A worker that registers, and registers anew when its coordinator comes back.
const WORKER: &str = include_str!("supervisor/worker.tor");

/// A folder with a topology, its scripts, and whatever is started from it; all of it is gone at the end of a test.
struct System {
    folder: PathBuf,
    port: Port,
    supervisors: Cell<Vec<Child>>,
}

impl System {
    /// A coordinator, and the nodes given as name, kind and script.
    fn new(nodes: &[(&str, &str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("torhost-up-{}-{count}", std::process::id()));
        fs::create_dir_all(folder.join("config")).unwrap();
        fs::create_dir(folder.join("run")).unwrap();
        let kept_port = Port::new();
        let port = kept_port.number();
        let mut text = format!(
            "set SYSTEM_NAME \"Trial\"\nnode coordinator {{\n    type master\n    address \"127.0.0.1\"\n    port {port}\n    script \"coordinator.tor\"\n}}\n"
        );
        fs::write(
            folder.join("coordinator.tor"),
            COORDINATOR.replace("PORT", &port.to_string()),
        )
        .unwrap();
        for (name, kind, script) in nodes {
            text += &format!(
                "node {name} {{\n    type {kind}\n    address \"127.0.0.1\"\n    script \"{name}.tor\"\n}}\n"
            );
            text += &format!("connection coordinator -> {name} {{ protocol \"tcp\" }}\n");
            fs::write(
                folder.join(format!("{name}.tor")),
                script.replace("PORT", &port.to_string()),
            )
            .unwrap();
        }
        fs::write(folder.join("config/system.top"), text).unwrap();
        Self {
            folder: folder.canonicalize().unwrap(),
            port: kept_port,
            supervisors: Cell::default(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_torhost"), args)
    }

    fn command_of(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&self.folder)
            .env("XDG_RUNTIME_DIR", self.folder.join("run"))
            .env_remove("TOR_TOPOLOGY")
            .env_remove("TOR_SUPERVISOR")
            .stdin(Stdio::null());
        command
    }

    fn torhost(&self, args: &[&str]) -> Run {
        Run(self.command(args).output().unwrap())
    }

    fn up(&self) -> Run {
        self.torhost(&["up", "--detach", "--restart-delay", "50ms"])
    }

    /// `up` on a terminal's behalf: returns once it says that the system is up.
    fn up_in_foreground(&self) -> Pid {
        self.up_in_foreground_with(&[])
    }

    fn up_in_foreground_with(&self, options: &[&str]) -> Pid {
        let mut command = self.command(&["up"]);
        command.args(options);
        self.see_it_up(command)
    }

    /// Starts what runs `up`, and returns once that says that the system is up.
    fn see_it_up(&self, mut command: Command) -> Pid {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let seen: Vec<String> = lines
            .map(Result::unwrap)
            .take_while(|line| !line.starts_with("Stop it all:"))
            .collect();
        assert!(seen.iter().any(|line| line.contains("Trial is up")), "{seen:#?}");
        let mut supervisors = self.supervisors.take();
        supervisors.push(child);
        self.supervisors.set(supervisors);
        pid
    }

    fn status(&self) -> Value {
        let run = self.torhost(&["ps", "--json"]);
        serde_json::from_str(&run.out()).unwrap_or_else(|_| panic!("{run:?}"))
    }

    fn node(&self, name: &str) -> Value {
        let status = self.status();
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["node"] == name).unwrap().clone()
    }

    fn pid(&self, name: &str) -> Pid {
        pid(&self.node(name)["pid"])
    }

    fn pids(&self) -> Vec<Pid> {
        self.status()["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| pid(&node["pid"]))
            .collect()
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        wait_for(what, || condition(self));
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.torhost(&["down", "--grace", "1s"]);
        for mut supervisor in self.supervisors.take() {
            supervisor.kill().unwrap();
            supervisor.wait().unwrap();
        }
        if !thread::panicking() {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }
}

/// What a run of the program gave.
#[derive(Debug)]
struct Run(Output);

impl Run {
    fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    #[track_caller]
    fn ends(self, code: i32) -> String {
        let both = self.out() + &String::from_utf8_lossy(&self.0.stderr);
        assert_eq!(self.0.status.code(), Some(code), "{both}");
        both
    }
}

fn pid(value: &Value) -> Pid {
    Pid::from_raw(i32::try_from(value.as_i64().unwrap()).unwrap()).unwrap()
}

/// What `/proc/PID/stat` has after the process's name; empty for a process that is not there.
fn state(pid: Pid) -> String {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().to_owned()
}

/// Whether a process runs; one that nobody has reaped does not.
fn runs(pid: Pid) -> bool {
    test_kill_process(pid).is_ok() && !state(pid).starts_with(" Z")
}

#[track_caller]
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn log(system: &System, node: &str) -> String {
    fs::read_to_string(system.folder.join(format!("logs/{node}.log"))).unwrap()
}

#[test]
fn a_system_is_started_shown_and_stopped() {
    let system = System::new(&[("worker1", "worker", WORKER), ("worker2", "worker", WORKER)]);
    let said = system.torhost(&["ps"]).ends(3);
    assert!(
        said.contains("is not running: start it with `torhost up"),
        "{said}"
    );
    system.torhost(&["down"]).ends(3);

    let said = system.up().ends(0);
    assert!(said.contains("Trial is up: 3 of 3 nodes are ready."), "{said}");
    assert!(said.contains("/torhost down config/system.top"), "{said}");
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
    assert!(
        place("coordinator is ready") < place("worker1 is started"),
        "{said}"
    );
    TcpStream::connect(("127.0.0.1", system.port.number())).unwrap();
    for worker in ["worker1", "worker2"] {
        // The coordinator, which says that it is ready, knows before the worker does.
        system.wait_for("the worker tells", |system| {
            log(system, worker).contains("registered")
        });
    }

    let table = system.torhost(&["ps"]).ends(0);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        table.contains("logs/worker1.log") && !table.contains("/logs/worker1.log"),
        "{table}"
    );
    let pids = system.pids();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|&pid| runs(pid)));

    let said = system.torhost(&["down"]).ends(0);
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
    assert!(
        place("worker2 is stopped") < place("coordinator is stopped"),
        "{said}"
    );
    assert!(!pids.iter().any(|&pid| runs(pid)));
    system.torhost(&["ps"]).ends(3);
    // And it can be had again at once.
    system.up().ends(0);
}

#[test]
fn nodes_know_their_topology_their_name_and_their_folder() {
    let tell = "puts [list $env(TOR_NODE) $env(TOR_TOPOLOGY) [pwd]]; flush stdout; vwait forever";
    let system = System::new(&[("teller", "client", tell)]);
    system.up().ends(0);
    let folder = system.folder.display();
    system.wait_for("the node tells", |system| log(system, "teller").ends_with('\n'));
    assert_eq!(
        log(&system, "teller"),
        format!("teller {folder}/config/system.top {folder}\n")
    );
}

#[test]
fn a_second_up_changes_nothing() {
    let system = System::new(&[]);
    system.up().ends(0);
    let before = system.pids();
    for args in [&["up"][..], &["up", "--detach"]] {
        let said = system.torhost(args).ends(0);
        let pid = system.status()["pid"].to_string();
        assert!(
            said.contains("is running already") && said.contains(&pid),
            "{said}"
        );
    }
    assert_eq!(system.pids(), before);
}

#[test]
fn of_many_that_start_it_together_one_wins() {
    let system = System::new(&[]);
    let start = |_| {
        system
            .command(&["up", "--detach"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let runs: Vec<Child> = (0..6).map(start).collect();
    let said: Vec<String> = runs
        .into_iter()
        .map(|run| Run(run.wait_with_output().unwrap()).ends(0))
        .collect();
    let won = said
        .iter()
        .filter(|said| said.contains("coordinator is started"))
        .count();
    assert_eq!(won, 1, "{said:#?}");
    assert_eq!(
        said.iter()
            .filter(|said| said.contains("is running already"))
            .count(),
        5,
        "{said:#?}"
    );
}

#[test]
fn a_node_that_dies_is_started_again() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    system.up().ends(0);
    for (node, restarts) in [("worker1", 1), ("coordinator", 1), ("worker1", 2)] {
        let before = system.pid(node);
        kill_process(before, Signal::KILL).unwrap();
        system.wait_for("the node is ready again", |system| {
            let now = system.node(node);
            now["restarts"] == restarts && now["state"] == "ready" && pid(&now["pid"]) != before
        });
    }
    system.torhost(&["ps"]).ends(0);
}

#[test]
fn a_node_that_cannot_run_is_told_with_the_end_of_its_log() {
    let system = System::new(&[(
        "broken",
        "worker",
        "puts stderr {no such luck}; error {the disk is on fire}",
    )]);
    let said = system.up().ends(1);
    assert!(
        said.contains("broken exited with code 1; it is started again in 50ms"),
        "{said}"
    );
    assert!(
        said.contains("    no such luck\n    the disk is on fire"),
        "{said}"
    );
    assert!(said.contains("1 of 2 nodes are ready"), "{said}");
    system.torhost(&["ps"]).ends(1);
    assert_eq!(system.node("coordinator")["state"], "ready");
}

#[test]
fn a_node_that_dies_too_often_is_left_alone() {
    let system = System::new(&[("broken", "worker", "exit 0")]);
    system
        .torhost(&[
            "up",
            "--detach",
            "--restart-delay",
            "10ms",
            "--restart-limit",
            "3",
        ])
        .ends(1);
    system.wait_for("the limit is reached", |system| {
        system.node("broken")["state"] == "failed"
    });
    let broken = system.node("broken");
    assert_eq!((&broken["restarts"], &broken["pid"]), (&3.into(), &Value::Null));
    assert_eq!(system.node("coordinator")["state"], "ready");
    assert!(system.torhost(&["ps"]).ends(1).contains("failed"));
}

#[test]
fn a_client_that_has_finished_stays_so() {
    let system = System::new(&[("once", "client", "puts done")]);
    system.up().ends(0);
    system.wait_for("the client has finished", |system| {
        system.node("once")["state"] == "finished"
    });
    assert_eq!(system.node("once")["restarts"], 0);
    system.torhost(&["ps"]).ends(0);
}

#[test]
fn a_node_that_is_late_is_told() {
    // It lives, and never registers.
    let system = System::new(&[("worker1", "worker", "puts thinking; flush stdout; vwait forever")]);
    let said = system.torhost(&["up", "--detach", "--timeout", "1s"]).ends(1);
    assert!(said.contains("does not list it as ready after 1s"), "{said}");
    assert!(said.contains("    thinking"), "{said}");
    assert_eq!(system.node("worker1")["state"], "starting");
}

#[test]
fn a_coordinator_that_does_not_list_workers_is_not_waited_for() {
    let system = System::new(&[("worker1", "worker", "vwait forever")]);
    let plain = format!(
        "socket -server {{apply {{{{s args}} {{puts $s ERROR:unknown-verb:WORKERS; flush $s}}}}}} {}; vwait forever",
        system.port.number()
    );
    fs::write(system.folder.join("coordinator.tor"), plain).unwrap();
    let said = system.up().ends(0);
    assert!(
        said.contains("worker1 is alive, and is taken to be ready: its coordinator does not answer WORKERS"),
        "{said}"
    );
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_is_started() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    let _taken = TcpListener::bind(("127.0.0.1", system.port.number())).unwrap();
    let said = system.up().ends(1);
    assert!(
        said.contains(&format!(
            "node coordinator wants 127.0.0.1:{}, and something else listens there",
            system.port.number()
        )),
        "{said}"
    );
    assert!(!system.folder.join("logs/worker1.log").exists());
    system.torhost(&["ps"]).ends(3);
}

#[test]
fn a_script_that_is_not_there_is_told_before_anything_is_started() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    fs::remove_file(system.folder.join("worker1.tor")).unwrap();
    let said = system.up().ends(1);
    assert!(
        said.contains("node worker1 has the script") && said.contains("there is no such file"),
        "{said}"
    );
    assert!(!system.folder.join("logs/coordinator.log").exists());
    let said = system.torhost(&["check", "config/system.top"]).ends(0);
    assert!(
        said.contains("warning[no-script]: the script of `worker1` is not there"),
        "{said}"
    );
}

#[test]
fn a_node_of_another_machine_is_left_alone() {
    let system = System::new(&[("worker1", "worker", WORKER), ("far", "worker", WORKER)]);
    let top = system.folder.join("config/system.top");
    let text = fs::read_to_string(&top).unwrap();
    // Set aside for documentation, RFC 5737.
    let (before, far) = text.split_once("node far").unwrap();
    fs::write(
        &top,
        format!("{before}node far{}", far.replace("127.0.0.1", "192.0.2.1")),
    )
    .unwrap();
    let said = system.up().ends(0);
    assert!(said.contains("Left alone: far belongs on 192.0.2.1"), "{said}");
    assert!(!system.folder.join("logs/far.log").exists());
    assert_eq!(system.pids().len(), 2);
}

#[test]
fn interrupting_a_foreground_up_stops_everything() {
    for signal in [Signal::INT, Signal::TERM] {
        let system = System::new(&[("worker1", "worker", WORKER)]);
        let supervisor = system.up_in_foreground();
        let nodes = system.pids();
        assert!(nodes.iter().all(|&node| runs(node)));
        kill_process(supervisor, signal).unwrap();
        let mut child = system.supervisors.take().remove(0);
        assert!(child.wait().unwrap().success());
        assert!(!nodes.iter().any(|&node| runs(node)));
        system.torhost(&["ps"]).ends(3);
    }
}

#[test]
fn nodes_do_not_outlive_a_killed_supervisor_and_its_socket_misleads_nobody() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    system.up().ends(0);
    let nodes = system.pids();
    assert!(nodes.iter().all(|&node| runs(node)));
    let supervisor = pid(&system.status()["pid"]);
    kill_process(supervisor, Signal::KILL).unwrap();
    wait_for("the supervisor is gone", || !runs(supervisor));
    wait_for("its nodes are gone", || !nodes.iter().any(|&node| runs(node)));
    assert!(
        left_socket(&system.folder.join("run/torhost")),
        "no socket was left, and so nothing is shown"
    );
    system.torhost(&["ps"]).ends(3);
    system.torhost(&["down"]).ends(3);
    system.up().ends(0);
}

fn left_socket(folder: &Path) -> bool {
    fs::read_dir(folder)
        .unwrap()
        .any(|instance| instance.unwrap().path().join("control").exists())
}

#[test]
fn a_node_that_ignores_sigterm_is_killed_with_all_that_it_started() {
    // A shell that ignores SIGTERM, and so does what it starts. It replaces no process: the node waits for it.
    let stubborn = "set child [open {|sh -c {trap {} TERM; echo $$; while :; do sleep 1; done}}]\n\
                    puts [gets $child]; flush stdout; read $child";
    let system = System::new(&[("stubborn", "client", stubborn)]);
    system.up().ends(0);
    system.wait_for("the node's child runs", |system| {
        log(system, "stubborn").ends_with('\n')
    });
    let child = Pid::from_raw(log(&system, "stubborn").trim().parse().unwrap()).unwrap();
    assert!(runs(child));
    let said = system.torhost(&["down", "--grace", "300ms"]).ends(0);
    assert!(said.contains("stubborn is stopped"), "{said}");
    wait_for("its child is gone", || !runs(child));
}

#[test]
fn a_stopped_node_is_killed_after_the_grace() {
    // A stopped process does not act on SIGTERM, as one that ignores it does not.
    let system = System::new(&[("asleep", "client", "vwait forever")]);
    system.up().ends(0);
    let node = system.pid("asleep");
    kill_process(node, Signal::STOP).unwrap();
    wait_for("the node is stopped", || state(node).starts_with(" T"));
    let said = system.torhost(&["down", "--grace", "200ms"]).ends(0);
    assert!(
        said.contains("asleep did not stop when asked, and is killed"),
        "{said}"
    );
    assert!(said.contains("was ended by SIGKILL"), "{said}");
    assert!(!runs(node));
}

#[test]
fn a_topology_that_is_not_there_is_told() {
    let system = System::new(&[]);
    let said = system.torhost(&["up", "other.top"]).ends(1);
    assert!(
        said.contains("there is no topology other.top: name one"),
        "{said}"
    );
}

#[test]
fn warnings_of_the_topology_are_shown() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    let top = system.folder.join("config/system.top");
    let text = fs::read_to_string(&top).unwrap();
    fs::write(
        &top,
        text.replace("connection coordinator -> worker1 { protocol \"tcp\" }", ""),
    )
    .unwrap();
    let said = system.up().ends(0);
    assert!(
        said.contains("no connection reaches the worker `worker1`"),
        "{said}"
    );
    assert!(said.contains("2 of 2 nodes are ready"), "{said}");
}

#[test]
fn interrupting_twice_kills_the_nodes_of_every_kind_at_once() {
    let system = System::new(&[
        ("asleep", "client", "vwait forever"),
        ("worker1", "worker", WORKER),
    ]);
    let supervisor = system.up_in_foreground_with(&["--grace", "60m"]);
    let nodes = system.pids();
    for &node in &nodes {
        kill_process(node, Signal::STOP).unwrap();
        wait_for("the node is stopped", || state(node).starts_with(" T"));
    }
    let mut child = system.supervisors.take().remove(0);
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    kill_process(supervisor, Signal::INT).unwrap();
    assert!(lines.any(|line| line.contains("SIGINT received: stopping")));
    kill_process(supervisor, Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(
        rest.iter().filter(|line| line.contains("and is killed")).count(),
        3,
        "{rest:#?}"
    );
    assert!(child.wait().unwrap().success());
    assert!(!nodes.iter().any(|&node| runs(node)));
}

#[test]
fn a_second_down_may_shorten_the_grace_of_the_first() {
    let system = System::new(&[("asleep", "client", "vwait forever")]);
    system.up().ends(0);
    let node = system.pid("asleep");
    kill_process(node, Signal::STOP).unwrap();
    wait_for("the node is stopped", || state(node).starts_with(" T"));
    let patient = system
        .command(&["down", "--grace", "60m"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // SIGTERM waits for the process to go on: SigPnd has the bit of signal 15.
    wait_for("the first has asked the node to end", || {
        let status = fs::read_to_string(format!("/proc/{}/status", node.as_raw_pid())).unwrap();
        let pending = status
            .lines()
            .find_map(|line| line.strip_prefix("ShdPnd:"))
            .unwrap();
        u64::from_str_radix(pending.trim(), 16).unwrap() & (1 << 14) != 0
    });
    let said = system.torhost(&["down", "--grace", "100ms"]).ends(0);
    assert!(
        said.contains("asleep did not stop when asked, and is killed"),
        "{said}"
    );
    assert!(
        Run(patient.wait_with_output().unwrap())
            .ends(0)
            .contains("Trial is stopped.")
    );
}

#[test]
fn down_may_come_while_the_system_is_being_started() {
    let system = System::new(&[("worker1", "worker", "vwait forever")]);
    let up = system.command(&["up"]).stdout(Stdio::piped()).spawn().unwrap();
    system.wait_for("the worker is started", |system| {
        let run = system.torhost(&["ps", "--json"]);
        run.out().contains("worker1") && system.node("worker1")["pid"].is_i64()
    });
    system.torhost(&["down"]).ends(0);
    let said = Run(up.wait_with_output().unwrap()).ends(0);
    assert!(
        said.contains("worker1 is stopped") && said.contains("Trial is stopped."),
        "{said}"
    );
}

#[test]
fn a_reader_that_leaves_early_disturbs_nothing() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    system.up().ends(0);
    for (args, code) in [(&["ps"][..], 0), (&["ps", "--json"], 0), (&["down"], 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = system
            .command(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
    system.torhost(&["ps"]).ends(3);
}

#[test]
fn a_stopped_supervisor_is_told() {
    let system = System::new(&[]);
    system.up().ends(0);
    let supervisor = pid(&system.status()["pid"]);
    kill_process(supervisor, Signal::STOP).unwrap();
    wait_for("the supervisor is stopped", || {
        state(supervisor).starts_with(" T")
    });
    let said = system.torhost(&["ps"]).ends(1);
    kill_process(supervisor, Signal::CONT).unwrap();
    assert!(
        said.contains("it is silent") && said.contains("kill -CONT"),
        "{said}"
    );
    system.torhost(&["ps"]).ends(0);
}

#[test]
fn a_closed_terminal_stops_a_foreground_up() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    let supervisor = system.up_in_foreground();
    let nodes = system.pids();
    let mut child = system.supervisors.take().remove(0);
    drop(child.stdout.take());
    kill_process(supervisor, Signal::HUP).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!nodes.iter().any(|&node| runs(node)));
}

#[test]
fn a_closed_terminal_does_not_stop_what_nohup_has_started() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    let mut command = system.command_of("nohup", &[env!("CARGO_BIN_EXE_torhost"), "up"]);
    command.stderr(Stdio::null());
    let supervisor = system.see_it_up(command);
    kill_process(supervisor, Signal::HUP).unwrap();
    system.torhost(&["ps"]).ends(0);
    kill_process(supervisor, Signal::TERM).unwrap();
    let child = system.supervisors.take().remove(0);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("SIGTERM received: stopping"), "{said}");
    assert!(!said.contains("SIGHUP received"), "{said}");
}

#[test]
fn a_topology_that_is_edited_meanwhile_is_that_of_the_next_up() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    system.up().ends(0);
    fs::write(system.folder.join("config/system.top"), "node {").unwrap();
    system.torhost(&["ps"]).ends(0);
    assert!(system.torhost(&["up"]).ends(0).contains("is running already"));
    system.torhost(&["down"]).ends(0);
    assert!(system.torhost(&["up"]).ends(1).contains("system.top:1"));
}

#[test]
fn a_log_that_cannot_be_opened_is_told_by_name() {
    let system = System::new(&[("worker1", "worker", WORKER)]);
    fs::create_dir_all(system.folder.join("logs/worker1.log")).unwrap();
    let said = system.up().ends(1);
    assert!(
        said.contains("worker1 cannot be started: its log")
            && said.contains("logs/worker1.log cannot be opened"),
        "{said}"
    );
}

#[test]
fn two_systems_run_side_by_side() {
    let systems = [
        System::new(&[("worker1", "worker", WORKER)]),
        System::new(&[("worker1", "worker", WORKER)]),
    ];
    for system in &systems {
        system.up().ends(0);
    }
    systems[0].torhost(&["down"]).ends(0);
    systems[1].torhost(&["ps"]).ends(0);
}

#[test]
fn fifty_nodes_are_started_and_stopped() {
    let names: Vec<String> = (0..50).map(|number| format!("client{number}")).collect();
    let nodes: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), "client", "vwait forever"))
        .collect();
    let system = System::new(&nodes);
    assert!(system.up().ends(0).contains("51 of 51 nodes are ready"));
    let pids = system.pids();
    system.torhost(&["down"]).ends(0);
    assert!(!pids.iter().any(|&pid| runs(pid)));
}
