//! What the system lets processes use, and what they use.

use rustix::{
    param::clock_ticks_per_second,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::time::Duration;

use crate::Result;

/// Descriptors beyond the connections that a load process and the program that it measures need.
const SPARE_DESCRIPTORS: u64 = 100;

/// Raises this process's limit of open files, which the programs that it starts inherit.
///
/// # Errors
///
/// When the session may not have as many.
pub fn raise_descriptor_limit(connections: usize) -> Result<()> {
    let needed = connections as u64 + SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    // No value means no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        return Err(format!(
            "holding {connections} connections needs {needed} open files and this session may have {}; raise the hard \
             limit (`ulimit -Hn`), or ask for fewer with --connections",
            limit.maximum.unwrap_or_default()
        ));
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(needed),
            maximum: limit.maximum,
        },
    )
    .map_err(|error| format!("cannot raise the limit of open files to {needed}: {error}"))
}

/// Checks that one address may have as many connections to one port: each takes a local port.
///
/// # Errors
///
/// When the system's range of local ports is too small.
pub fn check_local_ports(connections: usize) -> Result<()> {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let mut bounds = text.split_whitespace().map(str::parse::<usize>);
    let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) else {
        return Err(format!("{path} should hold two ports, and holds: {text}"));
    };
    let ports = (last + 1).saturating_sub(first);
    if ports < connections + SPARE_DESCRIPTORS as usize {
        return Err(format!(
            "{connections} connections need as many local ports, and there are {ports}; widen the range \
             (`sysctl net.ipv4.ip_local_port_range='10000 65000'`), or ask for fewer with --connections"
        ));
    }
    Ok(())
}

/// The time that all threads of a process have run, in user and system mode, in steps of 10 ms.
///
/// # Errors
///
/// When the process has gone.
pub fn processor_time(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    // After the name, which ends with the last bracket, utime and stime are the 12th and 13th field.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().ok())
        .collect::<Option<Vec<_>>>()
        .filter(|ticks| ticks.len() == 2)
        .ok_or_else(|| format!("{path} has no processor times: {text}"))?;
    let ticks = ticks.iter().sum::<u64>();
    Ok(Duration::from_secs_f64(
        ticks as f64 / clock_ticks_per_second() as f64,
    ))
}

/// The memory of a process that is resident, in KiB.
///
/// # Errors
///
/// When the process has gone.
pub fn resident_memory(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| format!("{path} does not tell VmRSS"))
}
