//! The servers: which there are, and what each needs to be built.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::report::{Measured, Role};

/// How a built-in server comes to be.
#[derive(Clone, Copy)]
pub enum Recipe {
    /// The main package's daemon.
    Fdtask,
    /// A binary of this package.
    Rust {
        /// Its name.
        binary: &'static str,
    },
    /// A file of `servers/`, compiled with cc.
    C {
        /// The file.
        source: &'static str,
        /// What it is linked with.
        links: &'static [&'static str],
        /// What to install when that fails.
        install: &'static str,
    },
    /// A file of `servers/`, run with the system's Python.
    Python {
        /// The file.
        script: &'static str,
    },
    /// The same with the Python of a venv that has `servers/requirements.txt`.
    Venv {
        /// The file.
        script: &'static str,
    },
}

/// A server that the runner knows by name.
pub struct BuiltIn {
    /// What `--servers` takes.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// What it is compared as.
    pub role: Role,
    /// With more connections than this it dies.
    pub connections_max: usize,
    /// How it comes to be.
    pub recipe: Recipe,
}

const NO_LIMIT: usize = usize::MAX;
/// select(2) knows descriptors below 1,024 only, and Python has some of its own.
const SELECT_MAX: usize = 1_000;

const fn built_in(name: &'static str, about: &'static str, role: Role, recipe: Recipe) -> BuiltIn {
    BuiltIn { name, about, role, connections_max: NO_LIMIT, recipe }
}

/// Every built-in server.
pub const BUILT_IN: [BuiltIn; 13] = [
    built_in("fdtask", "the daemon of this repository", Role::Subject, Recipe::Fdtask),
    built_in("mio", "Rust, a hand-written loop", Role::Library, Recipe::Rust { binary: "echo-mio" }),
    built_in("tokio", "Rust, the current-thread runtime", Role::Library, Recipe::Rust { binary: "echo-tokio" }),
    built_in("smol", "Rust, a local executor", Role::Library, Recipe::Rust { binary: "echo-smol" }),
    built_in("libuv", "C, uv_tcp_t", Role::Library, c("libuv.c", &["-luv"], "libuv1-dev")),
    built_in("libevent", "C, persistent events", Role::Library, c("libevent.c", &["-levent_core"], "libevent-dev")),
    built_in("libev", "C, ev_io", Role::Library, c("libev.c", &["-lev"], "libev-dev")),
    built_in("asyncio-protocol", "Python, BufferedProtocol", Role::Library, python("asyncio_protocol.py")),
    built_in("asyncio-streams", "Python, streams", Role::Library, python("asyncio_streams.py")),
    built_in(
        "uvloop",
        "Python, BufferedProtocol on libuv",
        Role::Library,
        Recipe::Venv { script: "uvloop_protocol.py" },
    ),
    built_in("epoll", "C, level-triggered epoll, no library", Role::Bare, c("epoll.c", &[], "gcc libc6-dev")),
    built_in("poll", "C, poll(2), no library", Role::Bare, c("poll.c", &[], "gcc libc6-dev")),
    BuiltIn {
        name: "seed",
        about: "Python, the 55 lines that fdtask grew from",
        role: Role::Seed,
        connections_max: SELECT_MAX,
        recipe: Recipe::Python { script: "seed.py" },
    },
];

const fn c(source: &'static str, links: &'static [&'static str], install: &'static str) -> Recipe {
    Recipe::C { source, links, install }
}

const fn python(script: &'static str) -> Recipe {
    Recipe::Python { script }
}

/// A server given on the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Custom {
    /// Its name in the report.
    pub label: String,
    /// Its cores; none means the server's.
    pub cores: Vec<usize>,
    /// The program and its arguments.
    pub words: Vec<String>,
}

impl Custom {
    /// Reads `LABEL[@CORES]=COMMAND`.
    pub fn parse(text: &str) -> Result<Self> {
        let (label, command) = text.split_once('=').unwrap_or(("", text));
        let (label, cores) = label.split_once('@').unwrap_or((label, ""));
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        ensure!(!label.is_empty() && !words.is_empty(), "--server takes LABEL[@CORES]=COMMAND, not {text}");
        let cores = cores.split(',').filter(|core| !core.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Custom { label: label.to_owned(), cores, words })
    }
}

/// A server that can be started.
pub struct Server {
    /// Its name in the report.
    pub name: String,
    /// What it is compared as.
    pub role: Role,
    /// What it says to `--version`.
    pub version: String,
    /// With more connections than this it dies.
    pub connections_max: usize,
    /// Its cores; none means the server's.
    pub cores: Vec<usize>,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Server {
    /// What starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }

    /// What the report needs to know of it.
    pub fn measured(&self) -> Measured {
        let (name, role, version) = (self.name.clone(), self.role, self.version.clone());
        Measured { name, role, version, connections_max: self.connections_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_server_has_a_label_perhaps_cores_and_a_command() {
        let custom = Custom::parse("two@0,1=./fdtask --listen 127.0.0.1:0 --workers=2").unwrap();
        assert_eq!((custom.label.as_str(), &custom.cores[..]), ("two", &[0, 1][..]));
        assert_eq!(custom.words, ["./fdtask", "--listen", "127.0.0.1:0", "--workers=2"]);
        assert!(Custom::parse("no command").is_err());
        assert!(Custom::parse("label=").is_err());
    }
}
