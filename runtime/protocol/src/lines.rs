//! A stream of bytes, cut into lines.
use memchr::memchr;

/// Cuts a stream into lines. Lines that arrive whole are not copied, and only an unfinished one is kept: a connection that
/// says nothing holds no memory.
#[derive(Debug)]
pub struct LineBuffer {
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
    max_line: usize,
    /// `rest` has become a line that the caller was given.
    given: bool,
    /// A line was too long: what follows is no line.
    broken: bool,
}

/// A line is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the longest line is {limit} bytes")]
pub struct TooLong {
    /// The limit, in bytes.
    pub limit: usize,
}

/// The lines of a chunk. What was not taken when it is dropped is the caller's to feed again: [`Lines::rest`].
#[derive(Debug)]
pub struct Lines<'b, 'c> {
    buffer: &'b mut LineBuffer,
    chunk: &'c [u8],
}

impl LineBuffer {
    /// A buffer for lines of at most `max_line` bytes, not counting the `\n`.
    pub fn new(max_line: usize) -> LineBuffer {
        LineBuffer {
            rest: Vec::new(),
            max_line,
            given: false,
            broken: false,
        }
    }

    /// Looks for lines in what follows in the stream.
    pub fn feed<'b, 'c>(&'b mut self, chunk: &'c [u8]) -> Lines<'b, 'c> {
        self.release();
        Lines { buffer: self, chunk }
    }

    /// The stream has ended: what came after its last `\n`, if anything.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.release();
        Some(std::mem::take(&mut self.rest)).filter(|rest| !rest.is_empty())
    }

    /// How many bytes of an unfinished line are kept.
    pub fn held(&self) -> usize {
        if self.given { 0 } else { self.rest.len() }
    }

    /// Frees the line that the caller was given.
    fn release(&mut self) {
        if self.given {
            self.given = false;
            self.rest = Vec::new();
        }
    }
}

impl<'c> Lines<'_, 'c> {
    /// The next line, without its `\n`; none once the chunk is used up, and after a line that was too long.
    ///
    /// # Errors
    /// As soon as a line is longer than the limit, whether or not its end has come.
    pub fn next_line(&mut self) -> Option<Result<&[u8], TooLong>> {
        let buffer = &mut *self.buffer;
        buffer.release();
        if buffer.broken {
            self.chunk = &[];
            return None;
        }
        let end = memchr(b'\n', self.chunk);
        let part = &self.chunk[..end.unwrap_or(self.chunk.len())];
        if part.len() > buffer.max_line - buffer.rest.len() {
            buffer.broken = true;
            buffer.rest = Vec::new();
            self.chunk = &[];
            return Some(Err(TooLong {
                limit: buffer.max_line,
            }));
        }
        let Some(end) = end else {
            buffer.rest.extend_from_slice(part);
            self.chunk = &[];
            return None;
        };
        self.chunk = &self.chunk[end + 1..];
        if buffer.rest.is_empty() {
            return Some(Ok(part));
        }
        buffer.rest.extend_from_slice(part);
        buffer.given = true;
        Some(Ok(&buffer.rest))
    }

    /// What has not been looked at. To stop here, keep it, and [`LineBuffer::feed`] it before what comes later.
    pub fn rest(&self) -> &'c [u8] {
        self.chunk
    }
}
