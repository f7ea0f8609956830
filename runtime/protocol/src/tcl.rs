//! Tcl lists and dicts, written as Tcl itself and the classic coordinator write them.
use serde_json::Value;

/// What becomes of the newlines and carriage returns in texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newlines {
    /// They stay, as in what Tcl's `list` makes.
    Kept,
    /// They are escaped, so that the list is one line.
    Escaped,
}

/// Appends a value: an array as a list, an object as a dict, true and false as 1 and 0, null as nothing.
pub fn value(out: &mut Vec<u8>, value: &Value, newlines: Newlines) {
    match value {
        Value::Null => {}
        Value::Bool(is) => out.push(if *is { b'1' } else { b'0' }),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => out.extend_from_slice(text.as_bytes()),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b' ');
                }
                nested(out, item, newlines, n == 0);
            }
        }
        Value::Object(fields) => {
            for (n, (name, item)) in fields.iter().enumerate() {
                if n > 0 {
                    out.push(b' ');
                }
                element(out, name.as_bytes(), newlines, n == 0);
                out.push(b' ');
                nested(out, item, newlines, false);
            }
        }
    }
}

/// Appends a value as an element of a list, maybe its first.
fn nested(out: &mut Vec<u8>, item: &Value, newlines: Newlines, first: bool) {
    match item {
        Value::String(text) => element(out, text.as_bytes(), newlines, first),
        item => {
            let mut inner = Vec::new();
            value(&mut inner, item, newlines);
            element(out, &inner, newlines, first);
        }
    }
}

/// Appends a text as an element of a list, maybe its first.
pub fn element(out: &mut Vec<u8>, text: &[u8], newlines: Newlines, first: bool) {
    if newlines == Newlines::Escaped && memchr::memchr2(b'\n', b'\r', text).is_some() {
        escape(out, text, b"\\{}[]$\";# ");
        return;
    }
    // A # that comes first would make a comment of a list that is run as a command. The classic coordinator makes its lists
    // of lists with one element, so that each comes first.
    let comment = text.first() == Some(&b'#') && (newlines == Newlines::Escaped || first);
    match quoting(text) {
        Quoting::None if !comment => out.extend_from_slice(text),
        Quoting::None | Quoting::Braces => {
            out.push(b'{');
            out.extend_from_slice(text);
            out.push(b'}');
        }
        Quoting::ButBraces => escape(out, text, b"\\[]$\"; "),
        Quoting::Escapes => {
            if comment {
                out.push(b'\\');
            }
            escape(out, text, b"\\{}[]$\"; ");
        }
    }
}

/// How an element must be quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    None,
    Braces,
    /// Everything but braces has a backslash.
    ButBraces,
    Escapes,
}

/// The choice of Tcl's own `TclScanElement`. Any valid one would do for reading; this one is byte for byte what the classic
/// coordinator sends.
fn quoting(text: &[u8]) -> Quoting {
    let Some(first) = text.first() else {
        return Quoting::Braces;
    };
    let mut depth = 0i64;
    let mut quote = matches!(first, b'{' | b'"');
    let mut prefer_braces = quote || *first == b'#';
    let mut prefer_escapes = false;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Quoting::Escapes,
            b'}' => depth -= 1,
            b']' | b'"' => (quote, prefer_escapes) = (true, true),
            b'[' | b'$' | b';' | b' ' | b'\x0c' | b'\n' | b'\r' | b'\t' | b'\x0b' => {
                (quote, prefer_braces) = (true, true);
            }
            b'\\' => match text.get(at + 1) {
                None | Some(b'\n') => return Quoting::Escapes,
                next => {
                    (quote, prefer_braces) = (true, true);
                    if matches!(next, Some(b'{' | b'}' | b'\\')) {
                        at += 1;
                    }
                }
            },
            _ => {}
        }
        at += 1;
    }
    match (depth, quote) {
        (1.., _) => Quoting::Escapes,
        (_, true) if prefer_escapes && !prefer_braces => Quoting::ButBraces,
        (_, true) => Quoting::Braces,
        (_, false) => Quoting::None,
    }
}

/// Appends a text with a backslash before each of `special`, and with escapes for what would end a line or a word.
fn escape(out: &mut Vec<u8>, text: &[u8], special: &[u8]) {
    for &byte in text {
        let letter = match byte {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            b'\x0b' => b'v',
            b'\x0c' => b'f',
            _ => {
                if special.contains(&byte) {
                    out.push(b'\\');
                }
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}
