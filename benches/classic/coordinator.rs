//! The program that is measured: a coordinator script under one of the shells, on a free port.

use shared::{
    Result,
    process::{Process, free_address},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// A shell and the coordinator script that it runs.
pub struct Shell {
    /// What the report calls it.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    script: PathBuf,
}

impl Shell {
    /// Checks that the script is there; a missing program shows when it is started.
    pub fn new(name: &'static str, program: &Path, script: &Path) -> Result<Self> {
        if !script.is_file() {
            return Err(format!(
                "no coordinator script {}; name one with --script",
                script.display()
            ));
        }
        Ok(Self {
            name,
            program: program.to_owned(),
            script: script.to_owned(),
        })
    }

    /// The error for a program that cannot be started.
    pub fn not_started(&self, error: &std::io::Error) -> String {
        format!(
            "cannot start {} ({}): {error}; name it with --{}",
            self.name,
            self.program.display(),
            self.name
        )
    }
}

/// A running coordinator; killed when dropped.
pub struct Coordinator {
    /// The shell that runs it.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Coordinator {
    /// Starts the shell's script and waits until it accepts connections.
    pub fn start(shell: &Shell) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(&shell.program);
        command.arg(&shell.script).arg(address.port().to_string());
        let name = format!("{} {}", shell.name, shell.script.display());
        let mut process = Process::start(name, command, |error| shell.not_started(error))?;
        process.wait_until_listening(address)?;
        Ok(Self { process, address })
    }
}
