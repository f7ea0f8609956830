//! Stopping what an interpreter evaluates, from another thread.
use crate::{Interp, sys};
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

unsafe extern "C" {
    /// Clears the mark of a cancellation. Exported by libtcl, but declared in one of its internal headers: a script that is
    /// refused because of the mark does not clear it.
    fn TclResetCancellation(interp: *mut sys::Tcl_Interp, force: c_int) -> c_int;
}

/// What an interpreter works on, so that other threads can stop it: see [`Interp::cancellable`].
///
/// Work is what is evaluated between [`Cancellable::begin`] and [`Cancellable::end`], also by the event loop.
#[derive(Debug)]
pub struct Cancellable {
    interp: Interp,
    shared: Arc<Shared>,
}

/// Stops the work of an interpreter, from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<Shared>);

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    /// None once the interpreter may be gone.
    interp: Option<*mut sys::Tcl_Interp>,
    work: Option<u64>,
    /// Work that was cancelled before it began.
    early: Option<u64>,
    /// Whether Tcl was told to cancel, and the interpreter may still have it before it.
    told: bool,
}

// SAFETY: The pointer is only given to `Tcl_CancelEval`, which any thread may call, and only while the interpreter lives.
unsafe impl Send for State {}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interp {
    /// Makes what this interpreter does stoppable by other threads.
    ///
    /// ```
    /// use torhost_tcl::Interp;
    /// let interp = Interp::new()?;
    /// let work = interp.cancellable();
    /// let canceller = work.canceller();
    /// assert!(work.begin(1));
    /// std::thread::spawn(move || assert!(canceller.cancel(1) && !canceller.cancel(2)));
    /// assert!(interp.eval("catch {while 1 {}}").is_err());
    /// work.end();
    /// assert!(!work.begin(2) && work.begin(3));
    /// assert!(interp.eval("set x 1").is_ok());
    /// # Ok::<(), torhost_tcl::Error>(())
    /// ```
    pub fn cancellable(&self) -> Cancellable {
        Cancellable {
            interp: self.clone(),
            shared: Arc::new(Shared(Mutex::new(State {
                interp: Some(self.as_ptr()),
                work: None,
                early: None,
                told: false,
            }))),
        }
    }
}

impl Cancellable {
    /// What stops it from elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.shared.clone())
    }

    /// Work begins, of a number that is not used twice. Returns false if it was cancelled already, and so does not begin. To be
    /// called when nothing is being evaluated: what is left of an earlier cancellation is cleared.
    pub fn begin(&self, work: u64) -> bool {
        self.settle();
        let mut state = self.shared.lock();
        let begins = state.early.take() != Some(work);
        state.work = begins.then_some(work);
        begins
    }

    /// The work is over; it can no longer be cancelled.
    pub fn end(&self) {
        self.shared.lock().work = None;
    }

    /// Clears a cancellation that came too late to stop anything. To be called when nothing is being evaluated.
    pub fn settle(&self) {
        if !std::mem::take(&mut self.shared.lock().told) {
            return;
        }
        // SAFETY: Live interpreter of this thread, in which nothing is being evaluated.
        unsafe {
            while sys::Tcl_AsyncReady() != 0 {
                sys::Tcl_AsyncInvoke(self.interp.as_ptr(), sys::TCL_OK as c_int);
            }
            TclResetCancellation(self.interp.as_ptr(), 1);
        }
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        (state.interp, state.work) = (None, None);
    }
}

impl Canceller {
    /// Stops work: whatever the interpreter evaluates ends with an error that `catch` does not catch. Returns whether it was
    /// this that the interpreter worked on; if not, and it is the next to come, it will not begin.
    ///
    /// A command written in C runs to its end, except those that wait (`after`, `vwait`).
    pub fn cancel(&self, work: u64) -> bool {
        let mut state = self.0.lock();
        let Some(interp) = state.interp.filter(|_| state.work == Some(work)) else {
            state.early = Some(work);
            return false;
        };
        state.told = true;
        // SAFETY: The interpreter lives, since `Cancellable` holds it and clears the pointer first.
        unsafe {
            sys::Tcl_CancelEval(
                interp,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                sys::TCL_CANCEL_UNWIND as c_int,
            )
        };
        true
    }
}
