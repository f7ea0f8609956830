//! One connection: its socket, what it has not said to the end, and what it has not been told yet.
use super::{Limits, ServiceId};
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;
use torhost_protocol::LineBuffer;

/// The socket under a connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

pub(super) struct Connection {
    pub(super) owner: ServiceId,
    /// None while the host's name is looked up.
    pub(super) stream: Option<Stream>,
    /// For a connection that is being made: the addresses that are left to be tried, the next one last.
    pub(super) opening: Option<Vec<SocketAddr>>,
    /// The beginning of a line whose end has not come.
    pub(super) lines: LineBuffer,
    /// What came and is left for the next turn. Nothing is read meanwhile.
    pub(super) left: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// How much of `output` is written.
    pub(super) written: usize,
    /// When the other side last took something of it, or there last was nothing to take.
    pub(super) taken: Instant,
    /// Whether it is on the list of those to be written to.
    pub(super) dirty: bool,
    /// To be closed once its output is written; what it says no longer matters.
    pub(super) closing: bool,
    /// The other side will say no more than what has come.
    pub(super) read_closed: bool,
    /// Not to be read for now.
    pub(super) held: bool,
    /// Not to be closed when the other side says no more: it is owed answers.
    pub(super) owed: bool,
    /// To be closed once it is owed nothing.
    pub(super) doomed: bool,
    pub(super) max_line: usize,
    pub(super) max_pending: usize,
}

/// What a read or write came to.
pub(super) enum Progress {
    /// All that can be done for now.
    Done,
    /// There may be more to do at once.
    More,
    /// The other side is gone.
    End(String),
}

impl Connection {
    pub(super) fn new(owner: ServiceId, stream: Option<Stream>, limits: Limits) -> Connection {
        Connection {
            owner,
            opening: stream.is_none().then(Vec::new),
            stream,
            // One more byte, for a carriage return before the line end.
            lines: LineBuffer::new(limits.max_line.saturating_add(1)),
            left: Vec::new(),
            output: Vec::new(),
            written: 0,
            taken: Instant::now(),
            dirty: false,
            closing: false,
            read_closed: false,
            held: false,
            owed: false,
            doomed: false,
            max_line: limits.max_line,
            max_pending: limits.max_pending,
        }
    }

    pub(super) fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what it can.
    pub(super) fn write(&mut self) -> Progress {
        let Some(stream) = self.stream.as_mut().filter(|_| self.opening.is_none()) else {
            return Progress::Done;
        };
        while self.written < self.output.len() {
            match stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Progress::End(error.to_string()),
            }
        }
        // One who never catches up must not have all kept that he was ever sent.
        if self.written > self.output.len() / 2 {
            self.output.drain(..self.written);
            self.written = 0;
        }
        Progress::Done
    }

    /// Reads once, and tells how much came.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> (usize, Progress) {
        let Some(stream) = self.stream.as_mut().filter(|_| self.opening.is_none()) else {
            return (0, Progress::Done);
        };
        loop {
            match stream.read(buffer) {
                Ok(0) => return (0, Progress::End("connection closed".into())),
                // A short read has emptied the socket; the kernel tells when there is more, but tells of the end only once.
                Ok(count) if count < buffer.len() && !self.read_closed => return (count, Progress::Done),
                Ok(count) => return (count, Progress::More),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (0, Progress::Done),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (0, Progress::End(error.to_string())),
            }
        }
    }

    /// Tells the other side that no more will come.
    pub(super) fn end_output(&self) {
        if let Some(stream) = &self.stream {
            // It may be gone already.
            let _ = match stream {
                Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
                Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            };
        }
    }

    /// What has become of an attempt to connect: none while it is under way.
    pub(super) fn attempted(&self) -> Option<io::Result<()>> {
        let Some(Stream::Tcp(stream)) = &self.stream else {
            return None;
        };
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => return Some(Err(error)),
            Ok(None) => {}
        }
        match stream.peer_addr() {
            Ok(_) => Some(stream.set_nodelay(true)),
            Err(error) if error.kind() == ErrorKind::NotConnected => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl Stream {
    /// What the event queue watches.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buffer),
            Stream::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
