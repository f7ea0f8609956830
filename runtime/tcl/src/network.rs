//! `TCP_NODELAY` on every TCP channel.
//!
//! Tcl writes what a script `puts` as it comes, so a message in two writes meets Nagle's algorithm on one side and delayed
//! acknowledgement on the other: 44 ms a message. Tcl 8.6 has no option against it. Here `socket` sets it on what it opens
//! (accepted connections inherit it from the listener), and `fconfigure` has `-nodelay` and `-keepalive` as Tcl 9 has them.
use crate::command::guard;
use crate::{Error, Interp, Obj, Result, interp::c_string, notifier, sys};
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;

type ObjCmd =
    unsafe extern "C" fn(*mut c_void, *mut sys::Tcl_Interp, c_int, *const *mut sys::Tcl_Obj) -> c_int;

static SOCKET: OnceLock<ObjCmd> = OnceLock::new();
static CONFIGURE: OnceLock<ObjCmd> = OnceLock::new();

/// Extends an interpreter's `socket`, `fconfigure` and `chan configure`. They stay the commands they are; only the C function
/// behind each is wrapped.
pub(crate) fn install(interp: &Interp) -> Result<()> {
    wrap(interp, "::socket", &SOCKET, socket)?;
    wrap(interp, "::fconfigure", &CONFIGURE, configure)?;
    wrap(interp, "::tcl::chan::configure", &CONFIGURE, configure)
}

fn wrap(interp: &Interp, name: &str, original: &OnceLock<ObjCmd>, wrapper: ObjCmd) -> Result<()> {
    let name = c_string(name)?;
    // SAFETY: Live interpreter and strings; `info` is filled in before it is read, and changed in one field only.
    unsafe {
        let mut info = std::mem::zeroed::<sys::Tcl_CmdInfo>();
        // A safe interpreter has some of these hidden; they cannot be reached, so they need no wrapping.
        if sys::Tcl_GetCommandInfo(interp.as_ptr(), name.as_ptr(), &mut info) == 0 {
            return Ok(());
        }
        if let Some(proc) = info.objProc {
            original.get_or_init(|| proc);
            info.objProc = Some(wrapper);
            sys::Tcl_SetCommandInfo(interp.as_ptr(), name.as_ptr(), &info);
        }
    }
    Ok(())
}

/// Calls the function that a wrapper stands before.
///
/// # Safety
/// The arguments are those of the wrapper, or words for the same command.
unsafe fn forward(original: &OnceLock<ObjCmd>, data: *mut c_void, interp: &Interp, words: &[Obj]) -> c_int {
    match original.get() {
        // SAFETY: By the contract of this function; an `Obj` is a transparent pointer.
        Some(proc) => unsafe {
            proc(
                data,
                interp.as_ptr(),
                crate::obj::length(words.len()),
                words.as_ptr().cast(),
            )
        },
        None => interp.finish(Err(Error::new(
            "internal error: a wrapped command without its original",
        ))),
    }
}

unsafe extern "C" fn socket(
    data: *mut c_void,
    interp: *mut sys::Tcl_Interp,
    objc: c_int,
    objv: *const *mut sys::Tcl_Obj,
) -> c_int {
    // SAFETY: Tcl calls this with a live interpreter and the words of the call; they go on to the original as they came.
    unsafe {
        let (interp, words) = (Interp::borrow(interp), Obj::slice(objc, objv));
        // A listener on several addresses has several descriptors, of which only the first can be asked for. But Tcl watches
        // them all, as it does a pending connection.
        let (code, watched) = notifier::newly_watched_during(|| forward(&SOCKET, data, &interp, words));
        if code == sys::TCL_OK as c_int {
            let channel = Obj::from_raw(sys::Tcl_GetObjResult(interp.as_ptr()));
            let own = guard(|| Ok(descriptor(&interp, &channel))).ok().flatten();
            for fd in watched.into_iter().chain(own) {
                set_option(fd, NODELAY, true);
            }
        }
        code
    }
}

/// An option of TCP sockets that `fconfigure` has here and in Tcl 9.
#[derive(Clone, Copy)]
struct TcpOption {
    name: &'static str,
    level: c_int,
    number: c_int,
}

const NODELAY: TcpOption = TcpOption {
    name: "-nodelay",
    level: libc::IPPROTO_TCP,
    number: libc::TCP_NODELAY,
};
const OPTIONS: [TcpOption; 2] = [
    NODELAY,
    TcpOption {
        name: "-keepalive",
        level: libc::SOL_SOCKET,
        number: libc::SO_KEEPALIVE,
    },
];

unsafe extern "C" fn configure(
    data: *mut c_void,
    interp: *mut sys::Tcl_Interp,
    objc: c_int,
    objv: *const *mut sys::Tcl_Obj,
) -> c_int {
    // SAFETY: As in `socket`.
    let (interp, words) = unsafe { (Interp::borrow(interp), Obj::slice(objc, objv)) };
    match guard(|| configure_tcp(&interp, words)) {
        Ok(Rest::Done(result)) => interp.finish(Ok(result)),
        Err(error) => interp.finish(Err(error)),
        // SAFETY: The words of the call, or some of them.
        Ok(Rest::Forward(rest)) => unsafe {
            forward(&CONFIGURE, data, &interp, rest.as_deref().unwrap_or(words))
        },
    }
}

/// What is left of a call of `fconfigure` once its TCP options are done.
enum Rest {
    Done(Obj),
    /// For the original: these words, or all.
    Forward(Option<Vec<Obj>>),
}

fn configure_tcp(interp: &Interp, words: &[Obj]) -> Result<Rest> {
    let tcp_option = |word: &Obj| {
        let name = word.to_text_lossy();
        OPTIONS.into_iter().find(|option| option.name == name)
    };
    let [command, channel, options @ ..] = words else {
        return Ok(Rest::Forward(None));
    };
    if !options.iter().step_by(2).any(|word| tcp_option(word).is_some()) {
        return Ok(Rest::Forward(None));
    }
    let Some(fd) = descriptor(interp, channel) else {
        return Ok(Rest::Forward(None));
    };
    if let [option] = options {
        return Ok(
            match tcp_option(option).and_then(|option| get_option(fd, option)) {
                Some(value) => Rest::Done(Obj::from(value)),
                None => Rest::Forward(None),
            },
        );
    }
    let mut rest = vec![command.clone(), channel.clone()];
    for pair in options.chunks(2) {
        match (pair, tcp_option(&pair[0])) {
            ([_, value], Some(option)) if get_option(fd, option).is_some() => {
                set_option(fd, option, value.to_bool()?);
            }
            _ => rest.extend_from_slice(pair),
        }
    }
    Ok(if rest.len() == 2 {
        Rest::Done(Obj::empty())
    } else {
        Rest::Forward(Some(rest))
    })
}

/// The descriptor under a channel of this interpreter, through what is stacked on it, such as TLS.
fn descriptor(interp: &Interp, channel: &Obj) -> Option<RawFd> {
    let name = c_string(&channel.to_text_lossy()).ok()?;
    // SAFETY: Live interpreter and string. A channel is null or live. The message that Tcl leaves for an unknown one is
    // replaced by whoever goes on; for a known one it leaves the result alone.
    unsafe {
        let channel = sys::Tcl_GetChannel(interp.as_ptr(), name.as_ptr(), ptr::null_mut());
        if channel.is_null() {
            return None;
        }
        [sys::TCL_READABLE, sys::TCL_WRITABLE]
            .into_iter()
            .find_map(|direction| {
                let mut handle = ptr::null_mut();
                let found = sys::Tcl_GetChannelHandle(channel, direction as c_int, &mut handle);
                (found == sys::TCL_OK as c_int).then_some(handle as usize as RawFd)
            })
    }
}

/// An option's value; `None` where the descriptor is no TCP socket.
fn get_option(fd: RawFd, option: TcpOption) -> Option<bool> {
    let read = |level, number| {
        let (mut value, mut size): (c_int, _) = (0, size_of::<c_int>() as libc::socklen_t);
        // SAFETY: A place for an int and its size.
        let got = unsafe { libc::getsockopt(fd, level, number, ptr::from_mut(&mut value).cast(), &mut size) };
        (got == 0).then_some(value)
    };
    // Asked first: options of all sockets would also be found on others.
    read(NODELAY.level, NODELAY.number)?;
    read(option.level, option.number).map(|value| value != 0)
}

/// Sets an option. What is no TCP socket stays as it is.
fn set_option(fd: RawFd, option: TcpOption, value: bool) {
    let value = c_int::from(value);
    // SAFETY: An int and its size.
    unsafe {
        let size = size_of::<c_int>() as libc::socklen_t;
        libc::setsockopt(
            fd,
            option.level,
            option.number,
            ptr::from_ref(&value).cast(),
            size,
        );
    }
}
