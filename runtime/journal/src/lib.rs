//! The journal: what a coordinator must not forget, in an SQLite database that people can read too.
//!
//! The dispatch engine says which jobs have changed ([`torhost_dispatch::Output::Record`]). Its host collects them in a [`Batch`], gives
//! that to a [`Journal`], and is told when it is on disk. One batch is one transaction, and one sync: while the disk works, the next
//! batch grows. [`Store::jobs`] reads what an earlier life has left.
//!
//! The journal knows nothing of sockets, clients or Tcl, and nothing of what a record means for a promise: that is the host's.
//!
//! Start reading at [`Journal`]. `schema.sql` is the database, `store` the file and its transactions, `lock` whose it is, `row` how a job is a
//! row and how one that was damaged is noticed. `loader` reads jobs that are not in memory. What people ask of a database is beside that:
//! `reading` some of its jobs, a `check` of all that is in it, a `backup`.
#![forbid(unsafe_code)]

mod backup;
mod check;
mod journal;
mod loader;
mod lock;
mod reading;
mod row;
mod store;

pub use backup::Backup;
pub use check::Census;
pub use journal::{Batch, Event, Fate, Journal, Note, Sync};
pub use loader::{Loaded, Loader};
pub use reading::{Attempt, Happened, Query};
pub use row::now;
pub use store::{Access, Error, Store};
