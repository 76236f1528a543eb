//! An observer for programs: what goes wrong is a line on standard error.

use crate::handle::Handle;
use crate::log::Log;
use crate::observer::{Observer, reason};
use crate::panics::said;
use crate::task::{End, Task, TaskId};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often it is said that the system cannot poll, at most.
const POLL_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Writes a line about everything that whoever operates a program should know: what tasks report, with which error they fail,
/// that they panic, and that the system cannot poll. It never waits for somebody to read the lines (see [`Log`]).
///
/// The lines are written by a service, and [`run`](crate::Scheduler::run) does not wait for services. Lines of the very last
/// turn, such as the error of the only task that was left, are written when the scheduler is dropped, as far as there is room.
///
/// ```
/// use fdtask::{Diagnostics, Scheduler, task_fn};
/// use std::io;
///
/// let mut scheduler = Scheduler::new();
/// scheduler.observe(Diagnostics::to_stderr(&scheduler.handle(), "example")?);
/// // "example: careless: no reason"
/// scheduler.spawn(task_fn("careless", |_| Err(io::Error::other("no reason"))));
/// scheduler.run();
/// # io::Result::Ok(())
/// ```
#[must_use = "it is told nothing until `Scheduler::observe` has it"]
#[derive(Clone)]
pub struct Diagnostics {
    program: &'static str,
    log: Log,
    next_poll_report: Option<Instant>,
}

impl Diagnostics {
    /// Lines that begin with the name of the program, written to `fd` by a service task.
    pub fn new(scheduler: &Handle, program: &'static str, fd: OwnedFd) -> Diagnostics {
        let (log, writer) = Log::new(scheduler.clone(), "diagnostics", fd);
        scheduler.spawn_service(writer);
        Diagnostics::to_log(program, log)
    }

    /// The same in a log that is there already, so that the program can [flush](Log::flush) it, or add lines of its own.
    pub fn to_log(program: &'static str, log: Log) -> Diagnostics {
        Diagnostics { program, log, next_poll_report: None }
    }

    /// The same on standard error.
    ///
    /// # Errors
    /// There is no descriptor left for a duplicate of it.
    pub fn to_stderr(scheduler: &Handle, program: &'static str) -> io::Result<Diagnostics> {
        Ok(Diagnostics::new(scheduler, program, io::stderr().as_fd().try_clone_to_owned()?))
    }

    #[cold]
    fn line(&self, what: fmt::Arguments<'_>) {
        self.log.line(&format!("{}: {what}", self.program));
    }
}

impl Observer for Diagnostics {
    fn reported(&mut self, _id: TaskId, message: &str) {
        self.line(format_args!("{message}"));
    }

    fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, task: &dyn Task, end: &End) {
        let name = || said(|| task.name().into_owned());
        match end {
            End::Done | End::Cancelled => {}
            End::Failed(error) => self.line(format_args!("{}: {}", name(), said(|| reason(error)))),
            End::Panicked(message) => self.line(format_args!("{} panicked: {message}", name())),
        }
    }

    fn drop_panicked(&mut self, id: TaskId, message: &str) {
        self.line(format_args!("task {id} panicked while it was dropped: {message}"));
    }

    fn poll_failed(&mut self, error: &io::Error) {
        let now = self.log.now();
        if self.next_poll_report.is_none_or(|next| now >= next) {
            self.next_poll_report = Some(now + POLL_REPORT_INTERVAL);
            self.line(format_args!("cannot poll: {}; retrying", reason(error)));
        }
    }
}
