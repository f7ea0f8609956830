//! Any line to a coordinator: it is read or refused, and what was read and written again stays the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use torhost_fuzz::{assert_one_line, stays_the_same};
use torhost_protocol::{JobId, Refusal, Request, parse_request, write};

fuzz_target!(|line: &[u8]| {
    if let Some(written) = stays_the_same(line, again) {
        assert!(!written.contains(&b'\r'));
    }
});

/// What is read, or why it is refused, as it would be sent.
fn again(line: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match parse_request(line) {
        Ok(Request::Submit(job)) => write::submit(&mut out, &job.data, &job.options),
        Ok(Request::Register(registration)) => write::register(&mut out, &registration),
        Ok(Request::Complete { handle, result }) => write::complete(&mut out, handle, &result),
        Ok(Request::Failed {
            handle,
            message,
            info,
        }) => write::failed(&mut out, handle, &message, info.as_deref()),
        Ok(Request::Progress {
            handle,
            percent,
            note,
        }) => write::progress(&mut out, handle, percent, note),
        Ok(Request::Misnamed(answer)) => {
            for registered in [false, true] {
                refuse(&answer.refusal(registered, |job| job == JobId(1)));
            }
            return None;
        }
        Ok(_) => return None,
        Err(refusal) => {
            refuse(&refusal);
            return None;
        }
    }
    Some(out)
}

/// A refusal is one line, whatever the request was.
fn refuse(refusal: &Refusal) {
    let mut out = Vec::new();
    write::error(&mut out, refusal.code, &refusal.text);
    assert_one_line(&out);
}
