//! How the daemon is told to end, and to show its tasks: signals.

use super::manager::Manager;
use fdtask::{Context, Handle, Log, Signal, Signals, Task, TaskTable, Wait, reason};
use std::borrow::Cow;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Waits for signals, and does what they stand for.
pub struct Control {
    signals: Signals,
    drain_timeout: Duration,
    diagnostics: Log,
    manager: Manager,
}

impl Control {
    /// Receives the daemon's signals from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(scheduler: &Handle, drain_timeout: Duration, diagnostics: Log, manager: Manager) -> io::Result<Control> {
        let signals =
            Signals::new(scheduler, &[Signal::Interrupt, Signal::Terminate, Signal::User1, Signal::FileSize])?;
        Ok(Control { signals, drain_timeout, diagnostics, manager })
    }

    /// Tells the service manager that the daemon listens, and can be told to end.
    ///
    /// # Errors
    /// The manager could not be told.
    pub fn tell_ready(&self) -> io::Result<()> {
        self.manager.ready()
    }
}

impl Task for Control {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        while let Some(signal) = self.signals.receive()? {
            match signal {
                Signal::User1 => self.diagnostics.line(TaskTable(&cx.tasks()).to_string().trim_end()),
                // The log has noticed by itself that it could not write.
                Signal::FileSize => {}
                _ if cx.is_draining() => cx.stop(),
                _ => {
                    cx.drain(cx.now() + self.drain_timeout);
                    if let Err(error) = self.manager.stopping() {
                        cx.report(&format!("cannot tell the service manager: {}", reason(&error)));
                    }
                }
            }
        }
        Ok(Wait::Recv(self.signals.as_raw_fd()))
    }

    fn name(&self) -> Cow<'_, str> {
        "signals".into()
    }
}
