//! Something has happened, says one task to others.

use crate::context::Context;
use crate::handle::Handle;
use crate::task::{TaskId, Wait};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};

/// Wakes those who wait for something to happen: hand-written tasks and futures, of one scheduler.
///
/// It carries no value and remembers nothing: who waits looks at what has changed, and waits if it is not what they want.
/// Nothing can get lost in between, because nobody else runs in between. All who wait are woken; who comes too late for
/// what there was waits again.
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
    waiting: RefCell<Vec<Waiter>>,
}

/// Somebody who is to be woken.
enum Waiter {
    /// A task, by way of the scheduler.
    Task(TaskId),
    /// Whoever stands between a future and its task, such as a `FuturesUnordered`.
    Waker(Waker),
}

impl Notify {
    /// Wakes tasks of this scheduler.
    pub fn new(scheduler: &Handle) -> Notify {
        Notify(Rc::new(Inner { scheduler: scheduler.clone(), count: Cell::new(0), waiting: RefCell::default() }))
    }

    /// It has happened: all who wait are woken.
    pub fn notify(&self) {
        self.0.count.set(self.0.count.get().wrapping_add(1));
        // A waker may do anything, so the list is not borrowed while one is woken. Whoever waits again is for the next time.
        for waiter in self.0.waiting.take() {
            match waiter {
                Waiter::Task(task) => self.0.scheduler.wake(task),
                Waiter::Waker(waker) => waker.wake(),
            }
        }
    }

    /// The wait for it, for a hand-written task to return: it is resumed with [`Wait::Wake`] when it happens. Beside another
    /// wait: `cx.or(notify.wait(cx))`.
    pub fn wait(&self, cx: &Context<'_>) -> Wait {
        self.add_task(cx.id());
        Wait::Wake
    }

    /// Waits until it happens the next time, counted from this call.
    pub fn notified(&self) -> Notified {
        Notified { count: self.0.count.get(), notify: self.clone() }
    }

    fn add_task(&self, id: TaskId) {
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.iter().any(|waiter| matches!(waiter, Waiter::Task(task) if *task == id)) {
            waiting.push(Waiter::Task(id));
        }
    }

    /// Wakes whoever polls with `cx`, once, when it happens.
    pub(crate) fn register(&self, cx: &task::Context<'_>) {
        if let Some(id) = self.0.scheduler.0.futures.running_behind(cx) {
            return self.add_task(id);
        }
        let is_known = |waiter: &Waiter| matches!(waiter, Waiter::Waker(waker) if waker.will_wake(cx.waker()));
        if self.0.waiting.borrow().iter().any(is_known) {
            return;
        }
        // Cloning a waker may do anything, too.
        let waker = cx.waker().clone();
        self.0.waiting.borrow_mut().push(Waiter::Waker(waker));
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notify({} waiting)", self.0.waiting.borrow().len())
    }
}

/// Waits until something has happened. Made by [`Notify::notified`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Notified {
    notify: Notify,
    /// How often it had happened when this was made.
    count: u64,
}

impl Future for Notified {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        if self.notify.0.count.get() != self.count {
            return Poll::Ready(());
        }
        self.notify.register(cx);
        Poll::Pending
    }
}
