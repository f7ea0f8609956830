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
        writeln!(f, "    algorithm {}", balancing.algorithm)?;
        writeln!(f, "    health_check_interval {}", balancing.health_check_interval)?;
        writeln!(f, "    heartbeat_interval {}", balancing.heartbeat_interval)?;
        writeln!(f, "    failover {}\n}}", balancing.failover)?;
        writeln!(
            f,
            "policy limits {{ max_line {} }}",
            self.policies.limits.max_line
        )?;
        writeln!(f, "policy retry {{ attempts {} }}", self.policies.retry.attempts)?;
        if !self.routes.is_empty() {
            writeln!(f)?;
        }
        for route in &self.routes {
            let requires = route.requires.join(" ");
            writeln!(
                f,
                "route {} {{ requires {{ {requires} }}; priority {} }}",
                quoted(&route.glob),
                route.priority
            )?;
        }
        Ok(())
    }
}
