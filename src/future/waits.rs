//! What the futures of one task wait for.
//!
//! A future that a task polls cannot return a [`Wait`] to the scheduler: `poll` has room for `Pending` and nothing else.
//! So it leaves its wait in a list that its task keeps, and the task hands the list to the scheduler. The future finds the
//! list through the scheduler's mailbox, which everything that can be waited for has a way to. The one wait for a descriptor
//! that is all that most tasks ever wait for stands beside the list: to file and to fulfil it is to write a number.
//!
//! A wait *stands* until it is fulfilled or its future is dropped, whether or not the future is polled in between. That is
//! what the contract of [`Future`] asks for, and what combinators such as `FuturesUnordered` rely on:
//! they poll a future again only when the waker says so that they gave to it.

use crate::context::Context;
use crate::handle::Mailbox;
use crate::remote::Remote;
use crate::slots::{Kind, Reason};
use crate::task::{TaskId, Wait, WaitError};
use std::cell::{Cell, OnceCell, RefCell};
use std::ptr;
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::time::Instant;

/// What the scheduler's mailbox holds for futures: above all, what belongs to the task that polls its future right now.
pub(crate) struct Futures {
    /// Which task that is; while there is none, the last that was.
    running: Cell<Mark>,
    /// Where the context is that it polls its future with, to tell it from those that others make, with wakers of their own.
    /// Null while no task polls. Nothing is ever read there.
    context: Cell<*const ()>,
    /// The one wait that almost every task has, if it is for a descriptor and its future is polled by the task itself: what
    /// it waits for, or an error; [`FREE`] if there is none; the mark of the task if it is fulfilled.
    pub(super) one: Cell<Mark>,
    /// Its other waits, if it has any, …
    others: Cell<Option<Rc<Waits>>>,
    /// … and whether it has: to look there would mean to take them out.
    has_others: Cell<bool>,
    /// The way into this scheduler from other threads, made when somebody first needs it.
    pub(crate) remote: OnceCell<Remote>,
    /// The messages that come that way are received.
    pub(crate) listens: Cell<bool>,
}

/// A [`Reason`], or which task it is. As both are one word, which is compared and moved for each message, one comparison
/// tells a future two things: that its wait is fulfilled, and that it is a wait of the task that polls it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// What stands in the place of the one wait while there is none.
pub(super) const FREE: Mark = Mark(u64::MAX);
/// What stands in the place of a task, of a wait that stands nowhere.
pub(super) const NOWHERE: Mark = Mark(u64::MAX - 1);
/// The same, of a wait that is in a list.
pub(super) const LISTED: Mark = Mark(u64::MAX - 2);

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

impl Default for Futures {
    fn default() -> Futures {
        Futures {
            running: Cell::new(NOWHERE),
            context: Cell::new(ptr::null()),
            one: Cell::new(FREE),
            others: Cell::new(None),
            has_others: Cell::new(false),
            remote: OnceCell::new(),
            listens: Cell::new(false),
        }
    }
}

impl Futures {
    /// Which task polls its future right now.
    pub(crate) fn running(&self) -> Option<TaskId> {
        if self.context.get().is_null() { None } else { self.running.get().task() }
    }

    /// Whether it is the task of this mark that polls its future right now.
    pub(super) fn is_running(&self, task: Mark) -> bool {
        !self.context.get().is_null() && task == self.running.get()
    }

    /// The task that polls its future right now, if `cx` is what that task gave to it: then it can be woken by its id.
    /// `None` if somebody stands between, who is to be woken in the task's stead.
    #[inline]
    pub(super) fn mark_behind(&self, cx: &task::Context<'_>) -> Option<Mark> {
        if ptr::eq(ptr::from_ref(cx).cast(), self.context.get()) { Some(self.running.get()) } else { None }
    }

    /// [`mark_behind`](Futures::mark_behind), by its id.
    pub(crate) fn running_behind(&self, cx: &task::Context<'_>) -> Option<TaskId> {
        self.mark_behind(cx)?.task()
    }

    /// The task polls its future with `context`, until it [leaves](Futures::leave); so long its waits are here. `one` is what
    /// has become of its one wait.
    #[inline]
    pub(super) fn enter(&self, task: Mark, context: &task::Context<'_>, one: Mark) {
        self.running.set(task);
        self.context.set(ptr::from_ref(context).cast());
        self.one.set(one);
    }

    /// The task will poll its future, and may have other waits, too.
    pub(super) fn lend(&self, own: &mut Own) {
        if own.others.is_some() {
            self.has_others.set(true);
            self.others.set(own.others.take());
        }
    }

    /// The task has polled its future. Returns its one wait.
    #[inline]
    pub(super) fn leave(&self) -> Mark {
        self.context.set(ptr::null());
        self.one.get()
    }

    /// Whether the task may have more than its one wait; then [`give_back`](Futures::give_back) has to follow.
    #[inline]
    pub(super) fn has_others(&self) -> bool {
        self.has_others.get()
    }

    /// What was [lent](Futures::lend) is in `own` again, and what has come to it.
    pub(super) fn give_back(&self, own: &mut Own) {
        if self.has_others.replace(false) {
            // An empty list would have to be lent each time.
            own.others = self.others.take().filter(|others| others.used.get() > 0);
        }
    }

    /// The task has panicked while it polled its future, if it did.
    pub(crate) fn abandon(&self) {
        self.context.set(ptr::null());
        self.has_others.set(false);
        if let Some(others) = self.others.take() {
            others.abandon();
        }
    }

    /// The other waits of the task that polls its future right now.
    fn others(&self) -> Option<Rc<Waits>> {
        let running = self.running()?;
        let waits = self.others.take().unwrap_or_default();
        waits.task.set(Some(running));
        self.others.set(Some(Rc::clone(&waits)));
        self.has_others.set(true);
        Some(waits)
    }
}

/// The waits of one task, while it does not poll its future.
pub(super) struct Own {
    /// The task.
    pub(super) task: Mark,
    /// What has become of its one wait, or what that is.
    pub(super) one: Mark,
    others: Option<Rc<Waits>>,
}

impl Own {
    pub(super) fn new(id: TaskId) -> Own {
        Own { task: Mark::of_task(id), one: FREE, others: None }
    }

    /// Whether they are this task's.
    pub(super) fn is_of(&self, task: TaskId) -> bool {
        self.task == Mark::of_task(task)
    }

    /// Whether there are others.
    pub(super) fn has_others(&self) -> bool {
        self.others.is_some()
    }

    /// Takes over what another task waited for with the same future. Its one wait is asked for anew.
    pub(super) fn take_over(&mut self, mut before: Own) {
        self.others = before.others.take();
    }

    /// Fulfils what the task is resumed for. Returns whether somebody was woken who is not the task itself.
    pub(super) fn fulfil(&mut self, cx: &Context<'_>) -> bool {
        let why = cx.reason();
        if cx.take_given_up() || why == Reason::GIVEN_UP {
            self.one = FREE;
        }
        if self.one == Mark::of(why) && matches!(why.kind(), Kind::Recv | Kind::Send) {
            self.one = self.task;
        }
        let has_failed = why.error().is_some_and(|error| self.fail(why, error));
        match &self.others {
            // Whatever the reason is, a drain may have begun meanwhile.
            Some(others) => others.fulfil(why, cx.core.now, cx.is_draining()) || has_failed,
            _ => has_failed,
        }
    }

    /// Gives an error to whoever waits for what cannot be waited for.
    #[cold]
    fn fail(&mut self, why: Reason, error: WaitError) -> bool {
        let (WaitError::Busy(wait) | WaitError::Closed(wait)) = error;
        if self.one == Mark::of(Reason::from(wait)) {
            self.one = Mark::of(why);
        }
        let fails = |state: &State| state.wait() == Some(wait);
        self.others.as_ref().is_some_and(|others| others.fulfil_where(Err(error), fails))
    }

    /// What to wait for: the wait to return, while `or` is given the others. `None` if nothing is waited for.
    pub(super) fn wait(&self, mut or: impl FnMut(Wait)) -> Option<Wait> {
        let mut first = self.one.wait();
        let Some(others) = &self.others else { return first };
        for entry in others.entries.borrow().iter() {
            let Some(wait) = entry.state.wait() else { continue };
            match first {
                None => first = Some(wait),
                Some(_) => or(wait),
            }
        }
        first
    }
}

impl Drop for Own {
    /// A wait that is left has a future which lives on elsewhere. It has to be asked for by another task.
    fn drop(&mut self) {
        if let Some(others) = self.others.take() {
            others.abandon();
        }
    }
}

/// Waits of one task, as many as there are.
#[derive(Default)]
pub(super) struct Waits {
    entries: RefCell<Vec<Entry>>,
    /// How many entries are not free.
    used: Cell<usize>,
    /// Whose they are.
    task: Cell<Option<TaskId>>,
    /// No entry before this one is free.
    first_free: Cell<usize>,
}

struct Entry {
    state: State,
    /// Whom to wake when the wait is fulfilled, unless that is the task itself, which is resumed anyway.
    waker: Option<Waker>,
}

enum State {
    /// May be used for another wait.
    Free,
    Waiting(Wait),
    /// Waits for the drain to begin, of which the scheduler tells every task.
    WaitingForDrain,
    /// Waits for whichever comes first.
    WaitingUntilDrain(Wait),
    Fulfilled(Result<(), WaitError>),
}

impl State {
    /// What the scheduler is to be asked for.
    fn wait(&self) -> Option<Wait> {
        match self {
            State::Waiting(wait) | State::WaitingUntilDrain(wait) => Some(*wait),
            State::WaitingForDrain | State::Free | State::Fulfilled(_) => None,
        }
    }
}

/// What a future may wait for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Want {
    Wait(Wait),
    Drain,
    UntilDrain(Wait),
}

impl Waits {
    #[cold]
    fn fulfil(&self, why: Reason, now: Instant, is_draining: bool) -> bool {
        self.fulfil_where(Ok(()), |state| match state {
            State::Waiting(Wait::Until(at)) => *at <= now,
            State::Waiting(wait) => Reason::from(*wait) == why,
            State::WaitingForDrain => is_draining,
            State::WaitingUntilDrain(wait) => is_draining || Reason::from(*wait) == why,
            State::Free | State::Fulfilled(_) => false,
        })
    }

    fn fulfil_where(&self, outcome: Result<(), WaitError>, is_met: impl Fn(&State) -> bool) -> bool {
        let mut has_woken = false;
        let mut index = 0;
        // A waker may do anything, so the list is not borrowed while one is woken.
        while index < self.entries.borrow().len() {
            if let Some(waker) = self.fulfil_at(index, outcome, &is_met) {
                has_woken = true;
                waker.wake();
            }
            index += 1;
        }
        has_woken
    }

    /// Fulfils one entry if it is met, and returns whom to wake for that.
    fn fulfil_at(
        &self,
        index: usize,
        outcome: Result<(), WaitError>,
        is_met: impl Fn(&State) -> bool,
    ) -> Option<Waker> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(index)?;
        if !is_met(&entry.state) {
            return None;
        }
        entry.state = State::Fulfilled(outcome);
        entry.waker.take()
    }

    /// The task has ended: whoever waits by way of it is woken, to wait by way of another.
    fn abandon(&self) {
        self.task.set(None);
        let mut wakers: Vec<Waker> =
            self.entries.borrow_mut().iter_mut().filter_map(|entry| entry.waker.take()).collect();
        wakers.drain(..).for_each(Waker::wake);
    }

    fn insert(&self, want: Want, waker: Option<Waker>) -> usize {
        self.used.set(self.used.get() + 1);
        let state = match want {
            Want::Wait(what) => State::Waiting(what),
            Want::Drain => State::WaitingForDrain,
            Want::UntilDrain(what) => State::WaitingUntilDrain(what),
        };
        let mut entries = self.entries.borrow_mut();
        let entry = Entry { state, waker };
        let begin = self.first_free.get().min(entries.len());
        let free = entries[begin..].iter().position(|entry| matches!(entry.state, State::Free));
        let index = free.map_or(entries.len(), |free| begin + free);
        self.first_free.set(index + 1);
        if index < entries.len() {
            entries[index] = entry;
            index
        } else {
            // Most tasks wait for one thing at a time, and there may be many tasks.
            if entries.is_empty() {
                entries.reserve_exact(1);
            }
            entries.push(entry);
            index
        }
    }

    /// Withdraws the wait, and returns what had become of it.
    fn remove(&self, index: usize) -> Option<Result<(), WaitError>> {
        self.used.set(self.used.get() - 1);
        let (state, waker) = {
            let mut entries = self.entries.borrow_mut();
            let entry = &mut entries[index];
            let removed = (std::mem::replace(&mut entry.state, State::Free), entry.waker.take());
            self.first_free.set(self.first_free.get().min(index));
            // Each resume looks at all of them, so a burst must not be remembered.
            while entries.last().is_some_and(|entry| matches!(entry.state, State::Free)) && entries.len() > 1 {
                entries.pop();
            }
            removed
        };
        // Dropping a waker may do anything, so the list is not borrowed any more.
        drop(waker);
        match state {
            State::Fulfilled(outcome) => Some(outcome),
            _ => None,
        }
    }

    fn is_fulfilled(&self, index: usize) -> bool {
        matches!(self.entries.borrow()[index].state, State::Fulfilled(_))
    }

    fn set_waker(&self, index: usize, waker: Option<Waker>) {
        let before = std::mem::replace(&mut self.entries.borrow_mut()[index].waker, waker);
        drop(before);
    }
}

/// One wait of one future: what every future of this module is made of.
pub(super) struct Request {
    /// Where the wait stands, once it does.
    standing: Option<(Rc<Waits>, usize)>,
}

impl Request {
    pub(super) const fn new() -> Request {
        Request { standing: None }
    }

    /// Asks for `want`, once; ready when that is what the task was resumed for. `None` if this was not polled by a task of
    /// the scheduler whose mailbox this is.
    #[cold]
    pub(super) fn poll(
        &mut self,
        mailbox: &Mailbox,
        cx: &task::Context<'_>,
        want: Want,
    ) -> Poll<Option<Result<(), WaitError>>> {
        if let Some((waits, index)) = &self.standing
            && waits.is_fulfilled(*index)
        {
            let outcome = waits.remove(*index);
            self.standing = None;
            return Poll::Ready(outcome);
        }
        let Some(running) = mailbox.futures.others() else { return Poll::Ready(None) };
        // Whom to wake, if that is not the task itself.
        let waker = if mailbox.futures.running_behind(cx).is_some() { None } else { Some(cx.waker().clone()) };
        match &self.standing {
            Some((waits, index)) if Rc::ptr_eq(waits, &running) => waits.set_waker(*index, waker),
            // Whoever stands between is shared by several tasks. The one that it was first polled by still waits, and when it is
            // resumed for that it wakes all of them: to move the wait to each that polls would be to take it from the one before,
            // which would take it back.
            Some((waits, index)) if waker.is_some() && waits.task.get().is_some() => waits.set_waker(*index, waker),
            // Not yet, or the future has been moved to another task.
            _ => {
                self.give_up(mailbox);
                self.withdraw();
                let index = running.insert(want, waker);
                self.standing = Some((running, index));
            }
        }
        Poll::Pending
    }

    /// A task that waits is filed for what is withdrawn next, and has to say anew what it waits for.
    pub(super) fn give_up(&self, mailbox: &Mailbox) {
        if let Some((waits, _)) = &self.standing
            && let Some(task) = waits.task.get()
            && mailbox.futures.running() != Some(task)
        {
            mailbox.give_up(task, Reason::WAKE);
        }
    }

    #[cold]
    #[inline(never)]
    fn withdraw(&mut self) {
        if let Some((waits, index)) = self.standing.take() {
            waits.remove(index);
        }
    }
}

impl Drop for Request {
    #[inline]
    fn drop(&mut self) {
        if self.standing.is_some() {
            self.withdraw();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_waits_leaves_nothing_behind_and_places_that_are_free_are_used_again() {
        let waits = Waits::default();
        let insert = || waits.insert(Want::Wait(Wait::Turn), None);
        let burst: Vec<usize> = (0..1_000).map(|_| insert()).collect();
        assert!(burst.into_iter().eq(0..1_000));
        for index in [3, 500, 2] {
            waits.remove(index);
        }
        assert_eq!([insert(), insert(), insert(), insert()], [2, 3, 500, 1_000]);
        for index in 0..=1_000 {
            waits.remove(index);
        }
        assert!(waits.entries.borrow().len() <= 1, "each resume looks at all of them");
        assert_eq!(insert(), 0);
    }
}
