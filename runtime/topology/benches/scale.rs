//! How long a topology takes to read and check, by its number of nodes: `cargo bench -p torhost-topology`.
use std::fmt::Write;
use std::time::{Duration, Instant};
use torhost_topology::Topology;

/// A master and workers on their own ports, each with a connection; every `wrong`th connection names a node that is not there.
fn text(nodes: usize, wrong: usize) -> String {
    let mut out = "node hub { type master; port 9000 }\n".to_owned();
    for n in 0..nodes {
        let _ = writeln!(
            out,
            "node worker{n} {{\n    type worker\n    address \"10.0.0.1\"\n    capabilities {{ gpu data }}\n    \
             resources {{ cpu 4; memory \"16GB\" }}\n}}"
        );
        let missing = if wrong > 0 && n % wrong == 0 { "x" } else { "" };
        let _ = writeln!(out, "connection hub -> worker{n}{missing} {{ latency \"10ms\" }}");
    }
    out
}

/// The best of several runs, in which the machine was least disturbed.
fn best(text: &str) -> Duration {
    let run = || {
        let started = Instant::now();
        let _ = std::hint::black_box(Topology::parse(std::hint::black_box(text)));
        started.elapsed()
    };
    (0..5).map(|_| run()).min().unwrap_or_default()
}

/// Files in which every line has a mistake that makes one wonder what was meant, or a list without end.
fn hard(kind: &str, n: usize) -> String {
    let mut out = "node hub { type master; port 9000 }\n".to_owned();
    for n in 0..n {
        let _ = match kind {
            "variables" => writeln!(out, "set VAR{n} {n}\nset X{n} $VRA{n}x"),
            "routes" => writeln!(
                out,
                "node w{n} {{ type worker; capabilities c{n} }}\nconnection hub -> w{n}\nroute \"*{n}*\" {{ requires xx{n} }}"
            ),
            "quotes" => writeln!(out, "set A{n} \"x"),
            _ => write!(
                out,
                "{}",
                if n == 0 {
                    "node w { type worker; capabilities "
                } else {
                    ""
                }
            )
            .and_then(|()| write!(out, "c{n} ")),
        };
    }
    out
}

fn main() {
    println!(
        "{:>8}  {:>12}  {:>12}  {:>16}",
        "nodes", "right", "per node", "all wrong"
    );
    for nodes in [100, 1_000, 10_000, 100_000] {
        let (right, wrong) = (best(&text(nodes, 0)), best(&text(nodes, 1)));
        println!(
            "{nodes:>8}  {right:>12.1?}  {:>12.1?}  {wrong:>16.1?}",
            right / nodes as u32
        );
    }
    println!("\n{:>8}  variables, routes, quotes, names in one list", "of each");
    for n in [1_000, 10_000, 20_000] {
        let times = ["variables", "routes", "quotes", "names"].map(|kind| best(&hard(kind, n)));
        println!("{n:>8}  {times:.1?}");
    }
}
