//! What must hold between the parts of a topology. Linear in its size.
use crate::diagnostic::{Diagnostic, did_you_mean, enough};
use crate::lower::{Lowered, Places};
use crate::model::{Detector, Isolation, NodeKind, Persistence, Policies, Topology, root_of};
use crate::value::Durability;
use std::collections::{HashMap, HashSet};

/// How many capabilities a worker may register.
const MAX_CAPABILITIES: usize = 64;

/// Adds what is wrong to the mistakes.
pub(crate) fn check(lowered: &mut Lowered) {
    let Lowered {
        topology,
        places,
        mistakes,
        incomplete,
        vague,
        ..
    } = lowered;
    // What cannot be found may have been in a statement that could not be made out.
    let complete = !*incomplete;
    let nodes_known = complete && !*vague;
    let mut found = Vec::new();

    let names: HashSet<&str> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
    let mut reached: HashSet<&str> = HashSet::new();
    let mut misspelt = false;
    for (connection, (ends, settings)) in topology.connections.iter().zip(&places.connections) {
        for (name, span) in [&connection.from, &connection.to].into_iter().zip(ends) {
            reached.insert(name);
            if complete && !names.contains(name.as_str()) {
                // It may have been meant to reach any of the workers.
                misspelt = true;
                let mut unknown =
                    Diagnostic::error("unknown-node", *span, format!("there is no node `{name}`"));
                if !enough(&found) {
                    unknown.help = did_you_mean(name, topology.nodes.iter().map(|node| node.name.as_str()));
                }
                found.push(unknown);
            }
        }
        if connection.from == connection.to {
            found.push(Diagnostic::error(
                "self-connection",
                ends[1],
                "a node needs no connection to itself",
            ));
        }
        if let (true, Some(span)) = (connection.encrypted, settings.get("encrypted")) {
            found.push(
                Diagnostic::error(
                    "no-certificate",
                    *span,
                    "an encrypted connection needs a certificate",
                )
                .label("no certificate is set, nor can one be set yet")
                .help("say `encrypted false`, and carry the connection through a tunnel of your own"),
            );
        }
    }

    let mut ports = HashMap::new();
    let has_master = topology.nodes.iter().any(|node| node.kind == NodeKind::Master);
    for (node, (name, settings)) in topology.nodes.iter().zip(&places.nodes) {
        if let (Some(port), Some(span)) = (node.port, settings.get("port"))
            && let Some((other, before)) =
                ports.insert((node.address.as_str(), port), (node.name.as_str(), *span))
        {
            let message = format!(
                "`{}` and `{other}` would both listen on port {port} of {}",
                node.name, node.address
            );
            found.push(Diagnostic::error("same-port", *span, message).also(before, "taken here"));
        }
        match node.kind {
            NodeKind::Worker if nodes_known && !has_master => found.push(
                Diagnostic::error(
                    "no-master",
                    *name,
                    format!("`{}` has nobody to work for", node.name),
                )
                .help("add a node of `type master`"),
            ),
            NodeKind::Worker if nodes_known && !misspelt && !reached.contains(node.name.as_str()) => found
                .push(
                    Diagnostic::warning(
                        "unreached",
                        *name,
                        format!("no connection reaches the worker `{}`", node.name),
                    )
                    .help(format!("add `connection MASTER -> {}`", node.name)),
                ),
            _ => {}
        }
        if let (true, Some(span)) = (
            node.capabilities.len() > MAX_CAPABILITIES,
            settings.get("capabilities"),
        ) {
            let message = format!("`{}` has {} capabilities", node.name, node.capabilities.len());
            found.push(
                Diagnostic::error("bad-value", *span, message)
                    .label(format!("expected at most {MAX_CAPABILITIES}")),
            );
        }
        let workers_only = [
            ("capabilities", !node.capabilities.is_empty()),
            ("isolation", node.isolation != Isolation::default()),
        ];
        for (key, used) in workers_only {
            if let (true, Some(span)) = (used, settings.get(key))
                && node.kind != NodeKind::Worker
                && settings.contains_key("type")
            {
                let message = format!("`{key}` is for workers, and `{}` is none", node.name);
                found.push(Diagnostic::warning("no-effect", *span, message));
            }
        }
    }

    let offered: HashSet<&String> = topology
        .nodes
        .iter()
        .filter(|node| node.kind == NodeKind::Worker)
        .flat_map(|node| &node.capabilities)
        .collect();
    let routes = topology.routes.iter().zip(&places.routes);
    let routes = routes.map(|(route, spans)| (&route.requires[..], spans, "route"));
    let schedules = topology.schedules.iter().zip(&places.schedules);
    let schedules = schedules.map(|(schedule, (_, spans))| {
        (
            schedule.requires.as_deref().unwrap_or_default(),
            spans,
            "schedule",
        )
    });
    for (requires, spans, what) in routes.chain(schedules) {
        for (capability, span) in requires.iter().zip(spans) {
            if nodes_known && !offered.contains(capability) {
                let message = format!("no worker has the capability `{capability}`");
                let mut unknown = Diagnostic::error("unknown-capability", *span, message)
                    .label(format!("jobs of this {what} would wait for ever"));
                if !enough(&found) {
                    unknown.help = did_you_mean(capability, offered.iter().map(|name| name.as_str()));
                }
                found.push(unknown);
            }
        }
    }

    for (schedule, (name, _)) in topology.schedules.iter().zip(&places.schedules) {
        if nodes_known && !has_master {
            let message = format!("there is no master to run the schedule `{}`", schedule.name);
            found.push(Diagnostic::warning("no-effect", *name, message).help("add a node of `type master`"));
        }
    }

    check_scripts(topology, places, &mut found);
    check_policies(&topology.policies, places, &mut found);
    mistakes.append(&mut found);
    mistakes.sort_by_key(|found| (found.primary.span.file, found.primary.span.start));
}

/// Whether scripts are there. They may be on another machine, where their nodes are; a text that is no file has no folder to look in.
fn check_scripts(topology: &Topology, places: &Places, found: &mut Vec<Diagnostic>) {
    let Ok(file) = topology.file.canonicalize() else {
        return;
    };
    let here = std::env::current_dir().unwrap_or_default();
    for (node, (_, settings)) in topology.nodes.iter().zip(&places.nodes) {
        if let (Some(script), Some(span)) = (&node.script, settings.get("script")) {
            let path = root_of(&file).join(script);
            if !path.is_file() {
                let message = format!("the script of `{}` is not there", node.name);
                let shown = path.strip_prefix(&here).unwrap_or(&path).display();
                found.push(
                    Diagnostic::warning("no-script", *span, message)
                        .label(format!("{shown} is not a file"))
                        .help("paths are relative to the topology's folder, or to the one above if that is called `config`"),
                );
            }
        }
    }
}

/// What must hold between the settings of policies.
fn check_policies(policies: &Policies, places: &Places, found: &mut Vec<Diagnostic>) {
    let balancing = &policies.load_balancing;
    let place = |policy, key| places.policies.get(&(policy, key)).copied();
    // What does not fit may be the default of a setting that could not be made out.
    let known = |policy| !places.vague_policies.contains(policy);
    if known("load_balancing") && balancing.heartbeat_interval.0 * 2 > balancing.health_check_interval.0 {
        let (heartbeat, health) = (
            place("load_balancing", "heartbeat_interval"),
            place("load_balancing", "health_check_interval"),
        );
        if let Some(span) = heartbeat.or(health) {
            let message = format!(
                "a heartbeat every {} is too rare for a health check after {}",
                balancing.heartbeat_interval, balancing.health_check_interval
            );
            let mut rare = Diagnostic::error("rare-heartbeat", span, message).help(
                "one lost heartbeat must not lose a worker: make the health check at least twice as long",
            );
            if let (Some(_), Some(health)) = (heartbeat, health) {
                rare = rare.also(health, "the health check");
            }
            found.push(rare);
        }
    }
    let defaults = Policies::default();
    // That a default is stated beside `detector fixed` is no mistake: `torhost show` states all.
    let meant = place("load_balancing", "detector").is_none()
        || balancing.phi_threshold != defaults.load_balancing.phi_threshold;
    if let (true, Detector::Fixed, Some(span)) = (
        meant,
        balancing.detector,
        place("load_balancing", "phi_threshold"),
    ) && known("load_balancing")
    {
        found.push(
            Diagnostic::warning("no-effect", span, "`phi_threshold` is for `detector phi_accrual`")
                .help("add `detector phi_accrual`, or leave the threshold out"),
        );
    }

    let retry = &policies.retry;
    if known("retry") && retry.max_backoff < retry.backoff {
        let (backoff, longest) = (place("retry", "backoff"), place("retry", "max_backoff"));
        if let Some(span) = longest.or(backoff) {
            let message = format!(
                "the longest wait, {}, is shorter than the first, {}",
                retry.max_backoff, retry.backoff
            );
            let mut low = Diagnostic::error("low-max-backoff", span, message)
                .help("make `max_backoff` at least as long as `backoff`");
            if let (Some(backoff), Some(_)) = (backoff, longest) {
                low = low.also(backoff, "the first wait");
            }
            found.push(low);
        }
    }
    if let (false, Some(span)) = (balancing.failover, place("retry", "max_losses"))
        && retry.max_losses != defaults.retry.max_losses
    {
        let mut unused = Diagnostic::warning(
            "no-effect",
            span,
            "`max_losses` is for `failover true`: without it, the first loss fails a job",
        );
        if let Some(failover) = place("load_balancing", "failover") {
            unused = unused.also(failover, "turned off here");
        }
        found.push(unused);
    }

    let persistence = &policies.persistence;
    if let (Durability::None, Some(span)) = (persistence.durability, place("persistence", "path"))
        && persistence.path != Persistence::default().path
    {
        let mut unused = Diagnostic::warning(
            "no-effect",
            span,
            "`path` is for jobs that are kept: with `durability none` they are in memory alone",
        );
        if let Some(durability) = place("persistence", "durability") {
            unused = unused.also(durability, "turned off here");
        }
        found.push(unused);
    }

    let limits = &policies.limits;
    if known("limits") && limits.max_pending < limits.max_line {
        let (pending, line) = (place("limits", "max_pending"), place("limits", "max_line"));
        if let Some(span) = pending.or(line) {
            let message = format!(
                "a line may have {}, but a connection that leaves {} unread is cut",
                limits.max_line, limits.max_pending
            );
            let mut small = Diagnostic::warning("small-pending", span, message).help(
                "make `max_pending` at least as large as `max_line`: who is sent such a line would be cut",
            );
            if let (Some(_), Some(line)) = (pending, line) {
                small = small.also(line, "the longest line");
            }
            found.push(small);
        }
    }
}
