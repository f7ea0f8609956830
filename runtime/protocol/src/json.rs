//! The JSON of requests, read as the classic coordinator does: it tells numbers from texts as little as Tcl.
use crate::refusal::{Code, Refusal};
use crate::tcl;
use memchr::memchr;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How deep values may be nested.
const MAX_DEPTH: usize = 32;

/// Reads a JSON object. Bytes that are not UTF-8, and surrogates that stand alone, become U+FFFD.
///
/// # Errors
/// `bad-json`.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let refuse = |text: &str| Err(Refusal::new(Code::BadJson, text));
    if text.trim_ascii_start().first() != Some(&b'{') {
        return refuse("expected a JSON object");
    }
    let text = String::from_utf8_lossy(text);
    match serde_json::from_str(&mend_surrogates(&text)) {
        Ok(Value::Object(object)) => {
            if object.values().any(|value| height(value) >= MAX_DEPTH) {
                return refuse("nested more than 32 levels deep");
            }
            Ok(object)
        }
        Ok(_) => refuse("expected a JSON object"),
        // There is but one line.
        Err(error) => refuse(&error.to_string().replace(" at line 1 column ", " at column ")),
    }
}

/// The text of a value: that of a number is its digits (though 1e5 becomes 1e+5), that of a list or an object is a Tcl list.
pub fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => {
            let mut out = Vec::new();
            tcl::value(&mut out, &value, tcl::Newlines::Kept);
            // It is made of texts.
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

/// A list of at most `most` texts, given as a JSON array, or as a text with words separated by blanks.
pub fn words(value: Value, most: usize) -> Option<Vec<String>> {
    let words: Vec<String> = match value {
        Value::Array(items) => items.into_iter().map(text).collect(),
        Value::Object(_) => return None,
        value => {
            let text = text(value);
            // Such a list could have words with blanks in them, which no capability has.
            let quoted = |word: &str| word.starts_with(['{', '"']) || word.contains('\\');
            if text.split_ascii_whitespace().any(quoted) {
                return None;
            }
            text.split_ascii_whitespace().map(str::to_owned).collect()
        }
    };
    Some(words).filter(|words| words.len() <= most)
}

/// A whole number: digits, or what else Tcl takes for one, as `+5` and `0x10`. (Leading zeros mean nothing, as in Tcl 9.)
pub fn integer(text: &str) -> Option<i64> {
    let text = text.trim_ascii();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        _ => (10, digits),
    };
    // Rust would take another sign.
    if !digits.as_bytes().first()?.is_ascii_alphanumeric() {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// How deep a value is nested: 0 for a text.
fn height(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(|item| height(item) + 1).max().unwrap_or(0),
        Value::Object(items) => items.values().map(|item| height(item) + 1).max().unwrap_or(0),
        _ => 0,
    }
}

/// Replaces `\ud83d` without its other half by `\ufffd`, which JSON readers accept.
fn mend_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut mended = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = bytes.get(at..).and_then(|bytes| memchr(b'\\', bytes)) {
        let escape = at + found;
        at = match surrogate(bytes, escape) {
            None => escape + 2,
            Some(..0xDC00) if matches!(surrogate(bytes, escape + 6), Some(0xDC00..)) => escape + 12,
            Some(_) => {
                mended.push_str(&text[copied..escape]);
                mended.push_str("\\ufffd");
                copied = escape + 6;
                copied
            }
        };
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(&text[copied..]);
    Cow::Owned(mended)
}

/// The half of a character that is escaped here.
fn surrogate(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    if !matches!(
        escape,
        [
            b'\\',
            b'u',
            b'd' | b'D',
            b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F',
            ..,
        ]
    ) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(&escape[2..]).ok()?, 16).ok()
}
