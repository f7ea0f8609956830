//! The commands of the package `tor`, in the real program: `tor.test`, which is written with tcltest.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::path::Path;
use std::process::Command;

#[test]
fn tor_test_passes() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_torhost"))
        .arg(host.join("tests/tor.test"))
        .env("TOR_TOPOLOGY", host.join("../../config/system.top"))
        .env("LC_ALL", "C.UTF-8")
        .env_remove("TOR_NODE")
        .env_remove("TOR_SUPERVISOR")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let both = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let summary = said
        .lines()
        .find(|line| line.starts_with("tor.test:"))
        .expect(&both);
    let count = |name: &str| -> u32 {
        let mut words = summary.split_whitespace().skip_while(|&word| word != name);
        words.nth(1).expect(summary).parse().unwrap()
    };
    assert!(output.status.success(), "{both}");
    assert_eq!((count("Failed"), count("Skipped")), (0, 0), "{both}");
    assert!(count("Passed") > 60, "{both}");
}
