//! Where something is written to, that may be long.
use super::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

/// Standard output, or a file. Whoever has seen enough of it, such as `head`, may go.
pub(super) struct Output {
    writer: BufWriter<Box<dyn Write>>,
    failed: Option<io::Error>,
}

impl Output {
    pub(super) fn standard() -> Output {
        Output::new(Box::new(io::stdout().lock()))
    }

    /// A file, in place of what is there.
    pub(super) fn file(path: &Path) -> Result<Output, Error> {
        let file = File::create(path).map_err(|error| Error::File {
            path: path.into(),
            error,
        })?;
        Ok(Output::new(Box::new(file)))
    }

    fn new(writer: Box<dyn Write>) -> Output {
        Output {
            writer: BufWriter::with_capacity(1 << 16, writer),
            failed: None,
        }
    }

    /// Writes something; breaks if there is no use in writing more.
    pub(super) fn write(&mut self, text: &str) -> ControlFlow<()> {
        self.writer
            .write_all(text.as_bytes())
            .map_or_else(|error| self.fail(error), |()| ControlFlow::Continue(()))
    }

    fn fail(&mut self, error: io::Error) -> ControlFlow<()> {
        self.failed.get_or_insert(error);
        ControlFlow::Break(())
    }

    /// Has all of it written. A reader that has gone is no failure.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        if self.failed.is_none()
            && let Err(error) = self.writer.flush()
        {
            let _ = self.fail(error);
        }
        // What is left is not tried again.
        let (_, _) = self.writer.into_parts();
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
            _ => Ok(()),
        }
    }
}
