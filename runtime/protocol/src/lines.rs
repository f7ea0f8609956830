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

    /// The stream has ended. Whether that was within a line, which is dropped, as nobody knows what is missing.
    pub fn end(&mut self) -> bool {
        self.release();
        !std::mem::take(&mut self.rest).is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a chunk.
    fn take(buffer: &mut LineBuffer, chunk: &[u8]) -> Vec<String> {
        let mut lines = buffer.feed(chunk);
        let mut taken = Vec::new();
        while let Some(line) = lines.next_line() {
            taken.push(match line {
                Ok(line) => String::from_utf8_lossy(line).into_owned(),
                Err(error) => error.to_string(),
            });
        }
        taken
    }

    #[test]
    fn lines_may_come_in_pieces() {
        let mut buffer = LineBuffer::new(100);
        assert_eq!(take(&mut buffer, b"a\n\nb"), ["a", ""]);
        assert_eq!(take(&mut buffer, b"c"), [""; 0]);
        assert_eq!(take(&mut buffer, b"\nd\n"), ["bc", "d"]);
        assert_eq!(take(&mut buffer, b"e"), [""; 0]);
        assert!(buffer.end());
        assert!(!buffer.end());
    }

    #[test]
    fn whole_lines_are_not_copied() {
        let mut buffer = LineBuffer::new(100);
        let chunk = b"abc\n";
        let mut lines = buffer.feed(chunk);
        let line = lines.next_line().unwrap().unwrap();
        assert_eq!(line.as_ptr(), chunk.as_ptr());
        assert_eq!(lines.next_line(), None);
    }

    #[test]
    fn an_idle_connection_holds_no_memory() {
        let mut buffer = LineBuffer::new(100);
        take(&mut buffer, b"ab");
        assert_eq!(buffer.held(), 2);
        take(&mut buffer, b"c\n");
        assert_eq!((buffer.held(), buffer.rest.capacity()), (0, 0));
    }

    #[test]
    fn the_limit_does_not_wait_for_the_end_of_the_line() {
        for (chunks, expected) in [
            (&["abcd\nx\n"][..], &["abcd", "x"][..]),
            (&["abcde\nx\n"], &["the longest line is 4 bytes"]),
            (&["ok\nabcde"], &["ok", "the longest line is 4 bytes"]),
            (&["abcd", "e"], &["the longest line is 4 bytes"]),
            (&["abcd", "\n"], &["abcd"]),
            (&["abcde", "\nx\n"], &["the longest line is 4 bytes"]),
        ] {
            let mut buffer = LineBuffer::new(4);
            let lines: Vec<_> = chunks
                .iter()
                .flat_map(|chunk| take(&mut buffer, chunk.as_bytes()))
                .collect();
            assert_eq!(lines, expected, "{chunks:?}");
        }
    }

    #[test]
    fn one_may_stop_in_the_middle_of_a_chunk() {
        let mut buffer = LineBuffer::new(100);
        take(&mut buffer, b"a");
        let mut lines = buffer.feed(b"b\nc\nd");
        assert_eq!(lines.next_line(), Some(Ok(&b"ab"[..])));
        let rest = lines.rest();
        assert_eq!(rest, b"c\nd");
        assert_eq!(take(&mut buffer, rest), ["c"]);
        assert_eq!(take(&mut buffer, b"\n"), ["d"]);
    }
}
