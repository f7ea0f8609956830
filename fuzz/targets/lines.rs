//! Any stream, cut anywhere: it has the lines that it has uncut, up to the first that is too long.
#![no_main]
use libfuzzer_sys::fuzz_target;
use torhost_protocol::LineBuffer;

fuzz_target!(|input: (u8, Vec<u8>, Vec<u8>)| {
    let (limit, cuts, stream) = input;
    let limit = usize::from(limit);
    let mut expected: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
    let too_long = expected.iter().position(|line| line.len() > limit);
    let ends_within = expected
        .pop()
        .is_some_and(|rest| !rest.is_empty() && too_long.is_none());
    expected.truncate(too_long.unwrap_or(usize::MAX));

    let mut buffer = LineBuffer::new(limit);
    let mut lines = Vec::new();
    let mut refused = false;
    let mut rest = &stream[..];
    // Each cut is how much comes at once, and, if it is odd, that the reader stops after a line.
    for cut in cuts.into_iter().chain([u8::MAX]) {
        let length = if cut == u8::MAX {
            rest.len()
        } else {
            rest.len().min(usize::from(cut / 2))
        };
        let (mut chunk, later) = rest.split_at(length);
        rest = later;
        loop {
            let mut cursor = buffer.feed(chunk);
            let mut stopped = false;
            while let Some(line) = cursor.next_line() {
                match line {
                    Ok(line) => lines.push(line.to_vec()),
                    Err(_) => refused = true,
                }
                stopped = cut % 2 == 1;
                if stopped {
                    break;
                }
            }
            chunk = cursor.rest();
            if !stopped {
                break;
            }
        }
        assert!(buffer.held() <= limit);
        if cut == u8::MAX {
            break;
        }
    }
    assert_eq!(lines, expected);
    assert_eq!(refused, too_long.is_some());
    assert_eq!(buffer.end(), ends_within);
});
