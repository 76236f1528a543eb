//! What the scheduler knows: its tasks, and where each of them is.

use crate::context::Context;
use crate::handle::{Mailbox, SPECIAL};
use crate::observer::Observer;
use crate::panics::catch;
use crate::ready::OTHERWISE;
use crate::slots::Slots;
use crate::sys::prefetch;
use crate::task::{Side, Task, TaskId, Wait};
use crate::timers::{Epoch, NEVER, Nanos, Timers};
use crate::waiters::{Fired, Waiters};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How much memory [`Context::scratch`] lends.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// With more tasks than this, what a task needs is no longer in any cache when its turn comes. So the processor is told to
/// [fetch](Core::look_ahead) it while the task before it runs.
pub(crate) const MANY: usize = 500;

/// How precisely the task table tells for how long a task has waited.
const CLOCK_STEP: Duration = Duration::from_millis(10);

/// What a task can reach through its [`Context`]: everything but the poller.
pub(crate) struct Core {
    pub(crate) slots: Slots,
    /// The ready deque and the two wait maps.
    pub(crate) waiters: Waiters,
    pub(crate) timers: Timers,
    /// Who has been woken, and is moved to the deque after the next poll.
    pub(crate) held: VecDeque<TaskId>,
    /// What the task that runs now has said with [`Context::or`], but for deadlines: it waits for this beside what it will
    /// return.
    pub(crate) or: Vec<Wait>,
    /// The soonest deadline that it has said with [`Context::or`], or [`NEVER`].
    pub(crate) until: Nanos,
    pub(crate) mailbox: Rc<Mailbox>,
    pub(crate) observer: Option<Box<dyn Observer>>,
    pub(crate) is_tracing: bool,
    pub(crate) scratch: Box<[u8; SCRATCH_BYTES]>,
    pub(crate) epoch: Epoch,
    /// `now`, as a count. While nobody has a deadline it may be behind, by less than [`CLOCK_STEP`].
    pub(crate) clock: Nanos,
    /// When the clock is brought up to date, deadline or not.
    clock_due: Instant,
}

impl Core {
    pub(crate) fn new(now: Instant) -> Core {
        let core = Core {
            slots: Slots::default(),
            waiters: Waiters::default(),
            timers: Timers::default(),
            held: VecDeque::new(),
            or: Vec::new(),
            until: NEVER,
            mailbox: Rc::default(),
            observer: None,
            is_tracing: false,
            scratch: vec![0; SCRATCH_BYTES].try_into().expect("it is as long as it says"),
            epoch: Epoch(now),
            clock: 0,
            clock_due: now,
        };
        core.mailbox.now.set(Some(now));
        core
    }

    pub(crate) fn spawn(&mut self, task: Box<dyn Task>, is_service: bool, by: Option<TaskId>) -> TaskId {
        let id = self.slots.insert(task, is_service, by, self.clock);
        self.waiters.ready.push_back(id.slot() | OTHERWISE);
        if let (Some(observer), Some(slot)) = (&mut self.observer, self.slots.get(id))
            && let Some(task) = &slot.task
        {
            let _ = catch(|| observer.spawned(id, by, task.as_ref()));
        }
        id
    }

    /// Tells the observer something, if there is one. It may ask a task for its name, and that may panic.
    pub(crate) fn tell(&mut self, what: impl FnOnce(&mut dyn Observer)) {
        if let Some(observer) = &mut self.observer {
            let _ = catch(|| what(observer.as_mut()));
        }
    }

    /// A turn has begun at this instant. Turning an instant into a count costs more than all the rest here, so the clock is
    /// brought up to date only if somebody has a deadline, or if it is a whole step behind.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.mailbox.now.set(Some(now));
        if now >= self.clock_due || self.timers.soonest() != NEVER {
            self.clock = self.epoch.nanos(now);
            self.clock_due = now.checked_add(CLOCK_STEP).unwrap_or(now);
        }
    }

    /// Whether a live task waits: it is neither ready nor being resumed.
    pub(crate) fn is_waiting(&self, id: TaskId) -> bool {
        let Some(slot) = self.slots.get(id).filter(|slot| !slot.is_ready && slot.task.is_some()) else { return false };
        slot.reason.descriptor().is_none_or(|(fd, side)| self.waiters.get(side, fd) == Some(id.slot()))
    }

    /// Nobody can poll. Who waits for signals, or for messages from other threads, is resumed all the same, as if these had come,
    /// and looks: above all, somebody may have said that the program is to end. No other wait is met by what may not be true: who
    /// reads once each time that a descriptor is ready would sleep in it.
    ///
    /// A task is told one reason, so one whose deadline has passed is left alone: it is told that. The cause may be a want of
    /// memory, so this asks for none.
    #[cold]
    pub(crate) fn poll_failed(&mut self, error: &io::Error, now: Instant) {
        self.set_now(now);
        self.tell(|observer| observer.poll_failed(error));
        for fd in self.mailbox.urgent.borrow().iter().copied() {
            let slot = self.waiters.get(Side::Recv, fd).and_then(|slot| self.slots.at(slot));
            if slot.is_some_and(|slot| slot.deadline > self.clock) {
                self.waiters.fire(Fired { fd, side: Side::Recv, is_closed: false });
            }
        }
    }

    /// Whether all tasks that are ready are new, and no wake is held until after the poll.
    #[cold]
    pub(crate) fn are_new(&self) -> bool {
        self.held.is_empty()
            && self.waiters.ready.iter().all(|slot| self.slots.at(slot).is_some_and(|slot| slot.resumes == 0))
    }

    /// Has the processor fetch what the next two tasks need: the next task itself, whose slot was fetched one task ago, and the
    /// slot of the one after it.
    #[inline]
    pub(crate) fn look_ahead(&mut self) {
        if let Some(next) = self.waiters.ready.ahead(0)
            && let Some(slot) = self.slots.at(next)
            && let Some(task) = &slot.task
        {
            prefetch(task.as_ref());
        }
        if let Some(next) = self.waiters.ready.ahead(1)
            && let Some(slot) = self.slots.at(next)
        {
            prefetch(slot);
        }
    }

    /// Tells the observer who is about to be resumed, and makes sure that it hears what the task says.
    #[cold]
    pub(crate) fn trace_resume(&mut self, index: u32) {
        if let Some(id) = self.slots.id_at(index) {
            let why = Context { core: self, entry: index }.why();
            self.tell(|observer| observer.resumed(id, why));
            self.mailbox.note(SPECIAL);
        }
    }
}
