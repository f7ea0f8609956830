//! Where a supervisor tells what happens: a terminal, or the log and whoever started it.
use std::io::{self, Write};

use super::control::{Report, Status};

/// Where a supervisor's sentences go.
pub(crate) enum Voice {
    /// Standard output, as text.
    Terminal,
    /// The log and, while the starting command waits, reports to it on standard output.
    Detached { starter_waits: bool },
}

impl Voice {
    /// Tells what happened.
    pub(crate) fn say(&mut self, text: &str) {
        match self {
            // The supervisor goes on when its terminal does not.
            Self::Terminal => drop(writeln!(io::stdout(), "{text}")),
            Self::Detached { starter_waits } => {
                log::info!("{text}");
                if *starter_waits {
                    *starter_waits = Report::Say(text.to_owned()).write_to(&mut io::stdout()).is_ok();
                }
            }
        }
    }

    /// Tells the starting command that it need not wait any longer.
    pub(crate) fn started(&mut self, status: Status) {
        if let Self::Detached { starter_waits } = self
            && std::mem::take(starter_waits)
        {
            // Whether it still listens makes no difference any more.
            drop(Report::Status(status).write_to(&mut io::stdout()));
        }
    }
}
