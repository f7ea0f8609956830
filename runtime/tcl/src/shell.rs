//! What `tclsh` does with its command line.
//!
//! Scripts from files and from standard input go through Tcl's own `Tcl_MainEx`, so that variables, messages and exit codes are
//! those of `tclsh` by construction.
use crate::interp::c_string;
use crate::{Interp, Obj, OwnedInterp, Result, init, sys};
use std::ffi::{CString, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The file of commands that an interactive shell reads first.
const RC_FILE: &str = "~/.tclshrc";

/// Runs the command line of a `tclsh`: `args` are the program's name and `?-encoding NAME? ?FILE? ?ARG …?`. Without a file it
/// reads commands from standard input. Ends the process with the script's exit code.
///
/// If `script` is given it is the file to run, whatever its name, and all `args` but the program's name are the script's.
///
/// # Panics
/// If called twice.
pub fn main(args: impl IntoIterator<Item = OsString>, script: Option<&OsStr>) -> ! {
    init::initialize();
    keep_freed_memory();
    let args: Vec<CString> = args
        .into_iter()
        .filter_map(|arg| CString::new(arg.into_vec()).ok())
        .collect();
    let mut pointers: Vec<*mut c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
    pointers.push(std::ptr::null_mut());
    // SAFETY: Tcl is initialised. The arguments are C strings that live for ever, since this does not return; Tcl reads them.
    unsafe {
        if let Some(script) = script {
            sys::Tcl_SetStartupScript(native(script).as_ptr(), std::ptr::null());
        }
        sys::Tcl_MainEx(
            count,
            pointers.as_mut_ptr(),
            Some(app_init),
            sys::Tcl_CreateInterp(),
        );
    }
    unreachable!("Tcl_MainEx ends the process")
}

unsafe extern "C" fn app_init(interp: *mut sys::Tcl_Interp) -> c_int {
    // SAFETY: Tcl calls this with the live main interpreter.
    let interp = unsafe { Interp::borrow(interp) };
    // SAFETY: As above.
    match unsafe { sys::Tcl_Init(interp.as_ptr()) } as u32 {
        sys::TCL_OK => interp.finish(
            interp
                .set_global("tcl_rcFileName", RC_FILE)
                .map(|()| Obj::empty()),
        ),
        // The message is in the interpreter; `Tcl_MainEx` prints it.
        _ => sys::TCL_ERROR as c_int,
    }
}

/// Has glibc keep up to 1 MiB of freed memory at hand. Tcl's `regexp` takes and frees more than 16 KB at each match, and with the
/// usual limit each of these moves the end of the heap, up and down: half the time of a server that matches each line.
fn keep_freed_memory() {
    // SAFETY: Sets a parameter of the allocator, which it may be told at any time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20)
    };
}

/// The interpreter of an interactive shell, with the variables that `tclsh` sets; `args` are as for [`main`].
///
/// # Errors
/// As [`Interp::new`].
pub fn interactive(args: impl IntoIterator<Item = OsString>) -> Result<OwnedInterp> {
    let interp = Interp::new()?;
    keep_freed_memory();
    let args: Vec<Obj> = args.into_iter().map(|arg| native(&arg)).collect();
    let (program, rest) = args
        .split_first()
        .map_or((Obj::empty(), &[][..]), |(first, rest)| (first.clone(), rest));
    interp.set_global("argv0", program)?;
    interp.set_global("argc", rest.len())?;
    interp.set_global("argv", Obj::list(rest))?;
    interp.set_global("tcl_interactive", true)?;
    interp.set_global("tcl_rcFileName", RC_FILE)?;
    Ok(interp)
}

/// Evaluates the file that `tcl_rcFileName` names, if there is one, and prints its errors.
pub fn source_rc_file(interp: &Interp) {
    // SAFETY: Live interpreter.
    unsafe { sys::Tcl_SourceRCFile(interp.as_ptr()) }
}

/// Ends the process by the interpreter's `exit` command, so that a script which has its own gets called.
pub fn exit(interp: &Interp, code: u8) -> ! {
    // An `exit` that a script replaced may fail or return; the process ends all the same.
    let _ = interp.eval_global(format!("exit {code}"));
    // SAFETY: Runs Tcl's exit handlers and ends the process.
    unsafe { sys::Tcl_Exit(c_int::from(code)) }
}

/// Whether a command is whole: no brace, quote or bracket is left open. May be asked from any thread.
pub fn is_complete(command: &str) -> bool {
    init::initialize();
    // SAFETY: Tcl is initialised, and only reads the string.
    c_string(command).is_ok_and(|command| unsafe { sys::Tcl_CommandComplete(command.as_ptr()) != 0 })
}

/// An argument of the operating system's as a Tcl value.
fn native(text: &OsStr) -> Obj {
    let Ok(bytes) = CString::new(text.as_bytes()) else {
        return Obj::empty();
    };
    init::initialize();
    // SAFETY: The string is made before it is read and freed after; Tcl copies out of it.
    unsafe {
        let mut string = std::mem::zeroed::<sys::Tcl_DString>();
        sys::Tcl_ExternalToUtfDString(std::ptr::null_mut(), bytes.as_ptr(), -1, &mut string);
        let value = Obj::from_raw(sys::Tcl_NewStringObj(string.string, string.length));
        sys::Tcl_DStringFree(&mut string);
        value
    }
}
