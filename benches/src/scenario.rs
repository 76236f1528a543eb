//! The scenarios: what a load does, by name.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// What the load client does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Behaviour before speed: back-pressure, a half-closed client. Nothing is measured.
    Check,
    /// Each of `active` connections keeps one message outstanding; `idle` more are open and silent.
    Echo {
        /// How many keep a message outstanding.
        active: usize,
        /// How many are open and silent.
        idle: usize,
    },
    /// `outstanding` messages travel at any time, each next one on a random connection that has none.
    Random {
        /// How many connections are open.
        connections: usize,
        /// How many of them have a message outstanding.
        outstanding: usize,
    },
    /// One connection, full duplex, as fast as it goes.
    Bulk,
    /// The server is stopped, `chunks` times 1,000 bytes are sent on each of `connections`, and it goes on.
    Backlog {
        /// How many connections are open.
        connections: usize,
        /// How many chunks wait on each.
        chunks: usize,
    },
    /// Connect, one message, close; `in_flight` of these at any time.
    Churn {
        /// How many connections live at any time.
        in_flight: usize,
    },
}

/// What the figures of a scenario are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One message and its whole answer.
    Message,
    /// One connection from its connect to its close.
    Connection,
    /// 1,000 bytes of payload, which is as much as a server receives at a time.
    Kilobyte,
}

/// A workload with a name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What `--only` takes.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// What the client does.
    pub workload: Workload,
}

const fn echo(name: &'static str, about: &'static str, active: usize, idle: usize) -> Scenario {
    Scenario { name, about, workload: Workload::Echo { active, idle } }
}

/// Every scenario, in the order in which they run.
pub const SCENARIOS: [Scenario; 12] = [
    echo("active-1", "1 active connection", 1, 0),
    echo("active-16", "16 active connections", 16, 0),
    echo("active-64", "64 active connections", 64, 0),
    echo("active-1000", "1,000 active connections", 1_000, 0),
    echo("idle-100", "16 active beside 100 idle connections", 16, 100),
    echo("idle-1000", "16 active beside 1,000 idle connections", 16, 1_000),
    echo("idle-10000", "16 active beside 10,000 idle connections", 16, 10_000),
    echo("mixed-9000", "1,000 active beside 9,000 idle connections", 1_000, 9_000),
    Scenario {
        name: "random-10000",
        about: "64 messages outstanding, on random ones of 10,000 connections",
        workload: Workload::Random { connections: 10_000, outstanding: 64 },
    },
    Scenario { name: "bulk", about: "one connection, full duplex, as fast as it goes", workload: Workload::Bulk },
    Scenario {
        name: "backlog",
        about: "32,000 bytes wait on each of 1,000 connections; the client sleeps until all are answered",
        workload: Workload::Backlog { connections: 1_000, chunks: 32 },
    },
    Scenario {
        name: "churn",
        about: "connect, one message, close; 32 connections in flight",
        workload: Workload::Churn { in_flight: 32 },
    },
];

impl Workload {
    /// How many connections are open at a time.
    pub fn connections(self) -> usize {
        match self {
            Workload::Check | Workload::Bulk => 1,
            Workload::Echo { active, idle } => active + idle,
            Workload::Random { connections, .. } | Workload::Backlog { connections, .. } => connections,
            Workload::Churn { in_flight } => in_flight,
        }
    }

    /// What its figures are counted in.
    pub fn unit(self) -> Unit {
        match self {
            Workload::Bulk | Workload::Backlog { .. } => Unit::Kilobyte,
            Workload::Churn { .. } => Unit::Connection,
            _ => Unit::Message,
        }
    }
}

impl Unit {
    /// What stands after "per" in a heading.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Message => "message",
            Unit::Connection => "connection",
            Unit::Kilobyte => "1,000 bytes",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workload::Check => write!(f, "check"),
            Workload::Echo { active, idle } => write!(f, "echo:{active}:{idle}"),
            Workload::Random { connections, outstanding } => write!(f, "random:{connections}:{outstanding}"),
            Workload::Bulk => write!(f, "bulk"),
            Workload::Backlog { connections, chunks } => write!(f, "backlog:{connections}:{chunks}"),
            Workload::Churn { in_flight } => write!(f, "churn:{in_flight}"),
        }
    }
}

impl FromStr for Workload {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default();
        let numbers: Vec<usize> =
            parts.map(str::parse).collect::<Result<_, _>>().with_context(|| format!("not a workload: {text}"))?;
        Ok(match (kind, numbers.as_slice()) {
            ("check", []) => Workload::Check,
            ("bulk", []) => Workload::Bulk,
            ("echo", &[active, idle]) => Workload::Echo { active, idle },
            ("random", &[connections, outstanding]) => Workload::Random { connections, outstanding },
            ("backlog", &[connections, chunks]) => Workload::Backlog { connections, chunks },
            ("churn", &[in_flight]) => Workload::Churn { in_flight },
            _ => bail!("not a workload: {text}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_survives_the_command_line() {
        for scenario in SCENARIOS {
            assert_eq!(scenario.workload.to_string().parse::<Workload>().unwrap(), scenario.workload);
        }
        assert!("echo:1".parse::<Workload>().is_err());
    }
}
