//! The table of jobs, by number. Numbers are given in order and jobs are forgotten in nearly that order, so that pages of
//! consecutive numbers come and go as wholes: no table ever moves to a larger place while clients wait.
use crate::job::Job;
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
    jobs: Box<[Option<Job>]>,
    used: usize,
}

impl Jobs {
    pub(crate) fn get(&self, id: JobId) -> Option<&Job> {
        let page = self.pages.get(self.index(id)?)?.as_ref()?;
        page.jobs[(id.0 % PAGE) as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        let at = self.index(id)?;
        let page = self.pages.get_mut(at)?.as_mut()?;
        page.jobs[(id.0 % PAGE) as usize].as_mut()
    }

    fn index(&self, id: JobId) -> Option<usize> {
        usize::try_from((id.0 / PAGE).checked_sub(self.first)?).ok()
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
            jobs: std::iter::repeat_with(|| None).take(PAGE as usize).collect(),
            used: 0,
        });
        page.jobs[(id.0 % PAGE) as usize] = Some(job);
        page.used += 1;
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, id: JobId) -> Option<Job> {
        let at = self.index(id)?;
        let slot = self.pages.get_mut(at)?;
        let page = slot.as_mut()?;
        let job = page.jobs[(id.0 % PAGE) as usize].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            *slot = None;
            while matches!(self.pages.front(), Some(None)) {
                self.pages.pop_front();
                self.first += 1;
            }
        }
        Some(job)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
