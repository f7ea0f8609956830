//! What is written is read as the same, nothing that arrives is too strange to be read, and how a stream is cut does not matter.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::borrow::Cow;
use std::time::Duration;
use torhost_protocol::*;

/// What `write` appends: exactly one line, whose end is taken off.
fn line(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out);
    let line = out.strip_prefix(b"before").unwrap().strip_suffix(b"\n").unwrap();
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    line.to_vec()
}

fn handle() -> impl Strategy<Value = Handle> {
    let job = prop_oneof![1..100u64, 1..=u64::MAX];
    let attempt = prop_oneof![1..4u32, 1..=u32::MAX];
    (job, attempt).prop_map(|(job, attempt)| Handle {
        job: JobId(job),
        attempt,
    })
}

/// Data that can be sent as they are, whatever they are; and texts of all kinds, for which JSON may be needed.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let verbatim = vec(
        any::<u8>().prop_filter("ends lines", |byte| !b"\n\r".contains(byte)),
        0..40,
    );
    prop_oneof![verbatim, text().prop_map(String::into_bytes)]
}

fn text() -> impl Strategy<Value = String> {
    let hard = select(vec![
        "\n", "\r", "{", "}", "\"", "\\", ":", "\0", "\u{7f}", "\u{2028}", "ç", "😀", "\\ud800", "a",
    ]);
    prop_oneof![any::<String>(), vec(hard, 0..12).prop_map(|parts| parts.concat())]
}

fn name() -> impl Strategy<Value = String> {
    text().prop_filter("means nothing", |name| !name.is_empty())
}

fn time() -> impl Strategy<Value = Duration> {
    // What has more than nine digits of milliseconds is sent in seconds.
    prop_oneof![
        (0..1_000_000_000u64).prop_map(Duration::from_millis),
        (1_000_000..1_000_000_000u64).prop_map(Duration::from_secs),
    ]
}

fn options() -> impl Strategy<Value = SubmitOptions> {
    let requires = vec(name(), 0..=16).prop_map(|mut words| {
        words.sort();
        words.dedup();
        words
    });
    let after = vec((1..=u64::MAX).prop_map(JobId), 0..=MAX_AFTER).prop_map(|mut jobs| {
        jobs.sort_unstable();
        jobs.dedup();
        jobs
    });
    let at = (0..253_402_300_800_000u64).prop_map(Duration::from_millis);
    (
        option::of(-100..=100i32),
        option::of(requires),
        (option::of(after), option::of(at)),
        (option::of(time()), option::of(time()), option::of(time())),
        option::of(0..=100u32),
        (option::of(name()), option::of(name())),
    )
        .prop_map(
            |(priority, requires, (after, at), (delay, timeout, deadline), retries, (key, affinity))| {
                SubmitOptions {
                    priority,
                    requires,
                    after,
                    at,
                    delay,
                    timeout,
                    deadline,
                    retries,
                    key,
                    affinity,
                }
            },
        )
}

fn registration() -> impl Strategy<Value = Registration> {
    (
        "[a-zA-Z0-9ç_.@-]{1,64}",
        text(),
        vec(text(), 0..=64),
        (1..=1000u32, 0..=1000u32),
        option::of(1..=10_000u32),
        any::<u32>(),
        option::of(text()),
        vec(handle(), 0..=1000),
        text(),
    )
        .prop_map(
            |(id, kind, capabilities, (slots, prefetch), weight, protocol, token, running, epoch)| {
                Registration {
                    id,
                    kind,
                    capabilities,
                    slots,
                    prefetch,
                    weight,
                    protocol,
                    token,
                    // Without handles it need not be said whose they are.
                    epoch: if running.is_empty() { String::new() } else { epoch },
                    running,
                }
            },
        )
}

proptest! {
    #[test]
    fn handles(handle in handle()) {
        prop_assert_eq!(handle.to_string().parse(), Ok(handle));
        prop_assert_eq!(handle.job.to_string().parse(), Ok(handle.job));
    }

    #[test]
    fn submissions(data in data(), options in option::of(options())) {
        // With options it is JSON, which holds texts only.
        let options = options.filter(|_| std::str::from_utf8(&data).is_ok()).unwrap_or_default();
        let line = line(|out| write::submit(out, &data, &options));
        let data = Cow::Owned(data);
        prop_assert_eq!(parse_request(&line), Ok(Request::Submit(Submission { data, options })));
    }

    #[test]
    fn answers_of_workers(
        handle in handle(), data in data(), info in option::of(text()), percent in 0.0..=100.0f64, note in "[^\n\r]*",
    ) {
        let written = line(|out| write::complete(out, handle, &data));
        let result = Cow::Borrowed(&data[..]);
        prop_assert_eq!(parse_request(&written), Ok(Request::Complete { handle, result }));

        let info = info.filter(|_| std::str::from_utf8(&data).is_ok());
        let written = line(|out| write::failed(out, handle, &data, info.as_deref()));
        let message = Cow::Borrowed(&data[..]);
        prop_assert_eq!(parse_request(&written), Ok(Request::Failed { handle, message, info }));

        let written = line(|out| write::progress(out, handle, percent, note.as_bytes()));
        let note = note.as_bytes();
        prop_assert_eq!(parse_request(&written), Ok(Request::Progress { handle, percent, note }));
    }

    #[test]
    fn workers(registration in registration(), clock in any::<u64>(), interp_ms in option::of(any::<u64>())) {
        let written = line(|out| write::register(out, &registration));
        prop_assert_eq!(parse_request(&written), Ok(Request::Register(registration)));

        let written = line(|out| write::heartbeat(out, clock, interp_ms));
        let clock = clock.to_string();
        let beat = Beat { clock: clock.as_bytes(), interp_ms };
        prop_assert_eq!(parse_request(&written), Ok(Request::Heartbeat(beat)));
    }

    #[test]
    fn orders(
        handle in handle(), data in data(), protocol in any::<u32>(), ms in 0..i64::MAX as u64, id in text(), epoch in text(),
    ) {
        let written = line(|out| write::process_job(out, handle, &data));
        let data = Cow::Borrowed(&data[..]);
        prop_assert_eq!(parse_order(&written), Order::Process { handle, data });

        let written = line(|out| write::cancel_job(out, handle));
        prop_assert_eq!(parse_order(&written), Order::Cancel(handle));

        let registered = Registered { protocol, id, heartbeat: Duration::from_millis(ms), max_line: ms, epoch };
        let written = line(|out| write::registered(out, &registered));
        prop_assert_eq!(parse_order(&written), Order::Registered(registered));
    }

    #[test]
    fn refusals(code in select(Code::ALL), text in text()) {
        let written = line(|out| write::error(out, code, &text));
        let shown = text.replace(char::is_control, " ");
        let error = Order::Error { code: code.as_str().as_bytes(), text: shown.as_bytes() };
        prop_assert_eq!(parse_order(&written), error);
    }

    #[test]
    fn results(job in 1..u64::MAX, outcome in select(&State::ALL[..]), data in data()) {
        let written = line(|out| write::result(out, JobId(job), outcome, &data));
        let head = format!("JOB_RESULT:JOB-{job}:{outcome}:");
        let shown = written.strip_prefix(head.as_bytes()).unwrap();
        let newlines = data.iter().filter(|byte| b"\n\r".contains(byte)).count();
        prop_assert_eq!(shown.len(), data.len() + newlines);
        prop_assert_eq!(line(|out| write::accepted(out, JobId(job))), format!("JOB_ACCEPTED:JOB-{job}").into_bytes());
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..200), at in any::<Index>()) {
        read(&bytes);
        // Behind every verb too.
        let verbs = ["SUBMIT:", "REGISTER:", "JOBS:", "JOB_COMPLETE:{", "JOB_PROGRESS:JOB-1:", "PROCESS_JOB:", "REGISTERED:"];
        read(&[at.get(&verbs).as_bytes(), &bytes].concat());
    }

    #[test]
    fn a_stream_has_the_same_lines_however_it_is_cut(
        parts in vec(prop_oneof![vec(any::<u8>(), 0..20), Just(b"\n".to_vec()), Just(b"ab\ncd\r\n\n".to_vec())], 0..12),
        mut cuts in vec(any::<Index>(), 0..12),
        stops in vec(any::<bool>(), 1..8),
        limit in 0..40usize,
    ) {
        let stream = parts.concat();
        cuts.sort_by_key(|cut| cut.index(stream.len() + 1));
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        ends.push(stream.len());

        let mut expected: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
        let too_long = expected.iter().position(|line| line.len() > limit);
        let ends_within = expected.pop().is_some_and(|rest| !rest.is_empty() && too_long.is_none());
        expected.truncate(too_long.unwrap_or(usize::MAX));

        let mut buffer = LineBuffer::new(limit);
        let mut lines = Vec::new();
        let mut errors = 0;
        let mut start = 0;
        let mut stops = stops.iter().cycle();
        for end in ends {
            let mut chunk = &stream[start..end];
            // The caller may stop after any line, and go on later.
            loop {
                let mut cursor = buffer.feed(chunk);
                let mut more = false;
                while let Some(line) = cursor.next_line() {
                    match line {
                        Ok(line) => lines.push(line.to_vec()),
                        Err(TooLong { limit: said }) => {
                            prop_assert_eq!(said, limit);
                            errors += 1;
                        }
                    }
                    if *stops.next().unwrap() {
                        more = true;
                        break;
                    }
                }
                chunk = cursor.rest();
                if !more {
                    prop_assert!(chunk.is_empty());
                    break;
                }
            }
            prop_assert!(buffer.held() <= limit);
            start = end;
        }
        prop_assert_eq!(lines, expected);
        prop_assert_eq!(errors, usize::from(too_long.is_some()));
        prop_assert_eq!(buffer.end(), ends_within);
    }
}

/// Reads a line as both sides would; what is refused can be said in one line.
fn read(bytes: &[u8]) {
    if let Err(refusal) = parse_request(bytes) {
        line(|out| write::error(out, refusal.code, &refusal.text));
        assert!(refusal.text.len() < 400, "{refusal}");
    }
    parse_order(bytes);
}

#[test]
fn no_variation_of_a_line_is_too_strange() {
    let corpus = [common::requests(), common::orders()].concat();
    for line in common::variations(corpus, 2).take(100_000) {
        read(&line);
    }
}
