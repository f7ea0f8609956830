//! `tor::topology`.
use super::Command;
use log::LevelFilter;
use std::path::PathBuf;

pub(super) const COMMANDS: &[Command] = &[];

/// Notes where a topology is to be looked for.
pub(super) fn set_origin(_topology: Option<PathBuf>, _script: Option<PathBuf>) {
    super::stats::start_clock();
}

/// The topology's `LOG_LEVEL`.
pub(super) fn log_level() -> Option<LevelFilter> {
    None
}
