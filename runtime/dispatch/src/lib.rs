//! The dispatch engine.
#![forbid(unsafe_code)]
