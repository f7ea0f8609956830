//! Routes: what jobs need whose data match a glob.
use torhost_protocol::SubmitOptions;

/// Routes, in order: the first whose glob matches counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes(pub(crate) Vec<Route>);

/// What is asked for jobs whose data match, where they do not say it themselves.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) glob: Glob,
    pub(crate) options: SubmitOptions,
}

impl Routes {
    /// Adds what the first route that matches has for a submission and the submission does not say itself.
    pub(crate) fn apply(&self, data: &[u8], options: &mut SubmitOptions) {
        if self.0.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(data);
        let Some(route) = self.0.iter().find(|route| route.glob.matches(&text)) else {
            return;
        };
        let said = std::mem::take(options);
        let route = route.options.clone();
        *options = SubmitOptions {
            priority: said.priority.or(route.priority),
            requires: said.requires.or(route.requires),
            timeout: said.timeout.or(route.timeout),
            retries: said.retries.or(route.retries),
            ..said
        };
    }
}

/// A pattern of Tcl's `string match`, with which it agrees in every case.
///
/// What it costs to match grows with the length of the text times that of the pattern, at the worst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<u16>);

const STAR: u16 = b'*' as u16;
const ANY: u16 = b'?' as u16;
const SET: u16 = b'[' as u16;
const SET_END: u16 = b']' as u16;
const RANGE: u16 = b'-' as u16;
const ESCAPE: u16 = b'\\' as u16;

impl Glob {
    /// Every text is a pattern.
    pub(crate) fn new(pattern: &str) -> Glob {
        // Tcl 8.6 has a character beyond U+FFFF as two.
        Glob(pattern.encode_utf16().collect())
    }

    /// Whether all of a text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        // The places in the pattern that the text until here leads to.
        let (mut here, mut next) = (Vec::new(), Vec::new());
        let ends_with_star = self.0.last() == Some(&STAR);
        self.reach(0, &mut here);
        for unit in text.encode_utf16() {
            if ends_with_star && here.contains(&(self.0.len() - 1)) {
                return true;
            }
            for &at in &here {
                match self.0.get(at) {
                    Some(&STAR) => self.reach(at, &mut next),
                    _ => {
                        if let Some(after) = self.step(at, unit) {
                            self.reach(after, &mut next);
                        }
                    }
                }
            }
            if next.is_empty() {
                return false;
            }
            here.clear();
            std::mem::swap(&mut here, &mut next);
        }
        here.contains(&self.0.len())
    }

    /// Notes a place, and those behind it that need no text.
    fn reach(&self, mut at: usize, places: &mut Vec<usize>) {
        loop {
            if !places.contains(&at) {
                places.push(at);
            }
            if self.0.get(at) != Some(&STAR) {
                return;
            }
            at += 1;
        }
    }

    /// The place behind the part of the pattern at a place that is no star, if a character matches it.
    fn step(&self, at: usize, unit: u16) -> Option<usize> {
        match *self.0.get(at)? {
            ANY => Some(at + 1),
            SET => self.set(at + 1, unit),
            ESCAPE => (*self.0.get(at + 1)? == unit).then_some(at + 2),
            plain => (plain == unit).then_some(at + 1),
        }
    }

    /// As [`Glob::step`], for a set that begins here. Where it ends depends on what matches: `[a-]]` is the range from `]` to `a`.
    fn set(&self, mut at: usize, unit: u16) -> Option<usize> {
        loop {
            let from = *self.0.get(at).filter(|&&from| from != SET_END)?;
            at += 1;
            let mut to = from;
            if self.0.get(at) == Some(&RANGE) {
                to = *self.0.get(at + 1)?;
                at += 2;
            }
            if (from.min(to)..=from.max(to)).contains(&unit) {
                break;
            }
        }
        let rest = &self.0[at..];
        let end = rest.iter().position(|&unit| unit == SET_END);
        // A set that is not closed ends with the pattern.
        Some(at + end.map_or(rest.len(), |end| end + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use torhost_tcl::{Interp, Obj};

    thread_local! {
        static INTERP: torhost_tcl::OwnedInterp = Interp::new().unwrap();
    }

    fn tcl_matches(pattern: &str, text: &str) -> bool {
        let words = ["string", "match", pattern, text].map(Obj::from);
        INTERP.with(|interp| interp.call(&words).unwrap().to_bool().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn globs_are_those_of_string_match(
            pattern in r"([ab\]\[\-*?\\^é😀]|\[[ab\]\-]{0,4}\]){0,8}",
            text in r"[ab\]\[\-\\^é😀]{0,8}",
        ) {
            prop_assert_eq!(Glob::new(&pattern).matches(&text), tcl_matches(&pattern, &text));
        }
    }

    #[test]
    fn a_glob_that_nearly_matches_everywhere_takes_no_time() {
        let glob = Glob::new(&"*a".repeat(40));
        assert!(!glob.matches(&"a".repeat(39).repeat(2000).replace('a', "ab")));
        assert!(glob.matches(&"a".repeat(80_000)));
    }

    #[test]
    fn a_submission_goes_before_its_route() {
        let asks = |timeout: u64| SubmitOptions {
            priority: Some(5),
            requires: Some(vec!["gpu".into()]),
            timeout: Some(Duration::from_secs(timeout)),
            ..SubmitOptions::default()
        };
        let route = |glob, timeout| Route {
            glob: Glob::new(glob),
            options: asks(timeout),
        };
        let routes = Routes(vec![route("gpu:*", 1), route("*", 2)]);
        let mut options = SubmitOptions::default();
        routes.apply(b"gpu:1", &mut options);
        assert_eq!(options, asks(1), "the first that matches");
        let mut options = SubmitOptions {
            priority: Some(0),
            requires: Some(Vec::new()),
            ..SubmitOptions::default()
        };
        routes.apply(b"\xff", &mut options);
        assert_eq!(
            (options.priority, options.requires, options.timeout),
            (Some(0), Some(Vec::new()), Some(Duration::from_secs(2)))
        );
    }
}
