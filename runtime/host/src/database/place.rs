//! Which database is meant.
use super::error::Error;
use std::env;
use std::path::PathBuf;
use torhost_journal::{Access, Store};
use torhost_topology::{Durability, Topology};

/// Where the topology is if nobody says otherwise.
const TOPOLOGY: &str = "config/system.top";
/// Where a coordinator keeps its jobs if there is no topology.
const DATABASE: &str = "data/jobs.db";

/// The options that say so.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// The database; by default the one that the topology names, else data/jobs.db
    #[arg(long, value_name = "PATH")]
    db: Option<PathBuf>,
    /// The topology; by default $TOR_TOPOLOGY, else config/system.top
    #[arg(long, conflicts_with = "db")]
    topology: Option<PathBuf>,
}

impl Place {
    /// The path of the database, which is there.
    pub(super) fn path(&self) -> Result<PathBuf, Error> {
        let (path, in_memory) = match (&self.db, self.topology_file()) {
            (Some(db), _) => (db.clone(), None),
            (None, Some(file)) => {
                let topology = Topology::load(&file)
                    .map_err(|mistakes| Error::Topology(mistakes.to_string().trim_end().to_owned()))?;
                let is_in_memory = topology.policies.persistence.durability == Durability::None;
                (topology.journal_path(), is_in_memory.then_some(file))
            }
            (None, None) => (DATABASE.into(), None),
        };
        match (path.exists(), in_memory) {
            (true, _) => Ok(path),
            (false, Some(topology)) => Err(Error::InMemory(topology)),
            (false, None) => Err(Error::NoDatabase(path)),
        }
    }

    fn topology_file(&self) -> Option<PathBuf> {
        let from_environment = || env::var_os("TOR_TOPOLOGY").filter(|path| !path.is_empty());
        let named = self
            .topology
            .clone()
            .or_else(|| from_environment().map(PathBuf::from));
        named.or_else(|| Some(PathBuf::from(TOPOLOGY)).filter(|file| file.is_file()))
    }

    /// The database, to read it beside a coordinator.
    pub(super) fn read(&self) -> Result<(PathBuf, Store), Error> {
        let path = self.path()?;
        let store = Store::open(&path, Access::Read)?;
        Ok((path, store))
    }
}
