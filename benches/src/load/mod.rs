//! The load client: puts one server under one workload, verifies every reply, prints one sample.
//!
//! It ends with an error as soon as anything is wrong, and by itself when a server falls silent.

mod backlog;
mod bulk;
mod check;
mod churn;
mod connect;
mod echo;
mod message;
mod target;
mod window;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::scenario::Workload;
use window::Window;

/// A server that is silent for this long while it owes a reply has lost it.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Runs what the command line says.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("{what} is missing"));
    let server: SocketAddr = next("the server's address")?.parse()?;
    let pid: u32 = next("the server's process")?.parse()?;
    let workload: Workload = next("the workload")?.parse()?;
    let warm = Duration::from_millis(next("the time to warm up")?.parse()?);
    let measured = Duration::from_millis(next("the time to measure")?.parse()?);

    let mut window = Window::new(pid, warm, measured)?;
    match workload {
        Workload::Check => {
            check::run(server)?;
            println!("checked");
        }
        Workload::Echo { active, idle } => {
            let mut echo = echo::Echo::open(server, active + idle)?;
            echo.run(echo::Next::Same, active, &mut window)?;
            finish(&window);
        }
        Workload::Random { connections, outstanding } => {
            let mut echo = echo::Echo::open(server, connections)?;
            echo.run(echo::Next::random(), outstanding, &mut window)?;
            finish(&window);
        }
        Workload::Bulk => {
            let _open = bulk::run(server, &mut window)?;
            finish(&window);
        }
        Workload::Backlog { connections, chunks } => {
            let _open = backlog::run(server, connections, chunks, &mut window)?;
            finish(&window);
        }
        Workload::Churn { in_flight } => {
            let _open = churn::run(server, in_flight, &mut window)?;
            finish(&window);
        }
    }
    Ok(())
}

/// Prints the sample and keeps every connection open until the runner has ended the server: no server is measured, or prints
/// errors, while thousands of connections are torn down.
fn finish(window: &Window) {
    println!("{}", window.sample().to_line());
    let _ = io::stdin().read(&mut [0]);
}
