//! Tcl's event notifier, on mio.
//!
//! Tcl asks for level-triggered readiness: a handler is called again and again while its descriptor is ready. mio reports
//! edges. The difference is made up for just before each wait, when every descriptor that was reported since the last
//! wait is registered anew: the kernel then looks at it again. That is one system call per report, and none for
//! descriptors that are idle, however many there are.
//!
//! All hooks run on the thread whose notifier they serve, except `alert`, which any thread may call.
use crate::command::panic_text;
use crate::sys;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const READABLE: c_int = sys::TCL_READABLE as c_int;
const WRITABLE: c_int = sys::TCL_WRITABLE as c_int;
const EXCEPTION: c_int = sys::TCL_EXCEPTION as c_int;

const WAKE: Token = Token(usize::MAX);

/// How many times this process has been forked off: an epoll instance is shared with the parent and must not be used on.
static FORKS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The notifier of this thread, from `init` to `finalize`.
    static CURRENT: Cell<*const Notifier> = const { Cell::new(std::ptr::null()) };
}

type Job = Box<dyn FnOnce() + Send>;

struct Notifier {
    mailbox: Arc<Mailbox>,
    state: RefCell<State>,
}

/// What other threads may touch of a notifier.
struct Mailbox {
    inner: Mutex<Inbox>,
}

struct Inbox {
    /// None once the thread's notifier is gone.
    waker: Option<Arc<Waker>>,
    jobs: VecDeque<Job>,
    /// The thread was woken for jobs that it has not looked at: it will find those that come meanwhile.
    woken: bool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let waker = self.lock().waker.clone();
        if let Some(Err(error)) = waker.map(|waker| waker.wake()) {
            log::error!("cannot wake an interpreter's thread: {error}");
        }
    }
}

struct State {
    poll: Poll,
    events: Events,
    forks: u32,
    /// By descriptor.
    handlers: Vec<Option<Handler>>,
    /// Descriptors to be registered, or registered anew, before the next wait.
    stale: Vec<RawFd>,
    /// Descriptors that epoll refuses, such as regular files: they are always ready.
    always_ready: Vec<RawFd>,
    /// Where descriptors that are watched for the first time are noted, while somebody wants to know.
    newly_watched: Option<Vec<RawFd>>,
}

struct Handler {
    mask: c_int,
    call: sys::Tcl_FileProc,
    data: *mut c_void,
    /// What the event that is on Tcl's queue for it is to report; 0 while none is.
    ready: c_int,
    registered: bool,
    stale: bool,
}

/// An event on Tcl's queue: the header that Tcl wants and the descriptor, by number, since the handler may be gone or
/// another by the time it is served.
#[repr(C)]
struct FileEvent {
    header: sys::Tcl_Event,
    fd: RawFd,
}

impl State {
    fn new() -> io::Result<(State, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let state = State {
            poll,
            events: Events::with_capacity(1024),
            forks: FORKS.load(Ordering::Relaxed),
            handlers: Vec::new(),
            stale: Vec::new(),
            always_ready: Vec::new(),
            newly_watched: None,
        };
        Ok((state, waker))
    }

    fn handler(&mut self, fd: RawFd) -> Option<&mut Handler> {
        usize::try_from(fd)
            .ok()
            .and_then(|at| self.handlers.get_mut(at))
            .and_then(Option::as_mut)
    }

    fn watch(&mut self, fd: RawFd, mask: c_int, call: sys::Tcl_FileProc, data: *mut c_void) {
        let Ok(at) = usize::try_from(fd) else { return };
        if at >= self.handlers.len() {
            self.handlers.resize_with(at + 1, || None);
        }
        match &mut self.handlers[at] {
            Some(handler) => {
                let changed = handler.mask != mask;
                (handler.mask, handler.call, handler.data) = (mask, call, data);
                if changed {
                    self.mark_stale(fd);
                }
            }
            empty => {
                *empty = Some(Handler {
                    mask,
                    call,
                    data,
                    ready: 0,
                    registered: false,
                    stale: false,
                });
                self.mark_stale(fd);
                if let Some(seen) = &mut self.newly_watched {
                    seen.push(fd);
                }
            }
        }
    }

    /// Deregisters at once: if the descriptor is closed next while a copy of it lives on in another process, there would be
    /// no way left to do so, and its events would be taken for those of the next descriptor of that number.
    fn forget(&mut self, fd: RawFd) {
        let handler = usize::try_from(fd)
            .ok()
            .and_then(|at| self.handlers.get_mut(at))
            .and_then(Option::take);
        match handler {
            Some(handler) if handler.registered => self.deregister(fd),
            Some(_) => self.always_ready.retain(|&other| other != fd),
            None => {}
        }
    }

    fn deregister(&self, fd: RawFd) {
        // It may be closed already, in which case the kernel has forgotten it.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }

    fn mark_stale(&mut self, fd: RawFd) {
        if let Some(handler) = self.handler(fd)
            && !handler.stale
        {
            handler.stale = true;
            self.stale.push(fd);
        }
    }

    /// Brings the kernel's view up to date, and has it look anew at all that it has reported.
    fn refresh(&mut self) {
        for fd in std::mem::take(&mut self.stale) {
            let Some(handler) = self.handler(fd) else { continue };
            handler.stale = false;
            let (was_registered, interest) = (handler.registered, interest(handler.mask));
            self.always_ready.retain(|&other| other != fd);
            let registered = match interest {
                Some(interest) => self.register(fd, interest, was_registered),
                None if was_registered => {
                    self.deregister(fd);
                    false
                }
                None => false,
            };
            if let Some(handler) = self.handler(fd) {
                handler.registered = registered;
            }
        }
    }

    /// Whether the descriptor is with the kernel now.
    fn register(&mut self, fd: RawFd, interest: Interest, was_registered: bool) -> bool {
        let registry = self.poll.registry();
        let (token, mut source) = (Token(fd as usize), SourceFd(&fd));
        let mut outcome = if was_registered {
            registry.reregister(&mut source, token, interest)
        } else {
            registry.register(&mut source, token, interest)
        };
        // The descriptor was closed behind Tcl's back, or opened anew, since the last time.
        outcome = match outcome {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                registry.register(&mut source, token, interest)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                registry.reregister(&mut source, token, interest)
            }
            other => other,
        };
        match outcome {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.always_ready.push(fd);
                false
            }
            Err(error) => {
                log::error!("cannot watch descriptor {fd}: {error}");
                false
            }
        }
    }

    /// Starts anew in a process that was forked off: what there is belongs to the parent.
    fn rebuild(&mut self) -> io::Result<Arc<Waker>> {
        let (fresh, waker) = State::new()?;
        let handlers = std::mem::take(&mut self.handlers);
        *self = State { handlers, ..fresh };
        for at in 0..self.handlers.len() {
            if let Some(handler) = &mut self.handlers[at] {
                (handler.registered, handler.stale) = (false, false);
                self.mark_stale(at as RawFd);
            }
        }
        Ok(waker)
    }

    /// Waits, and returns the descriptors for which an event is to be queued.
    fn wait(&mut self, timeout: Option<Duration>) -> Vec<RawFd> {
        self.refresh();
        let timeout = if self.always_ready.is_empty() {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        let mut to_queue = Vec::new();
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            // A signal ends the wait, and Tcl then looks for what its handler left to do.
            if error.kind() != ErrorKind::Interrupted {
                log::error!("cannot wait for events: {error}");
            }
            return to_queue;
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in events.iter().filter(|event| event.token() != WAKE) {
            let fd = event.token().0 as RawFd;
            self.mark_stale(fd);
            self.make_ready(fd, conditions(event), &mut to_queue);
        }
        self.events = events;
        for fd in self.always_ready.clone() {
            self.make_ready(fd, READABLE | WRITABLE, &mut to_queue);
        }
        to_queue
    }

    fn make_ready(&mut self, fd: RawFd, conditions: c_int, to_queue: &mut Vec<RawFd>) {
        let Some(handler) = self.handler(fd) else { return };
        let ready = conditions & handler.mask;
        if ready != 0 {
            if handler.ready == 0 {
                to_queue.push(fd);
            }
            handler.ready = ready;
        }
    }
}

fn interest(mask: c_int) -> Option<Interest> {
    [
        (READABLE, Interest::READABLE),
        (WRITABLE, Interest::WRITABLE),
        (EXCEPTION, Interest::PRIORITY),
    ]
    .into_iter()
    .filter(|(bit, _)| mask & bit != 0)
    .map(|(_, interest)| interest)
    .reduce(Interest::add)
}

/// What `select` would have said: a hang-up can be read (as end of file), an error read, written and seen.
fn conditions(event: &Event) -> c_int {
    let mut conditions = 0;
    if event.is_readable() || event.is_read_closed() || event.is_error() {
        conditions |= READABLE;
    }
    if event.is_writable() || event.is_write_closed() || event.is_error() {
        conditions |= WRITABLE;
    }
    if event.is_priority() || event.is_error() {
        conditions |= EXCEPTION;
    }
    conditions
}

/// Puts this notifier in place of Tcl's own, for all threads.
///
/// # Safety
/// Called once, before anything else of Tcl.
pub(crate) unsafe fn install() {
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    let mut procs = sys::Tcl_NotifierProcs {
        setTimerProc: Some(set_timer),
        waitForEventProc: Some(wait_for_event),
        createFileHandlerProc: Some(create_file_handler),
        deleteFileHandlerProc: Some(delete_file_handler),
        initNotifierProc: Some(init),
        finalizeNotifierProc: Some(finalize),
        alertNotifierProc: Some(alert),
        serviceModeHookProc: Some(service_mode_hook),
    };
    // SAFETY: Tcl copies the table. The handler of forks only adds to an atomic.
    unsafe {
        sys::Tcl_SetNotifier(&mut procs);
        libc::pthread_atfork(None, None, Some(forked));
    }
}

/// Runs code with this thread's notifier; `None` before Tcl has started in this thread and after it has ended.
fn with_current<T>(code: impl FnOnce(&Notifier) -> T) -> Option<T> {
    let notifier = CURRENT.get();
    // SAFETY: Null, or what `init` of this thread made and `finalize` of this thread will free.
    unsafe { notifier.as_ref() }.map(code)
}

extern "C" fn init() -> *mut c_void {
    // Without a notifier Tcl cannot run at all, and this function has no way to say so but to end the process.
    let (state, waker) = match State::new() {
        Ok(made) => made,
        Err(error) => {
            eprintln!("torhost: cannot start the event notifier: {error}");
            std::process::abort();
        }
    };
    let mailbox = Mailbox {
        inner: Mutex::new(Inbox {
            waker: Some(waker),
            jobs: VecDeque::new(),
            woken: false,
        }),
    };
    let notifier = Box::new(Notifier {
        mailbox: Arc::new(mailbox),
        state: RefCell::new(state),
    });
    let notifier = Box::into_raw(notifier);
    CURRENT.set(notifier);
    notifier.cast()
}

unsafe extern "C" fn finalize(data: *mut c_void) {
    CURRENT.set(std::ptr::null());
    // SAFETY: `data` is what `init` returned for this thread, and Tcl gives it back once.
    let notifier = unsafe { Box::from_raw(data.cast::<Notifier>()) };
    let jobs = {
        let mut inbox = notifier.mailbox.lock();
        inbox.waker = None;
        std::mem::take(&mut inbox.jobs)
    };
    drop(jobs);
}

unsafe extern "C" fn alert(data: *mut c_void) {
    // SAFETY: Tcl calls this under the lock under which it also calls `finalize`, so the notifier lives. Of all its fields
    // only the mailbox is touched, which is made for many threads.
    let mailbox = unsafe { &(*data.cast::<Notifier>()).mailbox };
    mailbox.wake();
}

/// Nothing to do: this notifier is only ever driven by `Tcl_DoOneEvent`, which passes the time to wait.
extern "C" fn set_timer(_: *const sys::Tcl_Time) {}

extern "C" fn service_mode_hook(_: c_int) {}

extern "C" fn create_file_handler(fd: c_int, mask: c_int, call: sys::Tcl_FileProc, data: *mut c_void) {
    with_current(|notifier| notifier.state.borrow_mut().watch(fd, mask, call, data));
}

extern "C" fn delete_file_handler(fd: c_int) {
    with_current(|notifier| notifier.state.borrow_mut().forget(fd));
}

unsafe extern "C" fn wait_for_event(time: *const sys::Tcl_Time) -> c_int {
    // SAFETY: Tcl passes null, for ever, or a time that outlives the call.
    let timeout = unsafe { time.as_ref() }.map(|time| scaled(*time));
    let waited = with_current(|notifier| {
        let mut state = notifier.state.borrow_mut();
        if state.forks != FORKS.load(Ordering::Relaxed) {
            match state.rebuild() {
                Ok(waker) => {
                    let mut inbox = notifier.mailbox.lock();
                    (inbox.waker, inbox.woken) = (Some(waker), false);
                }
                Err(error) => log::error!("cannot start the event notifier of a forked process: {error}"),
            }
        }
        let to_queue = state.wait(timeout);
        drop(state);
        for fd in to_queue {
            queue(serve_file, fd);
        }
        // One event a job, so that what jobs were posted meanwhile wait their turn with everything else.
        let mut inbox = notifier.mailbox.lock();
        inbox.woken = false;
        let jobs = inbox.jobs.len();
        drop(inbox);
        for _ in 0..jobs {
            queue(serve_job, -1);
        }
    });
    // Less than 0 tells Tcl that no event will ever come.
    if waited.is_some() { 0 } else { -1 }
}

/// A time to wait as virtual time has it (`Tcl_SetTimeProc`), if a program uses that.
fn scaled(mut time: sys::Tcl_Time) -> Duration {
    if time.sec != 0 || time.usec != 0 {
        let (mut scale, mut data) = (None, std::ptr::null_mut());
        // SAFETY: Places for the answers, and a time for the procedure to change, as Tcl's own notifier does it.
        unsafe {
            sys::Tcl_QueryTimeProc(std::ptr::null_mut(), &mut scale, &mut data);
            if let Some(scale) = scale {
                scale(&mut time, data);
            }
        }
    }
    let (seconds, micros) = (
        u64::try_from(time.sec).unwrap_or(0),
        u64::try_from(time.usec).unwrap_or(0),
    );
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

type Serve = unsafe extern "C" fn(*mut sys::Tcl_Event, c_int) -> c_int;

fn queue(serve: Serve, fd: RawFd) {
    // SAFETY: Tcl frees the event with its own allocator, so it must come from there; it is written whole before Tcl sees it.
    unsafe {
        let event = sys::Tcl_Alloc(size_of::<FileEvent>() as u32).cast::<FileEvent>();
        event.write(FileEvent {
            header: sys::Tcl_Event {
                proc_: Some(serve),
                nextPtr: std::ptr::null_mut(),
            },
            fd,
        });
        sys::Tcl_QueueEvent(event.cast(), sys::Tcl_QueuePosition_TCL_QUEUE_TAIL);
    }
}

unsafe extern "C" fn serve_file(event: *mut sys::Tcl_Event, flags: c_int) -> c_int {
    if flags & sys::TCL_FILE_EVENTS as c_int == 0 {
        return 0;
    }
    // SAFETY: Tcl calls this with the events that `queue` made for it.
    let fd = unsafe { (*event.cast::<FileEvent>()).fd };
    // The handler may watch and forget descriptors, this one too, so nothing is borrowed while it runs.
    let call = with_current(|notifier| {
        let mut state = notifier.state.borrow_mut();
        let handler = state.handler(fd)?;
        let ready = handler.ready & handler.mask;
        handler.ready = 0;
        (ready != 0).then_some((handler.call?, handler.data, ready))
    });
    if let Some(Some((call, data, ready))) = call {
        // SAFETY: What Tcl gave to be called with, and has not taken back.
        unsafe { call(data, ready) };
    }
    1
}

unsafe extern "C" fn serve_job(_: *mut sys::Tcl_Event, _: c_int) -> c_int {
    let job = with_current(|notifier| notifier.mailbox.lock().jobs.pop_front()).flatten();
    if let Some(Err(panic)) = job.map(|job| catch_unwind(AssertUnwindSafe(job))) {
        log::error!(
            "work posted to an interpreter's thread panicked: {}",
            panic_text(&*panic)
        );
    }
    1
}

/// A way into a thread that runs Tcl, from any other.
///
/// ```
/// use torhost_tcl::{Interp, ThreadHandle, do_one_event};
/// use std::{cell::Cell, rc::Rc, sync::mpsc};
///
/// let _interp = Interp::new()?;
/// let here = ThreadHandle::current();
/// let (sender, receiver) = mpsc::channel();
/// std::thread::spawn(move || here.post(move || sender.send("from the event loop").unwrap()));
/// while receiver.try_recv().is_err() {
///     do_one_event(true);
/// }
/// # Ok::<(), torhost_tcl::Error>(())
/// ```
#[derive(Clone)]
pub struct ThreadHandle {
    mailbox: Arc<Mailbox>,
}

/// The thread that work was posted to runs Tcl no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadGone;

impl std::fmt::Display for ThreadGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the interpreter's thread has ended")
    }
}

impl std::error::Error for ThreadGone {}

impl std::fmt::Debug for ThreadHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadHandle").finish_non_exhaustive()
    }
}

impl ThreadHandle {
    /// The handle of the calling thread.
    ///
    /// # Panics
    /// In a thread that runs Tcl no more, as in the destructor of a thread-local.
    pub fn current() -> ThreadHandle {
        ensure_running();
        let mailbox = with_current(|notifier| notifier.mailbox.clone());
        ThreadHandle {
            mailbox: mailbox.expect("the notifier of a thread runs while Tcl does"),
        }
    }

    /// Has the thread's event loop run `job`, in turn with its other events. If `job` panics, that is logged.
    ///
    /// # Errors
    /// If the thread has ended. If it ends before it gets to `job`, that is dropped.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) -> Result<(), ThreadGone> {
        let mut inbox = self.mailbox.lock();
        if inbox.waker.is_none() {
            return Err(ThreadGone);
        }
        inbox.jobs.push_back(Box::new(job));
        let was_woken = std::mem::replace(&mut inbox.woken, true);
        drop(inbox);
        if !was_woken {
            self.mailbox.wake();
        }
        Ok(())
    }
}

/// Serves one event of this thread: a timer, a descriptor, posted work, or all idle callbacks. Waits for one if `wait`, else
/// returns at once. Returns whether there was one.
pub fn do_one_event(wait: bool) -> bool {
    ensure_running();
    let flags = if wait { 0 } else { sys::TCL_DONT_WAIT };
    // SAFETY: Tcl is initialised.
    unsafe { sys::Tcl_DoOneEvent(flags as c_int) != 0 }
}

/// Has Tcl start this thread's notifier, which it does when the thread makes its first interpreter.
fn ensure_running() {
    crate::initialize();
    if CURRENT.get().is_null() {
        // SAFETY: Tcl is initialised, and the interpreter is this function's alone.
        unsafe { sys::Tcl_DeleteInterp(sys::Tcl_CreateInterp()) };
    }
}

/// Runs code and returns the descriptors that Tcl began to watch meanwhile.
pub(crate) fn newly_watched_during<T>(code: impl FnOnce() -> T) -> (T, Vec<RawFd>) {
    let set = |seen| {
        with_current(|notifier| std::mem::replace(&mut notifier.state.borrow_mut().newly_watched, seen))
    };
    set(Some(Vec::new()));
    let result = code();
    (result, set(None).flatten().unwrap_or_default())
}
