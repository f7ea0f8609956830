//! The line protocol of torhost: docs/protocol.md.

use shared::Result;

use crate::{
    jobs::{DATA_SIZE, Jobs},
    load::{Outputs, Protocol},
};

/// The connection that submits; the workers come after it.
const CLIENT: usize = 0;

/// A client and its workers.
pub struct Torhost {
    /// Jobs that each worker says it takes at once.
    slots: usize,
    /// Jobs that each worker says it takes beforehand.
    prefetch: usize,
    /// What the workers put in front of the data to make a result.
    prefix: &'static [u8],
    /// Workers that the coordinator has accepted.
    pub registered: usize,
}

impl Torhost {
    /// Workers of this load's own, which give the data back, with a number of slots, and of jobs that they take beforehand.
    pub fn new(slots: usize, prefetch: usize) -> Self {
        Self {
            slots,
            prefetch,
            prefix: b"",
            registered: 0,
        }
    }

    /// Without workers: they are elsewhere, and their results are this prefix and the data, and perhaps more.
    pub fn with_other_workers(prefix: &'static [u8]) -> Self {
        Self {
            slots: 0,
            prefetch: 0,
            prefix,
            registered: 0,
        }
    }

    fn client_line(&self, line: &[u8], jobs: &mut Jobs) -> Result<()> {
        if let Some(rest) = line.strip_prefix(b"JOB_RESULT:") {
            // The rest is <id>:<outcome>:<result>.
            return rest
                .split(|byte| *byte == b':')
                .next()
                .and_then(|id| rest[id.len()..].strip_prefix(b":completed:"))
                .and_then(|result| result.strip_prefix(self.prefix)?.get(..DATA_SIZE))
                .ok_or_else(|| unexpected("the client", line))
                .and_then(|data| jobs.end(data));
        }
        if line.starts_with(b"JOB_ACCEPTED:") {
            return Ok(());
        }
        Err(unexpected("the client", line))
    }

    fn worker_line(&mut self, worker: usize, line: &[u8], outputs: &mut Outputs) -> Result<()> {
        if let Some(job) = line.strip_prefix(b"PROCESS_JOB:") {
            // The handle and the data, which are the result.
            let output = outputs.to(worker);
            output.extend_from_slice(b"JOB_COMPLETE:");
            output.extend_from_slice(job);
            output.push(b'\n');
            return Ok(());
        }
        if line.starts_with(b"REGISTERED:") {
            self.registered += 1;
            return Ok(());
        }
        // What is asked back is answered already.
        if line.starts_with(b"RETURN_JOB:") {
            return Ok(());
        }
        Err(unexpected("a worker", line))
    }
}

impl Protocol for Torhost {
    fn greet(&mut self, connection: usize, outputs: &mut Outputs) {
        if connection != CLIENT {
            let registration = serde_json::json!({
                "id": format!("bench{connection}"),
                "type": "bench",
                "capabilities": ["bench"],
                "slots": self.slots,
                "prefetch": self.prefetch,
            });
            let line = format!("REGISTER:{registration}\n");
            outputs.to(connection).extend_from_slice(line.as_bytes());
        }
    }

    fn submit(&mut self, data: &[u8], outputs: &mut Outputs) {
        let output = outputs.to(CLIENT);
        output.extend_from_slice(b"SUBMIT_JOB:");
        output.extend_from_slice(data);
        output.push(b'\n');
    }

    fn receive(
        &mut self,
        connection: usize,
        input: &[u8],
        outputs: &mut Outputs,
        jobs: &mut Jobs,
    ) -> Result<usize> {
        let mut done = 0;
        while let Some(length) = input[done..].iter().position(|byte| *byte == b'\n') {
            let line = &input[done..done + length];
            if connection == CLIENT {
                self.client_line(line, jobs)?;
            } else {
                self.worker_line(connection, line, outputs)?;
            }
            done += length + 1;
        }
        Ok(done)
    }
}

fn unexpected(who: &str, line: &[u8]) -> String {
    format!("{who} did not expect: {}", String::from_utf8_lossy(line))
}
