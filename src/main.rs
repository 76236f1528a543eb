//! The echo daemon: arguments → listeners → run → exit code. What it serves is in the library.

#![deny(unsafe_code)]

mod daemon;

use daemon::arguments::{self, Config, DEFAULT_ADDRESS, HELP, Request};
use daemon::cannot;
use daemon::control::{self, Control};
use daemon::fleet::Fleet;
use daemon::manager::Manager;
use daemon::worker::Worker;
use fdtask::Log;
use fdtask::net::{Limit, Listener, raise_descriptor_limit};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;

/// How many descriptors the daemon needs beside its listeners and connections: the standard three, the signals, and the service
/// manager's socket; for each worker its two logs, its poller, and two by which others reach it.
const OWN_DESCRIPTORS: usize = 5;
const WORKER_DESCRIPTORS: usize = 5;

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
    printed.map(|()| ExitCode::SUCCESS).map_err(cannot("print"))
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
    let passed = Listener::passed().map_err(cannot("listen"))?;
    let manager = Manager::from_environment().map_err(cannot("use NOTIFY_SOCKET"))?;
    let mut first = Worker::new(config)?;
    // Before anybody can connect: a signal to end is to cut nobody off.
    let signals = control::signals(&first.scheduler.handle()).map_err(cannot("receive signals"))?;
    let mut listeners = listeners(config, passed)?;
    let fleet = Fleet::default();

    let own = listeners.remove(0);
    let addresses: Vec<_> = own.iter().map(Listener::address).collect();
    // Acceptors that share a limit look for descriptors together, so several share one even if it is never reached.
    let is_alone = listeners.is_empty() && own.len() == 1;
    let limit = config.max_connections.or((!is_alone).then_some(usize::MAX)).map(Limit::new);
    first.accept_from(config, own, limit.as_ref())?;
    check_descriptor_limit(config, addresses.len(), &first.diagnostics);
    if !listeners.is_empty() {
        fleet.wait_for_others(&mut first.scheduler, None).map_err(cannot("reach a worker"))?;
        start_others(config, listeners, limit.as_ref(), &fleet)?;
    }
    // Only now: nothing that follows can keep it from serving.
    for address in addresses {
        first.out.line(&format!("Listening on {address}"));
    }
    let control = Control::new(signals, config.drain_timeout, first.diagnostics.clone(), manager, fleet.clone());
    let control = first.scheduler.spawn_service(control);
    first.run(config, &fleet, Some(control));
    Ok(if fleet.shared().is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The listeners of each worker: those that were passed, and those for the addresses that were asked for; for the usual one
/// if there is none.
fn listeners(config: &Config, passed: Vec<Listener>) -> Result<Vec<Vec<Listener>>, String> {
    let usual = [DEFAULT_ADDRESS];
    let addresses = if passed.is_empty() && config.listen.is_empty() { &usual[..] } else { &config.listen };
    let mut listeners: Vec<Vec<Listener>> = (0..config.workers).map(|_| Vec::new()).collect();
    for listener in passed {
        for others in &mut listeners[1..] {
            others.push(listener.try_clone().map_err(cannot("listen"))?);
        }
        listeners[0].push(listener);
    }
    for address in addresses {
        let bound = Listener::bind_shared(*address, config.workers);
        let bound = bound.map_err(cannot(&format!("listen on {address}")))?;
        listeners.iter_mut().zip(bound).for_each(|(worker, listener)| worker.push(listener));
    }
    Ok(listeners)
}

/// Starts a thread for each further worker, and waits until all of them are ready. They serve if none has failed.
fn start_others(
    config: &Config,
    listeners: Vec<Vec<Listener>>,
    limit: Option<&Limit>,
    fleet: &Fleet,
) -> Result<(), String> {
    let have_tried = Arc::new(Barrier::new(listeners.len() + 1));
    // Of several failures only the first is told.
    let failure = Arc::new(OnceLock::new());
    let start = format!("start {} workers", config.workers);
    for own in listeners {
        let (config, limit, fleet) = (config.clone(), limit.cloned(), fleet.clone());
        let (have_tried, failure) = (Arc::clone(&have_tried), Arc::clone(&failure));
        let worker = move || {
            let worker = Worker::new(&config).and_then(|mut worker| {
                worker.accept_from(&config, own, limit.as_ref())?;
                let remote = worker.scheduler.remote().map_err(cannot("reach a worker"))?;
                fleet.shared().others.push(remote);
                Ok(worker)
            });
            let worker = worker.map_err(|what| failure.set(what));
            have_tried.wait();
            if let (Ok(worker), None) = (worker, failure.get()) {
                worker.run(&config, &fleet, None);
                fleet.leave();
            }
        };
        let started = thread::Builder::new().name("worker".to_owned()).spawn(worker);
        started.map_err(cannot(&start))?;
    }
    have_tried.wait();
    failure.get().cloned().map_or(Ok(()), Err)
}

/// Says so if the system allows fewer descriptors than the connections asked for need. They are served as far as it goes;
/// the others wait in the kernel's queue, as they do beyond any limit.
fn check_descriptor_limit(config: &Config, listeners: usize, diagnostics: &Log) {
    let Some(connections) = config.max_connections else { return };
    let of_a_worker = WORKER_DESCRIPTORS + listeners;
    let needed = connections.saturating_add(OWN_DESCRIPTORS + config.workers * of_a_worker);
    if let Ok(limit) = raise_descriptor_limit(needed)
        && limit < needed
    {
        diagnostics.line(&format!(
            "fdtask: --max-connections {connections} is more than the descriptor limit of {limit} allows; \
            raise it with 'ulimit -n'"
        ));
    }
}
