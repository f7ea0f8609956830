//! The table of jobs, by number. Numbers are given in order and jobs are forgotten in nearly that order, so that pages of
//! consecutive numbers come and go as wholes: no table ever moves to a larger place while clients wait.
use crate::class::{ClassId, Place};
use crate::job::Job;
use crate::output::Client;
use std::collections::VecDeque;
use torhost_protocol::JobId;

const PAGE: u64 = 128;

#[derive(Default)]
pub(crate) struct Jobs {
    pages: VecDeque<Option<Page>>,
    /// The number of the first of them.
    first: u64,
    len: usize,
}

struct Page {
    jobs: Box<[Slot]>,
    used: usize,
}

enum Slot {
    Empty,
    /// Behind a pointer, so that a page of jobs that are not here is small.
    Here(Box<Job>),
    Spilled(Spilled),
}

/// What is known of a queued job whose host has the rest. Small, as there may be millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spilled {
    rank: u64,
    /// Who is told when it ends. Nobody, or one; others are elsewhere.
    pub(crate) client: Option<Client>,
    priority: i32,
    pub(crate) class: ClassId,
}

impl Spilled {
    pub(crate) fn of(job: &Job) -> Spilled {
        Spilled {
            rank: job.rank,
            client: job.waiting.first().copied(),
            priority: job.submission.priority,
            class: job.class,
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place::new(self.priority, self.rank)
    }
}

impl Jobs {
    /// A job that is here.
    pub(crate) fn get(&self, id: JobId) -> Option<&Job> {
        match self.slot(id)? {
            Slot::Here(job) => Some(job),
            Slot::Empty | Slot::Spilled(_) => None,
        }
    }

    /// A job that is here.
    pub(crate) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        match self.slot_mut(id)? {
            Slot::Here(job) => Some(job),
            Slot::Empty | Slot::Spilled(_) => None,
        }
    }

    /// A job that is spilled.
    pub(crate) fn spilled(&self, id: JobId) -> Option<&Spilled> {
        match self.slot(id)? {
            Slot::Spilled(spilled) => Some(spilled),
            Slot::Empty | Slot::Here(_) => None,
        }
    }

    /// A job that is spilled.
    pub(crate) fn spilled_mut(&mut self, id: JobId) -> Option<&mut Spilled> {
        match self.slot_mut(id)? {
            Slot::Spilled(spilled) => Some(spilled),
            Slot::Empty | Slot::Here(_) => None,
        }
    }

    /// Whether there is such a job, here or not.
    pub(crate) fn knows(&self, id: JobId) -> bool {
        !matches!(self.slot(id), None | Some(Slot::Empty))
    }

    /// Adds a job; `id` is above all those before.
    pub(crate) fn insert(&mut self, id: JobId, job: Job) {
        let page = id.0 / PAGE;
        if self.pages.is_empty() {
            self.first = page;
        }
        let at = (page - self.first) as usize;
        if at >= self.pages.len() {
            self.pages.resize_with(at + 1, || None);
        }
        let page = self.pages[at].get_or_insert_with(|| Page {
            jobs: std::iter::repeat_with(|| Slot::Empty)
                .take(PAGE as usize)
                .collect(),
            used: 0,
        });
        page.jobs[(id.0 % PAGE) as usize] = Slot::Here(Box::new(job));
        page.used += 1;
        self.len += 1;
    }

    /// Has no more of a job that is here than this.
    pub(crate) fn spill(&mut self, id: JobId, spilled: Spilled) {
        if let Some(slot @ Slot::Here(_)) = self.slot_mut(id) {
            *slot = Slot::Spilled(spilled);
        }
    }

    /// Has all of a job that is spilled.
    pub(crate) fn bring_back(&mut self, id: JobId, job: Job) {
        if let Some(slot @ Slot::Spilled(_)) = self.slot_mut(id) {
            *slot = Slot::Here(Box::new(job));
        }
    }

    /// Removes a job.
    pub(crate) fn remove(&mut self, id: JobId) {
        let Some(at) = self.index(id) else { return };
        let Some(Some(page)) = self.pages.get_mut(at) else {
            return;
        };
        let slot = &mut page.jobs[(id.0 % PAGE) as usize];
        if matches!(slot, Slot::Empty) {
            return;
        }
        *slot = Slot::Empty;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages[at] = None;
            while matches!(self.pages.front(), Some(None)) {
                self.pages.pop_front();
                self.first += 1;
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn slot(&self, id: JobId) -> Option<&Slot> {
        let page = self.pages.get(self.index(id)?)?.as_ref()?;
        page.jobs.get((id.0 % PAGE) as usize)
    }

    fn slot_mut(&mut self, id: JobId) -> Option<&mut Slot> {
        let at = self.index(id)?;
        let page = self.pages.get_mut(at)?.as_mut()?;
        page.jobs.get_mut((id.0 % PAGE) as usize)
    }

    fn index(&self, id: JobId) -> Option<usize> {
        usize::try_from((id.0 / PAGE).checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spilled_job_is_small() {
        assert_eq!(size_of::<Slot>(), 32);
    }
}
