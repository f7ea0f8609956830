//! Whether to look again before going to sleep.
//!
//! To wake a thread that sleeps takes longer than to serve what it is woken for, above all on a virtual machine whose idle core
//! is given back. Where single events follow one another within microseconds, as with a client that waits for each result, the reactor
//! therefore looks a while for the next before it sleeps. It does so only as long as that pays, and as no other thread wants its core.
//! Where many events come at once it does not: then it is not the waking that costs, and the others have work to do meanwhile.
use std::time::{Duration, Instant};

/// How long it looks: longer than a fast disk takes to sync.
const SPIN: Duration = Duration::from_micros(250);
/// An event that comes within this time, with or without sleep, makes it look the next time.
const SOON: Duration = Duration::from_micros(400);
/// So many events at once are many.
const MANY: usize = 4;
/// A look that takes longer, with the offer of the core to others that follows it, has let another thread run.
const CROWDED: Duration = Duration::from_micros(100);
/// How often it goes to sleep at once after that.
const PATIENCE: u32 = 200;

/// Remembers what came of it.
#[derive(Debug, Default)]
pub(super) struct Spin {
    /// The last event came soon, and with few others.
    pays: bool,
    /// So many times it is not tried, since others want the core.
    rests: u32,
}

impl Spin {
    /// Calls `look` until it finds something or it is time to sleep. Returns whether it found something.
    pub(super) fn spin(&mut self, mut look: impl FnMut() -> bool) -> bool {
        if self.rests > 0 {
            self.rests -= 1;
            return false;
        }
        if !self.pays {
            return false;
        }
        let began = Instant::now();
        let mut now = began;
        while now - began < SPIN {
            if look() {
                return true;
            }
            std::thread::yield_now();
            let after = Instant::now();
            if after - now > CROWDED {
                self.rests = PATIENCE;
                return false;
            }
            now = after;
        }
        false
    }

    /// It took so long until there was something, after looking and sleeping, and there were so many events.
    pub(super) fn waited(&mut self, time: Duration, events: usize) {
        self.pays = time < SOON && events < MANY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_only_while_that_pays() {
        let mut spin = Spin::default();
        assert!(!spin.spin(|| panic!("nothing has come soon yet")));
        spin.waited(SOON / 2, 1);
        assert!(spin.spin(|| true));
        spin.waited(SOON * 2, 1);
        assert!(!spin.spin(|| panic!("the last was late")));
        spin.waited(SOON / 2, MANY);
        assert!(!spin.spin(|| panic!("there is enough to do")));
    }

    #[test]
    fn it_leaves_the_core_to_others() {
        let mut spin = Spin::default();
        spin.waited(Duration::ZERO, 1);
        let mut looks = 0;
        let slow = || {
            looks += 1;
            std::thread::sleep(CROWDED * 2);
            false
        };
        assert!(!spin.spin(slow));
        assert_eq!(looks, 1);
        assert!(!spin.spin(|| panic!("it rests")));
    }
}
