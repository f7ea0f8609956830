//! The log: `env_logger`, to standard error.
use log::LevelFilter;
use std::env;

/// What limits the log until a topology's `LOG_LEVEL` is known. `RUST_LOG`, where it is set, has the only say.
const BEFORE_TOPOLOGY: LevelFilter = LevelFilter::Warn;

/// Starts the log.
pub(crate) fn start() {
    let mut builder = env_logger::Builder::new();
    builder.format_timestamp_millis();
    match env::var("RUST_LOG") {
        Ok(filters) => {
            builder.parse_filters(&filters).init();
        }
        Err(_) => {
            builder.filter_level(LevelFilter::Trace).init();
            log::set_max_level(BEFORE_TOPOLOGY);
        }
    }
}

/// Applies a topology's `LOG_LEVEL`.
pub(crate) fn set_level(level: LevelFilter) {
    if env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
    }
}
