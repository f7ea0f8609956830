//! The line protocol between coordinator, workers and clients; `docs/protocol.md` describes it.
//!
//! This crate knows texts: messages, how they are read and written, and how long they may be. It knows no sockets, and
//! nothing of what becomes of a job.
#![forbid(unsafe_code)]

mod id;

pub use id::{Handle, JobId, NoSuchName};
