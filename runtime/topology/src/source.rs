//! Where things stand in the files of a topology.
use std::ops::Range;
use std::path::PathBuf;

/// A stretch of one file, in bytes; both ends are on character boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which of the files: an index into [`Sources::files`].
    pub file: usize,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    pub(crate) fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// As it was named: on the command line, or in an `include`, from the including file's folder.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// The files of a topology: the one that was asked for, then those that it includes, in order.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// All files; a [`Span`] names one by its index.
    pub files: Vec<SourceFile>,
}

impl Sources {
    pub(crate) fn add(&mut self, path: PathBuf, text: String) -> usize {
        self.files.push(SourceFile { path, text });
        self.files.len() - 1
    }
}
