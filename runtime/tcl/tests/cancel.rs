//! Evaluations stopped from other threads.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use torhost_tcl::{Interp, Obj, do_one_event};

/// Cancels each piece of work soon after it began, and tells how often it was in time.
fn cancel_during(interp: &Interp, script: &str, rounds: u64) -> u64 {
    let work = interp.cancellable();
    let (canceller, current) = (work.canceller(), Arc::new(AtomicU64::new(0)));
    let (theirs, rounds_there) = (current.clone(), rounds);
    let thread = std::thread::spawn(move || {
        let mut stopped = 0;
        for round in 1..=rounds_there {
            while theirs.load(Ordering::Acquire) < round {
                std::thread::yield_now();
            }
            for _ in 0..round % 200 {
                std::hint::spin_loop();
            }
            stopped += u64::from(canceller.cancel(round));
        }
        stopped
    });
    for round in 1..=rounds {
        assert!(work.begin(round));
        current.store(round, Ordering::Release);
        let outcome = interp.eval_global(script);
        work.end();
        if script.contains("while") {
            assert!(outcome.is_err());
        }
        work.settle();
        // Whatever the cancellation found, the next evaluation is untouched.
        assert_eq!(
            interp.eval_global("expr {1 + 1}").expect("it is over"),
            Obj::from(2)
        );
    }
    thread.join().expect("no panic")
}

#[test]
fn runaway_scripts_are_stopped_whatever_they_catch() {
    let interp = Interp::new().expect("an interpreter");
    for script in [
        "while 1 {}",
        "while 1 {catch {while 1 {}}}",
        "proc f {} {while 1 {catch {after 100000}}}; f",
        "while 1 {catch {vwait never}}",
        "coroutine c apply {{} {while 1 {catch {while 1 {}}}}}",
        "while 1 {interp eval {} {while 1 {}}}",
    ] {
        assert_eq!(cancel_during(&interp, script, 3), 3, "{script}");
    }
}

#[test]
fn a_cancellation_that_comes_too_late_harms_nobody() {
    let interp = Interp::new().expect("an interpreter");
    cancel_during(&interp, "set a [expr {1 + 1}]", 3000);
    cancel_during(&interp, "coroutine c apply {{} {set a 1}}", 3000);
}

#[test]
fn scripts_that_wait_in_the_event_loop_are_stopped_too() {
    let interp = Interp::new().expect("an interpreter");
    let work = interp.cancellable();
    let canceller = work.canceller();
    assert!(work.begin(1));
    interp
        .eval_global("coroutine waiting apply {{} {after 20 [info coroutine]; yield; while 1 {}}}")
        .expect("it yields");
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        canceller.cancel(1)
    });
    interp.eval_global("proc bgerror args {}").expect("a procedure");
    while interp
        .eval_global("llength [info commands waiting]")
        .is_ok_and(|count| count == Obj::from(1))
    {
        do_one_event(true);
    }
    assert!(thread.join().expect("no panic"));
    work.end();
    work.settle();
    assert!(interp.eval_global("set x 1").is_ok());
}
