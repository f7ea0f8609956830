//! Mistakes, and how they are shown.
use crate::source::{Sources, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;

/// How many mistakes are shown in full; a file with more has one cause for most of them.
const SHOWN: usize = 50;

/// Whether there are so many mistakes already that no search among many names is worth its time for one more.
pub(crate) fn enough(mistakes: &[Diagnostic]) -> bool {
    mistakes.len() >= SHOWN
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The topology can be used, but probably does not mean what it says.
    Warning,
    /// The topology cannot be used.
    Error,
}

/// A place and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is written under it; may be empty.
    pub text: String,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The kind of mistake, for programs: `unknown-setting`, say. `docs/topology.md` lists them.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub primary: Label,
    /// Other places that have to do with it.
    pub others: Vec<Label>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        let primary = Label {
            span,
            text: String::new(),
        };
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            primary,
            others: Vec::new(),
            help: None,
        }
    }

    pub(crate) fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(code, span, message)
        }
    }

    /// What is written under the place.
    pub(crate) fn label(mut self, text: impl Into<String>) -> Diagnostic {
        self.primary.text = text.into();
        self
    }

    pub(crate) fn also(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.others.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help = Some(text.into());
        self
    }
}

/// All that was found wrong with a topology, in the order of the text, and the text itself.
///
/// Displayed, it is a report with each line in question and a caret under the word.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    /// The mistakes.
    pub list: Vec<Diagnostic>,
    /// The files that they are in.
    pub sources: Sources,
}

impl Diagnostics {
    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.list
            .iter()
            .filter(|found| found.severity == Severity::Error)
            .count()
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// The report, with the colours of a terminal or without.
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut report = String::new();
        for found in self.list.iter().take(SHOWN) {
            report.push_str(&renderer.render(&[self.group(found)]));
            report.push_str("\n\n");
        }
        if self.list.len() > SHOWN {
            report.push_str(&format!("… and {} more\n\n", self.list.len() - SHOWN));
        }
        report.push_str(&self.summary());
        report.push('\n');
        report
    }

    fn summary(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        match (self.errors(), self.warnings()) {
            (0, warnings) => count(warnings, "warning"),
            (errors, 0) => count(errors, "error"),
            (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
        }
    }

    fn group<'a>(&'a self, found: &'a Diagnostic) -> Group<'a> {
        let level = match found.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level
            .primary_title(found.message.as_str())
            .id(found.code)
            .elements(self.snippets(found));
        if let Some(help) = &found.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// One snippet a file, the file of the mistake first.
    fn snippets<'a>(&'a self, found: &'a Diagnostic) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let labels = [(AnnotationKind::Primary, &found.primary)].into_iter();
        let labels = labels.chain(found.others.iter().map(|label| (AnnotationKind::Context, label)));
        let mut snippets: Vec<(usize, Snippet<'a, _>)> = Vec::new();
        for (kind, label) in labels {
            let file = &self.sources.files[label.span.file];
            let at = snippets
                .iter()
                .position(|(file, _)| *file == label.span.file)
                .unwrap_or_else(|| {
                    let snippet =
                        Snippet::source(file.text.as_str()).path(file.path.to_string_lossy().into_owned());
                    snippets.push((label.span.file, snippet));
                    snippets.len() - 1
                });
            let annotation = kind
                .span(label.span.range())
                .label((!label.text.is_empty()).then_some(label.text.as_str()));
            let (file, snippet) = snippets.remove(at);
            snippets.insert(at, (file, snippet.annotation(annotation)));
        }
        snippets.into_iter().map(|(_, snippet)| snippet).collect()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// "did you mean", for a word that is not among those that may stand there.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let length = word.chars().count();
    // Any letter is like any other.
    let limit = if length < 2 { 0 } else { (length / 3).max(1) };
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}
