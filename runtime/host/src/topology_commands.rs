//! `torhost check`, `fmt`, `show` and `graph`.
use clap::ValueEnum;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use torhost_topology::{Diagnostics, Topology};

/// The subcommands that read a topology.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Check a topology, and show every mistake in it
    Check {
        /// The topology
        file: PathBuf,
    },
    /// Format topologies in place; comments stay
    Fmt {
        /// Change nothing; fail if a file is not formatted
        #[arg(long)]
        check: bool,
        /// The topologies
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print a topology with every setting, the defaults too
    Show {
        /// As JSON, instead of the topology language
        #[arg(long)]
        json: bool,
        /// Print the JSON Schema of what `--json` prints
        #[arg(long, exclusive = true)]
        schema: bool,
        /// The topology
        #[arg(required_unless_present = "schema")]
        file: Option<PathBuf>,
    },
    /// Draw a topology
    Graph {
        /// What to draw it in
        #[arg(long, value_enum, default_value_t = Format::Dot)]
        format: Format,
        /// The topology
        file: PathBuf,
    },
}

/// What `torhost graph` draws in.
#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// The language of Graphviz
    Dot,
    /// A picture that browsers show
    Svg,
}

/// Runs one of them. Exit codes: 0 all is well, 1 there are mistakes.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Check { file } => {
            let Some(topology) = load(&file) else {
                return ExitCode::FAILURE;
            };
            let (nodes, connections) = (topology.nodes.len(), topology.connections.len());
            print(&format!(
                "{}: {nodes} nodes, {connections} connections, no errors\n",
                file.display()
            ))
        }
        Command::Fmt { check, files } => {
            let formatted = files.iter().filter(|file| format_file(file, check)).count();
            if formatted == files.len() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Command::Show { file, json, .. } => {
            let Some(file) = file else {
                return print(&pretty(&Topology::json_schema()));
            };
            let Some(topology) = load(&file) else {
                return ExitCode::FAILURE;
            };
            print(&if json {
                pretty(&topology)
            } else {
                topology.to_string()
            })
        }
        Command::Graph { format, file } => {
            let Some(topology) = load(&file) else {
                return ExitCode::FAILURE;
            };
            print(&match format {
                Format::Dot => topology.to_dot(),
                Format::Svg => topology.to_svg(),
            })
        }
    }
}

/// Reads a topology, and shows its mistakes and warnings.
pub(crate) fn load(file: &Path) -> Option<Topology> {
    match Topology::load_with_warnings(file) {
        Ok((topology, warnings)) => {
            if warnings.warnings() > 0 {
                show(&warnings);
            }
            Some(topology)
        }
        Err(mistakes) => {
            show(&mistakes);
            None
        }
    }
}

fn show(found: &Diagnostics) {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", found.render(colours));
}

/// Formats a file, or only looks; false, and a message, if that fails or there was something to do.
fn format_file(file: &Path, only_check: bool) -> bool {
    let complain = |what: &dyn std::fmt::Display| {
        eprintln!("torhost fmt: {}: {what}", file.display());
        false
    };
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return complain(&error),
    };
    let formatted = match torhost_topology::format(file, &text) {
        Ok(formatted) => formatted,
        Err(mistakes) => {
            show(&mistakes);
            return false;
        }
    };
    if formatted == text {
        return true;
    }
    if only_check {
        return complain(&"is not formatted: run `torhost fmt` on it");
    }
    // Beside it first, so that a full disk cannot cost the file.
    let beside = file.with_extension("top.new");
    match fs::write(&beside, formatted).and_then(|()| fs::rename(&beside, file)) {
        Ok(()) => true,
        Err(error) => complain(&error),
    }
}

fn pretty(value: &impl serde::Serialize) -> String {
    match serde_json::to_string_pretty(value) {
        Ok(text) => text + "\n",
        Err(error) => format!("{error}\n"),
    }
}

/// Prints to standard output; a reader that has gone, such as `head`, is no failure.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("torhost: cannot write: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
