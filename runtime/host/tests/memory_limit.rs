//! A node that `torhost up` started gets no more memory than its topology gives it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::process::{Command, Output};
use std::{env, fs, process};

fn run(supervised: bool) -> Output {
    let folder = env::temp_dir().join(format!("torhost-memory-{}-{supervised}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (topology, script) = (folder.join("hog.top"), folder.join("hog.tor"));
    fs::write(
        &topology,
        "node hog { type master; port 9; resources { memory \"64MB\" } }",
    )
    .unwrap();
    fs::write(
        &script,
        "puts [catch {string length [string repeat x 200000000]} said],$said",
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_torhost"));
    command
        .arg(&script)
        .env("TOR_TOPOLOGY", &topology)
        .env("TOR_NODE", "hog")
        .env_remove("TOR_SUPERVISOR");
    if supervised {
        command.env("TOR_SUPERVISOR", process::id().to_string());
    }
    let output = command.output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    output
}

#[test]
fn a_node_of_torhost_up_is_held_to_its_memory() {
    let said = String::from_utf8(run(true).stdout).unwrap();
    assert!(said.starts_with("1,") && said.contains("out of memory"), "{said}");
}

#[test]
fn a_script_that_a_user_runs_is_not() {
    assert_eq!(String::from_utf8(run(false).stdout).unwrap(), "0,200000000\n");
}
