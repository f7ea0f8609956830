//! Any line to a worker: it is read or ignored, and what was read and written again stays the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use torhost_fuzz::stays_the_same;
use torhost_protocol::{Order, parse_order, write};

fuzz_target!(|line: &[u8]| {
    stays_the_same(line, again);
});

/// What is read, as it would be sent.
fn again(line: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match parse_order(line) {
        Order::Process { handle, data } => write::process_job(&mut out, handle, &data),
        Order::Cancel(handle) => write::cancel_job(&mut out, handle),
        Order::Registered(registered) => write::registered(&mut out, &registered),
        _ => return None,
    }
    Some(out)
}
