//! The package `tor`: what node scripts see of the host.
//!
//! [`COMMANDS`] is the one table of its commands. The usage errors, `tor::help` and the reference pages in `docs/commands/` are
//! made from it.
mod callback;
mod coordinator;
mod dispatch;
mod heartbeat;
mod json;
mod log;
mod options;
mod reference;
mod settings;
mod socket;
mod stats;
mod stop;
mod topology;
mod worker;

pub(crate) use callback::{Callback, failure, report, report_of};
pub(crate) use json::to_tcl;
pub(crate) use stop::Exit;

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::path::PathBuf;
use torhost_tcl::{Error, Interp, Obj, Package, Result};

/// A command of the package, and all that is said about it.
struct Command {
    /// Qualified, and with the subcommand after a space: `tor::json decode`.
    name: &'static str,
    /// The words after the name, as Tcl's manual pages write them.
    usage: &'static str,
    /// What it does and returns, in Markdown. The first sentence stands alone in lists.
    help: &'static str,
    /// Lines of Tcl that work as they stand.
    example: &'static str,
    /// How many arguments it takes; without an upper bound for `None`.
    arguments: (usize, Option<usize>),
    run: fn(&Interp, &[Obj]) -> Result<Obj>,
}

impl Command {
    /// The namespace's command and the subcommand, if it has one.
    fn words(&self) -> (&'static str, Option<&'static str>) {
        match self.name.split_once(' ') {
            Some((ensemble, subcommand)) => (ensemble, Some(subcommand)),
            None => (self.name, None),
        }
    }

    fn full_usage(&self) -> String {
        format!("{} {}", self.name, self.usage).trim_end().to_owned()
    }

    fn call(&self, interp: &Interp, args: &[Obj]) -> Result<Obj> {
        let (least, most) = self.arguments;
        if args.len() < least || most.is_some_and(|most| args.len() > most) {
            return Err(Error::wrong_args(&self.full_usage()));
        }
        (self.run)(interp, args)
    }
}

/// All commands, in the order of the reference.
fn commands() -> impl Iterator<Item = &'static Command> {
    [
        topology::COMMANDS,
        coordinator::COMMANDS,
        socket::COMMANDS,
        heartbeat::COMMANDS,
        worker::COMMANDS,
        dispatch::COMMANDS,
        log::COMMANDS,
        json::COMMANDS,
        stats::COMMANDS,
        reference::COMMANDS,
    ]
    .into_iter()
    .flatten()
}

/// `package require tor`.
struct Tor;

impl Package for Tor {
    const NAME: &'static str = "tor";
    const VERSION: &'static str = "1.0";
    const LOADED_AS: &'static CStr = c"Tor";

    fn init(interp: &Interp) -> Result<()> {
        let mut ensembles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for command in commands() {
            let name = match command.words() {
                (ensemble, Some(subcommand)) => {
                    ensembles.entry(ensemble).or_default().push(subcommand);
                    format!("::{ensemble}::{subcommand}")
                }
                (name, None) => format!("::{name}"),
            };
            interp.create_command(&name, move |interp, words| command.call(interp, &words[1..]))?;
        }
        for (ensemble, subcommands) in ensembles {
            let namespace = format!("::{ensemble}");
            let create = Obj::list([
                "namespace",
                "ensemble",
                "create",
                "-command",
                &namespace,
                "-subcommands",
            ]);
            let script = format!("{create} {}", Obj::list([Obj::list(subcommands)]));
            interp.call(&["namespace", "eval", &namespace, &script].map(Obj::from))?;
        }
        log::apply_topology_level();
        Ok(())
    }
}

/// Makes the package available to every interpreter of this process, for a script whose topology is `topology` or else found
/// from the environment or from where the script is.
pub(crate) fn start(topology: Option<PathBuf>, script: Option<impl AsRef<OsStr>>) {
    topology::set_origin(topology, script.map(|script| PathBuf::from(script.as_ref())));
    topology::limit_memory();
    torhost_tcl::provide::<Tor>();
}
