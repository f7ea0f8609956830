//! `tor::stats`.
use super::Command;
use std::fs;
use std::sync::OnceLock;
use std::time::Instant;
use torhost_tcl::{Error, Obj, Result};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "tor::stats",
    usage: "",
    help: "Returns a dict of figures about this process:\n\n\
           | key | is |\n|---|---|\n\
           | `version` | torhost's version |\n\
           | `pid` | the process's id |\n\
           | `uptime_ms` | milliseconds since it started to run the script |\n\
           | `cpu_ms` | processor time it has used, in milliseconds, all threads together |\n\
           | `memory_bytes` | memory it occupies (resident set) |\n\
           | `threads` | how many threads it has |\n\
           | `descriptors` | how many files, sockets and pipes it has open |\n\n\
           They are read from `/proc`; where that is not there, the command is an error with `-errorcode {TOR STATS}`.",
    example: "dict get [tor::stats] memory_bytes",
    arguments: (0, Some(0)),
    run: |_, _| stats(),
}];

/// When the package was first offered.
static STARTED: OnceLock<Instant> = OnceLock::new();

/// Starts the clock of `uptime_ms`.
pub(super) fn start_clock() {
    STARTED.get_or_init(Instant::now);
}

fn stats() -> Result<Obj> {
    let unavailable =
        |what: &str| Error::new(format!("cannot read {what}: is /proc mounted?")).with_code(["TOR", "STATS"]);
    let read = |file: &'static str| fs::read_to_string(file).map_err(|_| unavailable(file));
    let status = read("/proc/self/status")?;
    let field = |name: &str| -> Option<u64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    // The fields after the program's name, which is in parentheses and may have any character: utime and stime are the
    // 12th and 13th of them (proc(5)).
    let stat = read("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks: u64 = fields
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let descriptors = fs::read_dir("/proc/self/fd")
        .map_err(|_| unavailable("/proc/self/fd"))?
        .count();
    let uptime = STARTED.get_or_init(Instant::now).elapsed();
    Ok(Obj::dict([
        ("version", Obj::from(env!("CARGO_PKG_VERSION"))),
        ("pid", Obj::from(std::process::id())),
        ("uptime_ms", Obj::from(uptime.as_millis() as u64)),
        (
            "cpu_ms",
            Obj::from(ticks * 1000 / rustix::param::clock_ticks_per_second()),
        ),
        ("memory_bytes", Obj::from(field("VmRSS").unwrap_or(0) * 1024)),
        ("threads", Obj::from(field("Threads").unwrap_or(0))),
        // One of them was the listing's own.
        ("descriptors", Obj::from(descriptors.saturating_sub(1))),
    ]))
}
