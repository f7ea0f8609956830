//! The figures, as tables for a person and as JSON for a program.

use serde::Serialize;
use std::fmt::Write;

use crate::{connections::Held, throughput::Comparison};

/// All that was measured.
#[derive(Default, Serialize)]
pub struct Report {
    /// What a sync costs where the servers keep what they keep, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_us: Option<f64>,
    /// The job servers under each plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Comparison>,
    /// Many workers that only beat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Held>,
    /// Tcl handlers under each plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub handlers: Vec<Comparison>,
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
        let _ = self.write_tables(&mut text);
        text
    }

    fn write_tables(&self, text: &mut String) -> std::fmt::Result {
        if let Some(sync_us) = self.sync_us {
            writeln!(
                text,
                "Appending 4 KiB to a file and syncing it (fsync): {sync_us:.0} µs\n"
            )?;
        }
        for comparison in &self.servers {
            write_comparison(text, comparison)?;
        }
        if let Some(held) = &self.connections {
            write_held(text, held)?;
        }
        for comparison in &self.handlers {
            write_comparison(text, comparison)?;
        }
        if !self.servers.is_empty() || !self.handlers.is_empty() {
            writeln!(
                text,
                "Medians over the rounds, with the least and the most. The ratio is how many times better the first was in the\n\
                 same round: by p50 for one job at a time with instant workers, by jobs/s otherwise. CPU is in % of a core: near\n\
                 100 for the load, the load is the limit, and the system could do more."
            )?;
        }
        Ok(())
    }
}

fn write_comparison(text: &mut String, comparison: &Comparison) -> std::fmt::Result {
    writeln!(text, "{}\n", comparison.title)?;
    writeln!(
        text,
        "| {:<25} | {:>7} | {:>15} | {:>7} | {:>15} | {:>7} | {:>6} | {:>11} | {:>4} | {:>6} |",
        "", "jobs/s", "", "p50 µs", "", "p99 µs", "ratio", "", "load", "system"
    )?;
    writeln!(
        text,
        "|:{:-<25}-|-{:->7}:|-{:->15}:|-{:->7}:|-{:->15}:|-{:->7}:|-{:->6}:|-{:->11}:|-{:->4}:|-{:->6}:|",
        "", "", "", "", "", "", "", "", "", ""
    )?;
    for figures in comparison.systems.iter().filter(|figures| figures.best) {
        let name = format!("{} {}", figures.name, figures.variant);
        let (jobs, p50, ratio) = (&figures.jobs_per_second, &figures.p50_us, &figures.ratio);
        writeln!(
            text,
            "| {:<25} | {:>7.0} | {:>15} | {:>7.0} | {:>15} | {:>7.0} | {:>6.2} | {:>11} | {:>4.0} | {:>6.0} |",
            name.trim_end(),
            jobs.median,
            format!("{:.0} – {:.0}", jobs.least, jobs.most),
            p50.median,
            format!("{:.0} – {:.0}", p50.least, p50.most),
            figures.p99_us.median,
            ratio.median,
            format!("{:.2} – {:.2}", ratio.least, ratio.most),
            figures.load_cores.median * 100.0,
            figures.system_cores.median * 100.0,
        )?;
    }
    writeln!(text)
}

fn write_held(text: &mut String, held: &Held) -> std::fmt::Result {
    writeln!(
        text,
        "{} registered workers that beat every 10 s, for {:.0} s\n",
        held.workers, held.seconds
    )?;
    writeln!(
        text,
        "| coordinator's CPU | memory for each | registered in | load's CPU |"
    )?;
    writeln!(
        text,
        "|------------------:|----------------:|--------------:|-----------:|"
    )?;
    writeln!(
        text,
        "| {:>15.1} % | {:>11.2} KiB | {:>11.2} s | {:>8.1} % |\n",
        held.coordinator_cores * 100.0,
        held.kib_per_worker,
        held.registration_seconds,
        held.load_cores * 100.0
    )
}
