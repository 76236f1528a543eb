//! Builds every server that is wanted. A peer whose prerequisites are not there is left out, and the reader told what to
//! install; that fdtask itself cannot be built is an error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::child::{self, Running};
use super::options::Options;
use super::places::{Places, text};
use super::servers::{BUILT_IN, BuiltIn, Recipe, Server};
use crate::report::Role;

/// A program that has not said its version by then will not.
const VERSION_MAX: Duration = Duration::from_secs(5);

/// Builds the load client and all servers that are wanted and can be had.
pub fn all(options: &Options, places: &Places) -> Result<Vec<Server>> {
    own_binaries(places)?;
    let mut servers = Vec::new();
    for custom in &options.custom {
        let program = PathBuf::from(&custom.words[0]);
        servers.push(Server {
            name: custom.label.clone(),
            role: Role::Subject,
            version: version(&program, &[]),
            connections_max: usize::MAX,
            cores: custom.cores.clone(),
            program,
            arguments: custom.words[1..].to_vec(),
        });
    }
    let mut position = 0;
    for server in BUILT_IN.iter().filter(|server| options.servers.contains(&server.name)) {
        match built_in(server, options, places) {
            Ok(built) => {
                servers.insert(if built.role == Role::Subject { position } else { servers.len() }, built);
                position += 1;
            }
            Err(error) if server.role == Role::Subject || crate::sys::interrupted() => return Err(error),
            Err(error) => println!("skipping {}: {error:#}", server.name),
        }
    }
    Ok(servers)
}

/// `cargo run` has built the runner alone.
fn own_binaries(places: &Places) -> Result<()> {
    println!("building the load client and the Rust peers");
    let manifest = text(&places.package.join("Cargo.toml"));
    let mut cargo = Places::cargo();
    cargo.args(["build", "--release", "--quiet", "--bins", "--manifest-path", &manifest]);
    child::succeed(cargo).context("the benchmark's own binaries")
}

fn built_in(server: &BuiltIn, options: &Options, places: &Places) -> Result<Server> {
    let (program, mut arguments) = match server.recipe {
        Recipe::Fdtask => (fdtask(options, places)?, Vec::new()),
        Recipe::Rust { binary } => (places.binaries.join(binary), Vec::new()),
        Recipe::C { source, links, install } => (compile(places, source, links, install)?, Vec::new()),
        Recipe::Python { script } => (python()?, vec![text(&places.source(script))]),
        Recipe::Venv { script } => (venv(places)?, vec![text(&places.source(script))]),
    };
    let version = version(&program, &arguments);
    match server.recipe {
        Recipe::Fdtask => arguments.extend(["--quiet", "--listen", "127.0.0.1:0"].map(str::to_owned)),
        _ => arguments.push("127.0.0.1:0".to_owned()),
    }
    let BuiltIn { name, role, connections_max, .. } = *server;
    Ok(Server { name: name.to_owned(), role, version, connections_max, cores: Vec::new(), program, arguments })
}

fn fdtask(options: &Options, places: &Places) -> Result<PathBuf> {
    if let Some(path) = &options.fdtask {
        ensure!(path.exists(), "there is no {}", path.display());
        return Ok(path.clone());
    }
    println!("building fdtask");
    let mut cargo = Places::cargo();
    cargo.args(["build", "--release", "--quiet"]).current_dir(&places.main_package);
    child::succeed(cargo).context("fdtask cannot be built; --fdtask takes a built one, --servers leaves it out")?;
    let built = places.fdtask();
    ensure!(built.exists(), "cargo built no {}", built.display());
    Ok(built)
}

fn compile(places: &Places, source: &str, links: &[&str], install: &str) -> Result<PathBuf> {
    let program = places.peers.join(source.trim_end_matches(".c"));
    println!("compiling {source}");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall", "-Wextra", "-o", &text(&program), &text(&places.source(source))]).args(links);
    child::succeed(cc).with_context(|| format!("{source} does not compile; on Debian: apt install {install}"))?;
    Ok(program)
}

/// The system's interpreter itself: a shim that starts it would be what we count and end.
fn python() -> Result<PathBuf> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print(sys.executable)"]);
    let output = python.output().context("no python3; on Debian: apt install python3")?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success() && !path.is_empty(), "python3 does not run; on Debian: apt install python3");
    Ok(path.into())
}

fn venv(places: &Places) -> Result<PathBuf> {
    let directory = places.peers.join("venv");
    let interpreter = directory.join("bin/python3");
    let mut ready = Command::new(&interpreter);
    if ready.args(["-c", "import uvloop"]).output().is_ok_and(|output| output.status.success()) {
        return Ok(interpreter);
    }
    println!("installing uvloop into {}", directory.display());
    let mut create = Command::new(python()?);
    create.args(["-m", "venv", &text(&directory)]);
    child::succeed(create).context("no venv; on Debian: apt install python3-venv")?;
    let mut install = Command::new(&interpreter);
    let requirements = text(&places.source("requirements.txt"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", &requirements]);
    child::succeed(install).context("uvloop cannot be installed; is the package index reachable?")?;
    Ok(interpreter)
}

/// What a program says to `--version`. One that does not know it may serve instead, or wait for ever: it is ended.
fn version(program: &Path, arguments: &[String]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).arg("--version").stderr(Stdio::null());
    match Running::start(command, &[]).and_then(|mut running| running.first_line(VERSION_MAX)) {
        Ok(line) if !line.starts_with("Listening on ") => line.trim_end().to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_serves_where_it_is_asked_for_its_version_holds_nobody_up() {
        let shell = |script: &str| version(Path::new("sh"), &["-c".to_owned(), script.to_owned()]);
        assert_eq!(shell("echo server 1.2; echo more"), "server 1.2");
        assert_eq!(shell("echo Listening on 127.0.0.1:1; exec sleep 1000"), "unknown");
        assert_eq!(shell("exec sleep 1000"), "unknown");
        assert_eq!(version(Path::new("/nowhere/at/all"), &[]), "unknown");
    }
}
