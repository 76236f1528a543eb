//! What the futures of one task wait for.
//!
//! A future that a task polls cannot return a [`Wait`] to the scheduler: `poll` has room for `Pending` and nothing else.
//! So it leaves its wait in a list that its task keeps, and the task hands the list to the scheduler. The future finds the
//! list through the scheduler's mailbox, which everything that can be waited for has a way to.
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
use std::io;
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::time::Instant;

/// What the scheduler's mailbox holds for futures.
#[derive(Default)]
pub(crate) struct Futures {
    /// The waits of the task that polls its future right now.
    running: Cell<Option<Rc<Waits>>>,
    /// The way into this scheduler from other threads, made when somebody first needs it.
    pub(crate) remote: OnceCell<Remote>,
    /// The messages that come that way are received.
    pub(super) listens: Cell<bool>,
}

impl Futures {
    /// Which task polls its future right now.
    pub(crate) fn running(&self) -> Option<TaskId> {
        self.running_waits().map(|waits| waits.id)
    }

    /// The waits of the task that polls its future right now.
    fn running_waits(&self) -> Option<Rc<Waits>> {
        let waits = self.running.take();
        self.running.set(waits.clone());
        waits
    }

    /// The task that polls its future right now, if `cx` is what that task gave to it: then it can be woken by its id.
    /// `None` if somebody stands between, who is to be woken in the task's stead.
    pub(crate) fn running_behind(&self, cx: &task::Context<'_>) -> Option<TaskId> {
        self.running_waits().filter(|waits| waits.waker.will_wake(cx.waker())).map(|waits| waits.id)
    }

    /// Makes this the one wait of the task that polls its future right now, if it has none and `cx` is its own.
    #[inline]
    fn stand_alone(&self, cx: &task::Context<'_>, what: Reason) -> Option<Rc<Waits>> {
        let waits = self.running.take()?;
        let is_free = waits.one.get() == FREE && waits.waker.will_wake(cx.waker());
        if is_free {
            waits.one.set(what);
        }
        let standing = is_free.then(|| Rc::clone(&waits));
        // Nothing is dropped by this, which the compiler does not know.
        std::mem::forget(self.running.replace(Some(waits)));
        standing
    }

    /// The task with these waits polls its future, until what is returned is dropped; so long they are here.
    #[inline]
    pub(super) fn enter<'a>(&'a self, waits: &'a Cell<Option<Rc<Waits>>>) -> Running<'a> {
        std::mem::forget(self.running.replace(waits.take()));
        Running { futures: self, waits }
    }
}

/// While this lives, a task polls its future.
pub(super) struct Running<'a> {
    futures: &'a Futures,
    waits: &'a Cell<Option<Rc<Waits>>>,
}

impl Drop for Running<'_> {
    #[inline]
    fn drop(&mut self) {
        std::mem::forget(self.waits.replace(self.futures.running.take()));
    }
}

/// The waits of one task.
pub(super) struct Waits {
    pub(super) id: TaskId,
    /// The task's own waker: what its future is polled with.
    pub(super) waker: Waker,
    /// The one wait that almost every task has, if it is for a descriptor and its future is polled by the task itself: what
    /// it waits for, [`MET`], or an error. [`FREE`] if there is none.
    one: Cell<Reason>,
    /// All others.
    entries: RefCell<Vec<Entry>>,
    /// How many entries are not free.
    used: Cell<usize>,
}

/// There is no such wait.
const FREE: Reason = Reason::TURN;
/// The wait is fulfilled.
const MET: Reason = Reason::WAKE;
/// The index of the wait that is no entry.
const ONE: usize = usize::MAX;

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
    pub(super) fn new(waker: Waker, id: TaskId) -> Waits {
        Waits { id, waker, one: Cell::new(FREE), entries: RefCell::default(), used: Cell::new(0) }
    }

    /// Fulfils what the task is resumed for. Returns whether somebody was woken who is not the task itself.
    #[inline]
    pub(super) fn fulfil(&self, cx: &Context<'_>) -> bool {
        let why = cx.reason();
        if self.one.get() == why && matches!(why.kind, Kind::Recv | Kind::Send) {
            self.one.set(MET);
        } else if let Some(error) = why.error() {
            return self.fail(why, error);
        }
        self.used.get() > 0 && self.fulfil_entries(why, cx.core.now, cx.is_draining())
    }

    #[cold]
    fn fulfil_entries(&self, why: Reason, now: Instant, is_draining: bool) -> bool {
        self.fulfil_where(Ok(()), |state| match state {
            State::Waiting(Wait::Until(at)) => *at <= now,
            State::Waiting(wait) => Reason::from(*wait) == why,
            State::WaitingForDrain => is_draining,
            State::WaitingUntilDrain(wait) => is_draining || Reason::from(*wait) == why,
            State::Free | State::Fulfilled(_) => false,
        })
    }

    /// Gives an error to whoever waits for what cannot be waited for.
    #[cold]
    fn fail(&self, why: Reason, error: WaitError) -> bool {
        let (WaitError::Busy(wait) | WaitError::Closed(wait)) = error;
        if self.one.get() == Reason::from(wait) {
            self.one.set(why);
        }
        self.fulfil_where(Err(error), |state| state.wait() == Some(wait))
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

    /// The descriptor that is waited for, if that is all.
    #[inline]
    pub(super) fn only_wait(&self) -> Option<Wait> {
        let one = self.one.get();
        match one.kind {
            Kind::Recv if self.used.get() == 0 => Some(Wait::Recv(one.fd)),
            Kind::Send if self.used.get() == 0 => Some(Wait::Send(one.fd)),
            _ => None,
        }
    }

    /// What to wait for: the wait to return, while `or` is given the others. `None` if nothing is waited for.
    pub(super) fn wait(&self, mut or: impl FnMut(Wait)) -> Option<Wait> {
        let one = self.one.get();
        let mut first = match one.kind {
            Kind::Recv => Some(Wait::Recv(one.fd)),
            Kind::Send => Some(Wait::Send(one.fd)),
            _ => None,
        };
        for entry in self.entries.borrow().iter() {
            let Some(wait) = entry.state.wait() else { continue };
            match first {
                None => first = Some(wait),
                Some(_) => or(wait),
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
        self.used.set(self.used.get() + 1);
        let state = match want {
            Want::Wait(what) => State::Waiting(what),
            Want::Drain => State::WaitingForDrain,
            Want::UntilDrain(what) => State::WaitingUntilDrain(what),
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
        if index == ONE {
            return match self.one.replace(FREE) {
                MET => Some(Ok(())),
                one => one.error().map(Err),
            };
        }
        self.used.set(self.used.get() - 1);
        let (state, waker) = {
            let mut entries = self.entries.borrow_mut();
            let entry = &mut entries[index];
            (std::mem::replace(&mut entry.state, State::Free), entry.waker.take())
        };
        // Dropping a waker may do anything, so the list is not borrowed any more.
        drop(waker);
        match state {
            State::Fulfilled(outcome) => Some(outcome),
            _ => None,
        }
    }

    fn is_fulfilled(&self, index: usize) -> bool {
        if index == ONE {
            let one = self.one.get();
            return one == MET || one.is_error();
        }
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

    /// Asks for a descriptor, once; ready when that is what the task was resumed for. This is what almost every poll comes
    /// to: the task waits for one thing, and polls its future itself.
    #[expect(clippy::inline_always, reason = "measured: a call costs more than what is called")]
    #[inline(always)]
    pub(super) fn poll_ready(
        &mut self,
        mailbox: &Mailbox,
        cx: &task::Context<'_>,
        what: impl Fn() -> Reason,
        ask: impl FnOnce(Wait) -> Want,
    ) -> Poll<io::Result<()>> {
        match &self.standing {
            Some((waits, ONE)) if waits.one.get() == MET => {
                waits.one.set(FREE);
                drop(self.standing.take());
                return Poll::Ready(Ok(()));
            }
            None => {
                if let Some(waits) = mailbox.futures.stand_alone(cx, what()) {
                    self.standing = Some((waits, ONE));
                    return Poll::Pending;
                }
            }
            Some(_) => {}
        }
        self.poll_any(mailbox, cx, what(), ask)
    }

    #[cold]
    #[inline(never)]
    fn poll_any(
        &mut self,
        mailbox: &Mailbox,
        cx: &task::Context<'_>,
        what: Reason,
        ask: impl FnOnce(Wait) -> Want,
    ) -> Poll<io::Result<()>> {
        let wait = if what.kind == Kind::Recv { Wait::Recv(what.fd) } else { Wait::Send(what.fd) };
        self.poll(mailbox, cx, |_| ask(wait)).map(|outcome| match outcome {
            Some(outcome) => outcome.map_err(WaitError::into),
            None => Err(io::Error::other("awaited by somebody who is not a task of the descriptor's scheduler")),
        })
    }

    /// Asks for `want`, once; ready when that is what the task was resumed for. `None` if this was not polled by a task of
    /// the scheduler whose mailbox this is.
    #[cold]
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
            Some((waits, ONE)) if Rc::ptr_eq(waits, &running) && waker.is_none() => {}
            Some((waits, index)) if Rc::ptr_eq(waits, &running) && *index != ONE => waits.set_waker(*index, waker),
            // Not yet, or the future has been moved: to another task, or to where somebody else polls it.
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
    #[inline]
    fn drop(&mut self) {
        if self.standing.is_some() {
            self.withdraw();
        }
    }
}
