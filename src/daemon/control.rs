//! How the daemon is told to end, and to show its tasks: signals.

use super::fleet::{Fleet, lock};
use super::manager::{Manager, READY, STOPPING};
use fdtask::net::try_again;
use fdtask::{Context, Handle, Log, Remote, Signal, Signals, Task, TaskTable, Wait, reason};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a worker may take to show its tasks. One that is in the middle of something takes until it has done that.
const TABLES_TIMEOUT: Duration = Duration::from_secs(1);

/// A drain that takes longer than this is explained: whoever has typed Ctrl-C, or has to restart the daemon at night, would
/// wonder.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// How soon a service manager that could not be told is told again.
const MANAGER_RETRY: Duration = Duration::from_millis(200);

/// What is shown instead of a task table that there is no memory for.
const NO_MEMORY: &str = "(no memory is left for the task table)";

/// More than the heading of a worker's table takes, or what is said of one that is missing.
const HEADING_BYTES: usize = 64;

/// Waits for signals, and does what they stand for.
pub struct Control {
    signals: Signals,
    drain_timeout: Duration,
    diagnostics: Log,
    manager: Manager,
    /// What the manager is to be told and has not been.
    news: Option<&'static str>,
    fleet: Fleet,
    /// When a signal to end has come. A drain may have begun without one: when a listener is broken, the daemon ends by itself.
    told_to_end: Option<Instant>,
    /// It has been said what the drain waits for.
    has_explained: bool,
    /// The task tables have been asked for, and nobody has begun to collect them.
    is_asked_for_tables: bool,
    tables: Option<Tables>,
}

/// The task tables of all workers, as they come in.
struct Tables {
    by: Instant,
    parts: Arc<Mutex<Vec<Option<String>>>>,
}

/// The signals that the daemon knows. To be made before there is another thread: see [`Signals::new`].
///
/// # Errors
/// What the system says.
pub fn signals(scheduler: &Handle) -> io::Result<Signals> {
    Signals::new(scheduler, &[Signal::Interrupt, Signal::Terminate, Signal::User1, Signal::FileSize])
}

/// The task table of one worker.
fn table(cx: &Context<'_>) -> String {
    match &cx.tasks()[..] {
        [] => format!("{NO_MEMORY}\n"),
        tasks => TaskTable(tasks).to_string(),
    }
}

impl Control {
    /// Tells the manager first that the daemon is ready.
    pub fn new(signals: Signals, drain_timeout: Duration, diagnostics: Log, manager: Manager, fleet: Fleet) -> Control {
        Control {
            signals,
            drain_timeout,
            diagnostics,
            manager,
            news: Some(READY),
            fleet,
            told_to_end: None,
            has_explained: false,
            is_asked_for_tables: false,
            tables: None,
        }
    }

    fn drain(&mut self, cx: &mut Context<'_>) {
        self.told_to_end = Some(cx.now());
        self.fleet.drain(&cx.handle(), cx.now() + self.drain_timeout);
        self.news = Some(STOPPING);
    }

    /// Tells the service manager what is new. If it cannot be told now it is told later: a daemon that does not say that it is
    /// ready may be taken for one that hangs.
    fn tell_manager(&mut self, cx: &mut Context<'_>) {
        let Some(news) = self.news.take() else { return };
        let Err(error) = self.manager.tell(news) else { return };
        cx.report(&format!("cannot tell the service manager: {}", reason(&error)));
        if try_again(&error) {
            self.news = Some(news);
            cx.or(Wait::Until(cx.now() + MANAGER_RETRY));
        }
    }

    /// Says what is waited for, once, when it takes long.
    fn explain_drain(&mut self, cx: &mut Context<'_>) {
        let Some(begin) = self.told_to_end.filter(|_| !self.has_explained) else { return };
        if cx.now() < begin + DRAIN_PATIENCE {
            return cx.or(Wait::Until(begin + DRAIN_PATIENCE));
        }
        self.has_explained = true;
        // Whole seconds, rounded up.
        let left = (begin + self.drain_timeout + Duration::from_secs(1)).saturating_duration_since(cx.now()).as_secs();
        if left == 0 {
            return;
        }
        self.diagnostics.line(&format!(
            "fdtask: waiting for clients to hang up, {left} s at most; SIGUSR1 lists them, \
            another SIGINT or SIGTERM cuts them off"
        ));
    }

    /// Asks all workers for their tables.
    fn collect_tables(&mut self, cx: &Context<'_>) -> io::Result<()> {
        let others = self.fleet.shared().others.clone();
        let mut parts = vec![None; others.len() + 1];
        parts[0] = Some(table(cx));
        let parts = Arc::new(Mutex::new(parts));
        for (index, other) in others.iter().enumerate() {
            let (home, control, parts) = (cx.remote()?, cx.id(), Arc::clone(&parts));
            other.call(move |cx| {
                // One at a time: each looks first whether there is memory for it.
                let mut parts = lock(&parts);
                parts[index + 1] = Some(table(cx));
                home.wake(control);
            });
        }
        self.tables = Some(Tables { by: cx.now() + TABLES_TIMEOUT, parts });
        Ok(())
    }

    /// Shows the tables, when all are there or no more time is left.
    fn show_tables(&mut self, cx: &mut Context<'_>) {
        let Some(tables) = self.tables.take() else { return };
        let parts = lock(&tables.parts);
        if parts.contains(&None) && cx.now() < tables.by {
            cx.or(Wait::Until(tables.by));
            drop(parts);
            self.tables = Some(tables);
            return;
        }
        let mut text = String::new();
        let count = parts.len();
        let bytes = parts.iter().map(|part| HEADING_BYTES + part.as_ref().map_or(0, String::len)).sum();
        if text.try_reserve(bytes).is_err() {
            return self.diagnostics.line(NO_MEMORY);
        }
        for (index, part) in parts.iter().enumerate() {
            if count > 1 {
                let _ = writeln!(text, "Worker {} of {count}", index + 1);
            }
            text.push_str(part.as_deref().unwrap_or("(busy, or has ended)\n"));
        }
        self.diagnostics.line(text.trim_end());
    }
}

impl Task for Control {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        while let Some(signal) = self.signals.receive()? {
            match signal {
                Signal::User1 => self.is_asked_for_tables = true,
                // The log has noticed by itself that it could not write.
                Signal::FileSize => {}
                _ if self.told_to_end.is_some() => {
                    self.fleet.shared().others.iter().for_each(Remote::stop);
                    cx.stop();
                }
                _ => self.drain(cx),
            }
        }
        self.tell_manager(cx);
        self.explain_drain(cx);
        self.show_tables(cx);
        // One collection at a time: a worker makes a task of each call, and a busy one would show all of these in its table.
        if self.is_asked_for_tables && self.tables.is_none() {
            self.is_asked_for_tables = false;
            self.collect_tables(cx)?;
            self.show_tables(cx);
        }
        Ok(Wait::Recv(self.signals.as_raw_fd()))
    }

    fn name(&self) -> Cow<'_, str> {
        "signals".into()
    }
}
