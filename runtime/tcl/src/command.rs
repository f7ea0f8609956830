//! Tcl commands from Rust closures.
use crate::interp::{Borrowed, c_string};
use crate::{Error, Interp, Obj, Result, sys};
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;

/// What a command of [`Interp::create_nr_command`] does next.
pub enum Next {
    /// It has finished, with this result.
    Done(Obj),
    /// It wants a script evaluated, and then to go on with how that went.
    Eval(Obj, Continuation),
}

/// The rest of a command, after the script that it wanted evaluated.
pub type Continuation = Box<dyn FnOnce(&Interp, Result<Obj>) -> Result<Next>>;

type Body<T> = dyn Fn(&Interp, &[Obj]) -> Result<T>;

impl Interp {
    /// Creates a command, replacing one of that name. `name` may be qualified; its namespaces are made.
    ///
    /// The closure gets all words of the call, the command's own first. If it panics, the command ends with an error
    /// whose `-errorcode` is `TOR PANIC`, and nothing else is harmed.
    ///
    /// # Errors
    /// If `name` has a NUL or the interpreter was deleted.
    pub fn create_command(
        &self,
        name: &str,
        body: impl Fn(&Interp, &[Obj]) -> Result<Obj> + 'static,
    ) -> Result<()> {
        let name = c_string(name)?;
        let body: Rc<Body<Obj>> = Rc::new(body);
        let data = Box::into_raw(Box::new(body));
        // SAFETY: `delete` gives `data` back when Tcl deletes the command, and `call` takes it for what it is.
        self.created(data, unsafe {
            sys::Tcl_CreateObjCommand(
                self.as_ptr(),
                name.as_ptr(),
                Some(call),
                data.cast(),
                Some(delete::<Obj>),
            )
        })
    }

    /// Creates a command that evaluates scripts without nesting Tcl's evaluator: a coroutine may yield inside them, and
    /// they may recurse as deep as in a procedure.
    ///
    /// ```
    /// use torhost_tcl::{Interp, Next, Obj};
    /// let interp = Interp::new()?;
    /// interp.create_nr_command("twice", |_, args| {
    ///     let script = args[1].clone();
    ///     Ok(Next::Eval(script.clone(), Box::new(|_, first| {
    ///         first?;
    ///         Ok(Next::Eval(script, Box::new(|_, second| second.map(Next::Done))))
    ///     })))
    /// })?;
    /// let got = interp.eval("coroutine c apply {{} { twice yield }}; c 1; c 2")?;
    /// assert_eq!(got, Obj::from("2"));
    /// # Ok::<(), torhost_tcl::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Interp::create_command`].
    pub fn create_nr_command(
        &self,
        name: &str,
        body: impl Fn(&Interp, &[Obj]) -> Result<Next> + 'static,
    ) -> Result<()> {
        let name = c_string(name)?;
        let body: Rc<Body<Next>> = Rc::new(body);
        let data = Box::into_raw(Box::new(body));
        // SAFETY: As in `create_command`.
        self.created(data, unsafe {
            sys::Tcl_NRCreateCommand(
                self.as_ptr(),
                name.as_ptr(),
                Some(nr_enter),
                Some(nr_call),
                data.cast(),
                Some(delete::<Next>),
            )
        })
    }

    fn created<T>(&self, data: *mut Rc<Body<T>>, token: sys::Tcl_Command) -> Result<()> {
        if token.is_null() {
            // SAFETY: Tcl did not take the data, so it is still this function's.
            drop(unsafe { Box::from_raw(data) });
            return Err(Error::new("the interpreter was deleted"));
        }
        Ok(())
    }
}

/// The body of the command whose data these are. Counted, since a command may delete itself while it runs.
///
/// # Safety
/// `data` is what `create_command` or `create_nr_command` gave for the same `T`, and not deleted yet.
unsafe fn body<T>(data: *mut c_void) -> Rc<Body<T>> {
    // SAFETY: By the contract of this function.
    unsafe { (*data.cast::<Rc<Body<T>>>()).clone() }
}

unsafe extern "C" fn call(
    data: *mut c_void,
    interp: *mut sys::Tcl_Interp,
    objc: c_int,
    objv: *const *mut sys::Tcl_Obj,
) -> c_int {
    // SAFETY: Tcl calls this with the command's data, a live interpreter and the words of the call, which outlive it.
    let (body, interp, args) = unsafe { (body::<Obj>(data), Interp::borrow(interp), Obj::slice(objc, objv)) };
    interp.finish(guard(|| body(&interp, args)))
}

unsafe extern "C" fn nr_enter(
    data: *mut c_void,
    interp: *mut sys::Tcl_Interp,
    objc: c_int,
    objv: *const *mut sys::Tcl_Obj,
) -> c_int {
    // SAFETY: Passes on what Tcl called this with.
    unsafe { sys::Tcl_NRCallObjProc(interp, Some(nr_call), data, objc, objv) }
}

unsafe extern "C" fn nr_call(
    data: *mut c_void,
    interp: *mut sys::Tcl_Interp,
    objc: c_int,
    objv: *const *mut sys::Tcl_Obj,
) -> c_int {
    // SAFETY: As in `call`.
    let (body, interp, args) =
        unsafe { (body::<Next>(data), Interp::borrow(interp), Obj::slice(objc, objv)) };
    proceed(&interp, guard(|| body(&interp, args)))
}

/// A script under evaluation and what follows it.
struct Pending {
    /// Held until the evaluation is over.
    _script: Obj,
    then: Continuation,
}

fn proceed(interp: &Borrowed, next: Result<Next>) -> c_int {
    match next {
        Ok(Next::Done(value)) => interp.finish(Ok(value)),
        Err(error) => interp.finish(Err(error)),
        Ok(Next::Eval(script, then)) => {
            let raw = script.as_ptr();
            let pending = Box::into_raw(Box::new(Pending {
                _script: script,
                then,
            }));
            // SAFETY: Tcl runs the callback exactly once, also when a coroutine or the interpreter is deleted, and the
            // script lives in `pending` until then.
            unsafe {
                let none = ptr::null_mut();
                sys::Tcl_NRAddCallback(interp.as_ptr(), Some(nr_resume), pending.cast(), none, none, none);
                sys::Tcl_NREvalObj(interp.as_ptr(), raw, 0)
            }
        }
    }
}

unsafe extern "C" fn nr_resume(data: *mut *mut c_void, interp: *mut sys::Tcl_Interp, code: c_int) -> c_int {
    // SAFETY: Tcl calls this once, with the data that `proceed` gave and a live interpreter.
    let (pending, interp) = unsafe { (Box::from_raw((*data).cast::<Pending>()), Interp::borrow(interp)) };
    let outcome = interp.outcome(code);
    proceed(&interp, guard(|| (pending.then)(&interp, outcome)))
}

unsafe extern "C" fn delete<T: 'static>(data: *mut c_void) {
    // SAFETY: Tcl calls this once, with the data that the command was created with.
    let body = unsafe { Box::from_raw(data.cast::<Rc<Body<T>>>()) };
    // What the closure holds may panic in its destructor; there is nobody to tell but the log.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(body))) {
        log::error!(
            "a command's data panicked when it was deleted: {}",
            panic_text(&*panic)
        );
    }
}

/// Runs Rust code that C called: a panic must not cross C, and becomes an error.
pub(crate) fn guard<T>(code: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a panic leaves behind in a closure's own cells is the closure's affair, as it is for a poisoned mutex.
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(Error::new(format!("internal error: {text}")).with_code(["TOR", "PANIC", text]))
    })
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}
