//! A wait for a descriptor, for whichever future asks.

use super::waits::{FREE, MET, Request, Want};
use crate::handle::Mailbox;
use crate::slots::Reason;
use crate::task::{TaskId, Wait, WaitError};
use std::io;
use std::mem::ManuallyDrop;
use std::task::{self, Poll};

/// A wait for a descriptor: a [`Request`] that in the most common case, when it is all that a task waits for, takes no
/// place in a list.
pub(super) struct Ready<'a> {
    mailbox: &'a Mailbox,
    what: Reason,
    standing: Standing,
}

/// Where a wait stands.
enum Standing {
    Nowhere,
    /// It is the one wait of this task.
    One(TaskId),
    /// It is in a list. Dropped by [`Ready::withdraw`], so that dropping what stands nowhere, as almost everything does that
    /// is dropped, comes to one comparison.
    Listed(ManuallyDrop<Request>),
}

impl<'a> Ready<'a> {
    #[inline]
    pub(super) fn new(mailbox: &'a Mailbox, what: Reason) -> Ready<'a> {
        Ready { mailbox, what, standing: Standing::Nowhere }
    }

    /// Whether a drain has begun, which ends some waits.
    #[inline]
    pub(super) fn is_draining(&self) -> bool {
        self.mailbox.draining.get()
    }

    /// Asks for the descriptor, once; ready when that is what the task was resumed for.
    #[expect(clippy::inline_always, reason = "measured: a call costs more than what is called")]
    #[inline(always)]
    pub(super) fn poll(&mut self, cx: &task::Context<'_>, ask: impl FnOnce(Wait) -> Want) -> Poll<io::Result<()>> {
        if self.take_met() {
            return Poll::Ready(Ok(()));
        }
        self.ask(cx, ask)
    }

    /// Takes note that the descriptor is what the task was resumed for, if that is so. It is what every other poll comes to: the
    /// task waits for one thing, and polls its future itself.
    #[expect(clippy::inline_always, reason = "measured: a call costs more than what is called")]
    #[inline(always)]
    pub(super) fn take_met(&mut self) -> bool {
        let futures = &self.mailbox.futures;
        match self.standing {
            Standing::One(task) if futures.one.get() == MET && futures.is_running(task) => {
                futures.one.set(FREE);
                self.standing = Standing::Nowhere;
                true
            }
            _ => false,
        }
    }

    /// The other half of a poll that is not ready at once. It is what the rest of them comes to: nothing stands yet.
    #[expect(clippy::inline_always, reason = "measured: a call costs more than what is called")]
    #[inline(always)]
    pub(super) fn ask(&mut self, cx: &task::Context<'_>, ask: impl FnOnce(Wait) -> Want) -> Poll<io::Result<()>> {
        let futures = &self.mailbox.futures;
        if matches!(self.standing, Standing::Nowhere)
            && futures.one.get() == FREE
            && let Some(task) = futures.running_behind(cx)
        {
            futures.one.set(self.what);
            self.standing = Standing::One(task);
            return Poll::Pending;
        }
        self.ask_any(cx, ask)
    }

    #[cold]
    #[inline(never)]
    fn ask_any(&mut self, cx: &task::Context<'_>, ask: impl FnOnce(Wait) -> Want) -> Poll<io::Result<()>> {
        let futures = &self.mailbox.futures;
        if let Standing::One(task) = self.standing
            && futures.is_running(task)
        {
            match futures.one.get() {
                one if one == MET || one.is_error() => {
                    self.withdraw();
                    return Poll::Ready(one.error().map_or(Ok(()), |error| Err(error.into())));
                }
                // It still stands, unless somebody is to be woken who was not there before.
                _ if futures.running_behind(cx).is_some() => return Poll::Pending,
                _ => {}
            }
        }
        if !matches!(self.standing, Standing::Listed(_)) {
            self.withdraw();
            self.standing = Standing::Listed(ManuallyDrop::new(Request::new()));
        }
        let Standing::Listed(request) = &mut self.standing else { return Poll::Pending };
        let Some(wait) = self.what.descriptor_wait() else { return Poll::Pending };
        let outcome = std::task::ready!(request.poll(self.mailbox, cx, ask(wait)));
        self.withdraw();
        Poll::Ready(match outcome {
            Some(outcome) => outcome.map_err(WaitError::into),
            None => Err(io::Error::other("awaited by somebody who is not a task of the descriptor's scheduler")),
        })
    }

    /// The wait stands nowhere any more.
    #[cold]
    #[inline(never)]
    fn withdraw(&mut self) {
        match std::mem::replace(&mut self.standing, Standing::Nowhere) {
            Standing::Nowhere => {}
            Standing::One(task) => {
                if self.mailbox.futures.is_running(task) {
                    self.mailbox.futures.one.set(FREE);
                } else {
                    // Its place is out of reach, with a task that waits.
                    self.mailbox.give_up(task);
                }
            }
            Standing::Listed(request) => {
                // A task that waits is still filed for this, and has to say anew what it waits for.
                if let Some(task) = request.task()
                    && !self.mailbox.futures.is_running(task)
                {
                    self.mailbox.wake(task);
                }
                drop(ManuallyDrop::into_inner(request));
            }
        }
    }
}

impl Drop for Ready<'_> {
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.standing, Standing::Nowhere) {
            self.withdraw();
        }
    }
}
