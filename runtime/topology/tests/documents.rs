//! `docs/topology.md` and the examples say what the code does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};
use torhost_topology::vocabulary::SETTINGS;
use torhost_topology::{Topology, format};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn topologies() -> Vec<PathBuf> {
    let examples = fs::read_dir(project("examples/topologies"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = examples.chain([project("config/system.top")]).collect();
    assert!(found.len() > 3);
    found
}

#[test]
fn every_example_is_right_and_formatted() {
    for file in topologies() {
        if let Err(found) = Topology::load_with_warnings(&file) {
            panic!("{found}");
        }
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(
            format(&file, &text).unwrap(),
            text,
            "{} is not formatted",
            file.display()
        );
    }
}

#[test]
fn the_reference_has_every_setting() {
    let mut table = "| block | setting | takes | default | effect |\n|---|---|---|---|---|\n".to_owned();
    for setting in SETTINGS {
        let row = [
            format!("`{}`", setting.section),
            format!("`{}`", setting.key),
            setting.kind.expected(),
            setting.default.to_owned(),
            setting.effect.to_owned(),
        ];
        table.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    between("settings", &table);
}

/// Compares what stands between two markers of the reference; with `UPDATE_DOCS=1` it is written.
fn between(marker: &str, expected: &str) {
    let file = project("docs/topology.md");
    let text = fs::read_to_string(&file).unwrap();
    let (begin, end) = (
        format!("<!-- {marker}: begin -->\n"),
        format!("<!-- {marker}: end -->"),
    );
    let start = text.find(&begin).unwrap() + begin.len();
    let stop = text.find(&end).unwrap();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, format!("{}{expected}{}", &text[..start], &text[stop..])).unwrap();
    } else {
        assert_eq!(
            &text[start..stop],
            expected,
            "docs/topology.md is out of date: run the tests with UPDATE_DOCS=1"
        );
    }
}

#[test]
fn the_examples_of_the_reference_work() {
    let text = fs::read_to_string(project("docs/topology.md")).unwrap();
    let blocks: Vec<&str> = text
        .split("```top\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() >= 2);
    for block in blocks {
        if let Err(found) = Topology::parse(block) {
            panic!("{found}");
        }
    }
}

#[test]
fn the_reference_has_every_code() {
    let source = project("runtime/topology/src");
    let mut codes = BTreeSet::new();
    for entry in fs::read_dir(source).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for call in ["Diagnostic::error(", "Diagnostic::warning("] {
            for rest in text.split(call).skip(1) {
                // The first argument, where it is a literal.
                if let Some(code) = rest
                    .trim_start()
                    .strip_prefix('"')
                    .and_then(|rest| rest.split('"').next())
                {
                    codes.insert(code.to_owned());
                }
            }
        }
    }
    assert!(codes.len() > 15, "{codes:?}");
    let reference = fs::read_to_string(project("docs/topology.md")).unwrap();
    let missing: Vec<_> = codes
        .iter()
        .filter(|code| !reference.contains(&format!("| `{code}` |")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/topology.md does not explain {missing:?}"
    );
}
