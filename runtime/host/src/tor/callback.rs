//! Command prefixes of scripts, called from other threads.
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use torhost_tcl::{Interp, Obj, Result, ThreadHandle};

thread_local! {
    /// The prefixes of this thread's interpreters, by number.
    static PREFIXES: RefCell<HashMap<u64, Prefix>> = RefCell::default();
    static LAST: Cell<u64> = const { Cell::new(0) };
}

#[derive(Clone)]
struct Prefix {
    interp: Interp,
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
        let interp = interp.clone();
        PREFIXES.with_borrow_mut(|prefixes| prefixes.insert(number, Prefix { interp, words }));
        let thread = ThreadHandle::current();
        Ok(Callback(Arc::new(Registered { thread, number })))
    }

    /// Calls it, soon. An error goes to the interpreter's `interp bgerror`.
    pub(crate) fn call(&self, args: impl FnOnce() -> Vec<Obj> + Send + 'static) {
        self.call_then(args, |interp, outcome| {
            if let Err(error) = outcome {
                interp.background_error(&error);
            }
        });
    }

    /// Calls it, soon, and has `then` run with its result, in its thread. If the interpreter is gone, neither happens, and
    /// both are dropped.
    pub(crate) fn call_then(
        &self,
        args: impl FnOnce() -> Vec<Obj> + Send + 'static,
        then: impl FnOnce(&Interp, Result<Obj>) + Send + 'static,
    ) {
        let number = self.0.number;
        let called = move || {
            let prefix = PREFIXES.with_borrow(|prefixes| prefixes.get(&number).cloned());
            if let Some(Prefix { interp, mut words }) = prefix.filter(|prefix| !prefix.interp.is_deleted()) {
                words.extend(args());
                let outcome = interp.eval_global(Obj::list(&words));
                then(&interp, outcome);
            }
        };
        // What is posted to a thread that has ended is dropped.
        let _ = self.0.thread.post(called);
    }
}
