//! Command prefixes of scripts, called from other threads.
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use torhost_tcl::{Completion, Error, Interp, Obj, Result, ThreadHandle, WeakInterp};

thread_local! {
    /// The prefixes of this thread's interpreters, by number.
    static PREFIXES: RefCell<HashMap<u64, Prefix>> = RefCell::default();
    static LAST: Cell<u64> = const { Cell::new(0) };
}

#[derive(Clone)]
struct Prefix {
    /// Not held: an interpreter that a script deletes must be gone, with all that ends with it.
    interp: WeakInterp,
    words: Vec<Obj>,
}

/// A command prefix. It is called by the event loop of the thread that it comes from, at global level, with arguments
/// appended. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Callback(Arc<Registered>);

#[derive(Debug)]
struct Registered {
    thread: ThreadHandle,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let number = self.number;
        // A thread that has ended has dropped its prefixes.
        let _ = self.thread.post(move || {
            let prefix = PREFIXES.with_borrow_mut(|prefixes| prefixes.remove(&number));
            // Deleting values may run scripts, so the table is not borrowed then.
            drop(prefix);
        });
    }
}

impl Callback {
    /// A prefix of an interpreter of this thread.
    ///
    /// # Errors
    /// A prefix that is not a list.
    pub(crate) fn new(interp: &Interp, prefix: &Obj) -> Result<Callback> {
        let words = prefix.to_list()?;
        let number = LAST.get() + 1;
        LAST.set(number);
        let interp = interp.downgrade();
        PREFIXES.with_borrow_mut(|prefixes| prefixes.insert(number, Prefix { interp, words }));
        let thread = ThreadHandle::current();
        Ok(Callback(Arc::new(Registered { thread, number })))
    }

    /// Calls it, soon. An error goes to the interpreter's `interp bgerror`. If there are no arguments by then, it is not called.
    pub(crate) fn call<A: Into<Option<Vec<Obj>>>>(&self, args: impl FnOnce() -> A + Send + 'static) {
        self.call_then(args, report);
    }

    /// Calls it, soon, and has `then` run with its result, in its thread. If there are no arguments by then or the interpreter is
    /// gone, neither happens, and both are dropped.
    pub(crate) fn call_then<A: Into<Option<Vec<Obj>>>>(
        &self,
        args: impl FnOnce() -> A + Send + 'static,
        then: impl FnOnce(&Interp, Result<Obj>) + Send + 'static,
    ) {
        let number = self.0.number;
        let called = move || {
            let prefix = PREFIXES.with_borrow(|prefixes| prefixes.get(&number).cloned());
            let Some(Prefix { interp, mut words }) = prefix else {
                return;
            };
            if let Some(interp) = interp.upgrade()
                && let Some(args) = args().into()
            {
                words.extend(args);
                let outcome = interp.eval_global(Obj::list(&words));
                then(&interp, outcome);
            }
        };
        // What is posted to a thread that has ended is dropped.
        let _ = self.0.thread.post(called);
    }
}

/// What became of a command prefix that did not give a result, as an error that says whose it is: `the hook -admit`, say. Of a
/// `break` and the like Tcl has no text of its own.
pub(crate) fn failure(whose: &str, error: &Error) -> Error {
    if error.completion() == Completion::Error {
        let info = error.info().unwrap_or(error.message());
        return error.clone().with_info(format!("{info}\n    ({whose})"));
    }
    let text = format!("{whose} ended with {}, not with a result", error.completion());
    Error::new(&text).with_info(&text)
}

/// Passes an error that has nobody to catch it to `interp bgerror`.
pub(crate) fn report(interp: &Interp, outcome: Result<Obj>) {
    report_of("a callback", interp, outcome);
}

/// As [`report`], where there is more to say of whose error it is.
pub(crate) fn report_of(whose: &str, interp: &Interp, outcome: Result<Obj>) {
    if let Err(error) = outcome {
        interp.background_error(&failure(whose, &error));
    }
}
