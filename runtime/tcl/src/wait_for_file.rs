//! `TclUnixWaitForFile` on `poll`.
//!
//! Tcl waits with it for a pending `socket -async` when a script reads from or writes to the channel. Its own version uses
//! `select` and ends the process for a descriptor of 1,024 or more. libtcl calls it through its symbol table, where a
//! definition in the program takes precedence over the library's.
use crate::sys;
use std::ffi::c_int;
use std::time::{Duration, Instant};

/// Waits until `fd` is ready for one of the conditions in `mask` (`TCL_READABLE`, `TCL_WRITABLE`, `TCL_EXCEPTION`) and
/// returns those that hold, or 0 after `timeout` milliseconds (0: at once; -1: never).
///
/// # Safety
/// None of its own: it takes no pointers. Called by libtcl.
#[unsafe(no_mangle)]
pub extern "C" fn TclUnixWaitForFile(fd: c_int, mask: c_int, timeout: c_int) -> c_int {
    const CONDITIONS: [(u32, libc::c_short, libc::c_short); 3] = [
        (
            sys::TCL_READABLE,
            libc::POLLIN,
            libc::POLLIN | libc::POLLHUP | libc::POLLERR,
        ),
        (sys::TCL_WRITABLE, libc::POLLOUT, libc::POLLOUT | libc::POLLERR),
        (sys::TCL_EXCEPTION, libc::POLLPRI, libc::POLLPRI),
    ];
    let deadline = u64::try_from(timeout)
        .ok()
        .map(|ms| Instant::now() + Duration::from_millis(ms));
    let events = CONDITIONS
        .iter()
        .filter(|c| mask & c.0 as c_int != 0)
        .fold(0, |all, c| all | c.1);
    loop {
        let left = match deadline {
            None => -1,
            Some(at) => at
                .saturating_duration_since(Instant::now())
                .as_micros()
                .div_ceil(1000) as c_int,
        };
        let mut poll = libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        // SAFETY: One initialised pollfd, which outlives the call.
        let found = unsafe { libc::poll(&mut poll, 1, left) };
        if found > 0 {
            let ready = CONDITIONS
                .iter()
                .filter(|c| poll.revents & c.2 != 0)
                .fold(0, |all, c| all | c.0 as c_int);
            if ready & mask != 0 || poll.revents & libc::POLLNVAL != 0 {
                return ready & mask;
            }
        }
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return 0;
        }
    }
}

/// Makes the linker keep the definition above, which only libtcl calls.
pub(crate) fn keep() {
    std::hint::black_box(TclUnixWaitForFile as extern "C" fn(c_int, c_int, c_int) -> c_int);
}
