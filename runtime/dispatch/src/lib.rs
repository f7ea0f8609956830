//! The dispatch engine: which job goes to which worker, and what becomes of it.
//!
//! The engine has no sockets, files, clock, threads or randomness of its own. It is told what happened and when, by the
//! methods of [`Engine`], and says what is to be done by [`Engine::poll_output`]; [`Engine::poll_timeout`] is when it wants
//! [`Engine::handle_timeout`] called. All times are measured from an origin that the host chooses, and never go back. The
//! same calls with the same times and seed give the same outputs.
//!
//! ```
//! use std::time::Duration;
//! use torhost_dispatch::{Client, Config, Engine, Joining, Output, Submission};
//!
//! let mut engine = Engine::new(Config::default(), 1);
//! let now = Duration::ZERO;
//! let worker = engine.worker_joined(now, Joining::new("worker1"));
//! let job = engine.submit(now, Submission::new(*b"hello"), Some(Client(7)))?.job;
//! let handle = loop {
//!     match engine.poll_output() {
//!         Some(Output::Assign { handle, .. }) => break handle,
//!         Some(_) => {}
//!         None => panic!("a worker is free"),
//!     }
//! };
//! engine.completed(now, worker, handle, (*b"done").into())?;
//! assert!(matches!(engine.poll_output(), Some(Output::Ended { client: Client(7), job: ended, .. }) if ended == job));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it costs: a submission, an assignment or an answer takes time that grows with the logarithm of the number of jobs
//! that wait and of the workers that are free, and with the number of different requirements, never with the number of jobs or
//! workers. The end of a job costs as much again for each one that is held after it.
//!
//! Start reading at [`Engine`]; `dependents` is what holds jobs after others, `prefetching` what workers are sent beforehand, `spilling`
//! what is not in memory. `jobs` is the table of jobs, `class` the queues, `balance` who is next, `detector` how silence is judged.
#![forbid(unsafe_code)]

mod balance;
mod class;
mod config;
mod detector;
mod engine;
mod job;
mod jobs;
mod output;
mod random;
mod stored;
mod worker;

pub use class::Place;
pub use config::{Config, Detection, Policy};
pub use detector::Detector;
pub use engine::{Accepted, AnswerError, Counts, Engine, PurgeError, RetryError, SubmitError, UnknownJob};
pub use job::{Job, Outcome, Progress, State, Submission};
pub use output::{Client, Event, Output};
pub use stored::{Stored, StoredState};
pub use worker::{Joining, Worker, WorkerKey, WorkerState};
