//! The `torhost` program as a library: the command line, the supervisor and the `tor` package for scripts.
//!
//! `main.rs` does no more than call [`main`]. What comes from where:
//!
//! - `cli`: which of the below an invocation is for;
//! - `interactive`: a `tclsh` prompt with line editing, on a live event loop;
//! - `tor`: the package `tor`, one module an ensemble;
//! - `sockets`: the sockets of scripts, and `heartbeat`: the names that they watch, on the thread of the `reactor`;
//! - `coordinator`: the dispatch engine, spoken to by the line protocol, on that thread as well;
//! - `worker`: a worker's link to its coordinator, on that thread too, and its executors, each in a thread of its own;
//! - `supervisor`: `torhost up`, `ps`, `down`;
//! - `topology_commands`: `torhost check`, `fmt`, `show`, `graph`;
//! - `database`: `torhost db` and `torhost jobs`, on the database that a coordinator keeps its jobs in;
//! - `columns`: the tables that some of these print.
#![forbid(unsafe_code)]

mod alarms;
pub mod cli;
mod columns;
mod coordinator;
mod database;
mod heartbeat;
mod interactive;
mod logging;
mod reactor;
mod sockets;
mod supervisor;
mod topology_commands;
mod tor;
mod worker;

pub use cli::main;
