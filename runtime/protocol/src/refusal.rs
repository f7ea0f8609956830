//! Why a request is refused: the `ERROR` lines.
use std::fmt;

/// Declares the codes with their texts and meanings, so that there is one list of them.
macro_rules! codes {
    ($($name:ident $text:literal $meaning:literal)*) => {
        /// The code of an `ERROR` line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// All codes, in the order of `docs/protocol.md`.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// As it stands in the line: `unknown-job`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// What it means, as `docs/protocol.md` says it.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    BadJson "bad-json" "not a JSON object"
    BadRequest "bad-request" "a field is missing, unknown or out of range; the text says what was expected"
    UnknownVerb "unknown-verb" "no such verb"
    UnknownJob "unknown-job" "no such job, or it ended so long ago that it is forgotten"
    NotEnded "not-ended" "this job has not ended, and so it cannot be purged; the text says what it is"
    StaleAttempt "stale-attempt" "this attempt no longer counts"
    NotAWorker "not-a-worker" "only for connections that have sent `REGISTER`"
    Replaced "replaced" "another connection has registered with this worker's id; this one is closed"
    Busy "busy" "too many connections are open; this one is closed"
    Refused "refused" "the coordinator's script does not admit this job; the text says why"
    QueueFull "queue-full" "too many jobs wait; try again later"
    Overloaded "overloaded" "jobs cannot be kept for now, as when the disk is full; the text says why"
    LineTooLong "line-too-long" "the connection is closed after this"
    Internal "internal" "a mistake in the coordinator; its log has the details"
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a request is not done. Prints as `code:text`, which is what follows `ERROR:`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}:{text}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what was expected, or the name that is not known.
    pub text: String,
}

impl Refusal {
    /// A refusal with this code and text.
    pub fn new(code: Code, text: impl Into<String>) -> Refusal {
        Refusal {
            code,
            text: text.into(),
        }
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Refusal {
        Refusal::new(Code::BadRequest, text)
    }
}

/// The beginning of a name that is repeated in an error: 40 characters.
pub(crate) fn excerpt(name: &[u8]) -> String {
    // No character has more than 4 bytes; the rest of a long line need not be read.
    let start = &name[..name.len().min(160)];
    String::from_utf8_lossy(start).chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_the_protocol_has_these_codes() {
        let page = include_str!("../../../docs/protocol.md");
        let table = page
            .split("## Errors")
            .nth(1)
            .and_then(|rest| rest.split("\n## ").next())
            .unwrap();
        let listed: Vec<_> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
            .collect();
        let known: Vec<_> = Code::ALL
            .iter()
            .map(|code| (code.as_str(), code.meaning()))
            .collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn refusals_print_as_they_are_sent() {
        let refusal = Refusal::new(Code::UnknownJob, "JOB-9");
        assert_eq!(refusal.to_string(), "unknown-job:JOB-9");
    }

    #[test]
    fn excerpts_are_forty_characters_of_whatever_it_is() {
        assert_eq!(excerpt("ç".repeat(50).as_bytes()), "ç".repeat(40));
        assert_eq!(excerpt("😀".repeat(50).as_bytes()), "😀".repeat(40));
        assert_eq!(excerpt(&[0xff; 50]), "\u{fffd}".repeat(40));
        assert_eq!(excerpt(b"short"), "short");
    }
}
