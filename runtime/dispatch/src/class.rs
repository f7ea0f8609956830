//! Jobs that require the same of a worker: their queue, and the workers that could take them.
use crate::balance::Free;
use crate::config::Policy;
use crate::worker::{Room, WorkerKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use torhost_protocol::JobId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClassId(pub(crate) u32);

/// Where a job stands in a queue: before all of a lower priority, and before those of its own that came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The complement of the priority, which is the less the higher that is.
    against_priority: i32,
    rank: u64,
}

impl Place {
    pub(crate) fn new(priority: i32, rank: u64) -> Place {
        Place::at(!priority, rank)
    }

    fn at(against_priority: i32, rank: u64) -> Place {
        Place {
            against_priority,
            rank,
        }
    }

    /// The last place of the same priority that is not after this rank.
    pub(crate) fn at_most(self, rank: u64) -> Place {
        Place {
            rank: self.rank.min(rank),
            ..self
        }
    }

    /// The priority of the jobs there.
    pub(crate) fn priority(self) -> i32 {
        !self.against_priority
    }

    pub(crate) fn rank(self) -> u64 {
        self.rank
    }

    /// The first place of its priority.
    pub(crate) fn first_of_priority(self) -> Place {
        Place { rank: 0, ..self }
    }
}

pub(crate) struct Class {
    pub(crate) requires: Vec<String>,
    /// Those that are here.
    pub(crate) waiting: BTreeMap<Place, JobId>,
    /// Those that are not.
    pub(crate) spilled: SpilledQueue,
    /// All workers that have what is required.
    pub(crate) workers: BTreeSet<WorkerKey>,
    /// Those of them that have a free slot.
    pub(crate) free: Free,
    /// Those that have none, and could take a job beforehand.
    pub(crate) spare: Free,
    /// Prefetched jobs that have waited for a slot for too long.
    pub(crate) stuck: BTreeMap<Place, JobId>,
    /// Jobs that have not ended.
    pub(crate) jobs: usize,
}

impl Class {
    pub(crate) fn new(requires: Vec<String>, policy: Policy) -> Class {
        Class {
            requires,
            waiting: BTreeMap::new(),
            spilled: SpilledQueue::default(),
            workers: BTreeSet::new(),
            free: Free::new(policy),
            spare: Free::new(policy),
            stuck: BTreeMap::new(),
            jobs: 0,
        }
    }

    /// The workers with such room.
    pub(crate) fn with(&mut self, room: Room) -> &mut Free {
        match room {
            Room::Slot => &mut self.free,
            Room::Ahead => &mut self.spare,
        }
    }

    /// Where the workers have room that may take a job now: beforehand only if there is no free slot.
    pub(crate) fn room(&self) -> Room {
        if self.free.is_empty() {
            Room::Ahead
        } else {
            Room::Slot
        }
    }

    /// Those workers.
    pub(crate) fn takers(&self) -> &Free {
        match self.room() {
            Room::Slot => &self.free,
            Room::Ahead => &self.spare,
        }
    }

    /// The first job of the queue, unless it is not here.
    pub(crate) fn head(&self) -> Option<(&Place, &JobId)> {
        let head = self.waiting.first_key_value();
        if self.spilled.is_empty() {
            return head;
        }
        head.filter(|(place, _)| self.spilled.first().is_none_or(|first| **place < first))
    }
}

/// The places of jobs that are spilled, and of those that are being brought back. Some may have been brought back on their own, or ended.
#[derive(Default)]
pub(crate) struct SpilledQueue {
    /// By priority, those of the highest first; for each in the order of their ranks.
    queues: BTreeMap<i32, VecDeque<(u64, JobId)>>,
    /// Those that the host was asked for.
    pub(crate) coming: BTreeMap<Place, JobId>,
}

impl SpilledQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.coming.is_empty()
    }

    /// Whether there is nothing left to ask the host for.
    pub(crate) fn is_used_up(&self) -> bool {
        self.queues.is_empty()
    }

    fn first(&self) -> Option<Place> {
        let coming = self.coming.first_key_value().map(|(&place, _)| place);
        let first = self.queues.first_key_value();
        let queued = first.and_then(|(&against, queue)| Some(Place::at(against, queue.front()?.0)));
        coming.into_iter().chain(queued).min()
    }

    /// Whether a place is after all of these.
    pub(crate) fn are_before(&self, place: Place) -> bool {
        let last = self.queues.last_key_value();
        let last = last.and_then(|(&against, queue)| Some(Place::at(against, queue.back()?.0)));
        last.is_some_and(|last| place > last)
    }

    /// Adds a job at one end of those of its priority. Whether it belongs there.
    pub(crate) fn push(&mut self, place: Place, id: JobId) -> bool {
        let queue = self.queues.entry(place.against_priority).or_default();
        if queue.back().is_none_or(|&(last, _)| last < place.rank) {
            queue.push_back((place.rank, id));
        } else if queue.front().is_some_and(|&(first, _)| first > place.rank) {
            queue.push_front((place.rank, id));
        } else {
            return false;
        }
        true
    }

    /// The first job, which is not there any more.
    pub(crate) fn pop(&mut self) -> Option<(Place, JobId)> {
        let mut first = self.queues.first_entry()?;
        let against_priority = *first.key();
        let popped = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        let (rank, id) = popped?;
        Some((Place::at(against_priority, rank), id))
    }
}
