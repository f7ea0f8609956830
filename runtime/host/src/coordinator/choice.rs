//! The balancing policy of a script: which of the free workers gets a job.
use super::Coordinator;
use super::hooks::Question;
use crate::reactor::Io;
use crate::tor::Callback;
use std::sync::Arc;
use std::time::Duration;
use torhost_dispatch::{Policy, WorkerKey};
use torhost_protocol::JobId;
use torhost_tcl::Obj;

/// A worker that could take a job, as a script sees it.
struct Candidate {
    name: Arc<str>,
    slots: u32,
    running: usize,
    capabilities: Vec<String>,
    weight: u32,
    completed: u64,
    failed: u64,
    silent: Duration,
}

impl Candidate {
    fn dict(&self) -> Obj {
        Obj::dict([
            ("name", Obj::from(&*self.name)),
            ("slots", Obj::from(self.slots)),
            ("running", Obj::from(self.running)),
            ("capabilities", Obj::list(&self.capabilities)),
            ("weight", Obj::from(self.weight)),
            ("completed", Obj::from(self.completed)),
            ("failed", Obj::from(self.failed)),
            ("silent_ms", Obj::from(self.silent.as_millis() as u64)),
        ])
    }
}

impl Coordinator {
    /// Chooses workers by a policy, or by a script, from now on.
    pub(crate) fn set_policy(&mut self, io: &mut Io, policy: Policy, chooser: Option<Callback>) {
        self.chooser = chooser;
        self.engine.set_policy(self.now(io), policy);
        self.act(io);
    }

    /// Asks the script for a worker, and lets the engine go on when there is an answer.
    pub(super) fn choose(&mut self, io: &mut Io, job: JobId, candidates: &[WorkerKey]) {
        let now = self.now(io);
        let (Some(chooser), Some(asked)) = (self.chooser.clone(), self.engine.job(job)) else {
            return self.engine.chosen(now, job, None);
        };
        let candidates = candidates.iter().filter_map(|key| {
            let (worker, link) = (self.engine.worker(*key)?, self.links.get(key)?);
            Some(Candidate {
                name: worker.name.clone(),
                slots: worker.slots,
                running: worker.running.len(),
                capabilities: link.capabilities.clone(),
                weight: link.weight,
                completed: worker.completed,
                failed: worker.failed,
                silent: now.saturating_sub(worker.heard),
            })
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let question = Question::new(
            io,
            move |coordinator: &mut Coordinator, io, name: Option<String>| {
                let worker = name.and_then(|name| coordinator.engine.worker_named(&name));
                coordinator.engine.chosen(coordinator.now(io), job, worker);
                coordinator.act(io);
            },
        );
        let submission = &asked.submission;
        let (data, priority) = (submission.data.clone(), submission.priority);
        let (requires, affinity) = (submission.requires.clone(), submission.affinity.clone());
        let attempt = asked.attempt + 1;
        let args = move || {
            let entries = [
                Some(("id", Obj::from(job.to_string()))),
                Some(("data", Obj::from(String::from_utf8_lossy(&data).into_owned()))),
                Some(("priority", Obj::from(priority))),
                Some(("requires", Obj::list(&requires))),
                Some(("attempt", Obj::from(attempt))),
                affinity
                    .as_ref()
                    .map(|affinity| ("affinity", Obj::from(affinity))),
            ];
            let job = Obj::dict(entries.into_iter().flatten());
            vec![Obj::list(candidates.iter().map(Candidate::dict)), job]
        };
        chooser.call_then(args, move |interp, answer| match answer {
            Ok(name) => question.answer(name.to_text_lossy()),
            // The next in turn gets the job.
            Err(error) => interp.background_error(&error),
        });
    }
}
