//! The waker of a task that is a future.

use crate::remote::Remote;
use crate::task::TaskId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Wake;

/// The task waits; waking it takes a message to its scheduler.
const ASLEEP: u8 = 0;
/// The task polls its future.
const POLLING: u8 = 1;
/// Somebody has woken the task since it last began to poll its future; it is or will be resumed for that.
const WOKEN: u8 = 2;

/// What is behind a [`Waker`](std::task::Waker): wakes one task, from any thread. Of several wakes between two polls of the
/// future only the first costs anything, and a wake while the future is polled, which is where most come from, costs
/// nothing but a flag.
pub(super) struct Alarm {
    state: AtomicU8,
    task: TaskId,
    remote: Remote,
}

impl Alarm {
    pub(super) fn new(task: TaskId, remote: Remote) -> Alarm {
        Alarm { state: AtomicU8::new(POLLING), task, remote }
    }

    /// The future is about to be polled. It will see everything that was done before a wake that is forgotten here: the
    /// exchange acquires what the waker has released.
    #[inline]
    pub(super) fn begin_poll(&self) {
        // Still `POLLING`: the last poll left it so because nobody held a waker. So nobody has woken it, and there is nothing to
        // acquire.
        if self.state.load(Ordering::Relaxed) != POLLING {
            self.state.swap(POLLING, Ordering::AcqRel);
        }
    }

    /// The future has been polled, and nobody holds a waker: whether it was woken meanwhile, and so must be polled again.
    /// If not, the state stays `POLLING` until the next poll: nobody can wake the task.
    #[inline]
    pub(super) fn was_woken(&self) -> bool {
        self.state.load(Ordering::Relaxed) != POLLING
    }

    /// The future has been polled. Whether it was woken meanwhile, and so must be polled again.
    pub(super) fn end_poll(&self) -> bool {
        self.state.compare_exchange(POLLING, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_err()
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == ASLEEP {
            self.remote.wake(self.task);
        }
    }
}
