//! The runner: builds the servers, checks them, runs the rounds, hands the records to the report.

mod child;
mod options;
mod places;
mod prepare;
mod progress;
mod rounds;
mod servers;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::scenario::{SCENARIOS, Scenario};
use crate::{report, sys};
use options::{Options, Wanted};
use places::Places;
use rounds::Bench;
use servers::{BUILT_IN, Server};

/// What a process needs beside its connections: standard streams, a listener, an epoll, a venv's files.
const SPARE_DESCRIPTORS: u64 = 64;

/// Runs what the command line says.
pub fn main() -> ExitCode {
    sys::note_interrupts();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if sys::interrupted() => {
            eprintln!("fdtask-bench: interrupted; every child has ended, the scenarios that were complete are written");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("fdtask-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = match Options::parse(pico_args::Arguments::from_env())? {
        Wanted::Run(options) => options,
        Wanted::Help => {
            print!("{}", options::HELP);
            return Ok(());
        }
        Wanted::List => {
            list();
            return Ok(());
        }
    };
    check_descriptors(&options.scenarios)?;
    report::prepare(&options.out)?;
    let places = Places::find()?;
    let servers = prepare::all(&options, &places)?;
    if servers.is_empty() {
        bail!("no server is left to measure");
    }
    let cores = Cores::divide();
    let bench = Bench { options: &options, places: &places, cores: &cores, servers: &servers };
    bench.check()?;
    let mut progress = bench.progress();
    let mut records = Vec::new();
    for scenario in &options.scenarios {
        records.extend(bench.measure(scenario, &mut progress)?);
        // What is complete is written at once, so an interrupted run keeps it.
        write_report(&options, &servers, &cores, &records)?;
    }
    println!("The results are in {}", options.out.display());
    Ok(())
}

fn write_report(options: &Options, servers: &[Server], cores: &Cores, records: &[report::Record]) -> Result<()> {
    let environment = report::Environment {
        cores: cores.to_string(),
        rounds: options.rounds,
        seconds: options.seconds,
        warm_seconds: options.warm_seconds,
        nodelay: options.nodelay,
    };
    let measured: Vec<report::Measured> = servers.iter().map(Server::measured).collect();
    report::write(&options.out, &environment, &measured, &options.scenarios, records)
}

fn list() {
    println!("Scenarios (--only):");
    for scenario in SCENARIOS {
        println!("  {:<14} {}", scenario.name, scenario.about);
    }
    println!("\nServers (--servers):");
    for server in &BUILT_IN {
        println!("  {:<18} {}", server.name, server.about);
    }
}

/// Both processes need a descriptor for every connection. Better to say so now than in the middle of the night.
fn check_descriptors(scenarios: &[Scenario]) -> Result<()> {
    let limit = sys::raise_descriptor_limit().context("the limit on descriptors")?;
    let too_large = |scenario: &&Scenario| scenario.workload.connections() as u64 + SPARE_DESCRIPTORS > limit;
    let names: Vec<&str> = scenarios.iter().filter(too_large).map(|scenario| scenario.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let needed = scenarios.iter().map(|scenario| scenario.workload.connections()).max().unwrap_or(0);
    bail!(
        "{} needs up to {} descriptors a process, the hard limit is {limit}: raise it (ulimit -Hn) or leave it out (--only)",
        names.join(", "),
        needed as u64 + SPARE_DESCRIPTORS
    )
}

/// Which cores the server and the client have; none means any.
struct Cores {
    server: Vec<usize>,
    client: Vec<usize>,
}

impl Cores {
    /// The first allowed core is the server's, the second the client's.
    fn divide() -> Self {
        match sys::allowed_cores()[..] {
            [first, second, ..] => Cores { server: vec![first], client: vec![second] },
            _ => Cores { server: Vec::new(), client: Vec::new() },
        }
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.server[..], &self.client[..]) {
            ([server], [client]) => write!(f, "server on core {server}, client on core {client}"),
            _ => write!(f, "server and client share the one core there is, so the rates mean little"),
        }
    }
}
