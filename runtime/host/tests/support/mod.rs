//! What the tests that start and kill whole programs share.

use std::process::Child;
use std::time::Duration;

/// How long something may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A program that is killed when this is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}
