//! The report: a Markdown table, a CSV of every round, the plots.

mod csv;
mod markdown;
mod plots;
mod stats;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::sample::Sample;
use crate::scenario::Scenario;

/// The file of every single round.
const ROUNDS: &str = "rounds.csv";

/// What a server is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the benchmark is about.
    Subject,
    /// A library or a runtime: the best of these is what the subject is held against.
    Library,
    /// A loop on the system calls themselves, without a scheduler: the floor.
    Bare,
    /// What the subject grew from.
    Seed,
}

/// A server as the report knows it.
pub struct Measured {
    /// Its name.
    pub name: String,
    /// What it is compared as.
    pub role: Role,
    /// What it said to `--version`.
    pub version: String,
    /// With more connections than this it dies.
    pub connections_max: usize,
}

/// One step: one server, one scenario, one round.
#[derive(Clone, Debug)]
pub struct Record {
    /// The scenario's name.
    pub scenario: &'static str,
    /// Which round, from 0.
    pub round: usize,
    /// Which turn in the round, from 0.
    pub position: usize,
    /// The server's name.
    pub server: String,
    /// What it came to.
    pub sample: Sample,
}

/// How it was measured.
pub struct Environment {
    /// Who ran where.
    pub cores: String,
    /// How many rounds.
    pub rounds: usize,
    /// Measured seconds a step.
    pub seconds: f64,
    /// Seconds of load before.
    pub warm_seconds: f64,
    /// Whether the peers set TCP_NODELAY.
    pub nodelay: bool,
}

/// Everything there is to write about.
struct Results<'a> {
    environment: &'a Environment,
    servers: &'a [Measured],
    scenarios: &'a [Scenario],
    records: &'a [Record],
}

impl Results<'_> {
    /// One server's samples under one scenario, in the order of the rounds.
    fn samples(&self, scenario: &str, server: &str) -> Vec<Sample> {
        let wanted = |record: &&Record| record.scenario == scenario && record.server == server;
        self.records.iter().filter(wanted).map(|record| record.sample).collect()
    }

    /// A figure of one server under one scenario, in the order of the rounds.
    fn figures(&self, scenario: &str, server: &str, figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples(scenario, server).iter().map(figure).collect()
    }
}

/// Makes sure that a report can be written into `directory`, and changes none that is there.
pub fn prepare(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let path = directory.join(ROUNDS);
    fs::OpenOptions::new().append(true).create(true).open(&path).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Writes the whole report into `directory`.
pub fn write(
    directory: &Path,
    environment: &Environment,
    servers: &[Measured],
    scenarios: &[Scenario],
    records: &[Record],
) -> Result<()> {
    let results = Results { environment, servers, scenarios, records };
    let save = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    save(ROUNDS, csv::text(records))?;
    save("results.md", markdown::text(&results))?;
    plots::draw(&results, directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SCENARIOS;

    #[test]
    fn the_plots_of_an_earlier_run_do_not_stand_beside_the_figures_of_this_one() {
        let directory = std::env::temp_dir().join(format!("fdtask-bench-report-{}", std::process::id()));
        let environment =
            Environment { cores: String::new(), rounds: 1, seconds: 1.0, warm_seconds: 0.0, nodelay: true };
        let server = Measured {
            name: "one".to_owned(),
            role: Role::Subject,
            version: String::new(),
            connections_max: usize::MAX,
        };
        let sample = Sample { units: 1, window_ns: 1_000_000, cpu_ns: 1_000, rss_kib: 1, ..Sample::default() };
        let record = |scenario| Record { scenario, round: 0, position: 0, server: "one".to_owned(), sample };
        let plot = directory.join("cost-against-connections.svg");
        prepare(&directory).unwrap();
        let servers = [server];
        for (names, plotted) in [(["active-16", "idle-100"], true), (["bulk", "churn"], false)] {
            write(&directory, &environment, &servers, &SCENARIOS, &names.map(record)).unwrap();
            assert_eq!(plot.exists(), plotted);
        }
        // To look whether a report can be written changes none that is there.
        prepare(&directory).unwrap();
        assert_ne!(fs::read_to_string(directory.join(ROUNDS)).unwrap(), "");
        assert!(prepare(&directory.join(ROUNDS)).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
