//! The workers that could take a job now, in the order in which a policy wants them.
use crate::config::Policy;
use crate::random::{Random, mix};
use crate::worker::WorkerKey;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// How many points a worker has on the ring of consistent hashing: enough to spread evenly, few enough to move often.
const POINTS: u64 = 16;

/// What places a worker in the order of a policy, when it becomes free or its load changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// Share of the slots in use, in 65536ths.
    pub(crate) load: u32,
    /// When it last got a job, as a count of assignments.
    pub(crate) last: u64,
    /// Its virtual time in stride scheduling.
    pub(crate) pass: u64,
}

pub(crate) enum Free {
    Ring(BTreeSet<WorkerKey>),
    Least(BTreeSet<(u32, u64, WorkerKey)>),
    Weighted(BTreeSet<(u64, WorkerKey)>),
    Two {
        list: Vec<(WorkerKey, u32)>,
        at: FxHashMap<WorkerKey, usize>,
    },
    Affinity {
        ring: BTreeSet<WorkerKey>,
        points: BTreeSet<(u64, WorkerKey)>,
    },
}

impl Free {
    pub(crate) fn new(policy: Policy) -> Free {
        match policy {
            // Where the host has no answer, each in turn.
            Policy::RoundRobin | Policy::Asked => Free::Ring(BTreeSet::new()),
            Policy::LeastLoaded => Free::Least(BTreeSet::new()),
            Policy::Weighted => Free::Weighted(BTreeSet::new()),
            Policy::PowerOfTwo => Free::Two {
                list: Vec::new(),
                at: FxHashMap::default(),
            },
            Policy::Affinity => Free::Affinity {
                ring: BTreeSet::new(),
                points: BTreeSet::new(),
            },
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Free::Ring(ring) | Free::Affinity { ring, .. } => ring.len(),
            Free::Least(order) => order.len(),
            Free::Weighted(order) => order.len(),
            Free::Two { list, .. } => list.len(),
        }
    }

    /// All that are in.
    pub(crate) fn all(&self) -> Vec<WorkerKey> {
        match self {
            Free::Ring(ring) | Free::Affinity { ring, .. } => ring.iter().copied().collect(),
            Free::Least(order) => order.iter().map(|&(_, _, worker)| worker).collect(),
            Free::Weighted(order) => order.iter().map(|&(_, worker)| worker).collect(),
            Free::Two { list, .. } => list.iter().map(|&(worker, _)| worker).collect(),
        }
    }

    pub(crate) fn insert(&mut self, worker: WorkerKey, standing: Standing) {
        match self {
            Free::Ring(ring) => {
                ring.insert(worker);
            }
            Free::Least(order) => {
                order.insert((standing.load, standing.last, worker));
            }
            Free::Weighted(order) => {
                order.insert((standing.pass, worker));
            }
            Free::Two { list, at } => {
                at.insert(worker, list.len());
                list.push((worker, standing.load));
            }
            Free::Affinity { ring, points } => {
                ring.insert(worker);
                points.extend((0..POINTS).map(|n| (point(worker, n), worker)));
            }
        }
    }

    /// Takes out a worker that was put in with this standing.
    pub(crate) fn remove(&mut self, worker: WorkerKey, standing: Standing) {
        match self {
            Free::Ring(ring) => {
                ring.remove(&worker);
            }
            Free::Least(order) => {
                order.remove(&(standing.load, standing.last, worker));
            }
            Free::Weighted(order) => {
                order.remove(&(standing.pass, worker));
            }
            Free::Two { list, at } => {
                if let Some(gap) = at.remove(&worker) {
                    list.swap_remove(gap);
                    if let Some((moved, _)) = list.get(gap) {
                        at.insert(*moved, gap);
                    }
                }
            }
            Free::Affinity { ring, points } => {
                ring.remove(&worker);
                for n in 0..POINTS {
                    points.remove(&(point(worker, n), worker));
                }
            }
        }
    }

    /// The worker that is next, of those that are in; `last` is the one that got the job before.
    pub(crate) fn choose(
        &self,
        last: WorkerKey,
        affinity: Option<u64>,
        random: &mut Random,
    ) -> Option<WorkerKey> {
        match self {
            Free::Ring(ring) => after(ring, last),
            Free::Least(order) => order.first().map(|&(_, _, worker)| worker),
            Free::Weighted(order) => order.first().map(|&(_, worker)| worker),
            Free::Two { list, .. } => {
                if list.is_empty() {
                    return None;
                }
                let (one, other) = (list[random.below(list.len())], list[random.below(list.len())]);
                Some(if other.1 < one.1 { other.0 } else { one.0 })
            }
            Free::Affinity { ring, points } => match affinity {
                Some(hash) => points
                    .range((hash, WorkerKey(0))..)
                    .next()
                    .or_else(|| points.first())
                    .map(|&(_, worker)| worker),
                None => after(ring, last),
            },
        }
    }
}

fn after(ring: &BTreeSet<WorkerKey>, last: WorkerKey) -> Option<WorkerKey> {
    ring.range(WorkerKey(last.0 + 1)..)
        .next()
        .or_else(|| ring.first())
        .copied()
}

fn point(worker: WorkerKey, n: u64) -> u64 {
    mix(worker.0.wrapping_mul(POINTS).wrapping_add(n))
}

/// Where a key is on the ring.
pub(crate) fn hash(key: &str) -> u64 {
    // FNV-1a, whose bits are then spread: the same on every machine and in every version.
    let fnv = key.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    mix(fnv)
}
