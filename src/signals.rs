//! Signals that a task receives instead of having their usual effect.

use crate::descriptor::Descriptor;
use crate::future::Source;
use crate::handle::Handle;
use crate::sys;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::process::Command;

/// A signal that a program may want to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(i32)]
pub enum Signal {
    /// `SIGHUP`: the terminal is gone; by custom, read your configuration again.
    Hangup = libc::SIGHUP,
    /// `SIGINT`: Ctrl-C.
    Interrupt = libc::SIGINT,
    /// `SIGTERM`: please end.
    Terminate = libc::SIGTERM,
    /// `SIGUSR1`: whatever the program says it is for.
    User1 = libc::SIGUSR1,
    /// `SIGUSR2`: whatever the program says it is for.
    User2 = libc::SIGUSR2,
    /// `SIGCHLD`: a child of this process has ended, or several have; [`Child::try_wait`](std::process::Child::try_wait) tells
    /// of each whether it has. If the program was started with this signal ignored, asking for it ends that.
    Child = libc::SIGCHLD,
    /// `SIGXFSZ`: a file has reached the greatest size that the process may give it. The write fails anyway; without this, the
    /// signal ends the program.
    FileSize = libc::SIGXFSZ,
}

impl Signal {
    const ALL: [Signal; 7] = [
        Signal::Hangup,
        Signal::Interrupt,
        Signal::Terminate,
        Signal::User1,
        Signal::User2,
        Signal::Child,
        Signal::FileSize,
    ];
}

/// Signals that do not have their usual effect any more, and can be received instead: wait for
/// [`Wait::Recv`](crate::Wait::Recv) on this descriptor, then [`receive`](Signals::receive).
///
/// A signal that arrives just before the scheduler sleeps is seen at once: it makes the descriptor ready.
#[must_use = "dropped, it leaves the signals without any effect, since nobody receives them"]
pub struct Signals(Descriptor);

impl Signals {
    /// Receives these signals from now on, in a task of `scheduler`. Make it before the program starts its first other thread:
    /// on Linux a thread that is there already would go on taking them in the usual way. They are not given back when this is
    /// dropped. A program that is started from now on needs [`unblock_in`](Signals::unblock_in).
    ///
    /// Receive a signal in one place. Of two `Signals` for the same one, either may get it, and the other does not hear of it. If
    /// several tasks want to know, such as one for each child, the task that receives tells them, by a
    /// [`Notify`](crate::Notify).
    ///
    /// # Errors
    /// What the system says: such as that no descriptor is left.
    pub fn new(scheduler: &Handle, signals: &[Signal]) -> io::Result<Signals> {
        let numbers: Vec<libc::c_int> = signals.iter().map(|signal| *signal as libc::c_int).collect();
        Ok(Signals(scheduler.adopt_urgent(sys::signal_source(&numbers)?)))
    }

    /// Gives the signals their usual effect on the program that `command` runs. Without it that program inherits, on Linux, that
    /// they are blocked: neither Ctrl-C nor `SIGTERM` would end it.
    ///
    /// ```no_run
    /// use fdtask::{Scheduler, Signal, Signals, future};
    /// use std::process::Command;
    ///
    /// let mut scheduler = Scheduler::new();
    /// let signals = Signals::new(&scheduler.handle(), &[Signal::Child, Signal::Terminate])?;
    /// let mut command = Command::new("make");
    /// Signals::unblock_in(&mut command)?;
    /// let mut child = command.spawn()?;
    /// scheduler.spawn(future::task(async move {
    ///     loop {
    ///         if future::next_signal(&signals).await? == Signal::Terminate {
    ///             child.kill()?; // `SIGKILL`. To send another signal takes `libc::kill`, or the program of that name.
    ///         }
    ///         if let Some(status) = child.try_wait()? {
    ///             println!("make: {status}");
    ///             return Ok(());
    ///         }
    ///     }
    /// }));
    /// scheduler.run();
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// What the system says.
    pub fn unblock_in(command: &mut Command) -> io::Result<()> {
        sys::unblock_in(command, &Signal::ALL.map(|signal| signal as libc::c_int))
    }

    /// The next signal that has arrived; `None` if there is none (any more). Several of the same kind may count as one.
    ///
    /// # Errors
    /// What `read(2)` says, other than that there is nothing to read.
    pub fn receive(&self) -> io::Result<Option<Signal>> {
        match sys::receive_signal(self.as_fd()) {
            Ok(number) => Ok(Signal::ALL.into_iter().find(|signal| *signal as libc::c_int == number)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Source for Signals {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
