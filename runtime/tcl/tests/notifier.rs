//! What Tcl expects of its notifier, each expectation a test. Scripts that end do so by `done`; one that hangs fails by the
//! test runner's own time limit.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use tcl_sys as sys;
use torhost_tcl::{Interp, Obj, OwnedInterp, ThreadGone, ThreadHandle, do_one_event};

const READABLE: c_int = sys::TCL_READABLE as c_int;
const WRITABLE: c_int = sys::TCL_WRITABLE as c_int;
const EXCEPTION: c_int = sys::TCL_EXCEPTION as c_int;

/// An interpreter with helpers: `listen` makes a server whose connections go to `accepted`, and sets `port`.
fn interp() -> OwnedInterp {
    let interp = Interp::new().unwrap();
    interp
        .eval(
            "proc listen command {
                global server port
                set server [socket -server $command -myaddr 127.0.0.1 0]
                set port [lindex [fconfigure $server -sockname] 2]
            }",
        )
        .unwrap();
    interp
}

fn eval(interp: &Interp, script: &str) -> String {
    match interp.eval(script) {
        Ok(value) => value.to_text().unwrap(),
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn clients_that_connect_before_the_loop_runs_are_all_accepted() {
    let got = eval(
        &interp(),
        "proc accept {channel args} {incr ::accepted; close $channel; if {$::accepted == 50} {set ::done 1}}
         listen accept
         for {set i 0} {$i < 50} {incr i} {lappend clients [socket 127.0.0.1 $port]}
         vwait done
         set accepted",
    );
    assert_eq!(got, "50");
}

#[test]
fn a_script_that_reads_one_byte_a_time_is_called_until_all_is_read() {
    let got = eval(
        &interp(),
        "proc accept {channel args} {
            fconfigure $channel -buffering none -buffersize 1 -translation binary
            fileevent $channel readable [list one $channel]
         }
         proc one channel {
            append ::got [read $channel 1]
            if {[string length $::got] == 300} {set ::done 1}
         }
         listen accept
         set client [socket 127.0.0.1 $port]
         puts -nonewline $client [string repeat abc 100]; flush $client
         vwait done
         string length $got",
    );
    assert_eq!(got, "300");
}

#[test]
fn a_script_that_does_not_read_is_called_again() {
    let got = eval(
        &interp(),
        "proc accept {channel args} {fileevent $channel readable [list later $channel]}
         proc later channel {if {[incr ::calls] == 5} {set ::done [gets $channel]}}
         listen accept
         set client [socket 127.0.0.1 $port]
         puts $client line; flush $client
         vwait done
         list $calls $done",
    );
    assert_eq!(got, "5 line");
}

#[test]
fn a_blocking_channel_is_not_reported_ready_when_its_data_are_gone() {
    let got = eval(
        &interp(),
        "proc accept {channel args} {set ::accepted $channel; fileevent $channel readable [list take $channel]}
         proc take channel {lappend ::got [gets $channel]; set ::done 1}
         listen accept
         set client [socket 127.0.0.1 $port]
         fconfigure $client -buffering line
         foreach line {a b c} {puts $client $line; vwait done}
         # A stale report would now block in gets for ever.
         for {set i 0} {$i < 20} {incr i} update
         set got",
    );
    assert_eq!(got, "a b c");
}

#[test]
fn polling_with_update_sees_what_vwait_would() {
    let got = eval(
        &interp(),
        "proc accept {channel args} {fileevent $channel readable [list take $channel]}
         proc take channel {set ::got [gets $channel]}
         listen accept
         set client [socket 127.0.0.1 $port]
         puts $client polled; flush $client
         while {![info exists got]} update
         set got",
    );
    assert_eq!(got, "polled");
}

#[test]
fn idle_updates_serve_no_files() {
    let got = eval(
        &interp(),
        "proc accept {channel args} {incr ::accepted}
         set accepted 0
         listen accept
         set client [socket 127.0.0.1 $port]
         for {set i 0} {$i < 5} {incr i} {update idletasks}
         set before $accepted
         while {!$accepted} update
         list $before $accepted",
    );
    assert_eq!(got, "0 1");
}

#[test]
fn a_regular_file_is_always_ready() {
    let file = std::env::temp_dir().join(format!("torhost-notifier-{}", std::process::id()));
    File::create(&file).unwrap().write_all(b"one\ntwo\n").unwrap();
    let interp = interp();
    interp.set_global("file", file.to_str().unwrap()).unwrap();
    let got = eval(
        &interp,
        "set channel [open $file r+]
         fileevent $channel readable {if {[gets $channel line] >= 0} {lappend got $line} else {set done 1; fileevent $channel readable {}}}
         vwait done
         # A timer goes on beside a file that is always ready.
         fileevent $channel writable {incr written}
         after 20 {set timer 1}
         vwait timer
         close $channel
         list $got [expr {$written > 0}]",
    );
    std::fs::remove_file(&file).unwrap();
    assert_eq!(got, "{one two} 1");
}

#[test]
fn the_other_end_closing_is_end_of_file() {
    let got = eval(
        &interp(),
        "proc accept {channel args} {close $channel}
         listen accept
         set client [socket 127.0.0.1 $port]
         fileevent $client readable {gets $client; if {[eof $client]} {set done eof}}
         vwait done
         set done",
    );
    assert_eq!(got, "eof");
}

/// A port that refuses connections for as long as the descriptor is open: it is bound, so that nobody else gets it, but nothing
/// listens on it.
fn refusing_port() -> (OwnedFd, u16) {
    let mut address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be(),
        },
        sin_zero: [0; 8],
    };
    let mut size = size_of_val(&address) as libc::socklen_t;
    let place = std::ptr::from_mut(&mut address).cast::<libc::sockaddr>();
    // SAFETY: An address of the family and size that is told; the descriptor is owned from here on.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        let fd = OwnedFd::from_raw_fd(fd);
        assert_eq!(libc::bind(fd.as_raw_fd(), place, size), 0);
        assert_eq!(libc::getsockname(fd.as_raw_fd(), place, &mut size), 0);
        (fd, u16::from_be(address.sin_port))
    }
}

#[test]
fn a_refused_connection_is_reported() {
    let (_held, port) = refusing_port();
    let interp = interp();
    interp.set_global("port", u32::from(port)).unwrap();
    let got = eval(
        &interp,
        "set client [socket -async 127.0.0.1 $port]
         fileevent $client writable {set done [fconfigure $client -error]}
         vwait done
         set done",
    );
    assert_eq!(got, "connection refused");
}

#[test]
fn a_pipeline_is_read_to_its_end() {
    let got = eval(
        &interp(),
        "set pipe [open {|sh -c {printf one; printf two}}]
         fileevent $pipe readable {append got [read $pipe 2]; if {[eof $pipe]} {set done 1}}
         vwait done
         close $pipe
         set got",
    );
    assert_eq!(got, "onetwo");
}

#[test]
fn timers_fire_in_order_and_not_early() {
    let got = eval(
        &interp(),
        "set start [clock milliseconds]
         after 30 {lappend order c [expr {[clock milliseconds] - $start >= 30}]; set done 1}
         after 10 {lappend order b}
         after 0 {lappend order a}
         vwait done
         set order",
    );
    assert_eq!(got, "a b c 1");
}

/// What a handler was called with.
#[derive(Default)]
struct Seen(Vec<c_int>);

unsafe extern "C" fn see(data: *mut c_void, mask: c_int) {
    // SAFETY: The tests pass a `Seen` that outlives the handler.
    unsafe { (*data.cast::<Seen>()).0.push(mask) };
}

fn watch(fd: RawFd, mask: c_int, seen: &mut Seen) {
    // SAFETY: `seen` outlives the handler, which every test deletes or forgets with its thread.
    unsafe { sys::Tcl_CreateFileHandler(fd, mask, Some(see), std::ptr::from_mut(seen).cast()) };
}

fn unwatch(fd: RawFd) {
    // SAFETY: Takes a number.
    unsafe { sys::Tcl_DeleteFileHandler(fd) };
}

/// Closes a descriptor and opens another file under its number, in one step: between two, another test could take the number.
fn reopen(number: RawFd, file: &UnixStream) {
    // SAFETY: Both are open descriptors of the calling test.
    assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
}

fn settle() {
    while do_one_event(false) {}
}

#[test]
fn the_last_mask_and_procedure_count() {
    let _interp = interp();
    let (one, mut other) = UnixStream::pair().unwrap();
    let (mut first, mut second) = (Seen::default(), Seen::default());
    other.write_all(b"x").unwrap();
    watch(one.as_raw_fd(), READABLE | WRITABLE, &mut first);
    watch(one.as_raw_fd(), WRITABLE, &mut second);
    assert!(do_one_event(false));
    watch(one.as_raw_fd(), 0, &mut second);
    settle();
    watch(one.as_raw_fd(), READABLE, &mut second);
    assert!(do_one_event(false));
    unwatch(one.as_raw_fd());
    settle();
    assert_eq!((first.0, second.0), (vec![], vec![WRITABLE, READABLE]));
}

#[test]
fn a_mask_that_changes_after_the_report_limits_it() {
    let _interp = interp();
    let (one, mut other) = UnixStream::pair().unwrap();
    let (two, mut another) = UnixStream::pair().unwrap();
    other.write_all(b"x").unwrap();
    another.write_all(b"x").unwrap();
    let (mut first, mut second) = (Seen::default(), Seen::default());
    watch(one.as_raw_fd(), READABLE, &mut first);
    watch(two.as_raw_fd(), READABLE, &mut second);
    // Serves one of the two; the other's event is on the queue.
    assert!(do_one_event(false));
    watch(one.as_raw_fd(), WRITABLE, &mut first);
    watch(two.as_raw_fd(), WRITABLE, &mut second);
    settle_some(4);
    unwatch(one.as_raw_fd());
    unwatch(two.as_raw_fd());
    let readable = first
        .0
        .iter()
        .chain(&second.0)
        .filter(|&&mask| mask == READABLE)
        .count();
    assert_eq!(readable, 1, "{:?} {:?}", first.0, second.0);
}

fn settle_some(events: usize) {
    for _ in 0..events {
        do_one_event(false);
    }
}

#[test]
fn deleting_what_is_not_watched_does_nothing() {
    let _interp = interp();
    for fd in [-1, 0, 987_654] {
        unwatch(fd);
    }
    let mut seen = Seen::default();
    watch(-1, READABLE, &mut seen);
    settle();
    assert!(seen.0.is_empty());
}

#[test]
fn a_descriptor_that_is_reused_does_not_inherit_a_report() {
    let _interp = interp();
    let mut seen = Seen::default();
    let (mut old, mut new) = (Seen::default(), Seen::default());
    let (busy, mut other) = UnixStream::pair().unwrap();
    let (first, mut second) = UnixStream::pair().unwrap();
    other.write_all(b"x").unwrap();
    second.write_all(b"x").unwrap();
    watch(busy.as_raw_fd(), READABLE, &mut seen);
    watch(first.as_raw_fd(), READABLE, &mut old);
    assert!(do_one_event(false));
    // One was served; both are closed behind the notifier's back while the other's event waits, and a quiet socket takes each
    // one's number.
    let numbers = [busy.as_raw_fd(), first.as_raw_fd()];
    numbers.into_iter().for_each(unwatch);
    let (quiet, _silent) = UnixStream::pair().unwrap();
    numbers.into_iter().for_each(|number| reopen(number, &quiet));
    for number in numbers {
        watch(number, READABLE, &mut new);
    }
    settle();
    numbers.into_iter().for_each(unwatch);
    assert_eq!((seen.0.len() + old.0.len(), new.0.len()), (1, 0));
}

#[test]
fn a_descriptor_that_was_closed_without_a_word_and_reopened_is_watched_again() {
    let _interp = interp();
    let mut seen = Seen::default();
    let (first, _second) = UnixStream::pair().unwrap();
    let number = first.as_raw_fd();
    watch(number, READABLE, &mut seen);
    settle();
    let (again, mut other) = UnixStream::pair().unwrap();
    reopen(number, &again);
    watch(number, READABLE | WRITABLE, &mut seen);
    other.write_all(b"x").unwrap();
    assert!(do_one_event(false));
    unwatch(number);
    assert_eq!(seen.0, [READABLE | WRITABLE]);
}

#[test]
fn a_broken_connection_is_readable_and_an_exception() {
    let _interp = interp();
    let mut pipe = std::process::Command::new("true")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let input = pipe.stdin.take().unwrap();
    pipe.wait().unwrap();
    let mut seen = Seen::default();
    watch(input.as_raw_fd(), WRITABLE | EXCEPTION, &mut seen);
    // Another test's child may hold the other end until it has begun to run its program.
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while seen.0.last() != Some(&(WRITABLE | EXCEPTION)) && std::time::Instant::now() < limit {
        do_one_event(true);
    }
    unwatch(input.as_raw_fd());
    assert_eq!(
        seen.0.last(),
        Some(&(WRITABLE | EXCEPTION)),
        "the reader of the pipe is gone"
    );
}

#[test]
fn descriptors_beyond_1024_work_and_pending_connections_among_them() {
    let interp = interp();
    let _low: Vec<File> = (0..1100).map(|_| File::open("/dev/null").unwrap()).collect();
    let got = eval(
        &interp,
        "proc accept {channel args} {fconfigure $channel -blocking 0 -buffering line; fileevent $channel readable [list echo $channel]}
         proc echo channel {while {[gets $channel line] >= 0} {puts $channel $line}}
         listen accept
         # Writing to a pending connection has Tcl wait for it.
         set client [socket -async 127.0.0.1 $port]
         puts $client ping; flush $client
         fileevent $client readable {set done [gets $client]}
         vwait done
         set done",
    );
    assert_eq!(got, "ping");
}

#[test]
fn threads_of_the_thread_package_have_the_notifier_too() {
    let got = eval(
        &interp(),
        "package require Thread
         set here [thread::id]
         set thread [thread::create]
         thread::send -async $thread [list apply {{here} {
            proc accept {channel args} {puts $channel hello; close $channel}
            set server [socket -server accept -myaddr 127.0.0.1 0]
            thread::send -async $here [list set port [lindex [fconfigure $server -sockname] 2]]
         }} $here]
         vwait port
         set client [socket 127.0.0.1 $port]
         set got [gets $client]
         thread::release $thread
         set got",
    );
    assert_eq!(got, "hello");
}

#[test]
fn work_posted_from_another_thread_wakes_the_loop() {
    let interp = interp();
    let here = ThreadHandle::current();
    let (sender, receiver) = mpsc::channel();
    let poster = std::thread::spawn(move || {
        for n in 0..100 {
            let sender = sender.clone();
            here.post(move || sender.send(n).unwrap()).unwrap();
        }
        here.post(|| panic!("is logged, and harms nothing")).unwrap();
    });
    let mut got = Vec::new();
    while got.len() < 100 {
        do_one_event(true);
        got.extend(receiver.try_iter());
    }
    poster.join().unwrap();
    settle();
    assert_eq!(got, (0..100).collect::<Vec<_>>());
    assert_eq!(eval(&interp, "expr 1"), "1");
}

#[test]
fn work_that_comes_while_other_work_is_done_is_not_forgotten() {
    let _interp = interp();
    let here = ThreadHandle::current();
    let (sender, receiver) = mpsc::channel();
    let (started, may_post) = mpsc::channel();
    let (posted, may_end) = mpsc::channel();
    let poster = here.clone();
    here.post(move || {
        started.send(()).unwrap();
        may_end.recv().unwrap();
    })
    .unwrap();
    let poster = std::thread::spawn(move || {
        may_post.recv().unwrap();
        for n in 0..10 {
            let sender = sender.clone();
            poster.post(move || sender.send(n).unwrap()).unwrap();
        }
        posted.send(()).unwrap();
    });
    let mut got: Vec<i32> = Vec::new();
    while got.len() < 10 {
        do_one_event(true);
        got.extend(receiver.try_iter());
    }
    poster.join().unwrap();
    assert_eq!(got, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_thread_without_an_interpreter_can_have_work_posted_to_it() {
    let here = ThreadHandle::current();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || here.post(move || sender.send(()).unwrap()).unwrap())
        .join()
        .unwrap();
    while receiver.try_recv().is_err() {
        assert!(do_one_event(true));
    }
}

#[test]
fn work_for_a_thread_that_has_ended_is_refused_and_dropped() {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _interp = interp();
        ThreadHandle::current()
    });
    let handle = thread.join().unwrap();
    assert_eq!(handle.post(move || sender.send(()).unwrap()), Err(ThreadGone));
    assert!(receiver.recv().is_err(), "the work was dropped");
}

#[test]
fn a_forked_process_has_an_event_loop_of_its_own() {
    let interp = interp();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut seen = Seen::default();
    watch(theirs.as_raw_fd(), READABLE, &mut seen);
    settle();
    // SAFETY: The child runs a little Tcl on its only thread and leaves without cleaning up.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let timer = interp.eval("after 1 {set done 1}; vwait done; set done").is_ok();
        while seen.0.is_empty() {
            do_one_event(true);
        }
        let read = seen.0.iter().all(|&mask| mask == READABLE);
        // SAFETY: Ends the child.
        unsafe { libc::_exit(if timer && read { 0 } else { 1 }) };
    }
    ours.write_all(b"x").unwrap();
    let mut status = 0;
    // SAFETY: A place for the status of a child of this process.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert!(do_one_event(true), "the parent's own loop was not disturbed");
    unwatch(theirs.as_raw_fd());
    assert_eq!(seen.0, [READABLE]);
    let mut byte = [0];
    (&theirs).read_exact(&mut byte).unwrap();
}

#[test]
fn every_tcp_channel_sends_at_once_unless_told_otherwise() {
    let got = eval(
        &interp(),
        "proc accept {channel args} {set ::accepted $channel}
         set server [socket -server accept 0]
         set port [lindex [fconfigure $server -sockname] 2]
         foreach address {127.0.0.1 ::1} {
            unset -nocomplain accepted
            if {[catch {socket $address $port} client]} continue
            vwait accepted
            lappend got [fconfigure $accepted -nodelay] [fconfigure $client -nodelay]
            fconfigure $client -blocking 0 -nodelay no -buffering line
            lappend got [fconfigure $client -nodelay] [chan configure $client -buffering]
         }
         lsort -unique $got",
    );
    assert_eq!(got, "0 1 line");
    let interp = interp();
    assert_eq!(
        eval(&interp, "list [catch {fconfigure stdout -nodelay 1} m] $m"),
        "1 {bad option \"-nodelay\": should be one of -blocking, -buffering, -buffersize, -encoding, -eofchar, or -translation}"
    );
    interp
        .eval("set child [interp create]; set server [$child eval {socket -server x 0}]")
        .unwrap();
    assert_eq!(
        eval(&interp, "$child eval [list fconfigure $server -nodelay]"),
        "1"
    );
    assert_eq!(
        interp.eval("fconfigure nosuch -nodelay").unwrap_err().message(),
        "can not find channel named \"nosuch\""
    );
    let bad = interp
        .eval("set s [socket -server x 0]; fconfigure $s -nodelay perhaps")
        .unwrap_err();
    assert_eq!(bad.message(), "expected a boolean value but got \"perhaps\"");
    assert_eq!(interp.eval("list").unwrap(), Obj::empty());
}
