//! One connection: its socket, what it has not said to the end, and what it has not been told yet.
use super::ServiceId;
use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use torhost_protocol::LineBuffer;

pub(super) struct Connection {
    pub(super) owner: ServiceId,
    pub(super) stream: TcpStream,
    /// The beginning of a line whose end has not come.
    pub(super) lines: LineBuffer,
    /// What came and is left for the next turn. Nothing is read meanwhile.
    pub(super) left: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// How much of `output` is written.
    pub(super) written: usize,
    /// Whether it is on the list of those to be written to.
    pub(super) dirty: bool,
    /// To be closed once its output is written; what it says no longer matters.
    pub(super) closing: bool,
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
    pub(super) fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what it can.
    pub(super) fn write(&mut self) -> Progress {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
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
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return (0, Progress::End("connection closed".into())),
                // A short read has emptied the socket; the kernel tells when there is more.
                Ok(count) if count < buffer.len() => return (count, Progress::Done),
                Ok(count) => return (count, Progress::More),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (0, Progress::Done),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (0, Progress::End(error.to_string())),
            }
        }
    }

    /// Tells the other side that no more will come.
    pub(super) fn end_output(&self) {
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
