//! What the futures of one task wait for.
//!
//! A future that a task polls cannot return a [`Wait`] to the scheduler: `poll` has room for `Pending` and nothing else.
//! So it leaves its wait in a list that its task keeps, and the task hands the list to the scheduler. The future finds the
//! list through the scheduler's mailbox, which everything that can be waited for has a way to.
//!
//! A wait *stands* until it is fulfilled or its future is dropped, whether or not the future is polled in between. That is
//! what the contract of [`Future`](std::future::Future) asks for, and what combinators such as `FuturesUnordered` rely on:
//! they poll a future again only when the waker says so that they gave to it.

use super::alarm::Alarm;
use crate::handle::Mailbox;
use crate::remote::Remote;
use crate::task::{TaskId, Wait, WaitError};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Instant;

/// What the scheduler's mailbox holds for futures.
#[derive(Default)]
pub(crate) struct Futures {
    /// The waits of the task that polls its future right now.
    running: RefCell<Option<Rc<Waits>>>,
    /// The way into this scheduler from other threads, made when somebody first needs it.
    pub(crate) remote: OnceCell<Remote>,
    /// The messages that come that way are received.
    pub(super) listens: Cell<bool>,
}

impl Futures {
    /// Which task polls its future right now.
    pub(crate) fn running(&self) -> Option<TaskId> {
        self.running.borrow().as_ref().map(|waits| waits.id)
    }

    /// The waits of the task that polls its future right now.
    pub(super) fn running_waits(&self) -> Option<Rc<Waits>> {
        self.running.borrow().clone()
    }

    /// Whether the task that polls its future right now has been told of a drain.
    pub(super) fn is_draining(&self) -> bool {
        self.running.borrow().as_ref().is_some_and(|waits| waits.is_draining.get())
    }

    /// The task that polls its future right now, if `cx` is what that task gave to it: then it can be woken by its id.
    /// `None` if somebody stands between, who is to be woken in the task's stead.
    pub(crate) fn running_behind(&self, cx: &task::Context<'_>) -> Option<TaskId> {
        self.running.borrow().as_ref().filter(|waits| waits.waker.will_wake(cx.waker())).map(|waits| waits.id)
    }

    /// The task with these waits polls its future, until what is returned is dropped.
    pub(super) fn enter(&self, waits: &Rc<Waits>) -> Running<'_> {
        self.running.replace(Some(Rc::clone(waits)));
        Running(self)
    }
}

/// While this lives, a task polls its future.
pub(super) struct Running<'a>(&'a Futures);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.take();
    }
}

/// The waits of one task.
pub(super) struct Waits {
    pub(super) id: TaskId,
    /// The task's own waker: what its future is polled with.
    pub(super) waker: Waker,
    /// The time of the resume, by the scheduler's clock.
    now: Cell<Instant>,
    is_draining: Cell<bool>,
    entries: RefCell<Vec<Entry>>,
    /// How many entries wait for something that the scheduler can be asked for.
    waiting: Cell<usize>,
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
    Fulfilled(Result<(), WaitError>),
}

/// What a future may wait for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Want {
    Wait(Wait),
    Drain,
}

impl Waits {
    pub(super) fn new(alarm: &Arc<Alarm>, id: TaskId, now: Instant) -> Waits {
        Waits {
            id,
            waker: Waker::from(Arc::clone(alarm)),
            now: Cell::new(now),
            is_draining: Cell::new(false),
            entries: RefCell::default(),
            waiting: Cell::new(0),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Fulfils what the task is resumed for. Returns whether somebody was woken who is not the task itself.
    pub(super) fn fulfil(&self, why: Wait, now: Instant, is_draining: bool) -> bool {
        self.now.set(now);
        self.is_draining.set(is_draining);
        self.fulfil_where(Ok(()), |state| match state {
            State::Waiting(Wait::Until(at)) => *at <= now,
            State::Waiting(wait) => *wait == why,
            State::WaitingForDrain => is_draining,
            State::Free | State::Fulfilled(_) => false,
        })
    }

    /// Gives an error to whoever waits for what cannot be waited for.
    pub(super) fn fail(&self, error: WaitError, now: Instant) -> bool {
        let (WaitError::Busy(wait) | WaitError::Closed(wait)) = error;
        self.now.set(now);
        self.fulfil_where(Err(error), |state| matches!(state, State::Waiting(waiting) if *waiting == wait))
    }

    fn fulfil_where(&self, outcome: Result<(), WaitError>, is_met: impl Fn(&State) -> bool) -> bool {
        let mut has_woken = false;
        let mut index = 0;
        // A waker may do anything, so the list is not borrowed while one is woken.
        while let Some(waker) = self.fulfil_at(index, outcome, &is_met) {
            if let Some(waker) = waker {
                has_woken = true;
                waker.wake();
            }
            index += 1;
        }
        has_woken
    }

    /// Fulfils one entry if it is met, and returns whom to wake; `None` after the last entry.
    #[inline]
    fn fulfil_at(
        &self,
        index: usize,
        outcome: Result<(), WaitError>,
        is_met: impl Fn(&State) -> bool,
    ) -> Option<Option<Waker>> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(index)?;
        if !is_met(&entry.state) {
            return Some(None);
        }
        if matches!(entry.state, State::Waiting(_)) {
            self.waiting.set(self.waiting.get() - 1);
        }
        entry.state = State::Fulfilled(outcome);
        Some(entry.waker.take())
    }

    /// What to wait for: the wait to return, while `or` is given the others. `None` if nothing is waited for.
    pub(super) fn wait(&self, mut or: impl FnMut(Wait)) -> Option<Wait> {
        let mut left = self.waiting.get();
        let mut first = None;
        for entry in self.entries.borrow().iter() {
            if left == 0 {
                break;
            }
            if let State::Waiting(wait) = entry.state {
                left -= 1;
                if first.is_none() {
                    first = Some(wait);
                } else {
                    or(wait);
                }
            }
        }
        first
    }

    /// Whom an entry has to wake, if a future was polled with this.
    #[inline]
    fn stranger(&self, cx: &task::Context<'_>) -> Option<Waker> {
        if self.waker.will_wake(cx.waker()) { None } else { Some(cx.waker().clone()) }
    }

    fn insert(&self, want: Want, waker: Option<Waker>) -> usize {
        let state = match want {
            Want::Wait(wait) => {
                self.waiting.set(self.waiting.get() + 1);
                State::Waiting(wait)
            }
            Want::Drain => State::WaitingForDrain,
        };
        let mut entries = self.entries.borrow_mut();
        let entry = Entry { state, waker };
        if let Some(index) = entries.iter().position(|entry| matches!(entry.state, State::Free)) {
            entries[index] = entry;
            index
        } else {
            // Most tasks wait for one thing at a time, and there may be many tasks.
            if entries.is_empty() {
                entries.reserve_exact(1);
            }
            entries.push(entry);
            entries.len() - 1
        }
    }

    /// Withdraws the wait, and returns what had become of it.
    #[inline]
    fn remove(&self, index: usize) -> Option<Result<(), WaitError>> {
        let (state, waker) = {
            let mut entries = self.entries.borrow_mut();
            let entry = &mut entries[index];
            (std::mem::replace(&mut entry.state, State::Free), entry.waker.take())
        };
        // Dropping a waker may do anything, so the list is not borrowed any more.
        drop(waker);
        match state {
            State::Waiting(_) => {
                self.waiting.set(self.waiting.get() - 1);
                None
            }
            State::Free | State::WaitingForDrain => None,
            State::Fulfilled(outcome) => Some(outcome),
        }
    }

    #[inline]
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

    /// Asks for `want`, once; ready when that is what the task was resumed for.
    ///
    /// # Errors
    /// `None` if this was not polled by a task of the scheduler whose mailbox this is.
    #[inline]
    pub(super) fn poll(
        &mut self,
        mailbox: &Mailbox,
        cx: &task::Context<'_>,
        want: impl FnOnce(&Waits) -> Want,
    ) -> Poll<Option<Result<(), WaitError>>> {
        if let Some((waits, index)) = &self.standing
            && waits.is_fulfilled(*index)
        {
            let outcome = waits.remove(*index);
            self.standing = None;
            return Poll::Ready(outcome);
        }
        let Some(running) = mailbox.futures.running_waits() else { return Poll::Ready(None) };
        self.stand(running, cx, want);
        Poll::Pending
    }

    fn stand(&mut self, running: Rc<Waits>, cx: &task::Context<'_>, want: impl FnOnce(&Waits) -> Want) {
        let waker = running.stranger(cx);
        match &self.standing {
            Some((waits, index)) if Rc::ptr_eq(waits, &running) => waits.set_waker(*index, waker),
            // Not yet, or the future has been moved to another task.
            _ => {
                self.withdraw();
                let index = running.insert(want(&running), waker);
                self.standing = Some((running, index));
            }
        }
    }

    fn withdraw(&mut self) {
        if let Some((waits, index)) = self.standing.take() {
            waits.remove(index);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.withdraw();
    }
}
