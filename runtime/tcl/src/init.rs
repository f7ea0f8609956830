//! Starting Tcl: once per process, then once per thread and per interpreter.
use crate::command::guard;
use crate::{Interp, Result, network, notifier, sys};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Mutex, Once, PoisonError};

/// The package that every new interpreter loads first of all: the way to reach those that `interp create` and the Thread
/// package make.
const PACKAGE: &CStr = c"Torhost";
// What a script finds in `info loaded` is its own.
const PRE_INIT: &CStr = c"load {} Torhost; ::tcl::ForgetLoaded; rename ::tcl::ForgetLoaded {}";

unsafe extern "C" {
    /// Sets the script that `Tcl_Init` evaluates first in every interpreter. Exported by libtcl, for programs such as this one,
    /// but declared in one of its internal headers.
    fn TclSetPreInitScript(script: *mut c_char) -> *mut c_char;
}

type InterpHook = fn(&Interp) -> Result<()>;
static INTERP_HOOKS: Mutex<Vec<InterpHook>> = Mutex::new(Vec::new());

/// Starts Tcl in this process. Every way of making an interpreter or a value does this by itself; call it to have it done
/// early, since `info nameofexecutable` is found relative to the current directory.
///
/// # Panics
/// If the libtcl that is loaded is not 8.6.
pub fn initialize() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: This runs once, before any other call into Tcl. The order is the one that Tcl asks for: the notifier's
        // hooks before Tcl_FindExecutable, which starts the notifier. The strings live for ever.
        unsafe {
            let (mut major, mut minor) = (0, 0);
            sys::Tcl_GetVersion(&mut major, &mut minor, std::ptr::null_mut(), std::ptr::null_mut());
            assert!(
                (major, minor) == (8, 6),
                "torhost needs libtcl 8.6, but Tcl {major}.{minor} was loaded"
            );
            notifier::install();
            let program = std::env::args_os().next().unwrap_or_default().into_vec();
            let program = CString::new(program).unwrap_or_default();
            sys::Tcl_FindExecutable(program.as_ptr());
            sys::Tcl_StaticPackage(
                std::ptr::null_mut(),
                PACKAGE.as_ptr(),
                Some(init_interp),
                Some(init_interp),
            );
            // Tcl keeps the pointer and never writes through it.
            TclSetPreInitScript(PRE_INIT.as_ptr().cast_mut());
        }
        crate::wait_for_file::keep();
    });
    finalize_at_thread_exit();
}

/// Has `hook` run in every interpreter that is made from now on: by this crate, by `interp create`, and in the threads of
/// the Thread package. It runs before Tcl's own `init.tcl`.
///
/// An error of the hook is the error of making the interpreter.
pub fn on_new_interp(hook: InterpHook) {
    INTERP_HOOKS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(hook);
}

/// A package that scripts get with `package require`, in every interpreter of the process but safe ones.
pub trait Package {
    /// What `package require` asks for.
    const NAME: &'static str;
    /// Its version, as `package vcompare` understands it.
    const VERSION: &'static str;
    /// The name under which `info loaded` lists it, NUL-terminated: one capital letter, then lower-case letters.
    const LOADED_AS: &'static CStr;

    /// Creates the package's commands in an interpreter that asks for it.
    ///
    /// # Errors
    /// Whatever keeps the package from working there; `package require` then fails with it.
    fn init(interp: &Interp) -> Result<()>;
}

/// Offers a package to every interpreter that is made from now on.
///
/// ```
/// use torhost_tcl::{Interp, Obj, Package, Result};
///
/// struct Greeting;
/// impl Package for Greeting {
///     const NAME: &'static str = "greeting";
///     const VERSION: &'static str = "1.2";
///     const LOADED_AS: &'static std::ffi::CStr = c"Greeting";
///     fn init(interp: &Interp) -> Result<()> {
///         interp.create_command("greeting::say", |_, _| Ok(Obj::from("hello")))
///     }
/// }
///
/// torhost_tcl::provide::<Greeting>();
/// let interp = Interp::new()?;
/// let said = interp.eval("list [package require greeting] [greeting::say]")?;
/// assert_eq!(said, Obj::from("1.2 hello"));
/// # Ok::<(), torhost_tcl::Error>(())
/// ```
pub fn provide<P: Package>() {
    initialize();
    // SAFETY: Tcl is initialised; the name lives for ever.
    unsafe {
        sys::Tcl_StaticPackage(
            std::ptr::null_mut(),
            P::LOADED_AS.as_ptr(),
            Some(init_package::<P>),
            None,
        );
    }
    on_new_interp(|interp| {
        let load = crate::Obj::list(["load", "", &P::LOADED_AS.to_string_lossy()]);
        let words = ["package", "ifneeded", P::NAME, P::VERSION];
        interp
            .call(
                &words
                    .into_iter()
                    .map(crate::Obj::from)
                    .chain([load])
                    .collect::<Vec<_>>(),
            )
            .map(drop)
    });
}

unsafe extern "C" fn init_package<P: Package>(interp: *mut sys::Tcl_Interp) -> c_int {
    // SAFETY: Tcl calls this with a live interpreter of this thread.
    let interp = unsafe { Interp::borrow(interp) };
    let provided = guard(|| {
        P::init(&interp)?;
        interp.call(&["package", "provide", P::NAME, P::VERSION].map(crate::Obj::from))
    });
    interp.finish(provided)
}

unsafe extern "C" fn init_interp(interp: *mut sys::Tcl_Interp) -> c_int {
    // SAFETY: Tcl calls this with a live interpreter of this thread.
    let interp = unsafe { Interp::borrow(interp) };
    let hooks = INTERP_HOOKS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    interp.finish(guard(|| {
        network::install(&interp)?;
        interp.create_command("::tcl::ForgetLoaded", |interp, _| {
            // SAFETY: The interpreter is live; the list belongs to nobody else, and `load` makes a new one when needed.
            unsafe { sys::Tcl_DeleteAssocData(interp.as_ptr(), c"tclLoad".as_ptr()) };
            Ok(crate::Obj::empty())
        })?;
        hooks.iter().try_for_each(|hook| hook(&interp))?;
        Ok(crate::Obj::empty())
    }))
}

/// Has Tcl free what it holds for this thread when the thread ends.
///
/// Not for the main thread: it ends with the process, when Tcl may be finalised already.
fn finalize_at_thread_exit() {
    struct Finalizer;
    impl Drop for Finalizer {
        fn drop(&mut self) {
            // SAFETY: Only called on a thread that used Tcl, at its end. Values that outlive this in other thread-locals
            // only free memory, for which Tcl sets up its allocator anew.
            unsafe { sys::Tcl_FinalizeThread() };
        }
    }
    thread_local! {
        static FINALIZER: Finalizer = const { Finalizer };
        static KNOWN: Cell<bool> = const { Cell::new(false) };
    }
    if KNOWN.get() {
        return;
    }
    KNOWN.set(true);
    // SAFETY: Two system calls without arguments.
    let main_thread = unsafe { libc::getpid() == libc::gettid() };
    if !main_thread {
        FINALIZER.with(|_| ());
    }
}
