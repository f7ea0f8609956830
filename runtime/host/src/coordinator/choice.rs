//! The balancing policy of a script: which of the workers that have room gets a job.
use super::Coordinator;
use super::hooks::Question;
use crate::reactor::Io;
use crate::tor::{Callback, failure};
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
    prefetched: usize,
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
            ("prefetched", Obj::from(self.prefetched)),
            ("capabilities", Obj::list(&self.capabilities)),
            ("weight", Obj::from(self.weight)),
            ("completed", Obj::from(self.completed)),
            ("failed", Obj::from(self.failed)),
            ("silent_ms", Obj::from(self.silent.as_millis() as u64)),
        ])
    }
}

/// What a script has answered.
struct Choice {
    name: String,
    /// Whether it is one of the workers that the script was given. That one may be gone by now.
    is_offered: bool,
}

/// How often the log is told that a script names workers that it was not given.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// When a script has named workers that it was not given.
#[derive(Default)]
pub(super) struct Misnamed {
    said: Option<Duration>,
    unsaid: u64,
}

impl Misnamed {
    /// Notes that it did so once more. If that is to be told, how often it was not told since the last time.
    fn note(&mut self, now: Duration) -> Option<u64> {
        if self.said.is_some_and(|said| now < said + SAID_EVERY) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
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
                prefetched: worker.prefetched.len(),
                capabilities: link.capabilities.clone(),
                weight: link.weight,
                completed: worker.completed,
                failed: worker.failed,
                silent: now.saturating_sub(worker.heard),
            })
        });
        let candidates: Arc<[Candidate]> = candidates.collect();
        let question = Question::new(
            io,
            move |coordinator: &mut Coordinator, io, choice: Option<Choice>| {
                let worker = choice.and_then(|choice| coordinator.named(io, &choice));
                coordinator.engine.chosen(coordinator.now(io), job, worker);
                coordinator.act(io);
            },
        );
        let submission = &asked.submission;
        let (data, priority) = (submission.data.clone(), submission.priority);
        let (requires, affinity) = (submission.requires.clone(), submission.affinity.clone());
        let attempt = asked.attempt + 1;
        let offered = candidates.clone();
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
            Ok(name) => {
                let name = name.to_text_lossy();
                let is_offered = offered.iter().any(|candidate| *candidate.name == *name);
                question.answer(Choice { name, is_offered });
            }
            // The next in turn gets the job.
            Err(error) => interp.background_error(&failure("the policy command", &error)),
        });
    }

    /// The worker that the script chose. A name that it was not given is told of in the log, now and then.
    fn named(&mut self, io: &Io, choice: &Choice) -> Option<WorkerKey> {
        if !choice.is_offered
            && let Some(unsaid) = self.misnamed.note(self.now(io))
        {
            let before = match unsaid {
                0 => String::new(),
                unsaid => format!(" (and {unsaid} times more since it was last said here)"),
            };
            log::warn!(
                "the policy command returned \"{}\", which is none of the workers that it was given: the next in turn gets the job{before}",
                choice.name.escape_debug()
            );
        }
        self.engine.worker_named(&choice.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_goes_on_naming_nobody_is_told_of_once_a_minute() {
        let mut misnamed = Misnamed::default();
        let second = Duration::from_secs(1);
        assert_eq!(misnamed.note(5 * second), Some(0));
        assert_eq!(misnamed.note(6 * second), None);
        assert_eq!(misnamed.note(64 * second), None);
        assert_eq!(misnamed.note(65 * second), Some(2));
        assert_eq!(misnamed.note(125 * second), Some(0));
    }
}
