//! A topology as text in its language: what it would be read from.
use crate::model::Topology;
use std::fmt::{self, Display, Write};

/// Quotes a text so that it is read back as it is.
fn quoted(text: impl Display) -> String {
    let mut out = "\"".to_owned();
    for c in text.to_string().chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' | '$' => out.extend(['\\', c]),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Every setting is printed, the defaults too.
impl Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.settings {
            writeln!(f, "set {name} {}", quoted(value))?;
        }
        for node in &self.nodes {
            writeln!(f, "\nnode {} {{", node.name)?;
            writeln!(f, "    type {}", node.kind.as_str())?;
            writeln!(f, "    address {}", quoted(&node.address))?;
            if let Some(port) = node.port {
                writeln!(f, "    port {port}")?;
            }
            if let Some(script) = &node.script {
                writeln!(f, "    script {}", quoted(script.display()))?;
            }
            writeln!(f, "    capabilities {{ {} }}", node.capabilities.join(" "))?;
            writeln!(f, "    isolation {}", node.isolation.as_str())?;
            let mut resources = format!("cpu {}", node.resources.cpu);
            for (key, value) in [
                ("memory", node.resources.memory),
                ("storage", node.resources.storage),
            ] {
                if let Some(value) = value {
                    write!(resources, "; {key} {value}")?;
                }
            }
            writeln!(f, "    resources {{ {resources} }}")?;
            let services = &node.services;
            writeln!(
                f,
                "    services {{ job_scheduler {}; load_balancer {}; monitor {} }}\n}}",
                services.job_scheduler, services.load_balancer, services.monitor
            )?;
        }
        if !self.connections.is_empty() {
            writeln!(f)?;
        }
        for connection in &self.connections {
            write!(
                f,
                "connection {} -> {} {{ protocol {}",
                connection.from, connection.to, connection.protocol
            )?;
            if let Some(bandwidth) = connection.bandwidth {
                write!(f, "; bandwidth {bandwidth}")?;
            }
            if let Some(latency) = connection.latency {
                write!(f, "; latency {latency}")?;
            }
            writeln!(f, "; encrypted {} }}", connection.encrypted)?;
        }
        let balancing = &self.policies.load_balancing;
        writeln!(f, "\npolicy load_balancing {{")?;
        writeln!(f, "    algorithm {}", balancing.algorithm.as_str())?;
        writeln!(f, "    health_check_interval {}", balancing.health_check_interval)?;
        writeln!(f, "    heartbeat_interval {}", balancing.heartbeat_interval)?;
        writeln!(f, "    detector {}", balancing.detector.as_str())?;
        writeln!(f, "    phi_threshold {}", balancing.phi_threshold)?;
        writeln!(f, "    failover {}\n}}", balancing.failover)?;
        let limits = &self.policies.limits;
        writeln!(f, "policy limits {{")?;
        writeln!(f, "    max_line {}", limits.max_line)?;
        writeln!(f, "    max_connections {}", limits.max_connections)?;
        writeln!(f, "    max_pending {}", limits.max_pending)?;
        writeln!(f, "    max_queued {}", limits.max_queued)?;
        writeln!(f, "    max_resident {}\n}}", limits.max_resident)?;
        let retry = &self.policies.retry;
        writeln!(f, "policy retry {{")?;
        writeln!(f, "    attempts {}", retry.attempts)?;
        writeln!(f, "    backoff {}", retry.backoff)?;
        writeln!(f, "    max_backoff {}", retry.max_backoff)?;
        writeln!(f, "    max_losses {}\n}}", retry.max_losses)?;
        let results = &self.policies.results;
        writeln!(
            f,
            "policy results {{ keep {}; keep_for {} }}",
            results.keep, results.keep_for
        )?;
        let persistence = &self.policies.persistence;
        writeln!(
            f,
            "policy persistence {{ durability {}; path {} }}",
            persistence.durability,
            quoted(&persistence.path)
        )?;
        if !self.routes.is_empty() {
            writeln!(f)?;
        }
        for route in &self.routes {
            let requires = route.requires.join(" ");
            write!(
                f,
                "route {} {{ requires {{ {requires} }}; priority {}",
                quoted(&route.glob),
                route.priority
            )?;
            if let Some(timeout) = route.timeout {
                write!(f, "; timeout {timeout}")?;
            }
            if let Some(retries) = route.retries {
                write!(f, "; retries {retries}")?;
            }
            writeln!(f, " }}")?;
        }
        for schedule in &self.schedules {
            writeln!(f, "\nschedule {} {{", schedule.name)?;
            writeln!(f, "    cron {}", quoted(&schedule.cron))?;
            writeln!(f, "    timezone {}", quoted(&schedule.timezone))?;
            writeln!(f, "    missed {}", schedule.missed.as_str())?;
            writeln!(f, "    submit {}", quoted(&schedule.submit))?;
            if let Some(priority) = schedule.priority {
                writeln!(f, "    priority {priority}")?;
            }
            if let Some(requires) = &schedule.requires {
                writeln!(f, "    requires {{ {} }}", requires.join(" "))?;
            }
            if let Some(timeout) = schedule.timeout {
                writeln!(f, "    timeout {timeout}")?;
            }
            if let Some(deadline) = schedule.deadline {
                writeln!(f, "    deadline {deadline}")?;
            }
            if let Some(retries) = schedule.retries {
                writeln!(f, "    retries {retries}")?;
            }
            if let Some(affinity) = &schedule.affinity {
                writeln!(f, "    affinity {}", quoted(affinity))?;
            }
            writeln!(f, "}}")?;
        }
        Ok(())
    }
}
