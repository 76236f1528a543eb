//! The list of the waits of one task: all but its one wait for a descriptor.

use crate::panics::wake;
use crate::reason::Reason;
use crate::task::{TaskId, Wait, WaitError};
use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::Instant;

/// See the module's text.
#[derive(Default)]
pub(super) struct Waits {
    /// The last of them is not free.
    entries: RefCell<Vec<Entry>>,
    /// The task whose waits these are. `None` once it has ended.
    task: Cell<Option<TaskId>>,
    /// No entry before this one is free.
    first_free: Cell<usize>,
}

struct Entry {
    state: State,
    /// Whom to wake when the wait is fulfilled, unless that is the task itself, which is resumed anyway.
    waker: Option<Waker>,
}

/// Not made of a [`Want`]: it would be larger, and there may be one for each connection.
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
    /// The task whose waits these are. `None` once it has ended.
    pub(super) fn task(&self) -> Option<TaskId> {
        self.task.get()
    }

    pub(super) fn belong_to(&self, task: TaskId) {
        self.task.set(Some(task));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Calls `what` with each wait that the scheduler is to be asked for.
    pub(super) fn each(&self, mut what: impl FnMut(Wait)) {
        self.entries.borrow().iter().filter_map(|entry| entry.state.wait()).for_each(&mut what);
    }

    /// Fulfils the waits that the task is resumed for, and wakes their wakers. Returns whether there were any wakers.
    #[cold]
    pub(super) fn fulfil(&self, why: Reason, now: Instant, is_draining: bool) -> bool {
        self.fulfil_where(Ok(()), |state| match state {
            State::Waiting(Wait::Until(at)) => *at <= now,
            State::Waiting(wait) => Reason::from(*wait) == why,
            State::WaitingForDrain => is_draining,
            State::WaitingUntilDrain(wait) => is_draining || Reason::from(*wait) == why,
            State::Free | State::Fulfilled(_) => false,
        })
    }

    /// Fulfils each wait for `wait` with an error, and wakes their wakers. Returns whether there were any wakers.
    pub(super) fn fail(&self, wait: Wait, error: WaitError) -> bool {
        self.fulfil_where(Err(error), |state| state.wait() == Some(wait))
    }

    fn fulfil_where(&self, outcome: Result<(), WaitError>, is_met: impl Fn(&State) -> bool) -> bool {
        let mut has_woken = false;
        for index in 0.. {
            let waker = match self.entries.borrow_mut().get_mut(index) {
                Some(entry) if is_met(&entry.state) => {
                    entry.state = State::Fulfilled(outcome);
                    entry.waker.take()
                }
                Some(_) => None,
                None => break,
            };
            // A waker may do anything, so the list is not borrowed while one is woken.
            if let Some(waker) = waker {
                has_woken = true;
                wake(waker);
            }
        }
        has_woken
    }

    /// The task has ended: wakes all wakers, so that their futures are polled again, by another task.
    pub(super) fn abandon(&self) {
        self.task.set(None);
        let mut wakers: Vec<Waker> =
            self.entries.borrow_mut().iter_mut().filter_map(|entry| entry.waker.take()).collect();
        wakers.drain(..).for_each(wake);
    }

    pub(super) fn insert(&self, want: Want, waker: Option<Waker>) -> usize {
        let state = match want {
            Want::Wait(what) => State::Waiting(what),
            Want::Drain => State::WaitingForDrain,
            Want::UntilDrain(what) => State::WaitingUntilDrain(what),
        };
        let mut entries = self.entries.borrow_mut();
        let entry = Entry { state, waker };
        let begin = self.first_free.get();
        let free = entries[begin..].iter().position(|entry| matches!(entry.state, State::Free));
        let index = free.map_or(entries.len(), |free| begin + free);
        self.first_free.set(index + 1);
        if index < entries.len() {
            entries[index] = entry;
        } else {
            // Most tasks wait for one thing at a time, and there may be many tasks.
            if entries.is_empty() {
                entries.reserve_exact(1);
            }
            entries.push(entry);
        }
        index
    }

    /// Withdraws the wait, and returns what had become of it.
    pub(super) fn remove(&self, index: usize) -> Option<Result<(), WaitError>> {
        let (state, waker) = {
            let mut entries = self.entries.borrow_mut();
            let entry = &mut entries[index];
            let removed = (std::mem::replace(&mut entry.state, State::Free), entry.waker.take());
            self.first_free.set(self.first_free.get().min(index));
            // Each resume looks at all entries, so a burst must not leave a long list behind.
            while entries.last().is_some_and(|entry| matches!(entry.state, State::Free)) {
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

    /// What the scheduler is asked for; only a wake, if it need not be asked.
    pub(super) fn what(&self, index: usize) -> Reason {
        self.entries.borrow()[index].state.wait().map_or(Reason::WAKE, Reason::from)
    }

    pub(super) fn is_fulfilled(&self, index: usize) -> bool {
        matches!(self.entries.borrow()[index].state, State::Fulfilled(_))
    }

    pub(super) fn set_waker(&self, index: usize, waker: Option<Waker>) {
        let before = std::mem::replace(&mut self.entries.borrow_mut()[index].waker, waker);
        drop(before);
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
        assert!(waits.is_empty(), "each resume looks at all of them");
        assert_eq!(insert(), 0);
    }
}
