//! A task's result, awaited.

use super::{function_name, task};
use crate::context::Context;
use crate::handle::Handle;
use crate::notify::{Notified, Notify};
use crate::task::{TaskId, Wait};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, ready};

/// Makes a task of a future, and returns what waits for its result. It runs in the next turn.
///
/// The task lives as long as somebody is interested in it: if the [`JoinHandle`] is dropped, it is cancelled, unless you
/// [detach](JoinHandle::detach) it. So a task that is cancelled, or gives up at a timeout, takes those with it that it has
/// spawned for itself.
///
/// An `Err` that the future returns is a result like any other: whoever joins the task has it, and the observer is not told.
/// For a task whose result nobody needs, say `handle.spawn(future::task(…))` ([`Handle::spawn`], [`task()`]): then it is told.
///
/// ```
/// use fdtask::{Scheduler, future};
///
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task(async move {
///     let sum = future::spawn(&handle, async { (1..=10).sum::<u32>() });
///     assert_eq!(sum.await?, 55);
///     Ok(())
/// }));
/// scheduler.run();
/// ```
pub fn spawn<T, F>(scheduler: &Handle, future: F) -> JoinHandle<T>
where
    T: 'static,
    F: Future<Output = T> + 'static,
{
    let shared = Rc::new(Shared {
        outcome: RefCell::new(None),
        ended: Notify::new(scheduler),
        task: Cell::new(None),
        is_cancelled_early: Cell::new(false),
        scheduler: scheduler.clone(),
    });
    // Before there is a task: a scheduler that is gone drops it at once.
    let ended = shared.ended.notified();
    let running = RunningTask { shared: Rc::clone(&shared) };
    let task = task(async move {
        let output = future.await;
        running.shared.end(Ok(output));
        Ok(())
    })
    .named(function_name(std::any::type_name::<F>()));
    let joined = Rc::clone(&shared);
    let tell_id = move |id| {
        joined.task.set(Some(id));
        if joined.is_cancelled_early.get() {
            joined.scheduler.cancel(id);
        }
    };
    scheduler.0.spawn(Box::new(task), false, Some(Box::new(tell_id)));
    JoinHandle { shared, is_detached: false, ended }
}

struct Shared<T> {
    outcome: RefCell<Option<Result<T, JoinError>>>,
    ended: Notify,
    /// The task's id, once it has been spawned.
    task: Cell<Option<TaskId>>,
    /// It was cancelled before it was spawned.
    is_cancelled_early: Cell<bool>,
    scheduler: Handle,
}

impl<T> Shared<T> {
    fn end(&self, outcome: Result<T, JoinError>) {
        // There was none before.
        *self.outcome.borrow_mut() = Some(outcome);
        self.ended.notify();
    }
}

/// Is dropped with the task, however that ends.
struct RunningTask<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Drop for RunningTask<T> {
    fn drop(&mut self) {
        let shared = &self.shared;
        if shared.outcome.borrow().is_none() {
            // A panic drops what the future holds while it is polled. (That the thread panics may be no fault of this task: it
            // is so, too, when the scheduler is dropped because of that.)
            let polled = shared.scheduler.0.futures.running();
            let is_polled = polled.is_some() && polled == shared.task.get();
            shared.end(Err(if is_polled { JoinError::Panicked } else { JoinError::Cancelled }));
        }
    }
}

/// Waits for a task's result. Made by [`spawn`]. Dropping it cancels the task.
///
/// # Panics
/// When it is polled again after it has yielded the result.
#[must_use = "dropping it cancels the task; see `detach`"]
pub struct JoinHandle<T> {
    shared: Rc<Shared<T>>,
    /// Dropping this does not cancel the task: it has been detached, or has ended and its result has been awaited.
    is_detached: bool,
    ended: Notified,
}

impl<T> JoinHandle<T> {
    /// Lets the task go on by itself; its result is dropped.
    pub fn detach(mut self) {
        self.is_detached = true;
    }

    /// Cancels the task; the handle can then be awaited until it is gone, and yields [`JoinError::Cancelled`] unless the task
    /// had ended already.
    pub fn cancel(&self) {
        match self.shared.task.get() {
            Some(task) => self.shared.scheduler.cancel(task),
            None => self.shared.is_cancelled_early.set(true),
        }
    }

    /// Whether the task has ended.
    pub fn is_ended(&self) -> bool {
        // `detach` consumes the handle, so nobody can ask one that has been detached before the end.
        self.is_detached || self.shared.outcome.borrow().is_some()
    }

    /// The wait for the task's end, for a hand-written task to return; then [`try_join`](JoinHandle::try_join).
    pub fn wait(&self, cx: &Context<'_>) -> Wait {
        // If it has ended already, there will be no other notification.
        if self.is_ended() { Wait::Turn } else { self.shared.ended.wait(cx) }
    }

    /// The task's result, if it has ended. After [`run`](crate::Scheduler::run), this is how a program comes by what its
    /// task has found out, and by its error:
    /// ```
    /// use fdtask::{Scheduler, future};
    /// use std::io;
    ///
    /// async fn find_out() -> io::Result<u32> {
    ///     Ok(42)
    /// }
    ///
    /// let mut scheduler = Scheduler::new();
    /// let task = future::spawn(&scheduler.handle(), find_out());
    /// scheduler.run();
    /// match task.try_join() {
    ///     Ok(Ok(result)) => println!("{}", result?),
    ///     Ok(Err(error)) => eprintln!("no result: {error}"), // It has panicked, or was cancelled.
    ///     Err(_) => eprintln!("stopped before it had ended"),
    /// }
    /// # io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// The handle itself: the task has not ended yet.
    pub fn try_join(self) -> Result<Result<T, JoinError>, JoinHandle<T>> {
        let outcome = self.shared.outcome.borrow_mut().take();
        // If there is one, the handle is dropped, and to cancel a task that has ended has no effect.
        outcome.ok_or(self)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        ready!(Pin::new(&mut self.ended).poll(cx));
        self.is_detached = true;
        let outcome = self.shared.outcome.borrow_mut().take();
        Poll::Ready(outcome.expect("a JoinHandle was polled again after it had yielded the result"))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if !self.is_detached {
            self.cancel();
        }
    }
}

// Of whatever result: so `try_join` can be unwrapped.
impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// Why a task, or work on another thread, has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// It was cancelled, by whomever, or dropped with its scheduler.
    Cancelled,
    /// It panicked. Of a task, the [`Observer`](crate::Observer) was told the message; of work on another thread, only the panic
    /// hook.
    Panicked,
    /// No thread could be made for it.
    NoThread,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinError::Cancelled => "it was cancelled",
            JoinError::Panicked => "it panicked",
            JoinError::NoThread => "no thread could be made for it",
        })
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error)
    }
}
