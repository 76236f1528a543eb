//! The echo daemon: arguments → listeners → run → exit code. What it serves is in the library.

#![deny(unsafe_code)]

mod daemon;

use daemon::arguments::{self, Config, DEFAULT_ADDRESS, HELP, PollerKind, Request};
use daemon::control::Control;
use daemon::journal::Journal;
use daemon::manager::Manager;
use fdtask::net::{Acceptor, Echo, Limit, Listener, raise_descriptor_limit};
use fdtask::poller::{self, Poll, Poller};
use fdtask::{Log, Scheduler, TaskId, reason};
use std::cell::Cell;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// How long the end of the program waits for the log's last lines to be read.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(80);

/// How many descriptors the daemon needs beside its listeners and connections: the standard three, the logs', the
/// signals', the poller's.
const OWN_DESCRIPTORS: usize = 8;

fn main() -> ExitCode {
    let result = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Request::Help) => print(HELP),
        Ok(Request::Version) => print(concat!("fdtask ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Serve(config)) => serve(&config),
        Err(what) => return fail(2, &format!("{what}; try 'fdtask --help'")),
    };
    match result {
        Ok(code) => code,
        Err(what) => fail(1, &what),
    }
}

fn print(text: &str) -> Result<ExitCode, String> {
    let printed = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    printed.map(|()| ExitCode::SUCCESS).map_err(|error| format!("cannot print: {}", reason(&error)))
}

fn fail(code: u8, what: &str) -> ExitCode {
    // Nothing can be done about a standard error that cannot be written to.
    let _ = writeln!(io::stderr(), "fdtask: {what}");
    ExitCode::from(code)
}

/// Serves until it is told to end. An `Err` says why it could not begin; what goes wrong later is in the log, which, unlike
/// this, never waits for somebody to read it.
fn serve(config: &Config) -> Result<ExitCode, String> {
    // First of all, while there is one thread and nobody else has descriptors.
    let passed = Listener::passed().map_err(|error| format!("cannot listen: {}", reason(&error)))?;
    let listeners = listeners(config, passed)?;
    let manager =
        Manager::from_environment().map_err(|error| format!("cannot use NOTIFY_SOCKET: {}", reason(&error)))?;
    let mut scheduler = Scheduler::with_poller(poller(config.poller));
    let out = log_to(&mut scheduler, "log to stdout", io::stdout().as_fd())?;
    let diagnostics = log_to(&mut scheduler, "log to stderr", io::stderr().as_fd())?;
    let control = Control::new(&scheduler.handle(), config.drain_timeout, diagnostics.clone(), manager);
    let control = control.map_err(|error| format!("cannot receive signals: {}", reason(&error)))?;
    if let Err(error) = control.tell_ready() {
        diagnostics.line(&format!("fdtask: cannot tell the service manager: {}", reason(&error)));
    }
    let control = scheduler.spawn_service(control);
    let acceptors = accept(config, listeners, &mut scheduler, &out);
    check_descriptor_limit(config, &diagnostics);
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
    Ok(if broken.get() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn poller(kind: PollerKind) -> Box<dyn Poller> {
    match kind {
        PollerKind::Default => poller::default_poller(),
        PollerKind::Poll => Box::new(Poll::new()),
        #[cfg(target_os = "linux")]
        PollerKind::Parked => Box::new(poller::Parked::new()),
    }
}

fn log_to(scheduler: &mut Scheduler, name: &'static str, fd: BorrowedFd<'_>) -> Result<Log, String> {
    let fd = fd.try_clone_to_owned().map_err(|error| format!("cannot write the {name}: {}", reason(&error)))?;
    let (log, writer) = Log::new(scheduler.handle(), name, fd);
    scheduler.spawn_service(writer);
    Ok(log)
}

/// Says so if the system allows fewer descriptors than the connections asked for need. They are served as far as it goes;
/// the others wait in the kernel's queue, as they do beyond any limit.
fn check_descriptor_limit(config: &Config, diagnostics: &Log) {
    let Some(connections) = config.max_connections else { return };
    let needed = connections.saturating_add(config.listen.len() + OWN_DESCRIPTORS);
    match raise_descriptor_limit(needed) {
        Ok(limit) if limit < needed => diagnostics.line(&format!(
            "fdtask: --max-connections {connections} is more than the descriptor limit of {limit} allows; raise it with 'ulimit -n'"
        )),
        _ => {}
    }
}

/// The listeners that were passed, and those for the addresses that were asked for; for the usual one if there is none.
fn listeners(config: &Config, mut listeners: Vec<Listener>) -> Result<Vec<Listener>, String> {
    let usual = [DEFAULT_ADDRESS];
    let addresses = if listeners.is_empty() && config.listen.is_empty() { &usual[..] } else { &config.listen };
    for address in addresses {
        let listener = Listener::bind(*address);
        listeners.push(listener.map_err(|error| format!("cannot listen on {address}: {}", reason(&error)))?);
    }
    Ok(listeners)
}

/// Makes an acceptor for each listener, and says so.
fn accept(config: &Config, listeners: Vec<Listener>, scheduler: &mut Scheduler, out: &Log) -> Vec<TaskId> {
    let limit = config.max_connections.map(Limit::new);
    let mut acceptors = Vec::new();
    for listener in listeners {
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
    acceptors
}
