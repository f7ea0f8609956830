//! What a worker receives.
use crate::id::Handle;
use crate::json;
use memchr::memchr;
use std::borrow::Cow;
use std::time::Duration;

/// A line from the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order<'a> {
    /// This connection is a worker's now.
    Registered(Registered),
    /// Do this.
    Process {
        /// What to answer with.
        handle: Handle,
        /// What to process.
        data: Cow<'a, [u8]>,
    },
    /// Stop this attempt, and answer `JOB_FAILED` to free its slot.
    Cancel(Handle),
    /// Give this attempt back by `JOB_RETURNED`, if it has not begun.
    Return(Handle),
    /// The coordinator stops: take no more, finish what runs.
    Drain,
    /// To be answered with `PONG`.
    Ping,
    /// The answer to `PING`.
    Pong,
    /// Something was refused.
    Error {
        /// One of [`crate::Code`], or one of a newer coordinator.
        code: &'a [u8],
        /// For people.
        text: &'a [u8],
    },
    /// To be ignored.
    Unknown,
}

/// What the coordinator tells a worker that has registered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    /// The newest protocol that the coordinator speaks.
    pub protocol: u32,
    /// The worker's id.
    pub id: String,
    /// How often to send a heartbeat, to the millisecond; 0 if it was not said.
    pub heartbeat: Duration,
    /// The longest line that the coordinator takes, in bytes; 0 if it was not said.
    pub max_line: u64,
    /// Names one life of the coordinator's job numbers: handles of another one mean nothing.
    pub epoch: String,
}

/// Reads a line, without its `\n`, from the coordinator. A `\r` at its end is dropped. What cannot be read is
/// [`Order::Unknown`], so that coordinators may learn new verbs.
pub fn parse_order(line: &[u8]) -> Order<'_> {
    order(line.strip_suffix(b"\r").unwrap_or(line)).unwrap_or(Order::Unknown)
}

fn order(line: &[u8]) -> Option<Order<'_>> {
    let (verb, rest) = split(line);
    Some(match verb {
        b"PROCESS_JOB" if rest.first() == Some(&b'{') => {
            let mut fields = json::object(rest).ok()?;
            Order::Process {
                handle: Handle::parse(json::text(fields.remove("handle")?).as_bytes()).ok()?,
                data: Cow::Owned(json::text(fields.remove("data")?).into_bytes()),
            }
        }
        b"PROCESS_JOB" => {
            let colon = memchr(b':', rest)?;
            Order::Process {
                handle: Handle::parse(&rest[..colon]).ok()?,
                data: Cow::Borrowed(&rest[colon + 1..]),
            }
        }
        b"CANCEL_JOB" => Order::Cancel(Handle::parse(rest).ok()?),
        b"RETURN_JOB" => Order::Return(Handle::parse(rest).ok()?),
        b"DRAIN" => Order::Drain,
        b"PING" => Order::Ping,
        b"PONG" => Order::Pong,
        b"ERROR" => {
            let (code, text) = split(rest);
            Order::Error { code, text }
        }
        b"REGISTERED" => {
            let mut fields = json::object(rest).ok()?;
            let mut field = |name| fields.remove(name).map(json::text).unwrap_or_default();
            let number = |text: String| u64::try_from(json::integer(&text)?).ok();
            Order::Registered(Registered {
                protocol: number(field("protocol"))
                    .and_then(|n| n.try_into().ok())
                    .unwrap_or(0),
                id: field("id"),
                heartbeat: Duration::from_millis(number(field("heartbeat_ms")).unwrap_or(0)),
                max_line: number(field("max_line")).unwrap_or(0),
                epoch: field("epoch"),
            })
        }
        _ => return None,
    })
}

/// What stands before the first colon, and behind it.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b':', text) {
        Some(colon) => (&text[..colon], &text[colon + 1..]),
        None => (text, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;

    fn process(job: u64, attempt: u32, data: &str) -> Order<'_> {
        let job = JobId(job);
        Order::Process {
            handle: Handle { job, attempt },
            data: Cow::Borrowed(data.as_bytes()),
        }
    }

    #[test]
    fn orders() {
        for (line, expected) in [
            ("PROCESS_JOB:JOB-1:a:b", process(1, 1, "a:b")),
            ("PROCESS_JOB:JOB-7.3:\r", process(7, 3, "")),
            ("PROCESS_JOB:JOB-1:{\"a\":1}", process(1, 1, "{\"a\":1}")),
            (
                "PROCESS_JOB:{\"handle\":\"JOB-1\",\"data\":\"a\\nb\"}",
                process(1, 1, "a\nb"),
            ),
            ("CANCEL_JOB:JOB-2", Order::Cancel(Handle::first(JobId(2)))),
            (
                "RETURN_JOB:JOB-2.3\r",
                Order::Return(Handle {
                    job: JobId(2),
                    attempt: 3,
                }),
            ),
            ("DRAIN", Order::Drain),
            ("PING", Order::Ping),
            ("PONG", Order::Pong),
            (
                "ERROR:replaced:worker a: gone",
                Order::Error {
                    code: b"replaced",
                    text: b"worker a: gone",
                },
            ),
        ] {
            assert_eq!(parse_order(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn registered_may_leave_things_out() {
        let expected = Registered {
            epoch: "e".into(),
            ..Registered::default()
        };
        assert_eq!(
            parse_order(b"REGISTERED:{\"epoch\":\"e\",\"new\":[1]}"),
            Order::Registered(expected)
        );
    }

    #[test]
    fn what_cannot_be_read_is_ignored() {
        for line in [
            "",
            "NEW:x",
            "process_job:JOB-1:x",
            "PROCESS_JOB:JOB-1",
            "PROCESS_JOB:JOB-1.1:x",
            "PROCESS_JOB:{\"handle\":\"JOB-1\"}",
            "PROCESS_JOB:{",
            "CANCEL_JOB:x",
            "RETURN_JOB:",
            "REGISTERED:x",
        ] {
            assert_eq!(parse_order(line.as_bytes()), Order::Unknown, "{line}");
        }
    }
}
