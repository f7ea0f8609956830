//! What holds for every text and every topology.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use torhost_topology::{
    Algorithm, Connection, Detector, Diagnostics, Durability, Isolation, Limits, LoadBalancing, Missed, Node,
    NodeKind, Period, Persistence, Policies, Rate, Resources, Results, Retry, Route, Schedule, Services,
    Size, Topology, format,
};

/// The longest that a duration in the language is, in microseconds.
const YEAR: u64 = 366 * 24 * 60 * 60 * 1_000_000;

/// Texts that get further than random ones: the words of the language in any order.
fn soup() -> impl Strategy<Value = String> {
    let words = [
        "set",
        "include",
        "node",
        "connection",
        "policy",
        "route",
        "schedule",
        "->",
        "{",
        "}",
        "\"",
        "\"a b\"",
        "\n",
        ";",
        "#",
        "# note\n",
        "$A",
        "${A}",
        "${",
        "\\",
        "\\\n",
        "type",
        "master",
        "worker",
        "port",
        "9000",
        "resources",
        "cpu",
        "memory",
        "4GB",
        "capabilities",
        "gpu",
        "load_balancing",
        "health_check_interval",
        "30s",
        "requires",
        "priority",
        "-5",
        "timeout",
        "cron",
        "\"0 3 * * *\"",
        "timezone",
        "Europe/Lisbon",
        "submit",
        "isolation",
        "process",
        "retry",
        "backoff",
        "max_backoff",
        "hub",
        "w",
        "A",
        "\t",
        "\r\n",
        "\r",
        "\"x\ry",
        "é🏙",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60).prop_map(|words| words.join(" "))
}

fn spans_hold(found: &Diagnostics) {
    for mistake in &found.list {
        for label in std::iter::once(&mistake.primary).chain(&mistake.others) {
            let text = &found.sources.files[label.span.file].text;
            assert!(
                text.get(label.span.start..label.span.end).is_some(),
                "{mistake:?} is not in {text:?}"
            );
        }
    }
    // Drawing them must not fail either.
    assert!(!found.render(false).is_empty());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-zA-Z0-9 \"\\\\$#;{}\n\t\r]{0,20}"]
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z_é][a-zA-Z0-9_.-]{0,8}"
}

fn one_of<T: std::fmt::Debug + Clone + 'static>(
    words: &[&str],
    from: fn(&str) -> Option<T>,
) -> impl Strategy<Value = T> {
    let values: Vec<T> = words.iter().map(|word| from(word).unwrap()).collect();
    prop::sample::select(values)
}

/// In microseconds.
fn period(range: RangeInclusive<u64>) -> impl Strategy<Value = Period> {
    range.prop_map(|micros| Period(Duration::from_micros(micros)))
}

fn load_balancing() -> impl Strategy<Value = LoadBalancing> {
    let algorithm = one_of(Algorithm::WORDS, Algorithm::from_word);
    let detector = one_of(Detector::WORDS, Detector::from_word);
    (algorithm, 1000..=YEAR / 2, detector, 1_u32..=16, any::<bool>()).prop_map(
        |(algorithm, beat, detector, phi_threshold, failover)| LoadBalancing {
            algorithm,
            health_check_interval: Period(Duration::from_micros(beat * 2)),
            heartbeat_interval: Period(Duration::from_micros(beat)),
            detector,
            phi_threshold,
            failover,
        },
    )
}

fn policies() -> impl Strategy<Value = Policies> {
    let limits = (
        1_u64 << 10..=1 << 30,
        1_u32..=1_000_000,
        1_u64 << 10..=1 << 40,
        1_u32..=100_000_000,
        1_u32..=100_000_000,
    )
        .prop_map(
            |(line, max_connections, pending, max_queued, max_resident)| Limits {
                max_line: Size(line),
                max_connections,
                max_pending: Size(pending),
                max_queued,
                max_resident,
            },
        );
    let retry = (1_u32..=1000, period(0..=YEAR), period(0..=YEAR), 1_u32..=1000).prop_map(
        |(attempts, one, other, max_losses)| Retry {
            attempts,
            backoff: one.min(other),
            max_backoff: one.max(other),
            max_losses,
        },
    );
    let results = (0_u32..=100_000_000, period(1_000_000..=YEAR))
        .prop_map(|(keep, keep_for)| Results { keep, keep_for });
    let durability = prop_oneof![
        Just(Durability::Commit),
        Just(Durability::None),
        period(1000..=3_600_000_000).prop_map(Durability::Interval),
    ];
    let persistence =
        (durability, "[a-z \"/]{1,9}").prop_map(|(durability, path)| Persistence { durability, path });
    (load_balancing(), limits, retry, results, persistence).prop_map(
        |(load_balancing, limits, retry, results, persistence)| Policies {
            load_balancing,
            limits,
            retry,
            results,
            persistence,
        },
    )
}

fn route(glob: String) -> impl Strategy<Value = Route> {
    let timeout = prop::option::of(period(1000..=YEAR));
    let retries = prop::option::of(0_u32..=100);
    (-100..=100, timeout, retries).prop_map(move |(priority, timeout, retries)| Route {
        glob: glob.clone(),
        requires: Vec::new(),
        priority,
        timeout,
        retries,
    })
}

fn schedules() -> impl Strategy<Value = Vec<Schedule>> {
    let cron = prop::sample::select(vec![
        "0 3 * * *",
        "*/5 * * * * *",
        "0 0 L JAN-MAR 5#3",
        "@daily",
        " 1  2 3 * *",
    ]);
    let zone = prop::sample::select(vec!["UTC", "Europe/Lisbon", "america/new_york"]);
    let when = (cron, zone, one_of(Missed::WORDS, Missed::from_word));
    let submit = text().prop_filter("a job has data", |data| !data.is_empty());
    let options = (
        prop::option::of(-100..=100),
        prop::option::of(Just(Vec::new())),
        prop::option::of(period(1000..=YEAR)),
        prop::option::of(period(1000..=YEAR)),
        prop::option::of(0_u32..=100),
        prop::option::of("[a-z $]{1,9}"),
    );
    let schedule = (when, submit, options).prop_map(|((cron, timezone, missed), submit, options)| {
        let (priority, requires, timeout, deadline, retries, affinity) = options;
        Schedule {
            name: String::new(),
            cron: cron.to_owned(),
            timezone: timezone.to_owned(),
            missed,
            submit,
            priority,
            requires,
            timeout,
            deadline,
            retries,
            affinity,
        }
    });
    let named = prop::collection::btree_map(name(), schedule, 0..3);
    named.prop_map(|named| {
        let named = named.into_iter();
        named
            .map(|(name, schedule)| Schedule { name, ..schedule })
            .collect()
    })
}

/// A topology in which everything holds that is checked.
fn topology() -> impl Strategy<Value = Topology> {
    let workers = prop::collection::btree_map(
        name(),
        (
            1_u32..=1000,
            any::<Option<u64>>(),
            prop::collection::btree_set(name(), 0..4),
            one_of(Isolation::WORDS, Isolation::from_word),
        ),
        0..5,
    );
    let settings = prop::collection::btree_map("[A-KM-Z][A-Z_0-9]{0,8}", text(), 0..4);
    let links = (any::<Option<u64>>(), any::<Option<u64>>());
    let routes = prop::collection::btree_set(text(), 0..4)
        .prop_flat_map(|globs| globs.into_iter().map(route).collect::<Vec<_>>());
    (settings, workers, text(), links, policies(), routes, schedules()).prop_map(
        |(settings, workers, address, (rate, latency), policies, routes, schedules)| {
            let address = if address.is_empty() {
                "localhost".to_owned()
            } else {
                address
            };
            let node = |name: &str, kind| Node {
                name: name.to_owned(),
                kind,
                address: address.clone(),
                port: None,
                script: None,
                capabilities: Vec::new(),
                isolation: Isolation::default(),
                resources: Resources::default(),
                services: Services::default(),
            };
            let hub = Node {
                port: Some(9000),
                script: Some("nodes/hub $1.tor".into()),
                services: Services {
                    monitor: true,
                    ..Services::default()
                },
                ..node("the-hub", NodeKind::Master)
            };
            let nodes: Vec<Node> = std::iter::once(hub)
                .chain(
                    workers
                        .iter()
                        .map(|(name, (cpu, memory, capabilities, isolation))| Node {
                            capabilities: capabilities.iter().cloned().collect(),
                            isolation: *isolation,
                            resources: Resources {
                                cpu: *cpu,
                                memory: memory.map(Size),
                                storage: memory.map(Size),
                            },
                            ..node(name, NodeKind::Worker)
                        }),
                )
                .collect();
            let connections = nodes[1..].iter().map(|worker| Connection {
                from: "the-hub".to_owned(),
                to: worker.name.clone(),
                protocol: "tcp".to_owned(),
                bandwidth: rate.map(Rate),
                latency: latency.map(|micros| Period(Duration::from_micros(micros))),
                encrypted: false,
            });
            let known: Vec<String> = nodes
                .iter()
                .flat_map(|node| node.capabilities.clone())
                .take(1)
                .collect();
            let routes = routes.into_iter().map(|route| Route {
                requires: known.clone(),
                ..route
            });
            Topology {
                settings,
                connections: connections.collect(),
                routes: routes.collect(),
                schedules: schedules
                    .into_iter()
                    .map(|schedule| Schedule {
                        requires: schedule.requires.map(|_| known.clone()),
                        ..schedule
                    })
                    .collect(),
                nodes,
                policies,
                file: "".into(),
            }
        },
    )
}

/// A text rewritten as people write: blanks, empty lines, continuations, semicolons and comments where they may be. The choices
/// are taken in turn. Gives the comments, too, in their order.
fn scribbled(text: &str, choices: &[usize], carriage: bool) -> (String, Vec<String>) {
    let mut comments = Vec::new();
    let mut out = String::new();
    let mut quoted = false;
    let mut escaped = false;
    let mut turn = 0;
    for c in text.chars() {
        let choice = choices[turn % choices.len()];
        let mut comment = |lead: &str| {
            let text = format!("# {{note \"{} ;é\\", comments.len());
            comments.push(text.clone());
            format!("{lead}{text}\n")
        };
        if quoted || !" \n;{}".contains(c) {
            if c == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = c == '\\' && !escaped;
            out.push(c);
            continue;
        }
        turn += 1;
        let piece = match (c, choice % 6) {
            (' ', 0) => " \\\n  ".to_owned(),
            (' ', 1) => "\t ".to_owned(),
            ('{', 0) => comment("{ "),
            ('{', 1) => "{\n\n".to_owned(),
            ('{', 2) => comment("{\n\n") + "\n",
            ('}', 0) => comment(" ") + "}",
            ('}', 1) => "\n\n\t}".to_owned(),
            ('}', 2) => ";;}".to_owned(),
            (';', 0) => comment(" "),
            (';', 1) => comment(" ; "),
            (';', 2) => "\n\n\n".to_owned(),
            ('\n', 0) => comment("\t"),
            ('\n', 1) => comment("\n\n") + "\n",
            ('\n', 2) => " ; ;\n".to_owned(),
            _ => c.to_string(),
        };
        out.push_str(&piece);
    }
    (if carriage { out.replace('\n', "\r\n") } else { out }, comments)
}

/// The comments of a text that has none in quotes.
fn comments(text: &str) -> Vec<String> {
    let found = text
        .lines()
        .filter_map(|line| line.find("# {note ").map(|at| line[at..].to_owned()));
    found.collect()
}

proptest! {
    #[test]
    fn formatting_keeps_meaning_and_comments_however_it_was_written(
        topology in topology(),
        choices in prop::collection::vec(any::<usize>(), 1..40),
        carriage in any::<bool>(),
    ) {
        let (text, written) = scribbled(&topology.to_string(), &choices, carriage);
        match Topology::parse(&text) {
            Ok(read) => prop_assert_eq!(read, topology.clone()),
            Err(found) => prop_assert!(false, "{}\n{}", text, found),
        }
        let formatted = format(Path::new(""), &text).unwrap();
        prop_assert_eq!(comments(&formatted), written);
        prop_assert_eq!(&format(Path::new(""), &formatted).unwrap(), &formatted);
        prop_assert_eq!(Topology::parse(&formatted).unwrap(), topology);
    }

    #[test]
    fn any_text_is_read_or_refused_with_places_that_exist(text in prop_oneof![any::<String>(), soup()]) {
        if let Err(found) = Topology::parse(&text) {
            spans_hold(&found);
        }
    }

    #[test]
    fn formatting_twice_changes_nothing_and_loses_no_comment(text in prop_oneof![any::<String>(), soup()]) {
        if let Ok(once) = format(Path::new(""), &text) {
            let twice = format(Path::new(""), &once).unwrap();
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(once.matches("# note").count(), text.matches("# note").count());
        }
    }

    #[test]
    fn formatting_keeps_the_meaning(topology in topology()) {
        let text = topology.to_string();
        let formatted = format(Path::new(""), &text).unwrap();
        prop_assert_eq!(Topology::parse(&formatted).unwrap(), topology);
    }

    #[test]
    fn what_is_printed_is_read_back(topology in topology()) {
        let text = topology.to_string();
        match Topology::parse(&text) {
            Ok(back) => prop_assert_eq!(back, topology),
            Err(found) => prop_assert!(false, "{}\n{}", text, found),
        }
    }

    #[test]
    fn json_is_read_back_and_fits_its_schema(topology in topology()) {
        let json = serde_json::to_value(&topology).unwrap();
        prop_assert!(jsonschema::is_valid(&Topology::json_schema(), &json), "{:#}", json);
        prop_assert_eq!(serde_json::from_value::<Topology>(json).unwrap(), topology);
    }

    #[test]
    fn graphs_are_well_formed(topology in topology()) {
        let svg = topology.to_svg();
        prop_assert_eq!(svg.matches("<rect class").count(), topology.nodes.len());
        let dot = topology.to_dot();
        prop_assert_eq!(dot.lines().last(), Some("}"));
    }
}
