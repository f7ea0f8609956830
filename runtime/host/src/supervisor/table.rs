//! What `torhost ps` prints.
use super::control::Status;
use crate::columns::aligned;

/// The table of a system's nodes, columns aligned, with a last newline; `near` shortens the path of a log.
pub(crate) fn table(status: &Status, near: impl Fn(&str) -> String) -> String {
    let heads = [
        "NODE", "KIND", "PID", "STATE", "UPTIME", "RESTARTS", "ADDRESS", "LOG",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(status.nodes.iter().map(|node| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            node.node.clone(),
            node.kind.clone(),
            or_dash(node.pid.map(|pid| pid.to_string())),
            node.state.name().to_owned(),
            or_dash(node.uptime_seconds.map(span)),
            node.restarts.to_string(),
            node.port
                .map_or_else(|| node.address.clone(), |port| format!("{}:{port}", node.address)),
            near(&node.log),
        ]
    }));
    aligned(&rows)
}

/// A span of time in its two largest units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {:02}s", seconds % 60),
        3600..86400 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::control::{NodeStatus, State};

    #[test]
    fn columns_are_aligned() {
        let node = |name: &str, pid, port| NodeStatus {
            node: name.into(),
            kind: "worker".into(),
            pid,
            state: State::Ready,
            uptime_seconds: pid.map(|_| 65),
            restarts: 0,
            address: "localhost".into(),
            port,
            log: format!("logs/{name}.log"),
        };
        let status = Status {
            system: "S".into(),
            topology: "s.top".into(),
            pid: 1,
            nodes: vec![
                node("a", Some(12345), Some(9000)),
                node("much_longer", None, None),
            ],
        };
        assert_eq!(
            table(&status, str::to_owned),
            "NODE         KIND    PID    STATE  UPTIME  RESTARTS  ADDRESS         LOG\n\
             a            worker  12345  ready  1m 05s  0         localhost:9000  logs/a.log\n\
             much_longer  worker  -      ready  -       0         localhost       logs/much_longer.log\n"
        );
    }

    #[test]
    fn spans_are_told_in_two_units() {
        let told = [0, 59, 60, 3599, 3600, 90_000].map(span);
        assert_eq!(told, ["0s", "59s", "1m 00s", "59m 59s", "1h 00m", "1d 01h"]);
    }
}
