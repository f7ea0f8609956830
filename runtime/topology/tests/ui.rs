//! Wrong files and what is said of them: each `tests/ui/NAME.top` has its report beside it, `NAME.stderr`. To write the reports
//! anew after a change, run with `UPDATE_UI=1`, and read the difference.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::{env, fs};
use torhost_topology::{Severity, Topology};

#[test]
fn every_mistake_is_reported_as_its_file_says() {
    // Reports name files as they were given: relative to here.
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui")).unwrap();
    let mut names: Vec<String> = fs::read_dir(".")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".top"))
        .collect();
    names.sort();
    assert!(names.len() >= 40, "there are only {} files", names.len());
    let mut wrong = Vec::new();
    for name in names {
        let Err(found) = Topology::load(Path::new(&name)) else {
            wrong.push(format!("{name} has no mistake"));
            continue;
        };
        let report = found.render(false);
        let expected = Path::new(&name).with_extension("stderr");
        if env::var_os("UPDATE_UI").is_some() {
            fs::write(&expected, &report).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != report {
            wrong.push(format!("{name} now gives:\n{report}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n(UPDATE_UI=1 accepts what is given now)",
        wrong.join("\n")
    );
}

#[test]
fn warnings_alone_are_no_failure() {
    let text = "node hub { type master; port 9000 }\nnode w { type worker }\n";
    assert!(Topology::parse(text).is_ok());
    let file = env::temp_dir().join(format!("torhost-warning-{}.top", std::process::id()));
    fs::write(&file, text).unwrap();
    let (topology, found) = Topology::load_with_warnings(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(
        (topology.nodes.len(), found.errors(), found.warnings()),
        (2, 0, 1)
    );
    assert_eq!(
        (found.list[0].severity, found.list[0].code),
        (Severity::Warning, "unreached")
    );
}

#[test]
fn stated_defaults_are_nothing_to_warn_of() {
    let text = "node hub { type master; port 9000 }\npolicy load_balancing { failover false }\n";
    let shown = Topology::parse(text).unwrap().to_string();
    let file = env::temp_dir().join(format!("torhost-shown-{}.top", std::process::id()));
    fs::write(&file, shown).unwrap();
    let (_, found) = Topology::load_with_warnings(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert!(found.list.is_empty(), "{found}");
}

#[test]
fn a_file_that_is_not_there_is_one_clear_error() {
    let report = Topology::load(Path::new("/nowhere/at/all.top"))
        .unwrap_err()
        .to_string();
    assert!(
        report.contains("cannot read `/nowhere/at/all.top`: No such file"),
        "{report}"
    );
}
