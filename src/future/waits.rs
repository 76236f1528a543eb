//! What the futures of one task wait for, and how the scheduler comes to know of it.
//!
//! A future that a task polls cannot return a [`Wait`] to the scheduler: `poll` has room for `Pending` and nothing else. So it
//! leaves its wait with the task, which hands all that it has to the scheduler. The future finds the task through the scheduler's
//! mailbox, which everything that can be waited for has a way to.
//!
//! # How a wait travels
//! 1. A task that is resumed *fulfils* those of its [`Waits`] that it is resumed for. Then it polls its future, and until that
//!    returns, the waits are in the mailbox, in [`Futures`].
//! 2. Somewhere below, a `readable(&socket)` is polled: a [`Readiness`](super::Readiness). It asks for its descriptor. Most often
//!    the task itself polls it, with no combinator in between, and has no other such wait. Then this is the task's *direct* wait:
//!    one word in [`Futures::direct`] says what is waited for, and one in the future, its `standing`, whose wait it is. Each of
//!    these words is a [`Mark`].
//! 3. Any other wait is *listed*. Its future has a [`Listed`](super::list::Listed), which takes a place in the task's [`List`].
//!    What it [wants](super::list::Want) stands there, and whom to wake if a combinator has polled it.
//! 4. All answer `Pending`, and the task takes its waits back. It returns one of them to the scheduler, and says the others
//!    with [`Context::or`].
//! 5. The scheduler resumes the task with a [`Reason`], and this begins anew at 1. The future finds its wait fulfilled.
//!
//! In the *usual* case the task has its direct wait, and nothing else: then one word goes to the mailbox and back.
//!
//! A wait *stands* until it is fulfilled or its future is dropped, whether or not the future is polled in between. That is what
//! the contract of [`Future`] asks for, and what combinators such as `FuturesUnordered` rely on: they poll a future again only
//! when the waker that they gave to it says so. If the future is dropped, or polled by another task, while the task that waits
//! does not run, the scheduler is told that this wait is [given up](crate::handle::GivenUp).

use super::list::List;
use crate::context::Context;
use crate::reason::Reason;
use crate::task::{TaskId, Wait, WaitError};
use std::cell::Cell;
use std::rc::Rc;
use std::task;
use std::{mem, ptr};

/// How a wait stands, in one word, which is compared and moved for each message. A future and a task have one each:
///
/// | the word is | where the future's wait stands | what the task's direct wait is |
/// |---|---|---|
/// | a task | it is the direct wait of this task | fulfilled; the task is always its own |
/// | a [`Reason`] | – | what it waits for, or why it cannot |
/// | [`NOWHERE`] | it is not asked for | – |
/// | [`LISTED`] | it is in a list | – |
/// | [`FREE`] | – | there is none |
///
/// So if the two are equal, the future's wait is fulfilled, and it is polled by the task whose wait it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

pub(super) const FREE: Mark = Mark(u64::MAX);
pub(super) const NOWHERE: Mark = Mark(u64::MAX - 1);
pub(super) const LISTED: Mark = Mark(u64::MAX - 2);

impl Default for Mark {
    fn default() -> Mark {
        FREE
    }
}

impl Mark {
    /// This bit is in the mark of each task, and in that of no reason.
    const IS_TASK: u64 = 1 << 63;

    #[inline]
    pub(super) const fn of(reason: Reason) -> Mark {
        Mark(reason.0)
    }

    fn of_task(id: TaskId) -> Mark {
        Mark(Mark::IS_TASK | id.number())
    }

    /// The task whose mark this is.
    pub(super) fn task(self) -> Option<TaskId> {
        if self.0 < LISTED.0 { TaskId::of_number(self.0 & !Mark::IS_TASK) } else { None }
    }

    /// The wait for a descriptor that this is, if it is one.
    #[inline]
    pub(super) fn wait(self) -> Option<Wait> {
        Reason(self.0).descriptor_wait()
    }

    /// Why the task cannot wait, if this is such a reason.
    pub(super) fn error(self) -> Option<WaitError> {
        if self.0 & Mark::IS_TASK == 0 { Reason(self.0).error() } else { None }
    }
}

/// The waits of one task. While it polls its future, they are in [`Futures`].
pub(super) struct Waits {
    /// The task.
    pub(super) task: Mark,
    /// The direct wait, or what has become of it.
    pub(super) direct: Mark,
    /// The others, if there are any.
    list: Option<Rc<List>>,
}

impl Waits {
    pub(super) fn new(id: TaskId) -> Waits {
        Waits { task: Mark::of_task(id), direct: FREE, list: None }
    }

    /// Whether they are this task's.
    pub(super) fn is_of(&self, task: TaskId) -> bool {
        self.task == Mark::of_task(task)
    }

    /// Whether there are others than the direct one.
    pub(super) fn has_list(&self) -> bool {
        self.list.is_some()
    }

    /// Ends the waits that the task is resumed for: they are fulfilled, or cannot be waited for. Returns whether somebody was
    /// woken who is not the task itself.
    pub(super) fn fulfil(&mut self, cx: &mut Context<'_>) -> bool {
        let why = cx.reason();
        let slot = cx.slot();
        if cx.core.slots.at_mut(slot).is_some_and(|slot| mem::take(&mut slot.has_lost_direct)) {
            self.direct = FREE;
        }
        if let Some((fd, side)) = why.descriptor()
            && self.direct.wait() == Some(side.of(fd))
        {
            self.direct = if why.error().is_some() { Mark::of(why) } else { self.task };
        }
        // Whatever the reason is, a drain may have begun meanwhile.
        self.list.as_ref().is_some_and(|list| list.fulfil(why, cx.now(), cx.is_draining()))
    }

    /// Returns one of the waits, for `resume` to return, and says the others with [`Context::or`]. `None` if there are none.
    pub(super) fn say(&self, cx: &mut Context<'_>) -> Option<Wait> {
        let mut first = self.direct.wait();
        if let Some(list) = &self.list {
            list.each(|wait| match first {
                None => first = Some(wait),
                Some(_) => cx.or(wait),
            });
        }
        first
    }
}

impl Drop for Waits {
    /// If waits are left, their futures live on elsewhere, and have to be polled by another task.
    fn drop(&mut self) {
        if let Some(list) = self.list.take() {
            list.abandon();
        }
    }
}

/// What the mailbox holds for futures: the waits of the task that polls its future right now.
#[derive(Default)]
pub(crate) struct Futures {
    /// Which task that is. While no task polls, the last one that did.
    running: Cell<Mark>,
    /// The address of the context that the task polls its future with: combinators poll with contexts and wakers of their own,
    /// and by this address the task's own is told from theirs. 0 while no task polls.
    context: Cell<usize>,
    /// Its direct wait, or what has become of it.
    pub(super) direct: Cell<Mark>,
    /// Its other waits, if there are any.
    list: Cell<Option<Rc<List>>>,
    /// When the poll has ended, there is more to look at than the direct wait: a list, or somebody who has been told the task's
    /// id, to wake it by.
    is_unusual: Cell<bool>,
}

impl Futures {
    /// Which task polls its future right now.
    pub(crate) fn running(&self) -> Option<TaskId> {
        if self.context.get() == 0 { None } else { self.running.get().task() }
    }

    /// Whether it is the task of this mark that polls its future right now.
    pub(super) fn is_running(&self, task: Mark) -> bool {
        self.context.get() != 0 && task == self.running.get()
    }

    /// The task behind `cx`: the one that polls its future right now, if `cx` is its own. `None` if a combinator stands between:
    /// then that is to be woken, by its waker.
    #[inline]
    pub(super) fn task_behind(&self, cx: &task::Context<'_>) -> Option<Mark> {
        if ptr::from_ref(cx).addr() == self.context.get() { Some(self.running.get()) } else { None }
    }

    /// The id of the [task behind](Futures::task_behind) `cx`, for whoever will wake the task by it.
    pub(crate) fn id_behind(&self, cx: &task::Context<'_>) -> Option<TaskId> {
        let task = self.task_behind(cx)?.task();
        // Is it the task's own id? A task that is resumed for its direct wait has not looked yet whether another, which was in
        // its slot before, has begun the future. So it is to look when the poll has ended.
        self.is_unusual.set(true);
        task
    }

    /// The task polls its future with `context`, until it [leaves](Futures::leave). Until then its waits are here. `direct` is
    /// what has become of its direct wait.
    #[inline]
    pub(super) fn enter(&self, task: Mark, context: &task::Context<'_>, direct: Mark) {
        self.running.set(task);
        self.context.set(ptr::from_ref(context).addr());
        self.direct.set(direct);
    }

    /// The task is about to poll its future: moves its list here, if it has one.
    pub(super) fn lend(&self, waits: &mut Waits) {
        if waits.list.is_some() {
            self.is_unusual.set(true);
            self.list.set(waits.list.take());
        }
    }

    /// The task has polled its future. Returns its direct wait.
    #[inline]
    pub(super) fn leave(&self) -> Mark {
        self.context.set(0);
        self.direct.get()
    }

    /// Whether there is more to look at than the direct wait; then [`give_back`](Futures::give_back) has to follow.
    #[inline]
    pub(super) fn is_unusual(&self) -> bool {
        self.is_unusual.get()
    }

    /// Moves the list that was [lent](Futures::lend), or has been begun meanwhile, back to `waits`.
    pub(super) fn give_back(&self, waits: &mut Waits) {
        if self.is_unusual.replace(false) {
            // An empty list would make each poll an unusual one.
            waits.list = self.list.take().filter(|list| !list.is_empty());
        }
    }

    /// The task has panicked while it polled its future, if it did.
    pub(crate) fn abandon(&self) {
        self.context.set(0);
        self.is_unusual.set(false);
        if let Some(list) = self.list.take() {
            list.abandon();
        }
    }

    /// The list of the task that polls its future right now; a new one if it has none.
    pub(super) fn list(&self) -> Option<Rc<List>> {
        let running = self.running()?;
        let list = self.list.take().unwrap_or_default();
        list.task.set(Some(running));
        self.list.set(Some(Rc::clone(&list)));
        self.is_unusual.set(true);
        Some(list)
    }
}
