//! Options of commands: `-name value` pairs.
use super::Callback;
use std::time::Duration;
use torhost_protocol::parse_duration;
use torhost_tcl::{Error, Interp, Obj, Result};

/// What the options of an ensemble have in common: its name in their errors, `-errorcode {TOR NAME OPTION}`.
#[derive(Clone, Copy)]
pub(super) struct Options(pub(super) &'static str);

impl Options {
    /// Options and their values, two by two. `usage` is the command's, for words that are no options.
    pub(super) fn pairs<'a>(self, args: &'a [Obj], usage: &str) -> Result<&'a [[Obj; 2]]> {
        let (pairs, rest) = args.as_chunks::<2>();
        match rest {
            [] => Ok(pairs),
            [option] if option.to_text_lossy().starts_with('-') => Err(self.missing_value(option)),
            _ => Err(Error::wrong_args(usage)),
        }
    }

    /// The error of an option that is the last word.
    pub(super) fn missing_value(self, option: &Obj) -> Error {
        let takes = match option.to_text_lossy().as_str() {
            "-on" => "an event and a command prefix",
            _ => "a value",
        };
        self.bad(format!(
            "the option {option} has no value: it must be followed by {takes}"
        ))
    }

    /// A whole number in a range.
    pub(super) fn whole(self, option: &Obj, value: &Obj, least: u64, most: u64) -> Result<u64> {
        let number = value.to_i64().ok().and_then(|number| u64::try_from(number).ok());
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.bad_value(option, value, &format!("a whole number from {least} to {most}")))
    }

    /// A duration of at least so many milliseconds.
    pub(super) fn duration(self, option: &Obj, value: &Obj, least_ms: u64) -> Result<Duration> {
        let duration = parse_duration(&value.to_text_lossy());
        duration
            .filter(|duration| *duration >= Duration::from_millis(least_ms))
            .ok_or_else(|| {
                let least = if least_ms > 0 {
                    format!(", {least_ms}ms or more")
                } else {
                    String::new()
                };
                self.bad_value(
                    option,
                    value,
                    &format!("a duration, such as 500ms, 10s or 2m{least}"),
                )
            })
    }

    /// A boolean.
    pub(super) fn boolean(self, option: &Obj, value: &Obj) -> Result<bool> {
        value
            .to_bool()
            .map_err(|_| self.bad_value(option, value, "a boolean, such as true or 0"))
    }

    /// A command prefix of the interpreter; none for an empty one.
    pub(super) fn callback(self, interp: &Interp, option: &Obj, value: &Obj) -> Result<Option<Callback>> {
        let words = value
            .to_list()
            .map_err(|_| self.bad_value(option, value, "a command prefix, which is a list"))?;
        if words.is_empty() {
            return Ok(None);
        }
        Callback::new(interp, value).map(Some)
    }

    /// The error of a value that is not what its option takes.
    pub(super) fn bad_value(self, option: &Obj, value: &Obj, expected: &str) -> Error {
        let (option, value) = (option.to_text_lossy(), value.to_text_lossy());
        self.bad(format!("bad value \"{value}\" for {option}: must be {expected}"))
    }

    /// An error of options.
    pub(super) fn bad(self, message: impl Into<String>) -> Error {
        Error::new(message).with_code(["TOR", self.0, "OPTION"])
    }
}
