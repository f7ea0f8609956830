//! Interpreters.
use crate::command::panic_text;
use crate::{Completion, Error, Obj, Result, init, sys};
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::rc::{Rc, Weak};

/// An interpreter. Cheap to clone: clones are the same one.
///
/// A script can delete an interpreter while Rust still holds it. Its memory stays until the last holder is gone, and
/// evaluating in it is an error.
pub struct Interp {
    ptr: NonNull<sys::Tcl_Interp>,
}

/// An interpreter that is deleted when this is dropped.
#[derive(Debug)]
pub struct OwnedInterp(Interp);

/// An interpreter that may be deleted meanwhile: unlike an [`Interp`], this does not keep it from being taken apart.
#[derive(Debug, Clone)]
pub struct WeakInterp(Weak<Alive>);

/// Attached to an interpreter, so that it lives as long.
#[derive(Debug)]
struct Alive(NonNull<sys::Tcl_Interp>);

/// The values of Rust that belong to an interpreter, one of a type.
type Attached = RefCell<HashMap<TypeId, Rc<dyn Any>>>;

/// What Tcl knows them by.
const ATTACHED: &CStr = c"torhost";

/// One of the process's standard channels, as scripts see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdChannel {
    /// `stdout`.
    Stdout,
    /// `stderr`.
    Stderr,
}

/// An interpreter that Tcl keeps alive, for as long as a callback runs.
pub(crate) struct Borrowed(ManuallyDrop<Interp>);

impl Deref for Borrowed {
    type Target = Interp;
    fn deref(&self) -> &Interp {
        &self.0
    }
}

impl Deref for OwnedInterp {
    type Target = Interp;
    fn deref(&self) -> &Interp {
        &self.0
    }
}

impl Drop for OwnedInterp {
    fn drop(&mut self) {
        // SAFETY: Live, since `self.0` holds it; deleting twice does nothing.
        unsafe { sys::Tcl_DeleteInterp(self.0.as_ptr()) }
    }
}

impl Clone for Interp {
    fn clone(&self) -> Interp {
        // SAFETY: Live, since `self` holds it.
        unsafe { Interp::hold(self.as_ptr()) }
    }
}

impl Drop for Interp {
    fn drop(&mut self) {
        // SAFETY: Gives back what `hold` took, once.
        unsafe { sys::Tcl_Release(self.as_ptr().cast()) }
    }
}

impl fmt::Debug for Interp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interp({:p})", self.ptr)
    }
}

impl Interp {
    /// A new interpreter with Tcl's library loaded (`Tcl_Init`), and what [`crate::on_new_interp`] adds.
    ///
    /// # Errors
    /// Where Tcl's library of scripts (`init.tcl`) is not found or fails.
    #[allow(clippy::new_ret_no_self, reason = "an owned interpreter is one")]
    pub fn new() -> Result<OwnedInterp> {
        init::initialize();
        // SAFETY: Tcl is initialised; a new interpreter is live.
        unsafe {
            let interp = OwnedInterp(Interp::hold(sys::Tcl_CreateInterp()));
            interp.outcome(sys::Tcl_Init(interp.as_ptr()))?;
            Ok(interp)
        }
    }

    /// Keeps an interpreter's memory for as long as the result lives.
    ///
    /// # Safety
    /// `ptr` points to a live interpreter of this thread.
    unsafe fn hold(ptr: *mut sys::Tcl_Interp) -> Interp {
        // SAFETY: Live, by the contract of this function, hence not null.
        unsafe {
            sys::Tcl_Preserve(ptr.cast());
            Interp {
                ptr: NonNull::new_unchecked(ptr),
            }
        }
    }

    /// An interpreter that somebody else keeps alive.
    ///
    /// # Safety
    /// `ptr` points to an interpreter of this thread that stays live for as long as the result does.
    pub(crate) unsafe fn borrow(ptr: *mut sys::Tcl_Interp) -> Borrowed {
        // SAFETY: Live, by the contract of this function, hence not null.
        let ptr = unsafe { NonNull::new_unchecked(ptr) };
        Borrowed(ManuallyDrop::new(Interp { ptr }))
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::Tcl_Interp {
        self.ptr.as_ptr()
    }

    /// Whether the interpreter was deleted, by a script or by its owner.
    pub fn is_deleted(&self) -> bool {
        // SAFETY: Live.
        unsafe { sys::Tcl_InterpDeleted(self.as_ptr()) != 0 }
    }

    /// The interpreter's own value of a type, which `make` makes if it has none yet. It is dropped when the interpreter was deleted and
    /// nobody holds it any longer.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use torhost_tcl::Interp;
    /// let interp = Interp::new()?;
    /// interp.attached(|| Cell::new(1)).set(2);
    /// assert_eq!(interp.attached(|| Cell::new(1)).get(), 2);
    /// # Ok::<(), torhost_tcl::Error>(())
    /// ```
    pub fn attached<T: 'static>(&self, make: impl FnOnce() -> T) -> Rc<T> {
        // SAFETY: Live interpreter; what Tcl has under the key is what is put there below, and lives as long as the interpreter.
        let attached = unsafe {
            let mut data = sys::Tcl_GetAssocData(self.as_ptr(), ATTACHED.as_ptr(), ptr::null_mut());
            if data.is_null() {
                data = Box::into_raw(Box::<Attached>::default()).cast();
                sys::Tcl_SetAssocData(self.as_ptr(), ATTACHED.as_ptr(), Some(detach), data);
            }
            &*data.cast::<Attached>()
        };
        let known = attached.borrow().get(&TypeId::of::<T>()).cloned();
        if let Some(value) = known.and_then(|value| value.downcast().ok()) {
            return value;
        }
        let value = Rc::new(make());
        attached.borrow_mut().insert(TypeId::of::<T>(), value.clone());
        value
    }

    /// The interpreter, without holding it.
    pub fn downgrade(&self) -> WeakInterp {
        WeakInterp(Rc::downgrade(&self.attached(|| Alive(self.ptr))))
    }

    /// Evaluates a script in the current scope and returns its result.
    ///
    /// # Errors
    /// The script's, with its `-errorinfo`; an interpreter that was deleted.
    pub fn eval(&self, script: impl Into<Obj>) -> Result<Obj> {
        self.eval_with(script.into(), 0)
    }

    /// Evaluates a script at global level, whatever procedure is running.
    ///
    /// # Errors
    /// As [`Interp::eval`].
    pub fn eval_global(&self, script: impl Into<Obj>) -> Result<Obj> {
        self.eval_with(script.into(), sys::TCL_EVAL_GLOBAL)
    }

    /// As [`Interp::eval_global`], and adds the script to the history (`history`, `!!`), as for a line that a user typed.
    ///
    /// # Errors
    /// As [`Interp::eval`].
    pub fn record_and_eval(&self, script: impl Into<Obj>) -> Result<Obj> {
        let script = script.into();
        // SAFETY: Live interpreter and value.
        let code = unsafe {
            sys::Tcl_RecordAndEvalObj(self.as_ptr(), script.as_ptr(), sys::TCL_EVAL_GLOBAL as c_int)
        };
        self.outcome(code)
    }

    fn eval_with(&self, script: Obj, flags: u32) -> Result<Obj> {
        // SAFETY: Live interpreter and value; both are held over the call, whatever the script does.
        let code = unsafe { sys::Tcl_EvalObjEx(self.as_ptr(), script.as_ptr(), flags as c_int) };
        self.outcome(code)
    }

    /// Calls a command with arguments as they are, without parsing any of them.
    ///
    /// # Errors
    /// As [`Interp::eval`]; no words at all.
    pub fn call(&self, words: &[Obj]) -> Result<Obj> {
        if words.is_empty() {
            return Err(Error::new("expected a command to call, but there are no words"));
        }
        // SAFETY: Live interpreter and values, held over the call; an `Obj` is a transparent pointer.
        let code = unsafe {
            sys::Tcl_EvalObjv(
                self.as_ptr(),
                crate::obj::length(words.len()),
                words.as_ptr().cast(),
                0,
            )
        };
        self.outcome(code)
    }

    /// Reads and evaluates a file, as `source` does, in `encoding` or else the system's.
    ///
    /// # Errors
    /// A file that cannot be read; as [`Interp::eval`].
    pub fn eval_file(&self, file: &str, encoding: Option<&str>) -> Result<Obj> {
        let encoding = encoding.map(c_string).transpose()?;
        let file = Obj::from(file);
        // SAFETY: Live interpreter, value and string, held over the call.
        let code = unsafe {
            sys::Tcl_FSEvalFileEx(
                self.as_ptr(),
                file.as_ptr(),
                encoding.as_ref().map_or(ptr::null(), |name| name.as_ptr()),
            )
        };
        self.outcome(code)
    }

    /// Sets a global variable, or an element of an array as `name(element)`.
    ///
    /// # Errors
    /// Where the variable cannot be set: an array of that name, a trace that objects.
    pub fn set_global(&self, name: &str, value: impl Into<Obj>) -> Result<()> {
        let (name, value) = (Obj::from(name), value.into());
        let flags = (sys::TCL_GLOBAL_ONLY | sys::TCL_LEAVE_ERR_MSG) as c_int;
        // SAFETY: Live interpreter and values.
        let set = unsafe {
            sys::Tcl_ObjSetVar2(
                self.as_ptr(),
                name.as_ptr(),
                ptr::null_mut(),
                value.as_ptr(),
                flags,
            )
        };
        if set.is_null() {
            Err(self.take_error(sys::TCL_ERROR as c_int))
        } else {
            Ok(())
        }
    }

    /// The value of a global variable, if it is set.
    pub fn global(&self, name: &str) -> Option<Obj> {
        let name = Obj::from(name);
        // SAFETY: Live interpreter and value; the answer is null or live.
        unsafe {
            let value = sys::Tcl_ObjGetVar2(
                self.as_ptr(),
                name.as_ptr(),
                ptr::null_mut(),
                sys::TCL_GLOBAL_ONLY as c_int,
            );
            (!value.is_null()).then(|| Obj::from_raw(value))
        }
    }

    /// Reports an error that has nobody to catch it, by the handler of `interp bgerror`.
    pub fn background_error(&self, error: &Error) {
        let code = self.finish(Err(error.clone()));
        // SAFETY: Live interpreter.
        unsafe { sys::Tcl_BackgroundException(self.as_ptr(), code) }
    }

    /// Writes text and a newline to a standard channel, if it is open. An error in writing goes unreported: there is
    /// nowhere to report it.
    pub fn print(&self, channel: StdChannel, text: &Obj) {
        let channel = match channel {
            StdChannel::Stdout => sys::TCL_STDOUT,
            StdChannel::Stderr => sys::TCL_STDERR,
        };
        // SAFETY: A channel is null or live; live value; a string of one character.
        unsafe {
            let channel = sys::Tcl_GetStdChannel(channel as c_int);
            if !channel.is_null() {
                sys::Tcl_WriteObj(channel, text.as_ptr());
                sys::Tcl_WriteChars(channel, c"\n".as_ptr(), 1);
                sys::Tcl_Flush(channel);
            }
        }
    }

    /// What an evaluation that ended with `code` gave.
    pub(crate) fn outcome(&self, code: c_int) -> Result<Obj> {
        if code == sys::TCL_OK as c_int {
            // SAFETY: Live interpreter, whose result is live.
            Ok(unsafe { Obj::from_raw(sys::Tcl_GetObjResult(self.as_ptr())) })
        } else {
            Err(self.take_error(code))
        }
    }

    fn take_error(&self, code: c_int) -> Error {
        // SAFETY: Live interpreter; both values are live.
        let (message, options) = unsafe {
            (
                Obj::from_raw(sys::Tcl_GetObjResult(self.as_ptr())),
                Obj::from_raw(sys::Tcl_GetReturnOptions(self.as_ptr(), code)),
            )
        };
        let option = |name| options.get(name).ok().flatten();
        let words = option("-errorcode")
            .and_then(|code| code.to_list().ok())
            .unwrap_or_default();
        let words: Vec<String> = words.iter().map(Obj::to_text_lossy).collect();
        let mut error = Error::new(message.to_text_lossy()).with_completion(match code as u32 {
            sys::TCL_ERROR => Completion::Error,
            sys::TCL_RETURN => Completion::Return,
            sys::TCL_BREAK => Completion::Break,
            sys::TCL_CONTINUE => Completion::Continue,
            _ => Completion::Other(code),
        });
        if words != ["NONE"] {
            error = error.with_code(words);
        }
        match option("-errorinfo") {
            Some(info) => error.with_info(info.to_text_lossy()),
            None => error,
        }
    }

    /// Leaves a result or an error in the interpreter, and returns the completion code that goes with it.
    pub(crate) fn finish(&self, outcome: Result<Obj>) -> c_int {
        let interp = self.as_ptr();
        let error = match outcome {
            Ok(value) => {
                // SAFETY: Live interpreter and value.
                unsafe { sys::Tcl_SetObjResult(interp, value.as_ptr()) };
                return sys::TCL_OK as c_int;
            }
            Err(error) => error,
        };
        let code = match error.completion() {
            Completion::Error => sys::TCL_ERROR as c_int,
            Completion::Return => sys::TCL_RETURN as c_int,
            Completion::Break => sys::TCL_BREAK as c_int,
            Completion::Continue => sys::TCL_CONTINUE as c_int,
            Completion::Other(code) => code,
        };
        let message = Obj::from(error.message());
        // SAFETY: Live interpreter and values.
        unsafe {
            sys::Tcl_SetObjResult(interp, message.as_ptr());
            if code == sys::TCL_ERROR as c_int {
                let mut options = vec![("-code", Obj::from(code)), ("-level", Obj::from(0))];
                if !error.code().is_empty() {
                    options.push(("-errorcode", Obj::list(error.code())));
                }
                if let Some(info) = error.info() {
                    options.push(("-errorinfo", Obj::from(info)));
                }
                sys::Tcl_SetReturnOptions(interp, Obj::dict(options).as_ptr());
            }
        }
        code
    }
}

impl WeakInterp {
    /// The interpreter, unless it was deleted.
    pub fn upgrade(&self) -> Option<Interp> {
        let alive = self.0.upgrade()?;
        // SAFETY: What is attached to an interpreter is dropped before its memory is freed.
        let interp = unsafe { Interp::hold(alive.0.as_ptr()) };
        (!interp.is_deleted()).then_some(interp)
    }
}

unsafe extern "C" fn detach(data: *mut c_void, _: *mut sys::Tcl_Interp) {
    // SAFETY: Tcl calls this once, with what `attached` gave it.
    let attached = unsafe { Box::from_raw(data.cast::<Attached>()) };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(attached))) {
        log::error!(
            "what was attached to an interpreter panicked when it was dropped: {}",
            panic_text(&*panic)
        );
    }
}

/// A Rust string for those of Tcl's functions that take no value.
pub(crate) fn c_string(text: &str) -> Result<CString> {
    CString::new(&*crate::text::encode(text)).map_err(|_| Error::new("a NUL where none can be"))
}
