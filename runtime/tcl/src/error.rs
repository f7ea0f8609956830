//! Errors as Tcl knows them, going both ways.
use crate::obj::NotTclText;
use std::fmt;

/// What Tcl calls an exception: anything but a normal return.
///
/// Holds plain strings, so it may leave the interpreter's thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    completion: Completion,
    message: String,
    code: Vec<String>,
    info: Option<String>,
}

/// How an evaluation ended, when not normally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// An error (`TCL_ERROR`).
    Error,
    /// `return` (`TCL_RETURN`).
    Return,
    /// `break` (`TCL_BREAK`).
    Break,
    /// `continue` (`TCL_CONTINUE`).
    Continue,
    /// `return -code N` with a number of the script's own.
    Other(i32),
}

impl fmt::Display for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Completion::Error => "an error",
            Completion::Return => "return",
            Completion::Break => "break",
            Completion::Continue => "continue",
            Completion::Other(code) => return write!(f, "the return code {code}"),
        })
    }
}

/// The result of whatever may end in a Tcl error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a message for the user and no `-errorcode`.
    pub fn new(message: impl Into<String>) -> Error {
        Error {
            completion: Completion::Error,
            message: message.into(),
            code: Vec::new(),
            info: None,
        }
    }

    /// The error of a call with the wrong arguments: `wrong # args: should be "usage"`, `-errorcode {TCL WRONGARGS}`.
    pub fn wrong_args(usage: &str) -> Error {
        Error::new(format!("wrong # args: should be \"{usage}\"")).with_code(["TCL", "WRONGARGS"])
    }

    /// The error of a value of another kind than `expected`, in the words Tcl has for it.
    pub fn expected(expected: &str, got: &str) -> Error {
        Error::new(format!("expected {expected} but got \"{got}\"")).with_code(["TCL", "VALUE", "KIND"])
    }

    /// Sets the machine-readable words of `-errorcode`.
    #[must_use]
    pub fn with_code<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Error {
        self.code = words.into_iter().map(Into::into).collect();
        self
    }

    /// Sets `-errorinfo`: the stack trace, to which Tcl adds as the error travels up.
    #[must_use]
    pub fn with_info(mut self, info: impl Into<String>) -> Error {
        self.info = Some(info.into());
        self
    }

    /// Sets how the evaluation ends, for commands that act as `break` or `return` do.
    #[must_use]
    pub fn with_completion(mut self, completion: Completion) -> Error {
        self.completion = completion;
        self
    }

    /// The message, as `catch` would store it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The words of `-errorcode`; empty where it was `NONE`.
    pub fn code(&self) -> &[String] {
        &self.code
    }

    /// `-errorinfo`, which begins with the message, where the error came from a script.
    pub fn info(&self) -> Option<&str> {
        self.info.as_deref()
    }

    /// How the evaluation ended.
    pub fn completion(&self) -> Completion {
        self.completion
    }
}

/// The message. `{:#}` gives the whole stack trace, where there is one.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.info {
            Some(info) if f.alternate() => f.write_str(info),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

impl From<NotTclText> for Error {
    fn from(error: NotTclText) -> Error {
        Error::new(error.to_string()).with_code(["TCL", "VALUE", "TEXT"])
    }
}
