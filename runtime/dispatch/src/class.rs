//! Jobs that require the same of a worker: their queue, and the workers that could take them.
use crate::balance::Free;
use crate::worker::WorkerKey;
use std::collections::{BTreeMap, BTreeSet};
use torhost_protocol::JobId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClassId(pub(crate) u32);

/// Where a job stands in a queue: before all of a lower priority, and before those of its own that came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    against_priority: i32,
    rank: u64,
}

impl Place {
    pub(crate) fn new(priority: i32, rank: u64) -> Place {
        Place {
            against_priority: priority.saturating_neg(),
            rank,
        }
    }
}

pub(crate) struct Class {
    pub(crate) requires: Vec<String>,
    pub(crate) waiting: BTreeMap<Place, JobId>,
    /// All workers that have what is required.
    pub(crate) workers: BTreeSet<WorkerKey>,
    /// Those of them that could take a job now.
    pub(crate) free: Free,
    /// Jobs that have not ended.
    pub(crate) jobs: usize,
}
