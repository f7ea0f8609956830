//! What the benchmarks have in common.
//!
//! - [`process`] starts and stops the programs that are measured.
//! - [`limits`] raises the limit of open files, and reads what processes use.
//! - [`statistics`] has medians and percentiles.
#![forbid(unsafe_code)]

pub mod limits;
pub mod process;
pub mod statistics;

/// What can go wrong; the text is for the person who ran the program.
pub type Result<T> = std::result::Result<T, String>;
