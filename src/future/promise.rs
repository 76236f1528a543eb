//! A value that another thread delivers, awaited.

use super::JoinError;
use crate::panics::{lock, wake};
use crate::sys;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

/// A thread is begun with a stack, which takes so much unless somebody has said otherwise.
const STACK_BYTES: usize = 2 << 20;

/// Several times what Rust's runtime and the C library take beside the stack before `work` begins, because several threads may be
/// beginning. Without it, they end the process.
const BESIDE_BYTES: usize = 1 << 20;

/// Sees to it that no thread is given a stack while there may be too little beside it. The C library keeps stacks of threads that
/// have ended. So if there is no room for both, as much is held while the thread is begun as leaves none for a new stack: it has
/// one of those, or is not begun.
fn hold_for_thread() -> io::Result<Option<sys::Held>> {
    if sys::ensure_memory(STACK_BYTES + BESIDE_BYTES).is_ok() {
        return Ok(None);
    }
    let held = sys::hold_memory(BESIDE_BYTES)?;
    sys::ensure_memory(BESIDE_BYTES / 2)?;
    Ok(Some(held))
}

/// Runs `work`, which may block, on a thread of its own, and waits for its result. If this is dropped first, the thread
/// goes on to its end, and the result is dropped.
///
/// A thread each is the simplest thing that works, and right for what is rare and slow, such as looking up a name. A program
/// that does much of it keeps a few threads, and sends them work with a [`promise`] each: see `examples/blocking_work.rs`.
///
/// ```
/// use fdtask::{Scheduler, future};
/// use std::{thread, time::Duration};
///
/// let mut scheduler = Scheduler::new();
/// scheduler.spawn(future::task(async {
///     let answer = future::blocking(|| {
///         thread::sleep(Duration::from_millis(10));
///         42
///     });
///     assert_eq!(answer.await?, 42);
///     Ok(())
/// }));
/// scheduler.run();
/// ```
///
/// # Errors
/// [`JoinError::Panicked`]: the work panicked. [`JoinError::NoThread`]: the system could not make a thread for it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let (promise, promised) = promise();
    let held = hold_for_thread().map_err(|_| JoinError::NoThread)?;
    let thread = thread::Builder::new().name("blocking work".to_owned()).spawn(move || {
        // Moved in here, so that a panic of the work breaks it.
        let promise = promise;
        promise.keep(work());
    });
    drop(held);
    match thread {
        Ok(_) => promised.await,
        Err(_) => Err(JoinError::NoThread),
    }
}

/// Promises a value: whoever has the [`Promise`] delivers it, from any thread, to whoever awaits the [`Promised`].
///
/// ```
/// use fdtask::{Scheduler, future};
/// use std::thread;
///
/// let (promise, promised) = future::promise();
/// let thread = thread::spawn(move || promise.keep("hello"));
/// let mut scheduler = Scheduler::new();
/// scheduler.spawn(future::task(async move {
///     assert_eq!(promised.await?, "hello");
///     Ok(())
/// }));
/// scheduler.run();
/// # thread.join().unwrap();
/// ```
pub fn promise<T: Send>() -> (Promise<T>, Promised<T>) {
    let slot = Arc::new(Mutex::new(Slot { outcome: None, waker: None }));
    (Promise { slot: Arc::clone(&slot) }, Promised { slot, has_yielded: false })
}

struct Slot<T> {
    outcome: Option<Result<T, JoinError>>,
    waker: Option<Waker>,
}

/// The duty to deliver a value. Made by [`promise`]. Dropping it breaks the promise.
pub struct Promise<T: Send> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T: Send> Promise<T> {
    /// Delivers the value.
    pub fn keep(self, value: T) {
        self.settle(Ok(value));
    }

    fn settle(&self, outcome: Result<T, JoinError>) {
        let mut slot = lock(&self.slot);
        slot.outcome.get_or_insert(outcome);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            wake(waker);
        }
    }
}

impl<T: Send> Drop for Promise<T> {
    fn drop(&mut self) {
        // After `keep` there is an outcome, or it has been yielded, and nobody looks at this one.
        self.settle(Err(if thread::panicking() { JoinError::Panicked } else { JoinError::Cancelled }));
    }
}

/// Waits for a value that was promised. Made by [`promise`]. If it is dropped, whoever has promised is not told.
///
/// # Errors
/// [`JoinError::Panicked`]: a panic dropped the promise, on its way through the code that owned it. [`JoinError::Cancelled`]: it
/// was dropped in another way, such as with a hand-written task that had it in a field, even if that has panicked.
///
/// # Panics
/// When it is polled again after it has yielded the value.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Promised<T> {
    slot: Arc<Mutex<Slot<T>>>,
    has_yielded: bool,
}

impl<T> Future for Promised<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Promised { slot, has_yielded } = self.get_mut();
        assert!(!*has_yielded, "a Promised was polled again after it had yielded the value");
        let waker = cx.waker().clone();
        let mut slot = lock(slot);
        if let Some(outcome) = slot.outcome.take() {
            *has_yielded = true;
            return Poll::Ready(outcome);
        }
        let before = slot.waker.replace(waker);
        drop(slot);
        drop(before);
        Poll::Pending
    }
}

impl<T> Drop for Promised<T> {
    fn drop(&mut self) {
        let waker = lock(&self.slot).waker.take();
        // Dropping it may do anything, so the slot is not locked any more.
        drop(waker);
    }
}
