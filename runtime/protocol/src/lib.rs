//! The line protocol between coordinator, workers and clients; `docs/protocol.md` describes it.
//!
//! This crate knows texts: messages, how they are read and written, and how long they may be. It knows no sockets, and
//! nothing of what becomes of a job.
//!
//! A coordinator cuts what it receives into lines with a [`LineBuffer`] and reads each with [`parse_request`]; a worker
//! reads its lines with [`parse_order`]. Both answer with the functions of [`mod@write`].
#![forbid(unsafe_code)]

mod duration;
mod id;
mod json;
mod lines;
mod order;
mod refusal;
mod request;
mod state;
mod tcl;
mod time;
pub mod write;

pub use duration::parse_duration;
pub use id::{Handle, JobId, NoSuchName};
pub use lines::{LineBuffer, Lines, TooLong};
pub use order::{Order, Registered, parse_order};
pub use refusal::{Code, Refusal};
pub use request::{
    Beat, JobsQuery, MAX_AFTER, MAX_CAPABILITIES, MAX_RUNNING, Misnamed, Registration, Request, Submission,
    SubmitOptions, VERBS, is_worker_id, parse_request,
};
pub use state::{Format, NoSuchWord, State};
pub use time::parse_time;
