//! Between Rust's UTF-8 and the encoding of Tcl 8.6's strings.
//!
//! Tcl writes NUL as `C0 80`, so that a string can hold it, and a character beyond U+FFFF as two surrogates of three bytes
//! each, since its characters have 16 bits. Either kind of string may come back with the plain four-byte form, and a
//! script can make a lone surrogate, which no Rust string can hold.
use std::borrow::Cow;

/// Rust text as Tcl's bytes. Borrows when the two are the same, as for all text without NULs and supplementary characters.
pub(crate) fn encode(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|b| b == 0 || b >= 0xF0) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c == '\0' {
            out.extend_from_slice(&[0xC0, 0x80]);
        } else if (c as u32) < 0x1_0000 {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(&three_bytes(*unit));
            }
        }
    }
    Cow::Owned(out)
}

fn three_bytes(unit: u16) -> [u8; 3] {
    [
        0xE0 | (unit >> 12) as u8,
        0x80 | (unit >> 6 & 0x3F) as u8,
        0x80 | (unit & 0x3F) as u8,
    ]
}

/// Tcl's bytes as Rust text, or the offset of the first byte of what Rust text cannot hold.
pub(crate) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, usize> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) => decode_slowly(bytes).map(Cow::Owned),
    }
}

fn decode_slowly(mut bytes: &[u8]) -> Result<String, usize> {
    let whole = bytes.len();
    let mut out = String::with_capacity(whole);
    loop {
        let valid = match std::str::from_utf8(bytes) {
            Ok(rest) => {
                out.push_str(rest);
                return Ok(out);
            }
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                bytes = rest;
                valid
            }
        };
        // `valid` was just checked, so nothing is lost here.
        out.push_str(&String::from_utf8_lossy(valid));
        let taken = match bytes {
            [0xC0, 0x80, ..] => {
                out.push('\0');
                2
            }
            [0xED, a, b, 0xED, c, d, ..] => {
                let pair = [unit(*a, *b), unit(*c, *d)];
                match char::decode_utf16(pair).next() {
                    Some(Ok(c)) => out.push(c),
                    _ => return Err(whole - bytes.len()),
                }
                6
            }
            _ => return Err(whole - bytes.len()),
        };
        bytes = &bytes[taken..];
    }
}

/// The UTF-16 unit of a three-byte sequence that begins with `ED`.
fn unit(second: u8, third: u8) -> u16 {
    0xD000 | u16::from(second & 0x3F) << 6 | u16::from(third & 0x3F)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nul_and_supplementary_characters_have_tcl_forms() {
        assert_eq!(&*encode("a\0b"), b"a\xC0\x80b");
        assert_eq!(&*encode("\u{1F600}"), b"\xED\xA0\xBD\xED\xB8\x80");
        assert_eq!(decode(b"\xF0\x9F\x98\x80").unwrap(), "\u{1F600}");
    }

    #[test]
    fn a_lone_surrogate_is_refused_with_its_place() {
        assert_eq!(decode(b"ab\xED\xA0\xBD!"), Err(2));
        assert_eq!(decode(b"\xED\xB8\x80\xED\xA0\xBD"), Err(0));
        assert_eq!(decode(b"abc\xED"), Err(3));
    }

    proptest! {
        #[test]
        fn every_rust_string_comes_back(text in any::<String>()) {
            let bytes = encode(&text).into_owned();
            prop_assert_eq!(decode(&bytes).unwrap(), text);
        }

        #[test]
        fn any_bytes_decode_or_are_refused_in_bounds(bytes in any::<Vec<u8>>()) {
            if let Err(at) = decode(&bytes) {
                prop_assert!(at < bytes.len());
            }
        }
    }
}
