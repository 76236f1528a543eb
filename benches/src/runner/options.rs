//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use pico_args::Arguments;

use super::servers::{BUILT_IN, Custom};
use crate::scenario::{SCENARIOS, Scenario};

/// What `--help` prints.
pub const HELP: &str = "\
Measures the echo daemon of fdtask beside the same server on its peers.

  cargo run --release --manifest-path benches/Cargo.toml -- [options]

  --only NAME,..      these scenarios instead of all
  --servers NAME,..   these servers instead of all
  --server LABEL[@CORES]=COMMAND
                      one more server: any program that prints `Listening on ADDR:PORT` first. The command is split at
                      blanks; CORES (0,1) are its cores instead of the server's one. May be repeated.
  --fdtask PATH       this fdtask instead of building the one of this repository
  --rounds N          rounds (5)
  --seconds S         measured seconds a step (2)
  --warm S            seconds of load before them (0.5)
  --quick             3 rounds of 0.5 s after 0.2 s: to see that it runs, not to believe
  --nodelay on|off    TCP_NODELAY on what the peers accept (on, because fdtask sets it)
  --out DIR           where the results go (benches/results)
  --list              the scenarios and the servers
  --help              this
";

/// Whether the peers set TCP_NODELAY on what they accept: as fdtask does, so that all are the same. This is the one place.
const NODELAY: bool = true;
const ROUNDS_MAX: usize = 1_000;
const SECONDS_MAX: f64 = 600.0;

/// What a command line asks for.
pub enum Wanted {
    /// To run.
    Run(Options),
    /// The text of `--help`.
    Help,
    /// The names.
    List,
}

/// How to run.
pub struct Options {
    /// The scenarios, in their own order.
    pub scenarios: Vec<Scenario>,
    /// The names of the built-in servers that are wanted.
    pub servers: Vec<&'static str>,
    /// Servers given by their command.
    pub custom: Vec<Custom>,
    /// An fdtask that need not be built.
    pub fdtask: Option<PathBuf>,
    /// How many times everything is measured.
    pub rounds: usize,
    /// How long a step is measured.
    pub seconds: f64,
    /// How long it runs before.
    pub warm_seconds: f64,
    /// Whether the peers set TCP_NODELAY.
    pub nodelay: bool,
    /// Where the results go.
    pub out: PathBuf,
}

impl Options {
    /// Reads the command line.
    pub fn parse(mut arguments: Arguments) -> Result<Wanted> {
        if arguments.contains(["-h", "--help"]) {
            return Ok(Wanted::Help);
        }
        if arguments.contains("--list") {
            return Ok(Wanted::List);
        }
        let quick = arguments.contains("--quick");
        let (rounds, seconds, warm) = if quick { (3, 0.5, 0.2) } else { (5, 2.0, 0.5) };
        let only: Option<String> = arguments.opt_value_from_str("--only")?;
        let servers: Option<String> = arguments.opt_value_from_str("--servers")?;
        let options = Options {
            scenarios: select(only.as_deref(), SCENARIOS.map(|scenario| scenario.name).as_slice(), "scenario")?
                .iter()
                .filter_map(|name| SCENARIOS.into_iter().find(|scenario| scenario.name == *name))
                .collect(),
            servers: select(servers.as_deref(), BUILT_IN.map(|server| server.name).as_slice(), "server")?,
            custom: arguments.values_from_fn("--server", Custom::parse)?,
            fdtask: arguments.opt_value_from_os_str("--fdtask", path)?,
            rounds: arguments.opt_value_from_str("--rounds")?.unwrap_or(rounds),
            seconds: arguments.opt_value_from_str("--seconds")?.unwrap_or(seconds),
            warm_seconds: arguments.opt_value_from_str("--warm")?.unwrap_or(warm),
            nodelay: arguments.opt_value_from_fn("--nodelay", on_or_off)?.unwrap_or(NODELAY),
            out: arguments
                .opt_value_from_os_str("--out", path)?
                .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results")),
        };
        let rest: Vec<OsString> = arguments.finish();
        ensure!(rest.is_empty(), "unknown arguments: {rest:?} (--help shows the known ones)");
        options.check()?;
        Ok(Wanted::Run(options))
    }

    fn check(&self) -> Result<()> {
        ensure!((1..=ROUNDS_MAX).contains(&self.rounds), "--rounds is between 1 and {ROUNDS_MAX}");
        ensure!((0.05..=SECONDS_MAX).contains(&self.seconds), "--seconds is between 0.05 and {SECONDS_MAX}");
        ensure!((0.0..=SECONDS_MAX).contains(&self.warm_seconds), "--warm is between 0 and {SECONDS_MAX}");
        let mut labels: Vec<&str> = self.custom.iter().map(|custom| custom.label.as_str()).collect();
        labels.extend(&self.servers);
        labels.sort_unstable();
        match labels.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => bail!("two servers are called {}", pair[0]),
            None => Ok(()),
        }
    }
}

fn path(value: &std::ffi::OsStr) -> Result<PathBuf, std::convert::Infallible> {
    Ok(value.into())
}

fn on_or_off(value: &str) -> Result<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => bail!("on or off, not {value}"),
    }
}

/// Those of `known` that `list` names, in the order of `known`.
fn select(list: Option<&str>, known: &[&'static str], what: &str) -> Result<Vec<&'static str>> {
    let Some(list) = list else { return Ok(known.to_vec()) };
    let names: Vec<&str> = list.split(',').filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("no {what} is called {unknown}; there are {}", known.join(", "));
    }
    Ok(known.iter().filter(|name| names.contains(name)).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let words = line.split_whitespace().map(OsString::from).collect();
        match Options::parse(Arguments::from_vec(words))? {
            Wanted::Run(options) => Ok(options),
            _ => bail!("nothing to run"),
        }
    }

    #[test]
    fn lists_choose_and_unknown_names_are_refused() {
        let options = parse("--only bulk,active-1 --servers mio --rounds 2").unwrap();
        assert_eq!(options.scenarios.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), ["active-1", "bulk"]);
        assert_eq!((options.servers, options.rounds), (vec!["mio"], 2));
        assert!(parse("--only nothing").is_err());
        assert!(parse("--seconds 0").is_err());
        assert!(parse("--what").is_err());
    }

    #[test]
    fn two_servers_may_not_have_one_name() {
        assert!(parse("--servers mio --server mio=x").is_err());
        assert!(parse("--servers mio --server other=x").is_ok());
    }
}
