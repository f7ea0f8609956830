//! A worker, as the engine sees it.
use crate::balance::Standing;
use crate::class::ClassId;
use crate::detector::Detector;
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use torhost_protocol::Handle;

/// A worker that has joined. Keys are given in order and never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerKey(pub(crate) u64);

/// What a worker says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// Its name. One that has it already is gone.
    pub name: String,
    /// What it offers.
    pub capabilities: Vec<String>,
    /// How many attempts it takes at once. At least 1.
    pub slots: u32,
    /// How many more attempts it takes beforehand, for when a slot is free. It begins them in the order in which it was sent them.
    pub prefetch: u32,
    /// Its share of the jobs under [`crate::Policy::Weighted`]. At least 1.
    pub weight: u32,
    /// What it was given before, by this engine or the one that was stored, and still does or has done.
    pub running: Vec<Handle>,
}

impl Joining {
    /// A worker of one slot that offers nothing in particular.
    pub fn new(name: impl Into<String>) -> Joining {
        Joining {
            name: name.into(),
            capabilities: Vec::new(),
            slots: 1,
            prefetch: 0,
            weight: 1,
            running: Vec::new(),
        }
    }
}

/// A worker that is connected.
#[derive(Debug)]
pub struct Worker {
    /// Its name.
    pub name: Arc<str>,
    /// What it offers.
    pub capabilities: Vec<String>,
    /// How many attempts it takes at once.
    pub slots: u32,
    /// How many more it takes beforehand.
    pub prefetch: u32,
    /// The attempts that it was sent to begin at once and has not answered, also those that count no more.
    pub running: FxHashSet<Handle>,
    /// Those that it begins after them, in this order, as slots become free.
    pub prefetched: VecDeque<Handle>,
    /// When it joined.
    pub since: Duration,
    /// When it last said anything.
    pub heard: Duration,
    /// How many results of it were taken.
    pub completed: u64,
    /// How many of its attempts failed.
    pub failed: u64,
    pub(crate) suspect: bool,
    pub(crate) draining: bool,
    /// Jobs that it was sent beforehand were overtaken by later ones, and it has not answered since.
    pub(crate) is_behind: bool,
    pub(crate) detector: Detector,
    pub(crate) stride: u64,
    pub(crate) standing: Standing,
    /// Among which workers of its classes it is, with `standing`.
    pub(crate) listed: Option<Room>,
    /// The classes of jobs that it could do.
    pub(crate) classes: Vec<ClassId>,
}

/// Where a worker has room for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// In a slot.
    Slot,
    /// Behind those that have the slots.
    Ahead,
}

/// What a worker is good for just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// It has a free slot.
    Ready,
    /// All its slots are taken.
    Busy,
    /// It has been silent for too long. Any sign of life makes it ready again.
    Suspect,
    /// It takes no more jobs.
    Draining,
}

impl WorkerState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerState::Ready => "ready",
            WorkerState::Busy => "busy",
            WorkerState::Suspect => "suspect",
            WorkerState::Draining => "draining",
        }
    }
}

impl Worker {
    /// What it is good for just now.
    pub fn state(&self) -> WorkerState {
        if self.suspect {
            WorkerState::Suspect
        } else if self.draining {
            WorkerState::Draining
        } else if self.running.len() >= self.slots as usize {
            WorkerState::Busy
        } else {
            WorkerState::Ready
        }
    }

    /// Whether it may be sent jobs beforehand: not while some that it was sent have been overtaken, until it answers.
    pub fn takes_beforehand(&self) -> bool {
        self.prefetch > 0 && !self.is_behind
    }

    /// Where the next job would go that it is given; none if it is to get none.
    pub(crate) fn room(&self) -> Option<Room> {
        // One that does not keep to the order may have begun more than it has slots, and gets no more for that.
        let has = self.running.len() + self.prefetched.len();
        match self.state() {
            WorkerState::Ready => Some(Room::Slot),
            WorkerState::Busy
                if self.takes_beforehand() && has < self.slots as usize + self.prefetch as usize =>
            {
                Some(Room::Ahead)
            }
            WorkerState::Busy | WorkerState::Suspect | WorkerState::Draining => None,
        }
    }

    pub(crate) fn offers(&self, requires: &[String]) -> bool {
        requires.iter().all(|needed| self.capabilities.contains(needed))
    }
}
