//! Names that are to be heard of again and again, and what is done when one falls silent.
use crate::alarms::Alarms;
use crate::tor::Callback;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use torhost_dispatch::{Detection, Detector};
use torhost_tcl::Obj;

/// A name that an interpreter watches, and the number of that interpreter.
pub(crate) type WatchKey = (u64, Arc<str>);

/// How a name is watched.
#[derive(Debug)]
pub(crate) struct Terms {
    /// How often it is to be heard of.
    pub(crate) interval: Duration,
    /// The longest silence.
    pub(crate) timeout: Duration,
    pub(crate) detection: Detection,
    /// The number of the socket on which each line counts as a beat.
    pub(crate) socket: Option<u64>,
    pub(crate) on_down: Option<Callback>,
    pub(crate) on_up: Option<Callback>,
}

/// What is known of a name.
#[derive(Debug)]
struct Watch {
    terms: Terms,
    /// Since when it is watched.
    since: Instant,
    heard: Instant,
    /// When it was last heard as a beat that the detector counts.
    counted: Instant,
    beats: u64,
    is_down: bool,
    detector: Detector,
    /// How long a silence may last, as things are.
    patience: Duration,
    /// Gone with the watch, and so the calls that are still on their way to the script.
    alive: Arc<()>,
}

/// What a script can see of a watch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Status {
    pub(crate) is_down: bool,
    pub(crate) silent: Duration,
    pub(crate) beats: u64,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) phi: Option<f64>,
}

/// All watches.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    watches: HashMap<WatchKey, Watch>,
    alarms: Alarms<WatchKey>,
}

impl Watch {
    fn tell(&self, callback: Option<&Callback>, key: &WatchKey, silent: Duration) {
        let Some(callback) = callback else { return };
        let (name, alive) = (key.1.clone(), Arc::downgrade(&self.alive));
        let args = move || {
            alive.upgrade()?;
            Some(vec![Obj::from(&*name), Obj::from(silent.as_millis() as u64)])
        };
        callback.call(args);
    }

    fn status(&self, now: Instant) -> Status {
        let silent = now.saturating_duration_since(self.heard);
        Status {
            is_down: self.is_down,
            silent,
            beats: self.beats,
            interval: self.terms.interval,
            timeout: self.terms.timeout,
            phi: self.detector.phi(silent),
        }
    }
}

impl Watches {
    /// Watches a name from now on, anew if it is watched already.
    pub(crate) fn insert(&mut self, key: WatchKey, terms: Terms, now: Instant) {
        let watch = Watch {
            since: now,
            heard: now,
            counted: now,
            beats: 0,
            is_down: false,
            detector: Detector::default(),
            patience: terms.timeout,
            alive: Arc::default(),
            terms,
        };
        self.alarms.set(key.clone(), Some(now + watch.patience));
        self.watches.insert(key, watch);
    }

    /// Whether there was such a watch.
    pub(crate) fn remove(&mut self, key: &WatchKey) -> Option<Terms> {
        self.alarms.set(key.clone(), None);
        self.watches.remove(key).map(|watch| watch.terms)
    }

    /// The names that an interpreter watches.
    pub(crate) fn names(&self, owner: u64) -> Vec<WatchKey> {
        let mut keys: Vec<WatchKey> = self
            .watches
            .keys()
            .filter(|key| key.0 == owner)
            .cloned()
            .collect();
        keys.sort_unstable();
        keys
    }

    pub(crate) fn status(&self, key: &WatchKey, now: Instant) -> Option<Status> {
        self.watches.get(key).map(|watch| watch.status(now))
    }

    /// A sign of life. Whether the name is watched.
    ///
    /// All signs are, but only those that come half an interval or more after one another are beats to judge the next silence by:
    /// a burst of lines says nothing about how often there will be one.
    pub(crate) fn heard(&mut self, key: &WatchKey, now: Instant) -> bool {
        let Some(watch) = self.watches.get_mut(key) else {
            return false;
        };
        let silent = now.saturating_duration_since(watch.heard);
        watch.heard = watch.heard.max(now);
        watch.beats += 1;
        let was_down = std::mem::replace(&mut watch.is_down, false);
        if was_down {
            // One that was away may keep another time now.
            watch.detector = Detector::default();
            watch.tell(watch.terms.on_up.as_ref(), key, silent);
        }
        if was_down
            || watch.beats == 1
            || now.saturating_duration_since(watch.counted) >= watch.terms.interval / 2
        {
            let (detection, since) = (watch.terms.detection, watch.since);
            watch.counted = now;
            watch
                .detector
                .beat(detection, now.saturating_duration_since(since));
            watch.patience = watch.detector.patience(detection, watch.terms.timeout);
            let at = watch.heard + watch.patience;
            self.alarms.set(key.clone(), Some(at));
        }
        true
    }

    /// Nobody listened for so long: those who should have been heard of in that time are given as long once more.
    pub(crate) fn was_away(&mut self, now: Instant, gap: Duration) {
        let missed = |watch: &&mut Watch| !watch.is_down && gap >= watch.terms.interval;
        for watch in self.watches.values_mut().filter(missed) {
            watch.heard = now;
        }
    }

    /// When [`Watches::judge`] is to be called.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.alarms.next()
    }

    /// Looks at those whose time has come. `is_held` tells whether a socket is not listened to for now, so that its silence means
    /// nothing.
    pub(crate) fn judge(&mut self, now: Instant, is_held: impl Fn(u64) -> bool) {
        while let Some(key) = self.alarms.pop_due(now) {
            let Some(watch) = self.watches.get_mut(&key) else {
                continue;
            };
            let silent = now.saturating_duration_since(watch.heard);
            if watch.terms.socket.is_some_and(&is_held) {
                self.alarms.set(key, Some(now + watch.patience));
            } else if silent < watch.patience {
                self.alarms.set(key, Some(watch.heard + watch.patience));
            } else if !watch.is_down {
                watch.is_down = true;
                watch.tell(watch.terms.on_down.as_ref(), &key, silent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> WatchKey {
        (1, "worker1".into())
    }

    fn watched(detection: Detection, socket: Option<u64>) -> (Watches, Instant) {
        let (mut watches, start) = (Watches::default(), Instant::now());
        let terms = Terms {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            detection,
            socket,
            on_down: None,
            on_up: None,
        };
        watches.insert(key(), terms, start);
        (watches, start)
    }

    /// Lets time pass up to a moment, and tells whether the name is down then.
    fn is_down_at(watches: &mut Watches, now: Instant) -> bool {
        while let Some(next) = watches.next().filter(|&next| next <= now) {
            watches.judge(next, |_| false);
        }
        watches.status(&key(), now).unwrap().is_down
    }

    const PHI: Detection = Detection::PhiAccrual { threshold: 8.0 };

    #[test]
    fn a_silence_is_judged_by_the_timeout_from_the_first_moment_on() {
        for detection in [Detection::Fixed, PHI] {
            let (mut watches, start) = watched(detection, None);
            let second = Duration::from_secs(1);
            assert!(!is_down_at(&mut watches, start + 9 * second));
            assert!(watches.heard(&key(), start + 9 * second));
            assert!(!is_down_at(&mut watches, start + 18 * second));
            assert!(is_down_at(&mut watches, start + 19 * second));
            assert!(watches.next().is_none(), "nothing is left to be judged");
            watches.heard(&key(), start + 60 * second);
            assert!(!is_down_at(&mut watches, start + 69 * second));
            assert!(is_down_at(&mut watches, start + 70 * second));
        }
    }

    #[test]
    fn a_beat_that_does_not_count_is_a_sign_of_life() {
        let (mut watches, start) = watched(Detection::Fixed, None);
        for tenths in 0..100 {
            watches.heard(&key(), start + Duration::from_millis(100 * tenths));
        }
        assert!(!is_down_at(&mut watches, start + Duration::from_millis(19_899)));
        assert!(is_down_at(&mut watches, start + Duration::from_millis(19_900)));
        assert_eq!(
            watches
                .status(&key(), start + Duration::from_secs(20))
                .unwrap()
                .beats,
            100
        );
    }

    #[test]
    fn regular_beats_make_for_little_patience_and_bursts_do_not() {
        let (mut watches, start) = watched(PHI, None);
        let mut now = start;
        for _ in 0..20 {
            now += Duration::from_secs(1);
            for _ in 0..100 {
                watches.heard(&key(), now);
            }
        }
        assert!(watches.status(&key(), now).unwrap().phi.is_some());
        assert!(!is_down_at(&mut watches, now + Duration::from_millis(1300)));
        assert!(is_down_at(&mut watches, now + Duration::from_secs(2)));
    }

    #[test]
    fn one_who_is_not_listened_to_is_not_silent() {
        let (mut watches, start) = watched(Detection::Fixed, Some(7));
        let second = Duration::from_secs(1);
        for n in 1..6 {
            watches.judge(start + 10 * n * second, |socket| socket == 7);
        }
        assert!(!watches.status(&key(), start + 50 * second).unwrap().is_down);
        assert!(is_down_at(&mut watches, start + 60 * second));
    }
}
