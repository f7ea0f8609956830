//! The protocol of beanstalkd, used as is fastest for it.
//!
//! Submitters put jobs without waiting for answers. A worker has some `reserve` commands waiting, and answers a job
//! with `delete` and the next `reserve` in one write. A job counts when its `DELETED` has come.

use shared::Result;
use std::collections::VecDeque;

use crate::{
    jobs::{DATA_SIZE, Data, Jobs},
    load::{Outputs, Protocol},
};

/// Submitters and workers.
pub struct Beanstalkd {
    /// The first connections submit, in turns; the others are workers.
    submitters: usize,
    next: usize,
    /// `reserve` commands that a worker has waiting.
    reserves: usize,
    /// Jobs that are being deleted, for each connection; answers come in the order of the commands.
    deleting: Vec<VecDeque<Data>>,
}

impl Beanstalkd {
    /// Submitting connections, and how many jobs a worker reserves at once.
    pub fn new(submitters: usize, reserves: usize) -> Self {
        Self {
            submitters,
            next: 0,
            reserves,
            deleting: Vec::new(),
        }
    }

    /// Acts on the first message, if it is whole, and returns its length.
    fn message(
        &mut self,
        connection: usize,
        input: &[u8],
        outputs: &mut Outputs,
        jobs: &mut Jobs,
    ) -> Result<Option<usize>> {
        // Answers are told by their first letters: INSERTED, RESERVED, DELETED.
        let Some(length) = input.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let (line, rest) = (&input[..length], &input[length + 1..]);
        if let Some(job) = line.strip_prefix(b"RESERVED ") {
            let Some(data) = rest.get(..DATA_SIZE + 2) else {
                return Ok(None);
            };
            let id = job.split(|byte| *byte == b' ').next().unwrap_or_default();
            let output = outputs.to(connection);
            output.extend_from_slice(b"delete ");
            output.extend_from_slice(id);
            output.extend_from_slice(b"\r\nreserve\r\n");
            let mut kept = [0; DATA_SIZE];
            kept.copy_from_slice(&data[..DATA_SIZE]);
            self.deleting[connection].push_back(kept);
            return Ok(Some(length + 1 + DATA_SIZE + 2));
        }
        if line == b"DELETED\r"
            && let Some(data) = self.deleting[connection].pop_front()
        {
            jobs.end(&data)?;
        } else if !line.starts_with(b"INSERTED ") {
            let text = String::from_utf8_lossy(line);
            return Err(format!("connection {connection} did not expect: {text}"));
        }
        Ok(Some(length + 1))
    }
}

impl Protocol for Beanstalkd {
    fn greet(&mut self, connection: usize, outputs: &mut Outputs) {
        self.deleting.push(VecDeque::new());
        if connection >= self.submitters {
            for _ in 0..self.reserves {
                outputs.to(connection).extend_from_slice(b"reserve\r\n");
            }
        }
    }

    fn submit(&mut self, data: &[u8], outputs: &mut Outputs) {
        let output = outputs.to(self.next);
        self.next = (self.next + 1) % self.submitters;
        // Priority, delay, seconds to run, bytes.
        output.extend_from_slice(b"put 0 0 60 16\r\n");
        output.extend_from_slice(data);
        output.extend_from_slice(b"\r\n");
    }

    fn receive(
        &mut self,
        connection: usize,
        input: &[u8],
        outputs: &mut Outputs,
        jobs: &mut Jobs,
    ) -> Result<usize> {
        let mut done = 0;
        while let Some(length) = self.message(connection, &input[done..], outputs, jobs)? {
            done += length;
        }
        Ok(done)
    }
}
