//! What the daemon tells about itself: the lines of the seed on standard output, diagnostics on standard error.

use super::fleet::Fleet;
use fdtask::{End, Handle, Log, Observer, Task, TaskId, reason};
use std::io;
use std::time::{Duration, Instant};

/// The observer of the daemon.
pub struct Journal {
    pub out: Log,
    pub diagnostics: Log,
    pub quiet: bool,
    /// The tasks that spawn one for each connection.
    pub acceptors: Vec<TaskId>,
    /// The task that receives the signals, if this worker has it.
    pub control: Option<TaskId>,
    pub fleet: Fleet,
    pub scheduler: Handle,
    pub drain_timeout: Duration,
}

impl Journal {
    fn diagnose(&self, line: &str) {
        self.diagnostics.line(&format!("fdtask: {line}"));
    }

    fn connection_ended(&self, task: &dyn Task, end: &End) {
        match end {
            End::Done | End::Cancelled if !self.quiet => {
                self.out.line("Connection closed");
                self.out.line("Task done");
            }
            End::Failed(_) if self.quiet => {}
            _ => self.diagnose_end(task, end),
        }
    }

    /// Without a listener or the signals the daemon is deaf; it serves those who are connected, and ends.
    fn part_ended(&self, task: &dyn Task, end: &End) {
        if matches!(end, End::Failed(_) | End::Panicked(_)) {
            self.diagnose_end(task, end);
            self.fleet.set_broken();
            self.fleet.drain(&self.scheduler, Instant::now() + self.drain_timeout);
        }
    }

    /// Says how a task has failed, if it has.
    fn diagnose_end(&self, task: &dyn Task, end: &End) {
        match end {
            End::Done | End::Cancelled => {}
            End::Failed(error) => self.diagnose(&format!("{}: {}", task.name(), reason(error))),
            End::Panicked(message) => self.diagnose(&format!("{} panicked: {message}", task.name())),
        }
    }
}

impl Observer for Journal {
    fn reported(&mut self, _id: TaskId, message: &str) {
        if self.fleet.may_report(message) {
            self.diagnose(message);
        }
    }

    fn ended(&mut self, id: TaskId, by: Option<TaskId>, task: &dyn Task, end: &End) {
        match by {
            Some(by) if self.acceptors.contains(&by) => self.connection_ended(task, end),
            _ if self.acceptors.contains(&id) || self.control == Some(id) => self.part_ended(task, end),
            _ => {}
        }
    }

    fn drop_panicked(&mut self, id: TaskId, message: &str) {
        self.diagnose(&format!("task {id} panicked while it was dropped: {message}"));
    }

    fn poll_failed(&mut self, error: &io::Error) {
        let message = format!("cannot poll: {}; retrying", reason(error));
        if self.fleet.may_report(&message) {
            self.diagnose(&message);
        }
        // For as long as this lasts no descriptor says that a signal has come, or a message, and yet both must end the daemon.
        if let Some(control) = self.control {
            self.scheduler.wake(control);
        }
        self.fleet.tell_again(&self.scheduler, self.control.is_some());
    }
}
