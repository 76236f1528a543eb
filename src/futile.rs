//! A descriptor that fires again and again, and is never ready.
//!
//! Readiness is a hint, so a task whose call achieves nothing waits again. If the call can *never* achieve anything while
//! the hint goes on (a firewall that refuses each connection, a kernel short of memory for as long as it lasts, a
//! tracer that makes a call fail), waiting again is a loop that never sleeps. So after a few futile resumes in a row the task
//! pauses between them.

use crate::context::Context;
use crate::future::{Source, sleep};
use crate::task::Wait;
use std::io;
use std::time::Duration;

/// Up to so many resumes in a row that achieve nothing are taken for bad luck: the task tries again at once.
pub const FUTILE_RESUMES_MAX: u8 = 8;

/// How long a task pauses after a resume that achieves nothing, when there have been [`FUTILE_RESUMES_MAX`] in a row before it.
pub const FUTILE_PAUSE: Duration = Duration::from_millis(100);

/// Counts the resumes in a row in which a task has achieved nothing, so that it pauses and does not spin when its descriptor
/// keeps firing and is never ready: after [`FUTILE_RESUMES_MAX`] of them, for [`FUTILE_PAUSE`]. For a task that is written by
/// hand there is [`wait`](Futile::wait), for a future [`pause`](Futile::pause). What this crate receives, sends and accepts
/// does so by itself.
///
/// ```
/// use fdtask::net::{Futile, Stream, try_again};
/// use fdtask::{Context, Task, Wait};
/// use std::{io, os::fd::AsRawFd};
///
/// struct Drop(Stream, Futile);
///
/// impl Task for Drop {
///     fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
///         let again = Wait::Recv(self.0.as_raw_fd());
///         match self.0.recv(cx.scratch()) {
///             Ok(0) => return Ok(Wait::Done),
///             Ok(_) => self.1.reset(),
///             Err(error) if try_again(&error) => return Ok(self.1.wait(cx, again)),
///             Err(error) => return Err(error),
///         }
///         Ok(again)
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct Futile(u8);

impl Futile {
    /// Something was achieved.
    pub fn reset(&mut self) {
        self.0 = 0;
    }

    /// Nothing was achieved: what to wait for before trying again. `wait`, as long as it may be bad luck, and if the task was
    /// resumed for a deadline.
    ///
    /// Otherwise it is [`Wait::Until`] the end of the pause, so [`timed_out`](Context::timed_out) is true behind it. A task that
    /// has a deadline of its own as well compares that with [`now`](Context::now), or gives up much too early.
    pub fn wait(&mut self, cx: &Context<'_>, wait: Wait) -> Wait {
        if cx.timed_out() {
            // A deadline promises nothing about the descriptor, so finding it not ready means nothing.
            return wait;
        }
        if self.is_one_too_many() { Wait::Until(cx.now() + FUTILE_PAUSE) } else { wait }
    }

    /// Nothing was achieved: pauses, unless it may be bad luck. Wait for the descriptor afterwards.
    pub async fn pause<S: Source + ?Sized>(&mut self, source: &S) {
        if self.is_one_too_many() {
            sleep(&source.descriptor().scheduler(), FUTILE_PAUSE).await;
        }
    }

    /// Counts one more futile resume.
    ///
    /// It is not written as a comparison that is kept, added and returned: optimising compilers up to 1.97 at least then forget
    /// to count (rust-lang/rust#158206), and whoever is to pause spins.
    fn is_one_too_many(&mut self) -> bool {
        if self.0 == FUTILE_RESUMES_MAX {
            return true;
        }
        self.0 += 1;
        false
    }
}

/// Whether a call on a connection, such as [`Stream::recv`](crate::net::Stream::recv), has failed for now only: it was not
/// ready, or interrupted, or the system is short of memory. Then wait again, and let a [`Futile`] count how often. Other errors
/// end the connection.
pub fn try_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::Sim;
    use crate::scheduler::Scheduler;
    use crate::task::task_fn;
    use std::cell::Cell;
    use std::rc::Rc;

    /// Run it with `--release`, too: there is a compiler that forgets to count, but only when it optimises.
    #[test]
    fn a_task_pauses_after_some_futile_resumes_and_not_before() {
        let (sim, _script) = Sim::new();
        let mut scheduler = Scheduler::with_poller(Box::new(sim));
        let waits = Rc::new(Cell::new((0, 0)));
        let (mut futile, counted) = (Futile::default(), Rc::clone(&waits));
        scheduler.spawn(task_fn("futile", move |cx| {
            let (turns, pauses) = counted.get();
            if turns + pauses == 2 * u32::from(FUTILE_RESUMES_MAX) {
                return Ok(Wait::Done);
            }
            let wait = futile.wait(cx, Wait::Turn);
            counted.set(if wait == Wait::Turn { (turns + 1, pauses) } else { (turns, pauses + 1) });
            Ok(wait)
        }));
        scheduler.run();
        // After a pause it is resumed for a deadline, which does not count, and tries once more at once.
        let max = u32::from(FUTILE_RESUMES_MAX);
        assert_eq!(waits.get(), (max + max / 2, max / 2));
    }

    #[test]
    fn whoever_achieves_something_now_and_then_does_not_pause() {
        let (sim, script) = Sim::new();
        let mut scheduler = Scheduler::with_poller(Box::new(sim));
        let (mut futile, mut turn) = (Futile::default(), 0);
        scheduler.spawn(task_fn("futile but for every eighth resume", move |cx| {
            turn += 1;
            if turn % u32::from(FUTILE_RESUMES_MAX) == 0 {
                futile.reset();
            }
            Ok(if turn < 100 { futile.wait(cx, Wait::Turn) } else { Wait::Done })
        }));
        scheduler.run();
        assert_eq!(script.elapsed(), Duration::ZERO);
    }
}
