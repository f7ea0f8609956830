//! Values, errors and commands, in both directions.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;
use torhost_tcl::{Completion, Error, Interp, Next, Obj, OwnedInterp, Result};

fn interp() -> OwnedInterp {
    Interp::new().unwrap()
}

#[test]
fn integers_do_not_wrap() {
    let interp = interp();
    assert_eq!(interp.eval("expr {-2**63}").unwrap().to_i64().unwrap(), i64::MIN);
    assert_eq!(Obj::from("0x7fffffffffffffff").to_i64().unwrap(), i64::MAX);
    for beyond in [
        "9223372036854775808",
        "0xffffffffffffffff",
        "18446744073709551615",
        "1e3",
        "",
        "x",
    ] {
        assert!(
            Obj::from(beyond).to_i64().is_err(),
            "{beyond} is no 64-bit integer"
        );
    }
    assert_eq!(
        interp
            .eval(format!("expr {{{} + 1}}", Obj::from(u64::MAX)))
            .unwrap(),
        Obj::from("18446744073709551616")
    );
}

#[test]
fn kinds_are_checked_with_tcl_words() {
    let message = |outcome: Result<Obj>| outcome.unwrap_err().message().to_owned();
    assert_eq!(
        message(Obj::from("maybe").to_bool().map(Obj::from)),
        "expected a boolean value but got \"maybe\""
    );
    assert_eq!(
        message(Obj::from("{").to_list().map(Obj::list)),
        "expected a list but got \"{\""
    );
    assert_eq!(
        message(Obj::from("a b c").to_dict().map(Obj::dict)),
        "expected a dict but got \"a b c\""
    );
    assert!(Obj::from("on").to_bool().unwrap() && !Obj::from("0.0").to_bool().unwrap());
}

#[test]
fn a_character_that_is_no_byte_is_refused_not_cut() {
    assert_eq!(Obj::from("\u{e9}\0").to_bytes().unwrap(), [0xE9, 0]);
    assert_eq!(
        Obj::from("a\u{20ac}").to_bytes().unwrap_err().message(),
        "expected bytes (characters up to U+00FF) but got \"\u{20ac}\""
    );
}

#[test]
fn half_a_surrogate_pair_is_an_error_and_shown_as_a_replacement() {
    let half = interp().eval(r"return a\ud83d").unwrap();
    assert_eq!(half.to_text().unwrap_err().offset, 1);
    assert!(half.to_text_lossy().starts_with('a'));
}

#[test]
fn a_dict_keeps_its_order_and_the_last_of_equal_keys() {
    let entries = Obj::from("b 1 a 2 b 3").to_dict().unwrap();
    let entries: Vec<String> = entries
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(entries, ["b=3", "a=2"]);
    assert_eq!(Obj::dict([("k", "v")]).get("k").unwrap(), Some(Obj::from("v")));
    assert_eq!(Obj::dict([("k", "v")]).get("other").unwrap(), None);
}

proptest! {
    #[test]
    fn text_goes_through_a_script_unchanged(text in any::<String>()) {
        let interp = interp();
        interp.set_global("text", text.as_str()).unwrap();
        prop_assert_eq!(interp.eval("string cat $text").unwrap().to_text().unwrap(), text.clone());
        prop_assert_eq!(interp.global("text").unwrap().to_text().unwrap(), text);
    }

    #[test]
    fn bytes_go_through_a_script_unchanged(bytes in any::<Vec<u8>>()) {
        let interp = interp();
        interp.set_global("bytes", Obj::from_bytes(&bytes)).unwrap();
        let hex = interp.eval("binary encode hex $bytes").unwrap().to_text().unwrap();
        prop_assert_eq!(hex, bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
        prop_assert_eq!(interp.eval("binary decode hex [binary encode hex $bytes]").unwrap().to_bytes().unwrap(), bytes.clone());
        // Also once it has been read as a string.
        prop_assert_eq!(interp.eval("string length $bytes; set bytes").unwrap().to_bytes().unwrap(), bytes);
    }

    #[test]
    fn numbers_go_through_a_script_unchanged(integer in any::<i64>(), double in any::<f64>().prop_filter("NaN", |d| !d.is_nan())) {
        let interp = interp();
        interp.set_global("numbers", Obj::list([Obj::from(integer), Obj::from(double)])).unwrap();
        prop_assert_eq!(interp.eval("string cat [lindex $numbers 0]").unwrap().to_i64().unwrap(), integer);
        prop_assert_eq!(interp.eval("string cat [lindex $numbers 1]").unwrap().to_f64().unwrap(), double);
    }

    #[test]
    fn lists_go_through_a_script_unchanged(words in prop::collection::vec(any::<String>(), 0..8)) {
        let interp = interp();
        interp.set_global("words", Obj::list(&words)).unwrap();
        let back = interp.eval("lmap word [string cat $words] {set word}").unwrap().to_list().unwrap();
        prop_assert_eq!(back.iter().map(|word| word.to_text().unwrap()).collect::<Vec<_>>(), words);
    }
}

#[test]
fn an_error_of_a_script_comes_with_its_code_and_trace() {
    let error = interp()
        .eval("proc f {} {error boom {} {A {b c}}}; f")
        .unwrap_err();
    assert_eq!((error.message(), error.completion()), ("boom", Completion::Error));
    assert_eq!(error.code(), ["A", "b c"]);
    let info = error.info().unwrap();
    assert!(
        info.starts_with("boom\n") && info.contains("(procedure \"f\" line 1)"),
        "{info}"
    );
    assert_eq!(format!("{error:#}"), info);
}

#[test]
fn an_error_of_a_command_reaches_the_script_whole() {
    let interp = interp();
    interp
        .create_command("fail", |_, _| {
            Err(Error::new("no \u{1F600}")
                .with_code(["TOR", "TEST"])
                .with_info("from afar"))
        })
        .unwrap();
    let caught = interp
        .eval("proc f {} fail; list [catch f m o] $m [dict get $o -errorcode] [dict get $o -errorinfo]");
    let [code, message, words, info] = &caught.unwrap().to_list().unwrap()[..] else {
        panic!("four words")
    };
    assert_eq!(
        (code.to_i64().unwrap(), message.to_text().unwrap().as_str()),
        (1, "no \u{1F600}")
    );
    assert_eq!(words.to_text().unwrap(), "TOR TEST");
    let info = info.to_text().unwrap();
    assert!(
        info.starts_with("from afar") && info.contains("(procedure \"f\" line 1)"),
        "{info}"
    );
}

#[test]
fn a_command_may_act_as_break_does() {
    let interp = interp();
    interp
        .create_command("stop", |_, _| {
            Err(Error::new("").with_completion(Completion::Break))
        })
        .unwrap();
    assert_eq!(
        interp.eval("foreach x {1 2 3} {stop}; set x").unwrap(),
        Obj::from("1")
    );
}

#[test]
fn a_panic_becomes_an_error_and_harms_nothing_else() {
    let interp = interp();
    interp
        .create_command("panic", |_, _| panic!("at the disco"))
        .unwrap();
    let caught = interp
        .eval("list [catch panic m o] $m [dict get $o -errorcode]")
        .unwrap();
    assert_eq!(
        caught.to_text().unwrap(),
        "1 {internal error: at the disco} {TOR PANIC {at the disco}}"
    );
    assert_eq!(interp.eval("expr 1").unwrap(), Obj::from("1"));
}

/// Counts what was dropped.
struct Dropped(Rc<Cell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_command_that_deletes_itself_goes_on_and_is_dropped_once() {
    let interp = interp();
    let drops = Rc::new(Cell::new(0));
    let guard = Dropped(drops.clone());
    interp
        .create_command("once", move |interp, _| {
            interp.eval("rename once {}")?;
            Ok(Obj::from(guard.0.get()))
        })
        .unwrap();
    assert_eq!(interp.eval("once").unwrap(), Obj::from("0"));
    assert_eq!(drops.get(), 1);
    assert!(interp.eval("once").is_err());
}

#[test]
fn a_deleted_interpreter_evaluates_nothing_and_drops_its_commands_with_its_last_holder() {
    let interp = interp();
    let drops = Rc::new(Cell::new(0));
    let guard = Dropped(drops.clone());
    interp
        .create_command("held", move |_, _| Ok(Obj::from(guard.0.get())))
        .unwrap();
    let other = interp.clone();
    drop(interp);
    assert!(other.is_deleted());
    assert!(other.eval("expr 1").is_err());
    assert!(other.create_command("late", |_, _| Ok(Obj::empty())).is_err());
    assert_eq!(drops.get(), 0);
    drop(other);
    assert_eq!(drops.get(), 1);
}

#[test]
fn an_interpreter_may_be_deleted_by_a_command_in_it() {
    let interp = interp();
    let owner = Rc::new(Cell::new(Some(Interp::new().unwrap())));
    let child = owner.take().unwrap();
    let inner = child.clone();
    owner.set(Some(child));
    let held = owner.clone();
    inner
        .create_command("suicide", move |_, _| {
            drop(held.take());
            Ok(Obj::from("gone"))
        })
        .unwrap();
    assert!(inner.eval("suicide; expr 1").is_err());
    assert!(inner.is_deleted() && !interp.is_deleted());
}

#[test]
fn what_is_attached_to_an_interpreter_ends_with_it() {
    let interp = interp();
    let drops = Rc::new(Cell::new(0));
    interp.attached(|| Dropped(drops.clone()));
    let again = interp.attached::<Dropped>(|| panic!("there is one"));
    drop(again);
    let weak = interp.downgrade();
    let held = weak.upgrade().expect("an interpreter that was not deleted");
    drop(interp);
    assert!(weak.upgrade().is_none() && held.is_deleted());
    assert_eq!(drops.get(), 0);
    drop(held);
    assert!(weak.upgrade().is_none());
    assert_eq!(drops.get(), 1);
}

fn twice(interp: &Interp) {
    interp
        .create_nr_command("twice", |_, args| {
            let script = args[1].clone();
            let again = script.clone();
            Ok(Next::Eval(
                script,
                Box::new(|_, first| {
                    first?;
                    Ok(Next::Eval(again, Box::new(|_, second| second.map(Next::Done))))
                }),
            ))
        })
        .unwrap();
}

#[test]
fn a_coroutine_yields_through_a_command_and_may_be_deleted_there() {
    let interp = interp();
    twice(&interp);
    assert_eq!(
        interp
            .eval("coroutine c apply {{} {twice {yield here}}}; c 1; c 2")
            .unwrap(),
        Obj::from("2")
    );
    interp
        .eval("coroutine d apply {{} {twice {yield here}}}; rename d {}")
        .unwrap();
    assert_eq!(
        interp.eval("list [catch {twice {error x}} m] $m").unwrap(),
        Obj::from("1 x")
    );
}

#[test]
fn deep_recursion_through_a_command_does_not_use_the_c_stack() {
    let interp = interp();
    twice(&interp);
    interp.eval("interp recursionlimit {} 100000").unwrap();
    interp
        .eval("proc down n {if {$n > 0} {twice {}; tailcall down [expr {$n - 1}]}}; down 50000")
        .unwrap();
    interp
        .eval("set count 0; proc deep n {upvar #0 count count; if {$n > 0} {twice \"if {\\$count < 20000} {incr count; deep $n}\"}}; deep 1")
        .unwrap();
    assert_eq!(interp.global("count").unwrap(), Obj::from("20000"));
}
