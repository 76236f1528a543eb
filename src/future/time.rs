//! Time, turns and the drain, awaited.

use super::list::{Listed, Want};
use crate::handle::Handle;
use crate::task::Wait;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Waits for `time`, counted from the beginning of the turn in which this is called (see [`Handle::now`]). Call it in the task
/// that awaits it.
///
/// # Panics
/// If it is awaited outside a task of `scheduler`.
///
/// ```
/// use fdtask::{Scheduler, future};
/// use std::time::{Duration, Instant};
///
/// let begin = Instant::now();
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task(async move {
///     future::sleep(&handle, Duration::from_millis(10)).await;
///     Ok(())
/// }));
/// scheduler.run();
/// assert!(begin.elapsed() >= Duration::from_millis(10));
/// ```
pub fn sleep(scheduler: &Handle, time: Duration) -> Until {
    let now = scheduler.now();
    // An instant that no clock can show is as good as never.
    sleep_until(scheduler, now.checked_add(time).unwrap_or_else(|| now + FAR_AWAY))
}

/// Waits until this instant, or soon after it, and never before.
///
/// # Panics
/// If it is awaited outside a task of `scheduler`.
pub fn sleep_until(scheduler: &Handle, instant: Instant) -> Until {
    Until::new(scheduler, Some(instant))
}

/// Waits for an instant, or for the beginning of a drain. Made by [`sleep`], [`sleep_until`] and [`draining`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Until {
    scheduler: Handle,
    /// `None` for the beginning of a drain.
    at: Option<Instant>,
    listed: Listed,
}

impl Until {
    fn new(scheduler: &Handle, at: Option<Instant>) -> Until {
        Until { scheduler: scheduler.clone(), at, listed: Listed::default() }
    }
}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Until { scheduler, at, listed } = self.get_mut();
        let want = Want { wait: at.map(Wait::Until), drain: at.is_none() };
        if want.drain && scheduler.0.is_draining() {
            return Poll::Ready(());
        }
        listed.poll(&scheduler.0, cx, want).map(|outcome| {
            let outcome = outcome.expect("awaited by somebody who is not a task of this scheduler");
            outcome.expect("nothing can go wrong with what is no descriptor");
        })
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        self.listed.withdraw(&self.scheduler.0, false);
    }
}

/// A century.
const FAR_AWAY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Waits for a future, but no longer than this. The future that was too late is dropped.
///
/// # Errors
/// It was too late; as an [`io::Error`] this is of the kind [`TimedOut`](io::ErrorKind::TimedOut).
///
/// # Panics
/// If it is awaited outside a task of `scheduler`.
///
/// ```
/// use fdtask::{Scheduler, future};
/// use std::time::Duration;
///
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task(async move {
///     let never = future::timeout(&handle, Duration::from_millis(10), std::future::pending::<()>()).await;
///     assert_eq!(never, Err(future::TimedOut));
///     Ok(())
/// }));
/// scheduler.run();
/// ```
pub async fn timeout<F: Future>(scheduler: &Handle, time: Duration, future: F) -> Result<F::Output, TimedOut> {
    let mut future = pin!(future);
    let mut sleep = pin!(sleep(scheduler, time));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| Err(TimedOut)),
    })
    .await
}

/// What was waited for took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for TimedOut {}

impl From<TimedOut> for io::Error {
    fn from(error: TimedOut) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, error)
    }
}

/// Waits for the next turn: everything else that is ready runs first, and the descriptors are looked at. It is
/// [`Wait::Turn`], and a generator's bare `yield`. (A `FuturesUnordered` may poll whoever has been woken once more there and
/// then. In one, or in a future that several tasks share, this may be over within the same turn.)
///
/// ```
/// use fdtask::{Scheduler, future};
///
/// let mut scheduler = Scheduler::new();
/// for name in ["a", "b"] {
///     scheduler.spawn(future::task(async move {
///         for step in 0..3 {
///             println!("{name}{step}"); // a0 b0 a1 b1 a2 b2, a line each.
///             future::next_turn().await;
///         }
///         Ok(())
///     }));
/// }
/// scheduler.run();
/// ```
pub async fn next_turn() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits until a drain begins (see [`Handle::drain`]): finish what was begun, and begin nothing new.
///
/// # Panics
/// If it is awaited outside a task of `scheduler`.
///
/// ```
/// use fdtask::{Scheduler, future};
/// use std::time::{Duration, Instant};
///
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task({
///     let handle = handle.clone();
///     async move {
///         future::draining(&handle).await;
///         Ok(())
///     }
/// }));
/// handle.drain(Instant::now() + Duration::from_secs(10));
/// scheduler.run();
/// ```
pub fn draining(scheduler: &Handle) -> Until {
    Until::new(scheduler, None)
}
