//! What the targets for lines have in common.

/// What is read and written again is one line, and stays the same when that is read and written again. `again` gives the line
/// with its end, or nothing for what cannot be written. Returns what it gave.
///
/// # Panics
/// If it does not hold.
pub fn stays_the_same(line: &[u8], again: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let written = again(line)?;
    assert_one_line(&written);
    let second = again(&written[..written.len() - 1]);
    assert_eq!(second.as_deref(), Some(&written[..]));
    Some(written)
}

/// The only line end is at the end.
///
/// # Panics
/// If it is not.
pub fn assert_one_line(text: &[u8]) {
    assert_eq!(text.iter().position(|&byte| byte == b'\n'), Some(text.len() - 1));
}
