//! The list of the waits of one task, all but its direct wait, and a future's place in it.

use crate::handle::{GivenUp, Mailbox};
use crate::panics::wake;
use crate::reason::Reason;
use crate::task::{TaskId, Wait, WaitError};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// All waits of one task but its direct wait.
#[derive(Default)]
pub(super) struct List {
    /// The last of them is not free.
    entries: RefCell<Vec<Entry>>,
    /// The task whose waits these are. `None` once it has ended.
    pub(super) task: Cell<Option<TaskId>>,
    /// No entry before this one is free.
    first_free: Cell<usize>,
}

struct Entry {
    state: State,
    /// Whom to wake when the wait is fulfilled, unless that is the task itself, which is resumed anyway.
    waker: Option<Waker>,
}

impl Entry {
    /// What is waited for.
    fn want(&self) -> Option<Want> {
        if let State::Waiting(want) = self.state { Some(want) } else { None }
    }

    fn is_free(&self) -> bool {
        matches!(self.state, State::Free)
    }

    /// Ends the wait if it is what the task is resumed for. Returns whom to wake for that.
    fn fulfil(&mut self, why: Reason, now: Instant, is_draining: bool) -> Option<Waker> {
        let want = self.want()?;
        if why.descriptor().is_some_and(|(fd, side)| want.wait == Some(side.of(fd))) {
            self.state = if why.error().is_some() { State::Failed(why) } else { State::Fulfilled };
        } else if want.drain && is_draining || want.is_due(now) {
            self.state = State::Fulfilled;
        } else {
            return None;
        }
        self.waker.take()
    }
}

#[derive(Clone, Copy)]
pub(super) enum State {
    /// May be used for another wait.
    Free,
    Waiting(Want),
    Fulfilled,
    /// Cannot be waited for, for this reason.
    Failed(Reason),
}

/// What a future waits for: whichever comes first.
#[derive(Clone, Copy)]
pub(super) struct Want {
    /// What the scheduler is to be asked for.
    pub(super) wait: Option<Wait>,
    /// Whether it waits for the drain to begin, of which the scheduler tells every task.
    pub(super) drain: bool,
}

impl Want {
    /// Whether it waits for an instant, and that is over.
    pub(super) fn is_due(self, now: Instant) -> bool {
        matches!(self.wait, Some(Wait::Until(at)) if at <= now)
    }
}

impl List {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Calls `what` with each wait that the scheduler is to be asked for.
    pub(super) fn each(&self, mut what: impl FnMut(Wait)) {
        self.entries.borrow().iter().filter_map(|entry| entry.want()?.wait).for_each(&mut what);
    }

    /// Ends the waits that the task is resumed for, and wakes their wakers. Returns whether there were any wakers.
    #[cold]
    pub(super) fn fulfil(&self, why: Reason, now: Instant, is_draining: bool) -> bool {
        let mut has_woken = false;
        for index in 0.. {
            let waker = match self.entries.borrow_mut().get_mut(index) {
                Some(entry) => entry.fulfil(why, now, is_draining),
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
        let mut entries = self.entries.borrow_mut();
        let entry = Entry { state: State::Waiting(want), waker };
        let begin = self.first_free.get();
        let free = entries[begin..].iter().position(Entry::is_free);
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

    /// Removes the wait, and returns how it stood.
    pub(super) fn remove(&self, index: usize) -> State {
        let mut entries = self.entries.borrow_mut();
        let free = Entry { state: State::Free, waker: None };
        let removed = std::mem::replace(&mut entries[index], free);
        self.first_free.set(self.first_free.get().min(index));
        // Each resume looks at all entries, so a burst must not leave a long list behind.
        while entries.last().is_some_and(Entry::is_free) {
            entries.pop();
        }
        // Dropping the waker may do anything, so the list is not borrowed any more.
        drop(entries);
        removed.state
    }

    pub(super) fn is_over(&self, index: usize) -> bool {
        self.entries.borrow()[index].want().is_none()
    }

    pub(super) fn set_waker(&self, index: usize, waker: Option<Waker>) {
        let before = std::mem::replace(&mut self.entries.borrow_mut()[index].waker, waker);
        drop(before);
    }
}

/// One wait of one future: its place in the list of the task that polls it.
#[derive(Default)]
pub(super) struct Listed {
    /// The list and the place in it, from the first poll on.
    place: Option<(Rc<List>, usize)>,
}

impl Listed {
    /// Asks for `want`, once; ready when that is what the task was resumed for. `None` if this was not polled by a task of
    /// the scheduler whose mailbox this is.
    #[cold]
    pub(super) fn poll(
        &mut self,
        mailbox: &Mailbox,
        cx: &Context<'_>,
        want: Want,
    ) -> Poll<Option<Result<(), WaitError>>> {
        if let Some((list, index)) = &self.place
            && list.is_over(*index)
        {
            return Poll::Ready(self.withdraw(mailbox, false));
        }
        let Some(current) = mailbox.futures.list() else { return Poll::Ready(None) };
        // Whom to wake, if a combinator stands between this and the task.
        let waker = if mailbox.futures.task_behind(cx).is_some() { None } else { Some(cx.waker().clone()) };
        match &self.place {
            Some((list, index)) if Rc::ptr_eq(list, &current) => {
                list.set_waker(*index, waker);
            }
            // It is polled for the first time, or by another task than before.
            place => {
                let was_begun = place.is_some();
                self.withdraw(mailbox, true);
                // All who poll it are resumed at its deadline. If each took it from the other, it would never be over.
                if was_begun && want.is_due(mailbox.now()) {
                    return Poll::Ready(Some(Ok(())));
                }
                let index = current.insert(want, waker);
                self.place = Some((current, index));
            }
        }
        Poll::Pending
    }

    /// The wait stands nowhere any more. Returns what had become of it. If the task that waits does not run, the scheduler is
    /// told that the wait is [given up](GivenUp). Whoever owns this calls it before dropping it.
    #[cold]
    #[inline(never)]
    pub(super) fn withdraw(&mut self, mailbox: &Mailbox, is_taken_over: bool) -> Option<Result<(), WaitError>> {
        let (list, index) = self.place.take()?;
        match (list.remove(index), list.task.get()) {
            (State::Fulfilled, _) => Some(Ok(())),
            (State::Failed(why), _) => why.error().map(Err),
            (State::Waiting(Want { wait: Some(wait), .. }), Some(task)) if mailbox.futures.running() != Some(task) => {
                mailbox.give_up(GivenUp { task, what: wait.into(), is_direct: false, is_taken_over });
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_waits_leaves_nothing_behind_and_places_that_are_free_are_used_again() {
        let list = List::default();
        let insert = || list.insert(Want { wait: None, drain: false }, None);
        let burst: Vec<usize> = (0..1_000).map(|_| insert()).collect();
        assert!(burst.into_iter().eq(0..1_000));
        for index in [3, 500, 2] {
            list.remove(index);
        }
        assert_eq!([insert(), insert(), insert(), insert()], [2, 3, 500, 1_000]);
        for index in 0..=1_000 {
            list.remove(index);
        }
        assert!(list.is_empty(), "each resume looks at all of them");
        assert_eq!(insert(), 0);
    }
}
