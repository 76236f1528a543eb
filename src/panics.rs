//! Panics, caught: one ends the task that it comes from, and nobody else.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Runs `what`, which is not our own code. If it panics, returns the panic's message as an `Err`.
pub(crate) fn catch<R>(what: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(message)
}

/// What somebody else's code says. If it panics, nobody who asks is to suffer for it.
pub(crate) fn said(by: impl FnOnce() -> String) -> String {
    catch(by).unwrap_or_else(|_| "?".to_owned())
}

/// Wakes with somebody else's waker. If that panics, it is no fault of whoever wakes, nor of the others who are to be woken.
pub(crate) fn wake(waker: Waker) {
    let _ = catch(|| waker.wake());
}

/// Locks something that is never left half-done, so a panic under the lock has done it no harm.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn message(payload: Box<dyn Any + Send>) -> String {
    let message = match payload.downcast_ref::<&str>() {
        Some(text) => (*text).to_owned(),
        None => payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "a value that is no text".to_owned()),
    };
    // The payload may itself panic when it is dropped, with another such payload. That one is not dropped at all.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(payload);
    }
    message
}
