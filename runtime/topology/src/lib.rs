//! The `.top` topology language.
#![forbid(unsafe_code)]
