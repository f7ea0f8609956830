//! When a node that died is started again.
use std::time::Duration;

/// A node that ran this long, ready, has not died "in a row".
const STABLE: Duration = Duration::from_secs(60);
/// The longest delay before a restart.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// How often, and how soon, nodes are started again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// The delay before the first restart; each further one in a row waits twice as long.
    pub(crate) delay: Duration,
    /// How many restarts in a row there are before a node is left alone.
    pub(crate) limit: u32,
}

/// The deaths in a row of one node.
#[derive(Debug, Default)]
pub(crate) struct Deaths(u32);

impl Deaths {
    /// Counts a death after a run that was ready for `ready`, and tells the delay before the next start; `None` when there
    /// were too many.
    pub(crate) fn next_delay(&mut self, ready: Duration, policy: Policy) -> Option<Duration> {
        if ready >= STABLE {
            self.0 = 0;
        }
        if self.0 >= policy.limit {
            return None;
        }
        let delay = policy.delay.saturating_mul(2_u32.saturating_pow(self.0));
        self.0 += 1;
        Some(delay.min(LONGEST_DELAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_longest_and_then_the_node_is_left_alone() {
        let policy = Policy {
            delay: Duration::from_secs(1),
            limit: 7,
        };
        let mut deaths = Deaths::default();
        let mut seconds = || {
            deaths
                .next_delay(Duration::ZERO, policy)
                .map(|delay| delay.as_secs())
        };
        let seen: Vec<_> = (0..8).map(|_| seconds()).collect();
        let expected = [1, 2, 4, 8, 16, 30, 30].map(Some);
        assert_eq!(seen, [&expected[..], &[None]].concat());
    }

    #[test]
    fn a_stable_run_starts_the_count_anew() {
        let policy = Policy {
            delay: Duration::from_secs(1),
            limit: 1,
        };
        let mut deaths = Deaths::default();
        assert!(deaths.next_delay(Duration::ZERO, policy).is_some());
        assert!(deaths.next_delay(STABLE, policy).is_some());
        assert!(deaths.next_delay(Duration::ZERO, policy).is_none());
    }
}
