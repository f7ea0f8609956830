//! The command line: subcommands by name, everything else as `tclsh` reads it.
use clap::{CommandFactory, Parser, Subcommand};
use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use torhost_tcl::shell;

use crate::{database, interactive, logging, supervisor, topology_commands, tor};

/// Runs Tcl node scripts, as tclsh does, and the systems that a topology describes.
#[derive(Parser)]
#[command(
    name = "torhost",
    version,
    override_usage = "torhost [--topology TOPOLOGY] [-encoding NAME] [FILE [ARG]...]\n       torhost COMMAND ...",
    after_help = "Without a command, torhost is a tclsh: it runs FILE, or commands from standard input, or talks to you on \
                  a terminal.\nA script that is named like a command is run with `torhost run FILE` or `torhost ./FILE`."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Topology(topology_commands::Command),
    #[command(flatten)]
    Supervisor(supervisor::Command),
    #[command(flatten)]
    Database(database::Command),
    /// Run a script of any name, with its arguments
    Run {
        /// The topology that the script's `tor::topology` reads
        #[arg(long)]
        topology: Option<PathBuf>,
        /// The script
        file: OsString,
        /// What the script finds in `argv`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Runs the program with the process's own arguments.
pub fn main() -> ExitCode {
    logging::start();
    let mut args: Vec<OsString> = env::args_os().collect();
    let first = args.get(1).and_then(|word| word.to_str());
    if first.is_some_and(is_command) {
        return match Cli::parse().command {
            Command::Topology(command) => topology_commands::run(command),
            Command::Supervisor(command) => supervisor::run(command),
            Command::Database(command) => database::run(command),
            Command::Run {
                topology,
                file,
                args: rest,
            } => {
                supervisor::bind_to_parent();
                let program = args.swap_remove(0);
                tor::start(topology, Some(&file));
                shell::main(std::iter::once(program).chain(rest), Some(&file))
            }
        };
    }
    supervisor::bind_to_parent();
    let mut topology = None;
    if first == Some("--topology") {
        if args.len() < 3 {
            let message = "--topology wants the name of a topology file after it";
            Cli::command()
                .error(clap::error::ErrorKind::MissingRequiredArgument, message)
                .exit();
        }
        args.remove(1);
        topology = Some(PathBuf::from(args.remove(1)));
    }
    let script = script(&args);
    tor::start(topology, script);
    if script.is_none() && std::io::stdin().is_terminal() {
        return interactive::run(args);
    }
    shell::main(args, None)
}

/// Whether a first argument is one of this program's own words.
fn is_command(word: &str) -> bool {
    matches!(word, "help" | "--help" | "-h" | "--version" | "-V")
        || Cli::command().find_subcommand(word).is_some()
}

/// The script among the arguments, found as `tclsh` finds it.
fn script(args: &[OsString]) -> Option<&OsString> {
    let is_file = |word: &&OsString| !word.as_encoded_bytes().starts_with(b"-");
    match args.get(1) {
        Some(word) if word == "-encoding" && args.len() > 3 => args.get(3).filter(is_file),
        word => word.filter(is_file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn scripts_are_found_where_tclsh_finds_them() {
        let find = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            script(&args).map(|file| file.to_string_lossy().into_owned())
        };
        assert_eq!(find("torhost"), None);
        assert_eq!(find("torhost a.tcl -x"), Some("a.tcl".into()));
        assert_eq!(find("torhost -x a.tcl"), None);
        assert_eq!(find("torhost -encoding utf-8 a.tcl b"), Some("a.tcl".into()));
        assert_eq!(find("torhost -encoding utf-8"), None);
    }
}
