//! The children of a worker whose executors are processes.
use super::process::{self, Program, Started, end};
use super::{Answer, Executor, Link, RESTART_WAIT, Worker};
use crate::reactor::Io;
use std::time::{Duration, Instant};
use torhost_protocol::{Request, parse_request};

impl Worker {
    /// Makes a process the executor of a slot. Returns whether that worked; if not, it is tried again later.
    pub(super) fn adopt(&mut self, io: &mut Io, slot: usize, started: Started) -> bool {
        let Started { mut child, stream } = started;
        match io.adopt(stream, self.settings.limits) {
            Ok(conn) => {
                self.children.insert(conn, slot);
                self.slots[slot].executor = Executor::Process {
                    child,
                    conn,
                    kill_at: None,
                };
                true
            }
            Err(error) => {
                log::error!("cannot use the socket of an executor's process: {error}");
                end(&mut child);
                self.slots[slot].executor = Executor::Down(io.now() + RESTART_WAIT);
                false
            }
        }
    }

    pub(super) fn restart(&mut self, io: &mut Io, slot: usize) {
        match self.program.as_ref().map(Program::start) {
            // It is idle when it says that it is ready.
            Some(Ok(started)) => {
                self.adopt(io, slot, started);
            }
            Some(Err(error)) => {
                log::error!("cannot start an executor's process: {error}");
                self.slots[slot].executor = Executor::Down(io.now() + RESTART_WAIT);
            }
            None => {}
        }
    }

    /// A child has said something.
    pub(super) fn child_said(&mut self, io: &mut Io, slot: usize, line: &[u8]) {
        match line {
            process::READY => return self.idle.push(slot),
            process::WAITS => return self.waits(io, slot),
            process::DRAIN => return self.drain(io),
            process::RECONNECT => return self.reconnect(io),
            _ => {}
        }
        let running = self.slots[slot].job.as_ref().map(|job| (job.number, job.handle));
        match (parse_request(line), running) {
            (Ok(Request::Complete { handle, result }), Some((number, running))) if handle == running => {
                self.answered(io, slot, number, Answer::Complete(result.into_owned()));
            }
            (
                Ok(Request::Failed {
                    handle,
                    message,
                    info,
                }),
                Some((number, running)),
            ) if handle == running => {
                let message = String::from_utf8_lossy(&message).into_owned();
                self.answered(io, slot, number, Answer::Failed { message, info });
            }
            (
                Ok(Request::Progress {
                    handle,
                    percent,
                    note,
                }),
                Some((number, running)),
            ) if handle == running => {
                self.progressed(io, slot, number, percent, &String::from_utf8_lossy(note));
            }
            _ => log::warn!("an executor's process says what was not asked"),
        }
    }

    /// A child is gone: its job has failed, and another is started.
    pub(super) fn child_gone(&mut self, io: &mut Io, slot: usize) {
        let Executor::Process { child, kill_at, .. } = &mut self.slots[slot].executor else {
            return;
        };
        let was_cancelled = kill_at.is_some();
        let status = end(child);
        // One that ends before it was ready would be started again and again.
        let was_idle = self.idle.iter().position(|&idle| idle == slot);
        let is_new = was_idle.is_none() && self.slots[slot].job.is_none();
        let wait = if is_new { RESTART_WAIT } else { Duration::ZERO };
        if let Some(at) = was_idle {
            self.idle.remove(at);
        }
        self.slots[slot].executor = Executor::Down(io.now() + wait);
        log::warn!("an executor's process is gone ({status})");
        if let Some(number) = self.slots[slot].job.as_ref().map(|job| job.number) {
            let message = format!("the executor's process is gone ({status})");
            let answer = if was_cancelled {
                Answer::cancelled()
            } else {
                Answer::Failed { message, info: None }
            };
            self.answered(io, slot, number, answer);
        }
        if is_new && !self.is_able() {
            self.unable(io);
        }
    }

    /// Whether there is an executor that does a job, or could.
    pub(super) fn is_able(&self) -> bool {
        self.program.is_none() || !self.idle.is_empty() || self.slots.iter().any(|slot| slot.job.is_some())
    }

    /// No process comes up: others are to have the jobs, until one does.
    fn unable(&mut self, io: &mut Io) {
        if let Link::Up { conn, .. } | Link::Connecting(conn, _) = self.link {
            log::error!("no executor's process comes up: the script ends before tor::worker serve");
            io.close(conn);
            self.waiting.clear();
            self.lost(io, "there is no executor");
        }
    }

    /// When a process is to be killed or started next.
    pub(super) fn next_for_processes(&self) -> Option<Instant> {
        let times = self.slots.iter().filter_map(|slot| match &slot.executor {
            Executor::Process { kill_at, .. } => *kill_at,
            Executor::Down(at) => Some(*at),
            Executor::Thread(_) => None,
        });
        times.min().filter(|_| !matches!(self.link, Link::Closed(_)))
    }

    pub(super) fn tend_processes(&mut self, io: &mut Io) {
        let now = io.now();
        for slot in 0..self.slots.len() {
            match &mut self.slots[slot].executor {
                Executor::Process { child, kill_at, .. } if kill_at.is_some_and(|at| at <= now) => {
                    // Its connection ends with it.
                    *kill_at = Some(now + RESTART_WAIT);
                    process::kill(child);
                }
                Executor::Down(at) if *at <= now => self.restart(io, slot),
                _ => {}
            }
        }
    }
}
