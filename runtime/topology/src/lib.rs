//! The `.top` language: one file that says what a system is.
//!
//! ```
//! let text = "node hub { type master; port 9000 }";
//! let topology = torhost_topology::Topology::parse(text).unwrap();
//! assert_eq!(topology.node("hub").unwrap().port, Some(9000));
//!
//! let mistakes = torhost_topology::Topology::parse("node hub { type master; prot 9000 }").unwrap_err();
//! assert!(mistakes.to_string().contains("did you mean `port`?"));
//! ```
//!
//! This crate knows nothing of Tcl, processes or sockets; of cron expressions and time zones it knows whether they are right, from
//! `runtime/schedule`. A text goes one way through it: `syntax` (the
//! grammar) → `lower` (names, kinds and values, by the table in [`vocabulary`]) → `check` (what must hold between the parts) →
//! [`Topology`]. `format`, `print` and `graph` are ways back. The language is described in `docs/topology.md`.
#![forbid(unsafe_code)]

mod check;
mod diagnostic;
mod format;
mod graph;
mod lower;
mod model;
mod print;
mod source;
mod syntax;
mod value;
pub mod vocabulary;

pub use diagnostic::{Diagnostic, Diagnostics, Label, Severity};
pub use model::{
    Algorithm, Connection, Detector, Isolation, Limits, LoadBalancing, Missed, Node, NodeKind, Persistence,
    Policies, Resources, Results, Retry, Route, Schedule, Services, Topology,
};
pub use source::{SourceFile, Sources, Span};
pub use value::{BadQuantity, Durability, Period, Rate, Size};

use std::path::Path;

impl Topology {
    /// Reads a file and those that it includes.
    ///
    /// # Errors
    /// All mistakes at once. Warnings alone are no error; [`Topology::load_with_warnings`] has them.
    pub fn load(path: &Path) -> Result<Topology, Diagnostics> {
        Topology::load_with_warnings(path).map(|(topology, _)| topology)
    }

    /// As [`Topology::load`], with the warnings.
    ///
    /// # Errors
    /// As [`Topology::load`].
    pub fn load_with_warnings(path: &Path) -> Result<(Topology, Diagnostics), Diagnostics> {
        match std::fs::read_to_string(path) {
            Ok(text) => read(path, text),
            Err(error) => {
                let mut sources = Sources::default();
                let file = sources.add(path.to_owned(), String::new());
                let message = format!("cannot read `{}`: {error}", path.display());
                let list = vec![Diagnostic::error(
                    "unreadable",
                    Span {
                        file,
                        start: 0,
                        end: 0,
                    },
                    message,
                )];
                Err(Diagnostics { list, sources })
            }
        }
    }

    /// Reads a text. What it includes is relative to the current folder.
    ///
    /// # Errors
    /// As [`Topology::load`].
    pub fn parse(text: &str) -> Result<Topology, Diagnostics> {
        read(Path::new(""), text.to_owned()).map(|(topology, _)| topology)
    }

    /// The topology as JSON Schema of what `torhost show --json` prints.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Topology).to_value()
    }
}

fn read(path: &Path, text: String) -> Result<(Topology, Diagnostics), Diagnostics> {
    let mut lowered = lower::lower(path, text);
    lowered.topology.file = path.to_owned();
    check::check(&mut lowered);
    let found = Diagnostics {
        list: lowered.mistakes,
        sources: lowered.sources,
    };
    if found.errors() > 0 {
        Err(found)
    } else {
        Ok((lowered.topology, found))
    }
}

/// Formats a text: indentation, blanks and empty lines; words and comments stay as they are.
///
/// # Errors
/// If its syntax is wrong. What its words mean does not matter.
pub fn format(path: &Path, text: &str) -> Result<String, Diagnostics> {
    let mut sources = Sources::default();
    let file = sources.add(path.to_owned(), text.to_owned());
    let (items, list) = syntax::parse(file, text);
    if list.is_empty() {
        Ok(format::format(&items, text))
    } else {
        Err(Diagnostics { list, sources })
    }
}
