//! The grammar: statements of words, as Tcl has them, with everything kept that `fmt` needs.
//!
//! ```text
//! file      = item*
//! item      = statement | comment | blank line
//! statement = word (blank word)*            ended by a newline, `;`, a comment, or the `}` around it
//! word      = bare | "quoted" | { item* }
//! comment   = `#` where a word could begin, to the end of the line
//! ```
//!
//! The tokens are nom parsers. What goes over them is a loop of its own, since after a mistake it goes on with what follows, so
//! that one run shows all mistakes. Nothing here knows what a node is.
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while1};
use nom::character::complete::{char, none_of, one_of};
use nom::combinator::{opt, recognize};
use nom::multi::{many0_count, many1_count};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// How deep blocks may nest. The language itself needs three levels.
const MAX_DEPTH: usize = 32;

/// What stands in a file or a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Statement(Statement),
    Comment(Comment),
    /// One or more empty lines.
    Blank,
}

/// `# …`, without the end of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comment {
    pub text: String,
    /// Whether it stands behind something on the same line.
    pub trailing: bool,
}

/// Words that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// At least one.
    pub words: Vec<Word>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub kind: WordKind,
    /// With its quotes or braces.
    pub span: Span,
}

/// Text is as it was written: substitution comes later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WordKind {
    Bare(String),
    Quoted(String),
    Block(Vec<Item>),
}

/// Parses a file. What could be made out is returned beside the mistakes.
pub(crate) fn parse(file: usize, text: &str) -> (Vec<Item>, Vec<Diagnostic>) {
    let mut parser = Reader {
        file,
        text,
        rest: text,
        open: Vec::new(),
        misplaced: None,
        mistakes: Vec::new(),
    };
    // A byte order mark, as some editors leave it.
    parser.rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut items = Vec::new();
    loop {
        parser.items(&mut items, 0);
        // Only a brace that closes nothing ends the items of a file before its end.
        let at = parser.here();
        if parser.eat(tag("}")).is_none() {
            return (items, parser.mistakes);
        }
        parser.mistakes.push(
            Diagnostic::error("unmatched-brace", parser.span(at), "`}` closes nothing")
                .label("no `{` is open here"),
        );
    }
}

fn blank(input: &str) -> IResult<&str, &str> {
    recognize(many1_count(alt((
        take_while1(|c| c == ' ' || c == '\t' || c == '\r'),
        tag("\\\n"),
        tag("\\\r\n"),
    ))))
    .parse(input)
}

/// What is left of a line. nom's `not_line_ending` fails on a carriage return that no newline follows; this never fails.
fn line(input: &str) -> IResult<&str, &str> {
    recognize(opt(is_not("\n"))).parse(input)
}

fn comment(input: &str) -> IResult<&str, &str> {
    recognize((char('#'), line)).parse(input)
}

fn bare(input: &str) -> IResult<&str, &str> {
    let variable = recognize((tag("${"), is_not("{}\n"), char('}')));
    let escaped = recognize((char('\\'), none_of("\r\n")));
    recognize(many1_count(alt((
        variable,
        escaped,
        is_not(" \t\r\n;{}\"\\$"),
        tag("$"),
    ))))
    .parse(input)
}

/// The text between the quotes. It may not hold a newline, so that a quote that was forgotten costs one line.
fn quoted(input: &str) -> IResult<&str, &str> {
    let inside = recognize(many0_count(alt((
        is_not("\"\\\r\n"),
        preceded(char('\\'), recognize(none_of("\r\n"))),
    ))));
    delimited(char('"'), inside, char('"')).parse(input)
}

struct Reader<'a> {
    file: usize,
    text: &'a str,
    rest: &'a str,
    /// Where the blocks begin that are open.
    open: Vec<usize>,
    /// The first `{` whose `}` is indented otherwise than the line with the `{`: one of them probably belongs to another.
    misplaced: Option<(usize, usize)>,
    mistakes: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn here(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn span(&self, start: usize) -> Span {
        Span {
            file: self.file,
            start,
            end: self.here(),
        }
    }

    fn eat(
        &mut self,
        mut token: impl Parser<&'a str, Output = &'a str, Error = nom::error::Error<&'a str>>,
    ) -> Option<&'a str> {
        let (rest, found) = token.parse(self.rest).ok()?;
        self.rest = rest;
        Some(found)
    }

    /// Reads items until the end of the file or a `}`, which is left.
    fn items(&mut self, items: &mut Vec<Item>, depth: usize) {
        let mut line_has_item = false;
        let mut newlines = 0;
        loop {
            self.eat(blank);
            if self.eat(tag("\n")).is_some() {
                newlines += 1;
                line_has_item = false;
                continue;
            }
            if self.eat(tag(";")).is_some() {
                continue;
            }
            if newlines > 1 && !items.is_empty() && !self.rest.is_empty() && !self.rest.starts_with('}') {
                items.push(Item::Blank);
            }
            newlines = 0;
            if let Some(text) = self.eat(comment) {
                items.push(Item::Comment(Comment {
                    text: text.trim_end().to_owned(),
                    trailing: line_has_item,
                }));
            } else if self.rest.is_empty() || self.rest.starts_with('}') {
                return;
            } else {
                let statement = self.statement(depth);
                items.extend(statement.map(Item::Statement));
            }
            line_has_item = true;
        }
    }

    fn statement(&mut self, depth: usize) -> Option<Statement> {
        let start = self.here();
        let mut end = start;
        let mut words = Vec::new();
        let mut whole = true;
        loop {
            match self.word(depth) {
                Some(word) => words.push(word),
                None => whole = false,
            }
            end = end.max(self.here());
            let separated = self.eat(blank).is_some();
            match self.rest.chars().next() {
                None | Some('\n' | ';' | '}') => break,
                Some('#') if separated => break,
                Some(_) if !separated => {
                    let at = self.here();
                    let place = Span {
                        file: self.file,
                        start: at,
                        end: at,
                    };
                    whole = false;
                    let message = "expected a blank, a newline or `;` after a word in quotes or braces";
                    self.mistakes.push(Diagnostic::error("no-blank", place, message));
                }
                Some(_) => {}
            }
        }
        // What is left of a statement without one of its words would only be misunderstood.
        whole.then_some(Statement {
            words,
            span: Span {
                file: self.file,
                start,
                end,
            },
        })
    }

    /// Reads a word, of which there is at least one character. Nothing is returned for one that is none.
    fn word(&mut self, depth: usize) -> Option<Word> {
        let start = self.here();
        let kind = match self.rest.as_bytes().first()? {
            b'{' => WordKind::Block(self.block(start, depth)),
            b'"' => match self.eat(quoted) {
                Some(text) => WordKind::Quoted(text.to_owned()),
                None => {
                    self.leave_unclosed_quote();
                    self.mistakes.push(
                        Diagnostic::error(
                            "unclosed-quote",
                            self.span(start),
                            "this quote is not closed on its line",
                        )
                        .help("end the text with `\"`; a quote inside it is written `\\\"`"),
                    );
                    return None;
                }
            },
            _ => match self.eat(bare) {
                Some(text) => WordKind::Bare(text.to_owned()),
                None => {
                    // Only a backslash at the very end begins no word.
                    self.eat(recognize(one_of(self.rest)));
                    let found =
                        Diagnostic::error("bad-escape", self.span(start), "there is nothing behind this");
                    self.mistakes
                        .push(found.help("a backslash at the end of a line joins the next line to it"));
                    return None;
                }
            },
        };
        Some(Word {
            kind,
            span: self.span(start),
        })
    }

    /// Goes to the end of a text that is not closed on its line, but leaves the braces that close what the line has opened: they
    /// were hardly meant to be text.
    fn leave_unclosed_quote(&mut self) {
        let at = self.here();
        let line_start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let mut closing = self
            .open
            .iter()
            .rev()
            .take_while(|&&start| start >= line_start)
            .count();
        let whole = self.eat(line).unwrap_or_default();
        let mut text = whole.trim_end();
        while closing > 0
            && let Some(before) = text.strip_suffix('}')
        {
            text = before.trim_end();
            closing -= 1;
        }
        self.rest = &self.text[at + text.len()..];
    }

    /// How far the line is indented on which a place is.
    fn indent(&self, at: usize) -> &'a str {
        let line_start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = &self.text[line_start..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }

    fn block(&mut self, start: usize, depth: usize) -> Vec<Item> {
        self.eat(tag("{"));
        let mut items = Vec::new();
        if depth == MAX_DEPTH {
            let message = format!("blocks are nested more than {MAX_DEPTH} deep");
            self.mistakes
                .push(Diagnostic::error("too-deep", self.span(start), message));
            self.rest = "";
            return items;
        }
        let before = self.mistakes.len();
        self.open.push(start);
        self.items(&mut items, depth + 1);
        self.open.pop();
        let end = self.here();
        if self.eat(tag("}")).is_some() {
            let begins_line = self.text[..end].trim_end_matches([' ', '\t']).ends_with('\n');
            if self.misplaced.is_none() && begins_line && self.indent(end) != self.indent(start) {
                self.misplaced = Some((start, end));
            }
        } else if !self.mistakes[before..]
            .iter()
            // Only the innermost is told of: closing it may close the others.
            .any(|found| matches!(found.code, "too-deep" | "unclosed-brace"))
        {
            let brace = |start| Span {
                file: self.file,
                start,
                end: start + 1,
            };
            let mut found = Diagnostic::error("unclosed-brace", brace(start), "this `{` is never closed")
                .help("add the `}` that ends the block");
            if let Some((inner, end)) = self.misplaced.filter(|(inner, _)| *inner > start) {
                found = found
                    .also(brace(inner), "perhaps it is this one that lacks its `}`")
                    .also(brace(end), "the indentation of this `}` fits another");
            }
            self.mistakes.push(found);
        }
        items
    }
}
