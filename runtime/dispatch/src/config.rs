//! What an engine is told once.
use std::time::Duration;

/// Settings of an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How a worker is chosen among those that could take a job.
    pub policy: Policy,
    /// How a silent worker is told from a dead one.
    pub detection: Detection,
    /// A worker that is silent for longer is suspect whatever [`Config::detection`] says.
    pub health_check_interval: Duration,
    /// Whether jobs of a lost worker go to others. If not, they fail.
    pub failover: bool,
    /// How often a job is tried, if it does not say so itself. At least 1.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles with each further one. Zero is at once.
    pub backoff: Duration,
    /// The longest such wait.
    pub max_backoff: Duration,
    /// A job that has lost so many workers is given up. At least 1.
    pub max_losses: u32,
    /// How many jobs may wait: held, delayed or queued.
    pub max_queued: usize,
    /// How many queued jobs are kept in memory whole, once their host has stored them: see [`crate::Output::Load`].
    pub max_resident: usize,
    /// How many different requirements jobs may have at a time.
    pub max_classes: usize,
    /// How many ended jobs are remembered.
    pub keep: usize,
    /// How long they are remembered.
    pub keep_for: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            policy: Policy::RoundRobin,
            detection: Detection::Fixed,
            health_check_interval: Duration::from_secs(30),
            failover: true,
            attempts: 3,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            max_losses: 3,
            max_queued: 1_000_000,
            max_resident: usize::MAX,
            max_classes: 1000,
            keep: 10_000,
            keep_for: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// How a worker is chosen among those that have a free slot and what a job requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Each in turn, in the order in which they joined.
    RoundRobin,
    /// The one with the smallest share of its slots in use; among equals the one that waits longest.
    LeastLoaded,
    /// In proportion to their weights: stride scheduling (Waldspurger and Weihl, MIT/LCS/TM-528, 1995).
    Weighted,
    /// The less loaded of two chosen at random (Mitzenmacher, "The Power of Two Choices", 2001).
    PowerOfTwo,
    /// By consistent hashing of the job's affinity key over the workers that are free (Karger and others, 1997); jobs
    /// without a key go round robin.
    Affinity,
    /// As the host says: it is asked by [`crate::Output::Choose`] and answers by [`crate::Engine::chosen`], in its own time.
    Asked,
}

/// How a silent worker is told from a dead one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detection {
    /// By [`Config::health_check_interval`] alone.
    Fixed,
    /// When the silence is improbable, given how regularly the worker's beats came: φ-accrual (Hayashibara and others,
    /// SRDS 2004).
    PhiAccrual {
        /// The suspicion, −log₁₀ of the probability, from which a worker is suspect: 8 is one mistake in 10⁸ beats.
        threshold: f64,
    },
}
