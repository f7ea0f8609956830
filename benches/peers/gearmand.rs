//! The binary protocol of gearmand, used as is fastest for it.
//!
//! A client submits jobs without waiting for answers. A worker asks for some jobs at once, and answers a job with
//! `WORK_COMPLETE` and the next `GRAB_JOB` in one write; when there is none it sleeps until it is woken. A job counts when its
//! `WORK_COMPLETE` has come to the client.

use shared::Result;

use crate::{
    jobs::Jobs,
    load::{Outputs, Protocol},
};

/// The connection that submits; the workers come after it.
const CLIENT: usize = 0;
/// Bytes before the content of a packet: magic, type, size.
const HEADER_SIZE: usize = 12;
/// The function that the jobs call.
const FUNCTION: &[u8] = b"bench";

const CAN_DO: u8 = 1;
const PRE_SLEEP: u8 = 4;
const NOOP: u8 = 6;
const SUBMIT_JOB: u8 = 7;
const JOB_CREATED: u8 = 8;
const GRAB_JOB: u8 = 9;
const NO_JOB: u8 = 10;
const JOB_ASSIGN: u8 = 11;
const WORK_COMPLETE: u8 = 13;

/// A client and its workers.
pub struct Gearmand {
    /// Jobs that a worker asks for at once.
    grabs: usize,
    /// Requests for a job that have no answer, for each connection.
    asked: Vec<usize>,
}

impl Gearmand {
    /// How many jobs a worker asks for at once.
    pub fn new(grabs: usize) -> Self {
        Self {
            grabs,
            asked: Vec::new(),
        }
    }

    fn packet(
        &mut self,
        connection: usize,
        kind: u8,
        content: &[u8],
        outputs: &mut Outputs,
        jobs: &mut Jobs,
    ) -> Result<()> {
        match (connection, kind) {
            (CLIENT, JOB_CREATED) => {}
            (CLIENT, WORK_COMPLETE) => {
                let (_handle, data) = split(content)?;
                jobs.end(data)?;
            }
            (1.., JOB_ASSIGN) => {
                let (handle, rest) = split(content)?;
                let (_function, data) = split(rest)?;
                let output = outputs.to(connection);
                write_packet(output, WORK_COMPLETE, &[handle, data]);
                write_packet(output, GRAB_JOB, &[]);
            }
            (1.., NO_JOB) => {
                self.asked[connection] -= 1;
                if self.asked[connection] == 0 {
                    write_packet(outputs.to(connection), PRE_SLEEP, &[]);
                }
            }
            (1.., NOOP) => self.ask(connection, outputs),
            _ => {
                let text = String::from_utf8_lossy(content);
                return Err(format!(
                    "connection {connection} did not expect packet {kind}: {text}"
                ));
            }
        }
        Ok(())
    }

    fn ask(&mut self, connection: usize, outputs: &mut Outputs) {
        while self.asked[connection] < self.grabs {
            self.asked[connection] += 1;
            write_packet(outputs.to(connection), GRAB_JOB, &[]);
        }
    }
}

impl Protocol for Gearmand {
    fn greet(&mut self, connection: usize, outputs: &mut Outputs) {
        self.asked.push(0);
        if connection != CLIENT {
            write_packet(outputs.to(connection), CAN_DO, &[FUNCTION]);
            self.ask(connection, outputs);
        }
    }

    fn submit(&mut self, data: &[u8], outputs: &mut Outputs) {
        // The second part would name jobs that are the same job.
        write_packet(outputs.to(CLIENT), SUBMIT_JOB, &[FUNCTION, b"", data]);
    }

    fn receive(
        &mut self,
        connection: usize,
        input: &[u8],
        outputs: &mut Outputs,
        jobs: &mut Jobs,
    ) -> Result<usize> {
        let mut done = 0;
        while let [0, b'R', b'E', b'S', 0, 0, 0, kind, s0, s1, s2, s3, rest @ ..] = &input[done..] {
            let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
            let Some(content) = rest.get(..size) else {
                return Ok(done);
            };
            self.packet(connection, *kind, content, outputs, jobs)?;
            done += HEADER_SIZE + size;
        }
        if input.len() >= done + HEADER_SIZE {
            return Err(format!("connection {connection} received what is not a packet"));
        }
        Ok(done)
    }
}

/// Appends a request; its parts are separated by zero bytes.
fn write_packet(output: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let size = parts.iter().map(|part| part.len()).sum::<usize>() + parts.len().saturating_sub(1);
    output.extend_from_slice(&[0, b'R', b'E', b'Q', 0, 0, 0, kind]);
    output.extend_from_slice(&(size as u32).to_be_bytes());
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            output.push(0);
        }
        output.extend_from_slice(part);
    }
}

/// A packet's first part, and the others.
fn split(content: &[u8]) -> Result<(&[u8], &[u8])> {
    content
        .iter()
        .position(|byte| *byte == 0)
        .map(|end| (&content[..end], &content[end + 1..]))
        .ok_or_else(|| "a packet has too few parts".into())
}
