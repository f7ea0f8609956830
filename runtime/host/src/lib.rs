//! The `torhost` program as a library: the command line, the supervisor and the `tor` package for scripts.
//!
//! `main.rs` does no more than call [`main`].
#![forbid(unsafe_code)]

pub mod cli;
mod supervisor;
mod topology_commands;

pub use cli::main;
