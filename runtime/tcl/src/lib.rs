//! A safe layer over Tcl 8.6.
//!
//! - [`Interp`]: an interpreter, and [`OwnedInterp`], which deletes it when dropped.
//! - [`Obj`]: a Tcl value. Strings, integers, doubles, booleans, lists, dicts and byte arrays convert both ways without
//!   loss, or with an error that says what was expected.
//! - [`Interp::create_command`]: a Tcl command from a Rust closure; [`Interp::create_nr_command`] for one that evaluates
//!   scripts and through which coroutines may yield.
//! - [`Error`]: a Tcl error with its `-errorcode` and `-errorinfo`, the same in both directions.
//! - [`Canceller`]: how another thread stops what an interpreter evaluates.
//! - [`ThreadHandle`]: how another thread gets work done in an interpreter's thread.
//! - [`shell`]: what `tclsh` does with its command line, for programs that host scripts.
//!
//! Tcl's `select` loop is replaced, in every thread, by one on [mio]: no ceiling of 1,024 descriptors, no second thread
//! to wait through, and no cost that grows with idle connections. Every TCP channel that a script opens or accepts has
//! `TCP_NODELAY`; `fconfigure $channel -nodelay 0` turns it off.
//!
//! ```
//! use torhost_tcl::{Interp, Obj};
//!
//! let interp = Interp::new()?;
//! interp.create_command("double", |_, args| match args {
//!     [_, n] => Ok(Obj::from(2 * n.to_i64()?)),
//!     _ => Err(torhost_tcl::Error::wrong_args("double number")),
//! })?;
//! assert_eq!(interp.eval("double 21")?.to_i64()?, 42);
//! assert_eq!(interp.eval("double x").unwrap_err().message(), "expected an integer but got \"x\"");
//! # Ok::<(), torhost_tcl::Error>(())
//! ```
//!
//! An interpreter and its values belong to the thread that made them, so these types are neither `Send` nor `Sync`. It is
//! a bug of this crate if safe code can cause undefined behaviour through it.
//!
//! This is the only crate of the workspace with `unsafe`. It knows nothing of jobs or topologies. Start reading at
//! [`Interp`]; the event loop is in `notifier.rs`, the reasons for its shape in `docs/tcl.md`.

mod cancel;
mod command;
mod error;
mod init;
mod interp;
mod network;
mod notifier;
mod obj;
pub mod shell;
mod text;
mod wait_for_file;

pub use cancel::{Cancellable, Canceller};
pub use command::{Continuation, Next};
pub use error::{Completion, Error, Result};
pub use init::{Package, initialize, on_new_interp, provide};
pub use interp::{Interp, OwnedInterp, StdChannel, WeakInterp};
pub use notifier::{ThreadGone, ThreadHandle, do_one_event};
pub use obj::{NotTclText, Obj};

use tcl_sys as sys;

/// A length as Tcl's C API has it: `int` in 8.6 (`Tcl_Size` from 9.0 on).
type Length = std::ffi::c_int;

const _: () = assert!(
    sys::TCL_MAJOR_VERSION == 8 && sys::TCL_MINOR_VERSION == 6,
    "torhost-tcl is written for Tcl 8.6, but pkg-config found the headers of another version: install the \
     development files of 8.6 (Debian: tcl8.6-dev) and put its directory first in PKG_CONFIG_PATH"
);
