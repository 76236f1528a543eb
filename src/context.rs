//! What a task may ask and say while it is being resumed.

use crate::descriptor::Descriptor;
use crate::handle::{Handle, SPECIAL, UNTIL};
use crate::ready::OTHERWISE;
use crate::reason::Reason;
use crate::state::Core;
use crate::task::{Task, TaskId, Wait};
use crate::timers::{NEVER, Nanos};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// The scheduler, as a task sees it while it is being resumed.
pub struct Context<'a> {
    pub(crate) core: &'a mut Core,
    /// The task's entry in the ready deque: the number of its slot, and perhaps [`OTHERWISE`].
    pub(crate) entry: u32,
}

impl Context<'_> {
    /// The time, as it was when this turn began. All deadlines are measured with this clock.
    pub fn now(&self) -> Instant {
        self.core.mailbox.now()
    }

    /// Which task this is.
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn id(&self) -> TaskId {
        self.core.slots.id_at(self.slot()).expect("a task that is being resumed is live")
    }

    /// Why the task is resumed: which of its waits is over. It is [`Wait::Turn`] when the task is new, and when a drain has
    /// begun; [`Wait::Until`] when its deadline has passed.
    pub fn why(&self) -> Wait {
        let deadline = || self.core.slots.at(self.slot()).map_or(NEVER, |slot| slot.deadline);
        self.reason().wait(|| self.core.epoch.instant(deadline()))
    }

    /// [`why`](Context::why), as the slot holds it.
    #[inline]
    pub(crate) fn reason(&self) -> Reason {
        self.core.slots.at(self.slot()).map_or(Reason::TURN, |slot| slot.reason)
    }

    /// The number of the task's slot.
    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.entry & !OTHERWISE
    }

    /// Whether the task is resumed because its deadline has passed, and nothing that it waited for beside it fired. If there
    /// were several deadlines, [`now`](Context::now) tells which: a [`Futile`](crate::net::Futile) may have set one.
    pub fn timed_out(&self) -> bool {
        self.reason() == Reason::UNTIL
    }

    /// Waits for this, too, beside what `resume` is about to return. The first of them to come resumes the task, once, and the
    /// others are withdrawn. A deadline on a wait is `cx.or(Wait::Until(at))`; of several deadlines the soonest counts.
    ///
    /// It holds for the one wait that follows. [`Wait::Done`] here has no effect. [`Wait::Turn`] always comes first: beside it
    /// nobody looks whether the others are over. To hear of them, too, return `Wait::Until(cx.now())` instead, which is over in
    /// the next turn if none of them is.
    ///
    /// When a deadline beside [`Wait::Send`] has passed, look at
    /// [`Stream::send_queue_bytes`](crate::net::Stream::send_queue_bytes): the peer may have taken something.
    ///
    /// ```
    /// use fdtask::{Context, Task, Wait};
    /// use std::{io, net::TcpStream, os::fd::AsRawFd, time::Duration};
    ///
    /// struct Patient(TcpStream);
    ///
    /// impl Task for Patient {
    ///     fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
    ///         if cx.timed_out() {
    ///             return Err(io::ErrorKind::TimedOut.into());
    ///         }
    ///         // … receive, answer …
    ///         cx.or(Wait::Until(cx.now() + Duration::from_secs(2)));
    ///         Ok(Wait::Recv(self.0.as_raw_fd()))
    ///     }
    /// }
    /// ```
    pub fn or(&mut self, wait: Wait) {
        match wait {
            Wait::Until(at) => self.or_until(self.core.epoch.nanos(at)),
            Wait::Recv(_) | Wait::Send(_) | Wait::Turn => {
                self.core.or.push(wait);
                self.core.mailbox.note(SPECIAL);
            }
            // Every task that waits can be woken.
            Wait::Wake | Wait::Done => {}
        }
    }

    /// [`or`](Context::or) for a deadline.
    #[inline]
    pub(crate) fn or_until(&mut self, deadline: Nanos) {
        self.core.until = self.core.until.min(deadline);
        self.core.mailbox.note(UNTIL);
    }

    /// [`now`](Context::now), as a count. While nobody has a deadline it may be some milliseconds behind.
    #[inline]
    pub(crate) fn clock(&self) -> Nanos {
        self.core.clock
    }

    /// Makes a task; it runs in the next turn.
    pub fn spawn(&mut self, task: impl Task + 'static) -> TaskId {
        self.core.spawn(Box::new(task), false, Some(self.id()))
    }

    /// Makes a task that does not keep the scheduler running: `run` returns when only services are left.
    pub fn spawn_service(&mut self, task: impl Task + 'static) -> TaskId {
        self.core.spawn(Box::new(task), true, Some(self.id()))
    }

    /// A way to talk to the scheduler later: from what this task shares with others.
    pub fn handle(&self) -> Handle {
        Handle(self.core.mailbox.clone())
    }

    /// [`Handle::wake`].
    pub fn wake(&self, task: TaskId) {
        self.handle().wake(task);
    }

    /// [`Handle::cancel`].
    pub fn cancel(&self, task: TaskId) {
        self.handle().cancel(task);
    }

    /// [`Handle::drain`].
    pub fn drain(&self, by: Instant) {
        self.handle().drain(by);
    }

    /// Whether a drain has begun: finish what was begun, and begin nothing new.
    pub fn is_draining(&self) -> bool {
        self.core.mailbox.is_draining()
    }

    /// [`Handle::stop`].
    pub fn stop(&self) {
        self.handle().stop();
    }

    /// [`Handle::adopt`].
    pub fn adopt(&self, fd: impl Into<OwnedFd>) -> Descriptor {
        self.handle().adopt(fd)
    }

    /// Memory to receive into, [`SCRATCH_BYTES`](crate::SCRATCH_BYTES) long. All tasks share it, so anything may be in it. A task
    /// that waits needs no buffer of its own: it keeps only what it could not pass on.
    pub fn scratch(&mut self) -> &mut [u8] {
        self.core.scratch.as_mut_slice()
    }

    /// Tells the [`Observer`](crate::Observer) something that the operator of the program should know. Without an observer nobody
    /// hears it.
    pub fn report(&mut self, message: &str) {
        let id = self.id();
        self.core.tell(|observer| observer.reported(id, message));
    }
}
