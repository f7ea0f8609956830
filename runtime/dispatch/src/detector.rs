//! When a silence has lasted too long.
use crate::config::Detection;
use std::collections::VecDeque;
use std::time::Duration;

/// How many intervals between beats are remembered.
const WINDOW: usize = 100;
/// How many it takes to judge by them.
const ENOUGH: usize = 8;
/// The least deviation that is assumed, so that a few very regular beats do not make the next late one a death.
const LEAST_DEVIATION: f64 = 0.1;

/// Judges by the intervals between the beats of somebody how long a silence of his may last: the φ accrual failure detector
/// (Hayashibara and others, 2004). Times are measured from an origin of the caller's.
#[derive(Debug, Default)]
pub struct Detector {
    last: Option<Duration>,
    intervals: VecDeque<f32>,
}

impl Detector {
    /// A beat has arrived.
    pub fn beat(&mut self, detection: Detection, now: Duration) {
        if detection == Detection::Fixed {
            return;
        }
        if let Some(last) = self.last.replace(now) {
            if self.intervals.len() == WINDOW {
                self.intervals.pop_front();
            }
            self.intervals.push_back(now.saturating_sub(last).as_secs_f32());
        }
    }

    /// How long a silence may last; at most `limit`, and just that until there were enough beats to judge by.
    pub fn patience(&self, detection: Detection, limit: Duration) -> Duration {
        let Detection::PhiAccrual { threshold } = detection else {
            return limit;
        };
        let Some((mean, deviation)) = self.normal() else {
            return limit;
        };
        // φ grows with the silence, so the deviation at which it passes the threshold is found by halving.
        let (mut low, mut high) = (0.0, 40.0);
        for _ in 0..40 {
            let middle = (low + high) / 2.0;
            if phi(middle) < threshold {
                low = middle;
            } else {
                high = middle;
            }
        }
        Duration::try_from_secs_f64(mean + high * deviation).map_or(limit, |patience| patience.min(limit))
    }

    /// φ of a silence: 1 if one beat in ten has been so late, 2 if one in a hundred, and so on. None until there were enough
    /// beats to judge by.
    pub fn phi(&self, silence: Duration) -> Option<f64> {
        let (mean, deviation) = self.normal()?;
        Some(phi((silence.as_secs_f64() - mean) / deviation))
    }

    /// The mean of the intervals and their deviation, in seconds.
    fn normal(&self) -> Option<(f64, f64)> {
        if self.intervals.len() < ENOUGH {
            return None;
        }
        let count = self.intervals.len() as f64;
        let mean = self.intervals.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = self
            .intervals
            .iter()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / count;
        Some((mean, variance.sqrt().max(LEAST_DEVIATION.max(mean / 10.0))))
    }
}

/// −log₁₀ of the probability that a normally distributed interval is `y` deviations above the mean or more, by the logistic
/// approximation of the normal distribution (Bowling and others, 2009).
fn phi(y: f64) -> f64 {
    let x = y * (1.5976 + 0.070566 * y * y);
    // log10(1 + eˣ), which must not overflow.
    (x.max(0.0) + (-x.abs()).exp().ln_1p()) / std::f64::consts::LN_10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_is_the_probability_of_a_normal_distribution() {
        for (deviations, probability) in [(0.0, 0.5), (1.0, 0.1587), (3.0, 0.00135), (4.0, 3.17e-5)] {
            let exact = -f64::log10(probability);
            assert!((phi(deviations) / exact - 1.0).abs() < 0.06, "{deviations}");
        }
    }

    #[test]
    fn regular_beats_make_for_little_patience() {
        let detection = Detection::PhiAccrual { threshold: 8.0 };
        let limit = Duration::from_secs(30);
        let mut detector = Detector::default();
        for n in 0..20 {
            assert!(n > ENOUGH || detector.patience(detection, limit) == limit);
            detector.beat(detection, Duration::from_secs(n as u64));
        }
        let patience = detector.patience(detection, limit);
        assert!(
            Duration::from_millis(1300) < patience && patience < Duration::from_secs(2),
            "{patience:?}"
        );
        let late = detector.phi(patience).expect("enough beats");
        assert!((late - 8.0).abs() < 0.01, "{late}");
        assert_eq!(
            detector.patience(detection, Duration::from_secs(1)),
            Duration::from_secs(1)
        );
    }
}
