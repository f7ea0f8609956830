//! The figures, as a table for a person and as JSON for a program.

use serde::Serialize;
use std::fmt::Write;

use crate::{idle, startup, throughput};

/// All that was measured.
#[derive(Default, Serialize)]
pub struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub single: Option<throughput::Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flight: Option<throughput::Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<idle::Comparison>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup: Option<startup::Comparison>,
}

impl Report {
    /// The figures as JSON.
    pub fn json(&self) -> String {
        // Figures and texts only: there is nothing that JSON cannot hold.
        serde_json::to_string_pretty(self).unwrap_or_else(|error| error.to_string())
    }

    /// The figures as Markdown, which also reads well on a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        for (title, comparison) in [
            ("One job at a time, one worker", &self.single),
            ("64 jobs in flight, two workers", &self.flight),
        ] {
            if let Some(comparison) = comparison {
                write_throughput(text, title, comparison)?;
            }
        }
        if let Some(idle) = &self.idle {
            write_idle(text, idle)?;
        }
        if let Some(startup) = &self.startup {
            writeln!(text, "Start-up of a one-line script\n")?;
            writeln!(text, "|         | median     | ratio |")?;
            writeln!(text, "|---------|-----------:|------:|")?;
            writeln!(text, "| tclsh   | {:>7.2} ms | {:>5} |", startup.tclsh_ms, "")?;
            writeln!(
                text,
                "| torhost | {:>7.2} ms | {:>5.2} |",
                startup.torhost_ms, startup.ratio
            )?;
        }
        Ok(())
    }
}

fn write_throughput(text: &mut String, title: &str, comparison: &throughput::Comparison) -> std::fmt::Result {
    writeln!(text, "{title}\n")?;
    writeln!(text, "|         |   jobs/s |   p50 µs |   p99 µs |  ratio |")?;
    writeln!(text, "|---------|---------:|---------:|---------:|-------:|")?;
    for (name, side, ratio) in [
        ("tclsh", &comparison.tclsh, String::new()),
        ("torhost", &comparison.torhost, format!("{:.1}", comparison.ratio)),
    ] {
        writeln!(
            text,
            "| {name:<7} | {:>8.0} | {:>8.0} | {:>8.0} | {ratio:>6} |",
            side.jobs_per_second, side.p50_us, side.p99_us
        )?;
    }
    writeln!(text)
}

fn write_idle(text: &mut String, idle: &idle::Comparison) -> std::fmt::Result {
    writeln!(text, "One job at a time, with idle connections held\n")?;
    writeln!(text, "|         | connections |   p50 µs |   p99 µs |")?;
    writeln!(text, "|---------|------------:|---------:|---------:|")?;
    let sides = [("tclsh", &idle.tclsh), ("torhost", &idle.torhost)];
    for (name, held) in sides {
        for step in &held.steps {
            writeln!(
                text,
                "| {name:<7} | {:>11} | {:>8.0} | {:>8.0} |",
                step.connections, step.p50_us, step.p99_us
            )?;
        }
    }
    writeln!(text)?;
    for (name, held) in sides {
        if let Some(failure) = &held.failure {
            writeln!(text, "{name}: {failure}\n")?;
        }
    }
    Ok(())
}
