//! The package `tor`: what node scripts see of the host.
use std::ffi::OsStr;
use std::path::PathBuf;

/// Makes the package available to every interpreter of this process.
pub(crate) fn start(_topology: Option<PathBuf>, _script: Option<impl AsRef<OsStr>>) {}
