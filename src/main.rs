//! The echo daemon: arguments → listeners → run → exit code. What it serves is in the library.

#![deny(unsafe_code)]

mod daemon;

use daemon::arguments::{self, Config, HELP, Request};
use daemon::control::Control;
use daemon::journal::Journal;
use daemon::reason;
use fdtask::net::{Acceptor, Echo, Limit, Listener};
use fdtask::{Log, Scheduler, TaskId};
use std::cell::Cell;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// How long the end of the program waits for the log's last lines to be read.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(80);

fn main() -> ExitCode {
    let result = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Request::Help) => print(HELP),
        Ok(Request::Version) => print(concat!("fdtask ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Serve(config)) => serve(&config),
        Err(what) => return fail(2, &format!("{what}; try 'fdtask --help'")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => fail(1, &what),
    }
}

fn print(text: &str) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {}", reason(&error)))
}

fn fail(code: u8, what: &str) -> ExitCode {
    // Nothing can be done about a standard error that cannot be written to.
    let _ = writeln!(io::stderr(), "fdtask: {what}");
    ExitCode::from(code)
}

fn serve(config: &Config) -> Result<(), String> {
    let mut scheduler = Scheduler::new();
    let out = log_to(&mut scheduler, "log to stdout", io::stdout().as_fd())?;
    let diagnostics = log_to(&mut scheduler, "log to stderr", io::stderr().as_fd())?;
    let control = Control::new(config.drain_timeout, diagnostics.clone());
    let control = control.map_err(|error| format!("cannot receive signals: {}", reason(&error)))?;
    let control = scheduler.spawn_service(control);
    let acceptors = listen(config, &mut scheduler, &out)?;
    let broken = Rc::new(Cell::new(false));
    scheduler.observe(Journal {
        out: out.clone(),
        diagnostics: diagnostics.clone(),
        quiet: config.quiet,
        essential: acceptors.iter().copied().chain([control]).collect(),
        acceptors,
        broken: Rc::clone(&broken),
        scheduler: scheduler.handle(),
        drain_timeout: config.drain_timeout,
        next_poll_report: None,
    });
    scheduler.run();
    scheduler.cancel_all();
    scheduler.spawn(out.flush(FLUSH_TIMEOUT));
    scheduler.spawn(diagnostics.flush(FLUSH_TIMEOUT));
    scheduler.run();
    if broken.get() { Err("cannot go on".to_owned()) } else { Ok(()) }
}

fn log_to(scheduler: &mut Scheduler, name: &'static str, fd: BorrowedFd<'_>) -> Result<Log, String> {
    let fd = fd.try_clone_to_owned().map_err(|error| format!("cannot write the {name}: {}", reason(&error)))?;
    let (log, writer) = Log::new(scheduler.handle(), name, fd);
    scheduler.spawn_service(writer);
    Ok(log)
}

/// Makes an acceptor for each address, and says so.
fn listen(config: &Config, scheduler: &mut Scheduler, out: &Log) -> Result<Vec<TaskId>, String> {
    let limit = config.max_connections.map(Limit::new);
    let mut acceptors = Vec::new();
    for address in &config.listen {
        let listener =
            Listener::bind(*address).map_err(|error| format!("cannot listen on {address}: {}", reason(&error)))?;
        out.line(&format!("Listening on {}", listener.address()));
        let log = (!config.quiet).then(|| out.clone());
        let idle_timeout = config.idle_timeout;
        let acceptor = Acceptor::new(&scheduler.handle(), listener, move |stream, peer| {
            if let Some(log) = &log {
                log.line(&format!("Connection from {peer}"));
            }
            Echo::new(stream, peer).with_idle_timeout(idle_timeout)
        });
        acceptors.push(scheduler.spawn(acceptor.with_limit(limit.clone())));
    }
    Ok(acceptors)
}
