//! A descriptor, awaited: the task's direct wait if possible, a listed one if not. (`waits.rs` says what these are.)

use super::list::{Listed, Want};
use super::waits::{FREE, LISTED, Mark, NOWHERE};
use crate::handle::{GivenUp, Mailbox};
use crate::reason::{Kind, Reason};
use crate::task::{Side, WaitError};
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits until one side of a descriptor is ready. Made by [`readable`](super::readable) and [`writable`](super::writable).
/// Awaited once more after it has ended, as `(&mut wait).await`, it waits anew; to keep one for all messages is a little cheaper.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Readiness<'a> {
    mailbox: &'a Mailbox,
    what: Reason,
    /// Where the wait stands: [`NOWHERE`]; [`LISTED`]; or it is the direct wait of the task whose mark this is.
    standing: Mark,
    /// Its place in the list, if it is listed. [`Readiness::withdraw`] empties this, and the compiler does not drop it: to drop a
    /// wait that stands nowhere, which almost every wait does by then, is one comparison.
    listed: ManuallyDrop<Listed>,
}

impl Future for Readiness<'_> {
    type Output = io::Result<()>;

    /// Asks for the descriptor, once; ready when that is what the task was resumed for.
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.take_fulfilled() {
            return Poll::Ready(Ok(()));
        }
        this.ask(cx, false)
    }
}

impl<'a> Readiness<'a> {
    #[inline]
    pub(super) fn new(mailbox: &'a Mailbox, side: Side, fd: RawFd) -> Readiness<'a> {
        Readiness {
            mailbox,
            what: Reason::new(Kind::Ready, side, fd),
            standing: NOWHERE,
            listed: ManuallyDrop::default(),
        }
    }

    /// The same, but only until a drain begins (see [`Handle::drain`](crate::Handle::drain)), and not at all if one has begun:
    /// `None`.
    ///
    /// ```
    /// use fdtask::future::{linger, readable, send_all};
    /// use fdtask::net::Stream;
    /// use std::{io, time::Duration};
    ///
    /// async fn echo(client: Stream) -> io::Result<()> {
    ///     let mut data = [0; 1000];
    ///     // A drain ends this between two messages, and never in the middle of an answer.
    ///     while let Some(ready) = readable(&client).until_drain().await {
    ///         ready?;
    ///         match client.recv(&mut data) {
    ///             Ok(0) => return Ok(()),
    ///             Ok(len) => send_all(&client, &data[..len]).await?,
    ///             Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    ///     // To close with something unread is a reset, which may overtake the last answer.
    ///     linger(&client, Duration::from_secs(1)).await
    /// }
    /// ```
    #[inline]
    pub fn until_drain(self) -> ReadinessUntilDrain<'a> {
        ReadinessUntilDrain(self)
    }

    /// Whether the descriptor is what the task was resumed for; if so, the wait is over. Half of all polls end here: the task
    /// waits for one thing, and polls its future itself.
    #[expect(clippy::inline_always, reason = "measured: a call costs more than what is called")]
    #[inline(always)]
    fn take_fulfilled(&mut self) -> bool {
        let direct = &self.mailbox.futures.direct;
        // The second half implies the first. But where the wait has just been made, the compiler knows that it stands nowhere,
        // and leaves out all of this.
        let is_fulfilled = self.standing != NOWHERE && self.standing == direct.get();
        if is_fulfilled {
            direct.set(FREE);
            self.standing = NOWHERE;
        }
        is_fulfilled
    }

    /// The rest of a poll that is not ready at once: asks for the descriptor. The other half of all polls ends here: the wait
    /// stands nowhere yet, and becomes the direct one.
    #[expect(clippy::inline_always, reason = "measured: a call costs more than what is called")]
    #[inline(always)]
    fn ask(&mut self, cx: &Context<'_>, or_drain: bool) -> Poll<io::Result<()>> {
        let futures = &self.mailbox.futures;
        if self.standing == NOWHERE
            && futures.direct.get() == FREE
            && let Some(task) = futures.task_behind(cx)
        {
            futures.direct.set(Mark::of(self.what));
            self.standing = task;
            return Poll::Pending;
        }
        self.ask_unusual(cx, or_drain)
    }

    /// [`ask`](Readiness::ask), if the wait stands already, or cannot become the direct one.
    #[cold]
    #[inline(never)]
    fn ask_unusual(&mut self, cx: &Context<'_>, or_drain: bool) -> Poll<io::Result<()>> {
        let futures = &self.mailbox.futures;
        if futures.is_running(self.standing) {
            if let Some(error) = futures.direct.get().error() {
                self.withdraw(false);
                return Poll::Ready(Err(error.into()));
            }
            if futures.direct.get() != Mark::of(self.what) {
                // The task was told to give up another wait, its direct one before this, and has given up this one. It is asked
                // for anew.
                self.standing = NOWHERE;
            } else if futures.task_behind(cx).is_some() {
                // It goes on standing. (But if a combinator now stands between, that is to be woken, which only a list can do.)
                return Poll::Pending;
            }
        }
        if self.standing != LISTED {
            self.withdraw(true);
            self.standing = LISTED;
        }
        let want = Want { wait: self.what.descriptor_wait(), drain: or_drain };
        let outcome = std::task::ready!(self.listed.poll(self.mailbox, cx, want));
        self.withdraw(false);
        Poll::Ready(match outcome {
            Some(outcome) => outcome.map_err(WaitError::into),
            None => Err(io::Error::other("awaited by somebody who is not a task of the descriptor's scheduler")),
        })
    }

    /// The wait stands nowhere any more. `is_taken_over`: it is going to stand in the list of the task that runs now.
    #[cold]
    #[inline(never)]
    fn withdraw(&mut self, is_taken_over: bool) {
        let standing = std::mem::replace(&mut self.standing, NOWHERE);
        if standing == LISTED {
            self.listed.withdraw(self.mailbox, is_taken_over);
        } else if self.mailbox.futures.is_running(standing) {
            let direct = &self.mailbox.futures.direct;
            // If the task has given up this one in place of another, see above, somebody else may be the direct wait by now.
            if direct.get().wait().is_none() || direct.get() == Mark::of(self.what) {
                direct.set(FREE);
            }
        } else if let Some(task) = standing.task() {
            // That task does not run, so its waits are out of reach: it is told to give this one up.
            self.mailbox.give_up(GivenUp { task, what: self.what, is_direct: true, is_taken_over });
        }
    }
}

impl Drop for Readiness<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.standing != NOWHERE {
            self.withdraw(false);
        }
    }
}

/// Waits until one side of a descriptor is ready, or a drain begins. Made by [`Readiness::until_drain`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct ReadinessUntilDrain<'a>(Readiness<'a>);

impl Future for ReadinessUntilDrain<'_> {
    type Output = Option<io::Result<()>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        let ready = &mut self.get_mut().0;
        if ready.take_fulfilled() {
            return Poll::Ready(Some(Ok(())));
        }
        // The task is resumed when a drain begins, as every future's is.
        if ready.mailbox.is_draining() {
            // Whoever keeps this and goes on is not to be resumed for it any more.
            ready.withdraw(false);
            return Poll::Ready(None);
        }
        ready.ask(cx, true).map(Some)
    }
}
