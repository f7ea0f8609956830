//! The thread that writes.
use crate::row;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use torhost_dispatch::Stored;
use torhost_protocol::JobId;

/// How long the thread waits before it tries again what could not be written.
const AGAIN: Duration = Duration::from_millis(250);
/// How long the thread looks for a batch that was announced, before it sleeps again. Longer than whoever announces it collects it.
const LOOK: Duration = Duration::from_micros(300);

/// When what is written is safe from a power failure. It is safe from the end of this process as soon as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before [`Fate::Kept`] is told.
    Commit,
    /// Within this time after it.
    Interval(Duration),
}

/// What is written at once: all of it, or nothing.
#[derive(Debug, Default)]
pub struct Batch {
    /// Jobs that are new or have changed, in the order of their numbers, each once.
    pub jobs: Vec<Stored>,
    /// Jobs that are to be kept no more, in the same order. They need not be there.
    pub forgotten: Vec<JobId>,
    /// What else there is to keep.
    pub notes: Vec<Note>,
}

/// Something to keep besides jobs.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A value under a name, in place of the one before.
    Setting(String, String),
    /// A worker that has come.
    Worker {
        /// Its name.
        name: String,
        /// What it calls itself.
        kind: String,
        /// What it offers.
        capabilities: Vec<String>,
        /// How many jobs it does at once.
        slots: u32,
        /// When, since 1970.
        at: Duration,
    },
    /// Something that happened, for people.
    Event(Event),
}

/// Something that happened. See [`torhost_dispatch::Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, since 1970.
    pub at: Duration,
    /// What.
    pub name: &'static str,
    /// The job that it happened to.
    pub job: Option<JobId>,
    /// The number of the attempt.
    pub attempt: Option<u32>,
    /// The worker's name.
    pub worker: Option<Arc<str>>,
    /// Why.
    pub reason: Option<String>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is written, and on disk under [`Sync::Commit`].
    Kept,
    /// It could not be written, and why. It is tried again until it can.
    Failing(String),
}

/// What the thread is told.
enum Message {
    /// A batch will come soon.
    Soon,
    Write(Batch),
}

/// A database that a thread writes to.
#[derive(Debug)]
pub struct Journal {
    messages: Option<Sender<Message>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the thread for a store. `tell` is called on it with what became of each batch, in their order.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(
        store: Store,
        sync: Sync,
        tell: impl FnMut(Fate) + Send + 'static,
    ) -> std::io::Result<Journal> {
        let (sender, receiver) = mpsc::channel();
        let closing = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            store,
            sync,
            closing: closing.clone(),
            synced: Instant::now(),
            unsynced: false,
            failed: None,
            tell: Box::new(tell),
        };
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Journal {
            messages: Some(sender),
            closing,
            thread: Some(thread),
        })
    }

    /// Has a batch written, after those before it.
    pub fn write(&self, batch: Batch) {
        self.send(Message::Write(batch));
    }

    /// Has the thread woken for a batch that comes within 0.3 ms: so long it keeps its core to look for it. It takes longer to wake up
    /// than to write a small batch. One that comes later, or never, harms nothing.
    pub fn expect(&self) {
        self.send(Message::Soon);
    }

    fn send(&self, message: Message) {
        if let Some(messages) = &self.messages {
            // The thread ends only with the journal.
            let _ = messages.send(message);
        }
    }
}

impl Drop for Journal {
    /// Waits until all is written, or cannot be.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    store: Store,
    sync: Sync,
    closing: Arc<AtomicBool>,
    /// When all that was written was on disk.
    synced: Instant,
    unsynced: bool,
    /// When a sync failed that no batch has waited for. The next one does.
    failed: Option<Instant>,
    tell: Box<dyn FnMut(Fate) + Send>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let again = self.failed.map(|failed| failed + AGAIN);
            let message = match self.due().max(again) {
                Some(due) => messages.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Write(batch)) => self.write(&batch),
                Ok(Message::Soon) => {
                    if let Some(batch) = look(messages) {
                        self.write(&batch);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = self.store.checkpoint() {
            log::warn!("cannot tidy the journal: {error}");
        }
    }

    /// When what is written must be on disk.
    fn due(&self) -> Option<Instant> {
        match self.sync {
            Sync::Interval(interval) if self.unsynced => Some(self.synced + interval),
            _ => None,
        }
    }

    /// Has all that was written on disk.
    fn sync(&mut self) {
        // Only what writes something is synced.
        let at = row::now().as_micros().to_string();
        let batch = Batch {
            notes: vec![Note::Setting("synced".to_owned(), at)],
            ..Batch::default()
        };
        match self.store.write(&batch, true) {
            Ok(()) => {
                self.unsynced = false;
                self.failed = None;
                self.synced = Instant::now();
            }
            Err(error) => {
                if self.failed.is_none() {
                    log::error!("cannot sync the journal: {error}");
                }
                self.failed = Some(Instant::now());
            }
        }
    }

    fn write(&mut self, batch: &Batch) {
        let mut said = None;
        loop {
            let is_due = self.due().is_some_and(|due| due <= Instant::now());
            let sync = self.sync == Sync::Commit || is_due || self.store.is_long();
            match self.store.write(batch, sync) {
                Ok(()) => {
                    if sync || !self.unsynced {
                        self.synced = Instant::now();
                    }
                    self.unsynced = !sync;
                    self.failed = None;
                    (self.tell)(Fate::Kept);
                    return;
                }
                Err(error) => {
                    let text = error.to_string();
                    if said.as_ref() != Some(&text) {
                        (self.tell)(Fate::Failing(text.clone()));
                        said = Some(text);
                    }
                }
            }
            // Nobody waits for it any more.
            if self.closing.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(AGAIN);
        }
    }
}

/// The next batch, if it comes while this looks for it.
fn look(messages: &Receiver<Message>) -> Option<Batch> {
    let began = Instant::now();
    while began.elapsed() < LOOK {
        match messages.try_recv() {
            Ok(Message::Write(batch)) => return Some(batch),
            Ok(Message::Soon) | Err(TryRecvError::Empty) => std::thread::yield_now(),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_for_what_was_announced_and_not_for_ever() {
        let (sender, messages) = mpsc::channel();
        assert!(look(&messages).is_none(), "nothing comes");
        sender.send(Message::Soon).expect("a receiver");
        sender.send(Message::Write(Batch::default())).expect("a receiver");
        assert!(look(&messages).is_some());
        drop(sender);
        assert!(look(&messages).is_none(), "nothing can come any more");
    }
}
