//! Waking all who wait for something to happen.

use crate::context::Context;
use crate::handle::Handle;
use crate::panics::wake;
use crate::task::{TaskId, Wait};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};

/// Wakes those who wait for something to happen: hand-written tasks and futures, of one scheduler.
///
/// It carries no value and remembers nothing. A task looks at whatever it is interested in, and waits if that is not yet as it
/// wants it; nothing is lost between the two, because no other task runs in between. All who wait are woken, and look again.
///
/// ```
/// use fdtask::{Notify, Scheduler, Wait, future, task_fn};
/// use std::{cell::Cell, rc::Rc};
///
/// let mut scheduler = Scheduler::new();
/// let is_open = Rc::new(Cell::new(false));
/// let changed = Notify::new(&scheduler.handle());
///
/// // A hand-written task waits …
/// let (open, change) = (is_open.clone(), changed.clone());
/// scheduler.spawn(task_fn("guest", move |cx| Ok(if open.get() { Wait::Done } else { change.wait(cx) })));
///
/// // … and so does a future.
/// let (open, change) = (is_open.clone(), changed.clone());
/// scheduler.spawn(future::task(async move {
///     while !open.get() {
///         change.notified().await;
///     }
///     Ok(())
/// }));
///
/// scheduler.spawn(task_fn("doorman", move |_| {
///     is_open.set(true);
///     changed.notify();
///     Ok(Wait::Done)
/// }));
/// scheduler.run();
/// assert!(scheduler.tasks().is_empty());
/// ```
#[derive(Clone)]
pub struct Notify(Rc<Inner>);

struct Inner {
    scheduler: Handle,
    /// How often something has happened.
    count: Cell<u64>,
    waiting: RefCell<Waiting>,
}

/// Who waits for the next time. Each has a place, and may give it up.
#[derive(Default)]
struct Waiting {
    /// By their places, in the order in which they came. As long as anybody waits, each who comes is given the next number, so
    /// these are to last, on any machine.
    waiters: BTreeMap<u64, Waiter>,
    /// Which place the hand-written task in this slot has. A task that ends does not give up its place, but the next task in its
    /// slot takes the place over. So there are never more of these than there are slots.
    of_slots: BTreeMap<u32, u64>,
}

/// Somebody who is to be woken.
enum Waiter {
    /// A task, by way of the scheduler.
    Task(TaskId),
    /// Whoever stands between a future and its task, such as a `FuturesUnordered`.
    Waker(Waker),
}

impl Waiting {
    /// The place behind all the others.
    fn new_place(&self) -> u64 {
        self.waiters.last_key_value().map_or(0, |(last, _)| last + 1)
    }
}

impl Notify {
    /// Wakes tasks of this scheduler.
    pub fn new(scheduler: &Handle) -> Notify {
        Notify(Rc::new(Inner { scheduler: scheduler.clone(), count: Cell::new(0), waiting: RefCell::default() }))
    }

    /// Wakes all who wait: it has happened.
    pub fn notify(&self) {
        self.0.count.set(self.0.count.get().wrapping_add(1));
        // A waker may do anything, so the list is not borrowed while one is woken. Whoever waits again is for the next time.
        let waiting = mem::take(&mut *self.0.waiting.borrow_mut());
        for waiter in waiting.waiters.into_values() {
            match waiter {
                Waiter::Task(task) => self.0.scheduler.wake(task),
                Waiter::Waker(waker) => wake(waker),
            }
        }
    }

    /// The wait for it, for a hand-written task of the same scheduler to return: the task is resumed with [`Wait::Wake`] when it
    /// happens. To wait for something else as well: `cx.or(notify.wait(cx))`. If that has come before, it is the only reason that
    /// the task is told. The task is then still resumed when it happens, once, whatever it waits for by that time.
    pub fn wait(&self, cx: &Context<'_>) -> Wait {
        let waiting = &mut *self.0.waiting.borrow_mut();
        let place = waiting.of_slots.get(&cx.id().slot()).copied().unwrap_or_else(|| waiting.new_place());
        waiting.of_slots.insert(cx.id().slot(), place);
        waiting.waiters.insert(place, Waiter::Task(cx.id()));
        Wait::Wake
    }

    /// Waits until it happens the next time, counted from this call.
    pub fn notified(&self) -> Notified {
        Notified { count: self.0.count.get(), notify: self.clone(), place: None }
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notify({} waiting)", self.0.waiting.borrow().waiters.len())
    }
}

/// Waits until something has happened. Made by [`Notify::notified`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Notified {
    notify: Notify,
    /// How often it had happened when this was made.
    count: u64,
    /// Its place among those who wait, once it has been polled and until it has happened.
    place: Option<u64>,
}

impl Future for Notified {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let Notified { notify, count, place } = self.get_mut();
        // First, because to clone a foreign waker may do anything, such as notify.
        let waiter = match notify.0.scheduler.0.futures.id_behind(cx) {
            Some(id) => Waiter::Task(id),
            None => Waiter::Waker(cx.waker().clone()),
        };
        if notify.0.count.get() != *count {
            return Poll::Ready(());
        }
        let mut waiting = notify.0.waiting.borrow_mut();
        let place = *place.get_or_insert_with(|| waiting.new_place());
        let before = waiting.waiters.insert(place, waiter);
        drop(waiting);
        // Dropping one may do anything, too.
        drop(before);
        Poll::Pending
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        // Once it has happened, the place is gone, or somebody else's.
        if let Some(place) = self.place
            && self.notify.0.count.get() == self.count
        {
            // Dropping the waiter may do anything, so the list is not borrowed any more.
            let waiter = self.notify.0.waiting.borrow_mut().waiters.remove(&place);
            drop(waiter);
        }
    }
}
