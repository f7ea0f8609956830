//! `torhost fmt`: one way to write a topology. Comments stay, and formatting twice changes nothing.
use crate::syntax::{Item, Statement, Word, WordKind};

const INDENT: &str = "    ";
/// A block that was written on one line stays on one if that is no longer than this, in characters.
const WIDTH: usize = 110;

/// The items of a file that has no syntax errors, as text.
pub(crate) fn format(items: &[Item], source: &str) -> String {
    let mut out = String::new();
    write_items(items, source, 0, &mut out);
    out
}

fn write_items(items: &[Item], source: &str, depth: usize, out: &mut String) {
    for item in items {
        match item {
            Item::Blank => out.push('\n'),
            Item::Comment(comment) if comment.trailing && out.ends_with('\n') => {
                out.pop();
                out.push_str("  ");
                out.push_str(&comment.text);
                out.push('\n');
            }
            Item::Comment(comment) => {
                out.push_str(&INDENT.repeat(depth));
                out.push_str(&comment.text);
                out.push('\n');
            }
            Item::Statement(statement) => {
                out.push_str(&INDENT.repeat(depth));
                write_statement(statement, source, depth, out);
                out.push('\n');
            }
        }
    }
}

fn write_statement(statement: &Statement, source: &str, depth: usize, out: &mut String) {
    for (at, word) in statement.words.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        match &word.kind {
            WordKind::Bare(text) => out.push_str(text),
            WordKind::Quoted(text) => {
                out.push('"');
                out.push_str(text);
                out.push('"');
            }
            WordKind::Block(items) => write_block(word, items, source, depth, out),
        }
    }
}

fn write_block(word: &Word, items: &[Item], source: &str, depth: usize, out: &mut String) {
    let was_on_one_line = !source[word.span.range()].contains('\n');
    if was_on_one_line && let Some(inside) = on_one_line(items) {
        let line = if inside.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{ {inside} }}")
        };
        let before = out.len() - out.rfind('\n').map_or(0, |at| at + 1);
        if before + line.chars().count() <= WIDTH {
            out.push_str(&line);
            return;
        }
    }
    out.push_str("{\n");
    // A comment right behind the brace would be taken for one of the statement before.
    write_items(items, source, depth + 1, out);
    out.push_str(&INDENT.repeat(depth));
    out.push('}');
}

/// The items on one line, if they can be: comments cannot.
fn on_one_line(items: &[Item]) -> Option<String> {
    let mut parts = Vec::new();
    for item in items {
        let Item::Statement(statement) = item else {
            return None;
        };
        let mut words = Vec::new();
        for word in &statement.words {
            words.push(match &word.kind {
                WordKind::Bare(text) => text.clone(),
                WordKind::Quoted(text) => format!("\"{text}\""),
                WordKind::Block(inner) => match on_one_line(inner)? {
                    inside if inside.is_empty() => "{}".to_owned(),
                    inside => format!("{{ {inside} }}"),
                },
            });
        }
        parts.push(words.join(" "));
    }
    Some(parts.join("; "))
}
