//! The rounds: in each of them every server has its turn, close in time to all others, in an order that changes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Cores;
use super::child::Running;
use super::options::Options;
use super::places::Places;
use super::progress::Progress;
use super::servers::Server;
use crate::report::Record;
use crate::sample::Sample;
use crate::scenario::{Scenario, Workload};

/// What a step may take beyond its own time: a slow server has 10,000 connections to accept.
const STEP_SPARE: Duration = Duration::from_secs(60);
/// What a step takes beyond its own time as long as nothing is known.
const STEP_GUESS: Duration = Duration::from_millis(400);

/// Everything that the rounds need.
pub struct Bench<'a> {
    /// How to run.
    pub options: &'a Options,
    /// Where the load client is.
    pub places: &'a Places,
    /// Who runs where.
    pub cores: &'a Cores,
    /// The servers that can be started.
    pub servers: &'a [Server],
}

impl Bench<'_> {
    /// Looks at the behaviour of every server before anything is measured.
    pub fn check(&self) -> Result<()> {
        for server in self.servers {
            let line = self.step(server, Workload::Check)?;
            println!("checked {:<17} {}", server.name, server.version);
            ensure!(line.trim_end() == "checked", "the load client said {line:?}");
        }
        Ok(())
    }

    /// A progress over all steps there will be.
    pub fn progress(&self) -> Progress {
        let steps = self.options.scenarios.iter().map(|scenario| self.able(scenario).len()).sum::<usize>();
        let each = Duration::from_secs_f64(self.options.seconds + self.options.warm_seconds) + STEP_GUESS;
        Progress::new(steps * self.options.rounds, each)
    }

    /// Measures one scenario, round after round.
    pub fn measure(&self, scenario: &Scenario, progress: &mut Progress) -> Result<Vec<Record>> {
        let able = self.able(scenario);
        let mut records = Vec::new();
        for round in 0..self.options.rounds {
            for (position, &at) in order(able.len(), round).iter().enumerate() {
                let server = able[at];
                let line = self.step(server, scenario.workload).with_context(|| scenario.name)?;
                let (scenario, server, sample) = (scenario.name, server.name.clone(), Sample::from_line(&line)?);
                let record = Record { scenario, round, position, server, sample };
                progress.step(&record, self.options.rounds);
                records.push(record);
            }
        }
        Ok(records)
    }

    /// The servers that can hold as many connections as the scenario has.
    fn able(&self, scenario: &Scenario) -> Vec<&Server> {
        let connections = scenario.workload.connections();
        self.servers.iter().filter(|server| server.connections_max >= connections).collect()
    }

    /// Starts one server, puts it under one workload, ends it. Returns the load client's line.
    fn step(&self, server: &Server, workload: Workload) -> Result<String> {
        let mut command = server.command();
        command.env_remove("ECHO_TCP_NODELAY");
        if self.options.nodelay {
            command.env("ECHO_TCP_NODELAY", "1");
        }
        let cores = if server.cores.is_empty() { &self.cores.server } else { &server.cores };
        let mut running = Running::start(command, cores).with_context(|| server.name.clone())?;
        let address = running.address().with_context(|| format!("{} does not start", server.name))?;

        let Options { warm_seconds, seconds, .. } = *self.options;
        let millis = |seconds: f64| ((seconds * 1e3) as u64).to_string();
        let mut command = std::process::Command::new(self.places.load_client());
        command.args([address.to_string(), running.pid().to_string(), workload.to_string()]);
        command.args([millis(warm_seconds), millis(seconds)]);
        let mut client = Running::start(command, &self.cores.client)?;
        let limit = Duration::from_secs_f64(warm_seconds + seconds) + STEP_SPARE;
        let line = client.first_line(limit).with_context(|| format!("{} failed under load", server.name))?;
        // The server first: it is not to see its connections torn down.
        drop(running);
        Ok(line)
    }
}

/// The order of a round: rotated by one each time, and every second one backwards, so that nobody always follows the same
/// neighbour.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).map(|at| (at + round) % count).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_one_turn_a_round_and_not_always_the_same_neighbour() {
        assert_eq!([order(3, 0), order(3, 1), order(3, 2)], [[0, 1, 2], [0, 2, 1], [2, 0, 1]]);
    }
}
