//! How long a one-line script takes from start to end, the two shells taking turns.

use serde::Serialize;
use shared::{Result, statistics::median};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use crate::coordinator::Shell;

/// Milliseconds that a script of one line takes.
#[derive(Serialize)]
pub struct Comparison {
    pub tclsh_ms: f64,
    pub torhost_ms: f64,
    /// torhost's time divided by tclsh's.
    pub ratio: f64,
}

/// Runs the script `runs` times under each shell.
pub fn compare(shells: &[Shell; 2], runs: usize) -> Result<Comparison> {
    let script = std::env::temp_dir().join(format!("torhost-bench-{}.tcl", std::process::id()));
    std::fs::write(&script, "puts hello\n")
        .map_err(|error| format!("cannot write {}: {error}", script.display()))?;
    let times = alternate(shells, &script, runs);
    // Left behind, it harms nobody.
    let _ = std::fs::remove_file(&script);
    let [tclsh_ms, torhost_ms] = times?.map(|times| median(&times).unwrap_or(f64::NAN));
    Ok(Comparison {
        tclsh_ms,
        torhost_ms,
        ratio: torhost_ms / tclsh_ms,
    })
}

fn alternate(shells: &[Shell; 2], script: &Path, runs: usize) -> Result<[Vec<f64>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (shell, times) in shells.iter().zip(&mut times) {
            times.push(time(shell, script)?);
        }
    }
    Ok(times)
}

fn time(shell: &Shell, script: &Path) -> Result<f64> {
    let started = Instant::now();
    let output = Command::new(&shell.program)
        .arg(script)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| shell.not_started(&error))?;
    let elapsed = started.elapsed().as_secs_f64() * 1e3;
    if output.stdout != b"hello\n" {
        return Err(format!(
            "{} did not run {}: {:?}",
            shell.name,
            script.display(),
            output
        ));
    }
    Ok(elapsed)
}
