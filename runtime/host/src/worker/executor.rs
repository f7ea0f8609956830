//! An executor: an interpreter in a thread of its own, which runs one job at a time.
//!
//! The node's script is evaluated in it first, up to `tor::worker serve`. A job is a call of the handler in a coroutine, from the
//! event loop, so that a handler may `yield`. It is over when the handler has returned, or when `tor::job complete` is called
//! for a job that was put off with `tor::job defer`.
use super::{Answer, Worker};
use crate::reactor::Reach;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use torhost_protocol::Handle;
use torhost_tcl::{
    Cancellable, Canceller, Completion, Error, Interp, Next, Obj, Result, ThreadHandle, do_one_event,
};

/// The completion code by which `tor::worker serve` ends the script of an executor: not one that a script would use.
const END_OF_SCRIPT: Completion = Completion::Other(0x746F72);

/// The command that a job's coroutine runs.
const RUN: &str = "::tor::worker::Run";

/// A function that cancels the timers which would call a command.
const FORGET_TIMERS: &str = "{command} {
    foreach id [::after info] {
        if {![catch {lindex [::after info $id] 0 0} called] && $called eq $command} {
            ::after cancel $id
        }
    }
}";

/// The coroutine of a job.
fn coroutine(number: u64) -> String {
    format!("::tor::worker::job{number}")
}

thread_local! {
    /// Whether the script of this thread's executor has come to `tor::worker serve`.
    static SERVES: Cell<bool> = const { Cell::new(false) };
    static STOPPED: Cell<bool> = const { Cell::new(false) };
    /// The executor of this thread.
    static EXECUTOR: RefCell<Option<Rc<Executor>>> = const { RefCell::new(None) };
}

/// What an interpreter is to evaluate before it serves.
#[derive(Debug, Clone)]
pub(crate) enum Setup {
    /// A script's file, with the global variables that a shell sets.
    File {
        /// The file's path.
        file: String,
        /// The variable `argv`.
        argv: Vec<String>,
    },
    /// A script.
    Script(String),
}

/// What executors are told when they start.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) setup: Setup,
    /// The words of the handler, to which a job's data is appended.
    pub(crate) handler: Vec<String>,
    pub(crate) reach: Reach<Worker>,
}

/// How the reactor's thread reaches an executor.
#[derive(Debug, Clone)]
pub(crate) struct ExecutorHandle {
    thread: ThreadHandle,
    canceller: Canceller,
}

/// A job that is being done.
struct Job {
    /// Tells it from others of the same handle, which another coordinator may give again.
    number: u64,
    handle: Handle,
    data: Obj,
    /// Whether the handler has not come back from its first call.
    is_inside: bool,
    deferred: bool,
    /// What was answered while the handler was inside.
    answer: Option<Answer>,
}

/// What scripts see of the executor of their thread.
pub(crate) struct Executor {
    slot: usize,
    reach: Reach<Worker>,
    interp: Interp,
    work: Cancellable,
    handler: Vec<Obj>,
    job: RefCell<Option<Job>>,
}

impl ExecutorHandle {
    /// Starts an executor for each of so many slots, and waits until their scripts have come to `tor::worker serve`.
    ///
    /// # Errors
    /// Those of the script, and of starting a thread. All executors are stopped then.
    pub(crate) fn start(start: &Start, slots: u32) -> Result<Vec<ExecutorHandle>> {
        let starting: Vec<Result<_>> = (0..slots as usize).map(|slot| start_one(start, slot)).collect();
        let (mut executors, mut failure) = (Vec::new(), Ok(()));
        for started in starting {
            let lost = |_| Err(Error::new("the thread of an executor has ended"));
            match started.and_then(|ready| ready.recv().unwrap_or_else(lost)) {
                Ok(executor) => executors.push(executor),
                Err(error) => failure = failure.and(Err(error)),
            }
        }
        if failure.is_err() {
            for executor in &executors {
                // One that has ended need not be stopped.
                let _ = executor.thread.post(|| STOPPED.set(true));
            }
        }
        failure.map(|()| executors)
    }

    /// Has it do a job. It must be idle.
    pub(crate) fn assign(&self, number: u64, handle: Handle, data: Vec<u8>) {
        let begin = move || {
            with(|executor| executor.begin(number, handle, &data));
        };
        if self.thread.post(begin).is_err() {
            log::error!("the thread of an executor has ended");
        }
    }

    /// Has it stop a job, if it still does that one.
    pub(crate) fn cancel(&self, number: u64) {
        self.canceller.cancel(number);
        // For a handler that waits in the event loop, or is over.
        // One that has ended does no job.
        let _ = self.thread.post(move || {
            with(|executor| executor.cancelled(number));
        });
    }
}

type Ready = mpsc::Receiver<Result<ExecutorHandle>>;

fn start_one(start: &Start, slot: usize) -> Result<Ready> {
    let (ready, started) = mpsc::sync_channel(1);
    let start = start.clone();
    std::thread::Builder::new()
        .name(format!("executor {}", slot + 1))
        .spawn(move || run(&start, slot, &ready))
        .map_err(|error| Error::new(format!("cannot start a thread for an executor: {error}")))?;
    Ok(started)
}

/// Calls code with the executor of this thread, if it has one.
fn with<T>(code: impl FnOnce(&Executor) -> T) -> Option<T> {
    let executor = EXECUTOR.with_borrow(Clone::clone)?;
    Some(code(&executor))
}

/// The worker whose executor this thread is.
pub(crate) fn own() -> Option<Reach<Worker>> {
    with(|executor| executor.reach)
}

/// What `tor::worker serve` does in an executor: its script is over.
pub(crate) fn end_of_script() -> Error {
    SERVES.set(true);
    Error::new("the script of an executor ends at tor::worker serve, which must not be caught")
        .with_completion(END_OF_SCRIPT)
}

fn run(start: &Start, slot: usize, ready: &mpsc::SyncSender<Result<ExecutorHandle>>) {
    let interp = match Interp::new() {
        Ok(interp) => interp,
        Err(error) => return tell(ready, Err(error)),
    };
    let outcome = set_up(&interp, start, slot);
    let serves = outcome.is_ok();
    tell(ready, outcome);
    while serves && !STOPPED.get() && !interp.is_deleted() {
        do_one_event(true);
    }
    // The interpreter outlives all that refers to it.
    EXECUTOR.take();
}

fn tell(ready: &mpsc::SyncSender<Result<ExecutorHandle>>, outcome: Result<ExecutorHandle>) {
    // The one who started this thread waits for it.
    let _ = ready.send(outcome);
}

fn set_up(interp: &Interp, start: &Start, slot: usize) -> Result<ExecutorHandle> {
    let handle = here(interp, &start.handler, start.reach, slot)?;
    match &start.setup {
        Setup::Script(script) => interp.eval_global(script).map(drop)?,
        Setup::File { file, argv } => {
            interp.set_global("argv0", file)?;
            interp.set_global("argc", argv.len())?;
            interp.set_global("argv", Obj::list(argv))?;
            interp.set_global("tcl_interactive", false)?;
            match interp.eval_file(file, None) {
                _ if SERVES.get() => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    return Err(Error::new(format!(
                        "{file} ended in an executor before it came to tor::worker serve"
                    )));
                }
            }
        }
    }
    Ok(handle)
}

/// Makes an interpreter of this thread the executor of a slot.
fn here(interp: &Interp, handler: &[String], reach: Reach<Worker>, slot: usize) -> Result<ExecutorHandle> {
    let executor = Executor {
        slot,
        reach,
        interp: interp.clone(),
        work: interp.cancellable(),
        handler: handler.iter().map(Obj::from).collect(),
        job: RefCell::new(None),
    };
    let handle = ExecutorHandle {
        thread: ThreadHandle::current(),
        canceller: executor.work.canceller(),
    };
    EXECUTOR.set(Some(Rc::new(executor)));
    interp.create_nr_command(RUN, |_, _| {
        let call = with(Executor::call).flatten();
        let call = call.ok_or_else(|| Error::new("there is no job"))?;
        let ended: torhost_tcl::Continuation = Box::new(|_, outcome| {
            with(|executor| executor.returned(outcome));
            Ok(Next::Done(Obj::empty()))
        });
        Ok(Next::Eval(call, ended))
    })?;
    Ok(handle)
}

/// Makes this interpreter the only executor of a worker, for as long as the process lives. `ready` is given what reaches it.
pub(crate) fn serve_here(
    interp: &Interp,
    handler: &[String],
    reach: Reach<Worker>,
    ready: impl FnOnce(ExecutorHandle),
) -> Result<Obj> {
    ready(here(interp, handler, reach, 0)?);
    while !interp.is_deleted() {
        do_one_event(true);
    }
    Ok(Obj::empty())
}

impl Executor {
    fn begin(&self, number: u64, handle: Handle, data: &[u8]) {
        if !self.work.begin(number) {
            let slot = self.slot;
            let answer = Answer::cancelled();
            return self
                .reach
                .post(move |worker, io| worker.answered(io, slot, number, answer));
        }
        self.job.replace(Some(Job {
            number,
            handle,
            data: Obj::from(&*String::from_utf8_lossy(data)),
            is_inside: true,
            deferred: false,
            answer: None,
        }));
        // Its outcome is told by `returned`, even when it is cancelled.
        let _ = self
            .interp
            .eval_global(Obj::list(["coroutine", &coroutine(number), RUN]));
        self.work.settle();
        let waits = {
            let mut job = self.job.borrow_mut();
            let Some(job) = job.as_mut() else { return };
            job.is_inside = false;
            job.answer.is_none()
        };
        if waits {
            let slot = self.slot;
            self.reach.post(move |worker, io| worker.waits(io, slot));
        } else {
            self.end();
        }
    }

    /// The call of the handler for the job that has begun.
    fn call(&self) -> Option<Obj> {
        let job = self.job.borrow();
        let data = job.as_ref()?.data.clone();
        Some(Obj::list(self.handler.iter().cloned().chain([data])))
    }

    /// The handler is over.
    fn returned(&self, outcome: Result<Obj>) {
        let answer = match outcome {
            Ok(_) if self.job.borrow().as_ref().is_some_and(|job| job.deferred) => return,
            Ok(result) => Answer::Complete(result.to_text_lossy().into_bytes()),
            Err(error) => Answer::from(error),
        };
        self.answer(answer);
    }

    /// Answers the job that is being done. The first answer counts.
    fn answer(&self, answer: Answer) {
        let is_inside = match self.job.borrow_mut().as_mut() {
            Some(job) => {
                job.answer.get_or_insert(answer);
                job.is_inside
            }
            None => return,
        };
        if !is_inside {
            self.end();
        }
    }

    /// The job is over: reports its answer, and is idle.
    fn end(&self) {
        self.work.end();
        let Some(Job { number, answer, .. }) = self.job.take() else {
            return;
        };
        let slot = self.slot;
        if let Some(answer) = answer {
            self.reach
                .post(move |worker, io| worker.answered(io, slot, number, answer));
        }
    }

    /// A job was cancelled, and was not stopped while it was evaluated.
    fn cancelled(&self, number: u64) {
        let coroutine = coroutine(number);
        let waits = match self.job.borrow_mut().as_mut() {
            // In an event loop of its own, it is about to be stopped.
            Some(job) if job.is_inside => return,
            Some(job) if job.number == number => {
                // The first answer counts, so what the coroutine's end says is not heard.
                job.answer.get_or_insert(Answer::cancelled());
                true
            }
            _ => false,
        };
        if waits {
            self.work.settle();
            self.end();
            // Where it waits in a coroutine, its commands for cleaning up are run.
            let _ = self.interp.call(&["rename", &coroutine, ""].map(Obj::from));
        }
        // What it left to call its coroutine later would find none.
        let words = ["::apply", FORGET_TIMERS, &coroutine];
        let _ = self.interp.call(&words.map(Obj::from));
    }
}

// ----------------------------------------------------------------------------------------------------- what scripts call

/// What a script can know of its job.
pub(crate) struct Current {
    /// The attempt.
    pub(crate) handle: Handle,
    /// What to process.
    pub(crate) data: Obj,
}

/// The job that this thread's executor does.
pub(crate) fn current() -> Option<Current> {
    with(|executor| {
        let job = executor.job.borrow();
        job.as_ref().map(|job| Current {
            handle: job.handle,
            data: job.data.clone(),
        })
    })
    .flatten()
}

/// Has the job go on after its handler has returned. Returns whether there is one.
pub(crate) fn defer() -> bool {
    with(|executor| match executor.job.borrow_mut().as_mut() {
        Some(job) => {
            job.deferred = true;
            true
        }
        None => false,
    })
    .unwrap_or(false)
}

/// Answers an attempt, if it is the one that this executor works on. Returns whether it was.
pub(crate) fn answer(handle: Handle, answer: Answer) -> bool {
    let is_current = current().is_some_and(|job| job.handle == handle);
    if is_current {
        with(|executor| {
            if let Some(job) = executor.job.borrow_mut().as_mut() {
                job.deferred = true;
            }
            executor.answer(answer);
        });
    }
    is_current
}

/// Says how far the current job is. Returns whether there is one.
pub(crate) fn progress(percent: f64, note: String) -> bool {
    with(|executor| {
        let job = executor.job.borrow();
        let Some(job) = job.as_ref() else { return false };
        let (slot, number) = (executor.slot, job.number);
        executor
            .reach
            .post(move |worker, io| worker.progressed(io, slot, number, percent, &note));
        true
    })
    .unwrap_or(false)
}
