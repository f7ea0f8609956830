//! Times at which something is to be done, for a service that has many of them.
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// At most one time for each key.
#[derive(Debug)]
pub(crate) struct Alarms<K> {
    times: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Alarms<K> {
    fn default() -> Alarms<K> {
        Alarms {
            times: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Alarms<K> {
    /// Sets the time of a key, in place of the one that it had; or none.
    pub(crate) fn set(&mut self, key: K, at: Option<Instant>) {
        if let Some(before) = self.times.remove(&key) {
            self.order.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.times.insert(key.clone(), at);
            self.order.insert((at, key));
        }
    }

    /// The first time of all.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(at, _)| at)
    }

    /// The first key whose time has come; it has none from now on.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.times.remove(&key);
        Some(key)
    }
}
