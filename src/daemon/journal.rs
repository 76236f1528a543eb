//! What the daemon tells about itself: the lines of the seed on standard output, diagnostics on standard error.

use super::fleet::Fleet;
use fdtask::{Diagnostics, End, Handle, Log, Observer, Task, TaskId, reason};
use std::io;
use std::time::{Duration, Instant};

/// The observer of the daemon.
pub struct Journal {
    pub out: Log,
    pub diagnostics: Diagnostics,
    pub quiet: bool,
    /// The tasks that spawn one for each connection.
    pub acceptors: Vec<TaskId>,
    /// The task that receives the signals, if this worker has it.
    pub control: Option<TaskId>,
    pub fleet: Fleet,
    pub scheduler: Handle,
    pub drain_timeout: Duration,
}

impl Observer for Journal {
    fn reported(&mut self, id: TaskId, message: &str) {
        if self.fleet.may_report(message) {
            self.diagnostics.reported(id, message);
        }
    }

    fn ended(&mut self, id: TaskId, by: Option<TaskId>, task: &dyn Task, end: &End) {
        let is_connection = by.is_some_and(|by| self.acceptors.contains(&by));
        if is_connection && matches!(end, End::Cancelled) {
            self.fleet.shared().cut_off += 1;
        }
        match end {
            End::Done | End::Cancelled if is_connection && !self.quiet => {
                self.out.line("Connection closed");
                self.out.line("Task done");
            }
            End::Failed(_) if is_connection && self.quiet => {}
            _ => self.diagnostics.ended(id, by, task, end),
        }
        // Without a listener or the signals the daemon is deaf; it serves those who are connected, and ends.
        let is_vital = self.acceptors.contains(&id) || self.control == Some(id);
        if is_vital && matches!(end, End::Failed(_) | End::Panicked(_)) {
            self.fleet.shared().is_broken = true;
            self.fleet.drain(&self.scheduler, Instant::now() + self.drain_timeout);
        }
    }

    fn drop_panicked(&mut self, id: TaskId, message: &str) {
        self.diagnostics.drop_panicked(id, message);
    }

    fn poll_failed(&mut self, error: &io::Error) {
        if self.fleet.may_report(&reason(error)) {
            // It is the fleet that decides how often this is said. So a clone says it, which has not said it before.
            self.diagnostics.clone().poll_failed(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fdtask::Scheduler;
    use std::io::Read;

    #[test]
    fn another_reason_why_nobody_can_poll_is_said_at_once() {
        let mut scheduler = Scheduler::new();
        let (mut said, fd) = io::pipe().expect("a pipe");
        let (log, writer) = Log::new(scheduler.handle(), "log", fd.into());
        scheduler.spawn_service(writer);
        let mut journal = Journal {
            out: log.clone(),
            diagnostics: Diagnostics::to_log("fdtask", log.clone()),
            quiet: false,
            acceptors: Vec::new(),
            control: None,
            fleet: Fleet::default(),
            scheduler: scheduler.handle(),
            drain_timeout: Duration::ZERO,
        };
        for errno in [libc::EINVAL, libc::EINVAL, libc::ENOMEM] {
            journal.poll_failed(&io::Error::from_raw_os_error(errno));
        }
        scheduler.spawn(log.flush(Duration::from_secs(10)));
        scheduler.run();
        drop((scheduler, journal, log));
        let mut text = String::new();
        said.read_to_string(&mut text).expect("the lines");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
