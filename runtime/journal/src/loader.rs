//! The thread that reads, beside the one that writes.
use crate::store::{Access, Error, Store};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use torhost_dispatch::Stored;
use torhost_protocol::JobId;

/// How long the thread waits before it tries again what could not be read.
const AGAIN: Duration = Duration::from_millis(250);

/// A job that was asked for, or why it cannot be read, now or ever.
pub type Loaded = (JobId, Result<Stored, String>);

/// Reads jobs, from a database that this process writes. Its thread ends some time after this is dropped.
#[derive(Debug)]
pub struct Loader {
    asked: Sender<Vec<JobId>>,
}

impl Loader {
    /// Starts the thread for a database. `tell` is called on it with what was read, in the order in which it was asked for.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(path: PathBuf, tell: impl FnMut(Vec<Loaded>) + Send + 'static) -> std::io::Result<Loader> {
        let (asked, questions) = mpsc::channel();
        std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || run(path, &questions, tell))?;
        Ok(Loader { asked })
    }

    /// Has jobs read.
    pub fn load(&self, jobs: Vec<JobId>) {
        // The thread ends only with this.
        let _ = self.asked.send(jobs);
    }
}

fn run(path: PathBuf, questions: &Receiver<Vec<JobId>>, mut tell: impl FnMut(Vec<Loaded>)) {
    let mut store = None;
    while let Ok(jobs) = questions.recv() {
        let mut said = None;
        loop {
            let opened = match store.take() {
                Some(store) => Ok(store),
                None => Store::open(&path, Access::Again),
            };
            match opened.and_then(|opened| Ok((opened.some_jobs(&jobs)?, opened))) {
                Ok((found, opened)) => {
                    store = Some(opened);
                    tell(found);
                    break;
                }
                Err(error) => {
                    let text = error.to_string();
                    if said.as_ref() != Some(&text) {
                        log::error!("cannot read jobs from {}: {text}; trying again", path.display());
                        said = Some(text);
                    }
                    std::thread::sleep(AGAIN);
                }
            }
        }
    }
}

impl Store {
    /// These jobs, oldest first, each or why it is not to be had.
    ///
    /// # Errors
    /// If the database cannot be read just now.
    pub fn some_jobs(&self, jobs: &[JobId]) -> Result<Vec<Loaded>, Error> {
        let mut jobs = jobs.to_vec();
        jobs.sort_unstable();
        let mut found: Vec<Loaded> = Vec::with_capacity(jobs.len());
        for id in jobs {
            let job = match self.job(id) {
                Ok(Some(job)) => Ok(job),
                Ok(None) => Err("it is not in the database any more".to_owned()),
                Err(Error::Damaged(why)) => Err(format!("the database is damaged: {why}")),
                Err(error) => return Err(error),
            };
            found.push((id, job));
        }
        Ok(found)
    }
}
