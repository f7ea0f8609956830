//! What of a topology is to be started on this machine, and how each node is known to be ready.
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use torhost_topology::{Node, NodeKind, Topology};

use super::error::Error;
use super::probe::Readiness;

/// The nodes of a topology that are to run on this machine.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Canonical.
    pub(crate) topology: PathBuf,
    /// The project's folder: where nodes run, and where `logs/` is.
    pub(crate) root: PathBuf,
    /// The system's name.
    pub(crate) system: String,
    pub(crate) nodes: Vec<NodePlan>,
    /// Why each of the other nodes is left alone.
    pub(crate) left_alone: Vec<String>,
    /// What the topology's checks warn of, as text to show; empty if of nothing.
    pub(crate) warnings: String,
    /// The address and port of the first master: where clients connect.
    pub(crate) entrance: Option<(String, u16)>,
}

/// How one node is to be run.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) kind: NodeKind,
    pub(crate) address: String,
    pub(crate) port: Option<u16>,
    pub(crate) script: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) readiness: Readiness,
}

impl Plan {
    /// Reads a topology, given by its canonical path.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let (topology, warnings) =
            Topology::load_with_warnings(path).map_err(|error| Error::Topology(error.to_string()))?;
        let root = topology.root().to_owned();
        let mut nodes = Vec::new();
        let mut left_alone = Vec::new();
        for node in &topology.nodes {
            let Some(script) = topology.script_path(node) else {
                left_alone.push(format!("{} has no script", node.name));
                continue;
            };
            if !is_here(&node.address) {
                left_alone.push(format!(
                    "{} belongs on {}, not on this machine",
                    node.name, node.address
                ));
                continue;
            }
            if !script.is_file() {
                return Err(Error::NoScript {
                    node: node.name.clone(),
                    script,
                    topology: path.to_owned(),
                });
            }
            nodes.push(NodePlan {
                name: node.name.clone(),
                kind: node.kind,
                address: node.address.clone(),
                port: node.port,
                script,
                log: root.join("logs").join(format!("{}.log", node.name)),
                readiness: readiness(node, &topology),
            });
        }
        if nodes.is_empty() {
            return Err(Error::NothingToStart(path.to_owned()));
        }
        let entrance = masters(&topology).find_map(|master| Some((master.address.clone(), master.port?)));
        Ok(Self {
            topology: path.to_owned(),
            root,
            system: topology
                .settings
                .get("SYSTEM_NAME")
                .map_or("The system", String::as_str)
                .to_owned(),
            nodes,
            left_alone,
            warnings: warnings.to_string().trim_end().to_owned(),
            entrance,
        })
    }

    /// Sees that the ports that the nodes want are free.
    pub(crate) fn check_ports(&self) -> Result<(), Error> {
        for node in &self.nodes {
            if let Some(port) = node.port
                && is_taken(&node.address, port)
            {
                return Err(Error::PortTaken {
                    node: node.name.clone(),
                    address: node.address.clone(),
                    port,
                });
            }
        }
        Ok(())
    }
}

fn masters(topology: &Topology) -> impl Iterator<Item = &Node> {
    topology.nodes.iter().filter(|node| node.kind == NodeKind::Master)
}

fn readiness(node: &Node, topology: &Topology) -> Readiness {
    if let Some(port) = node.port {
        return Readiness::Port {
            address: node.address.clone(),
            port,
        };
    }
    let coordinator = masters(topology)
        .find(|master| topology.connection(&master.name, &node.name).is_some())
        .filter(|master| master.port.is_some())
        .or_else(|| masters(topology).find(|master| master.port.is_some()));
    match coordinator.and_then(|master| Some((master, master.port?))) {
        Some((master, port)) if node.kind == NodeKind::Worker => Readiness::Listed {
            worker: node.name.clone(),
            coordinator: master.address.clone(),
            port,
        },
        _ => Readiness::Alive,
    }
}

/// Whether an address is one of this machine's: a socket can be bound to it.
fn is_here(address: &str) -> bool {
    TcpListener::bind((address, 0)).is_ok()
}

fn is_taken(address: &str, port: u16) -> bool {
    let Ok(candidates) = (address, port).to_socket_addrs() else {
        return false;
    };
    let in_use = |error: io::Error| error.kind() == io::ErrorKind::AddrInUse;
    candidates
        .into_iter()
        .any(|candidate| TcpListener::bind(candidate).err().is_some_and(in_use))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_its_own_addresses_only() {
        assert!(is_here("localhost"));
        assert!(is_here("127.0.0.1"));
        // Set aside for documentation, RFC 5737.
        assert!(!is_here("192.0.2.1"));
    }

    #[test]
    fn a_port_is_taken_while_somebody_listens() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_taken("localhost", port));
        drop(listener);
        assert!(!is_taken("localhost", port));
    }
}
