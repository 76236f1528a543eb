//! A wait for a descriptor, for whichever future asks.

use super::waits::{FREE, MET, Request, Want};
use crate::handle::Mailbox;
use crate::slots::{Kind, Reason};
use crate::task::{TaskId, Wait, WaitError};
use std::io;
use std::task::{self, Poll};

/// A wait for a descriptor: a [`Request`] that in the most common case, when it is all that a task waits for, takes no
/// place in a list.
pub(super) struct Ready<'a> {
    mailbox: &'a Mailbox,
    what: Reason,
    /// The task whose one wait this is.
    in_task: Option<TaskId>,
    request: Request,
}

impl<'a> Ready<'a> {
    #[inline]
    pub(super) fn new(mailbox: &'a Mailbox, what: Reason) -> Ready<'a> {
        Ready { mailbox, what, in_task: None, request: Request::new() }
    }

    /// The mailbox of the scheduler that closes the descriptor.
    #[inline]
    pub(super) fn mailbox(&self) -> &Mailbox {
        self.mailbox
    }

    /// Asks for the descriptor, once; ready when that is what the task was resumed for. This is what almost every poll comes
    /// to: the task waits for one thing, and polls its future itself.
    #[expect(clippy::inline_always, reason = "measured: a call costs more than what is called")]
    #[inline(always)]
    pub(super) fn poll(&mut self, cx: &task::Context<'_>, ask: impl FnOnce(Wait) -> Want) -> Poll<io::Result<()>> {
        let futures = &self.mailbox.futures;
        match self.in_task {
            Some(task) => {
                if futures.one.get().kind == MET.kind && futures.running.get() == Some(task) {
                    futures.one.set(FREE);
                    self.in_task = None;
                    return Poll::Ready(Ok(()));
                }
            }
            None => {
                if futures.one.get().kind == FREE.kind
                    && let Some(task) = futures.running_behind(cx)
                    && self.request.standing.is_none()
                {
                    futures.one.set(self.what);
                    self.in_task = Some(task);
                    return Poll::Pending;
                }
            }
        }
        self.poll_any(cx, ask)
    }

    #[cold]
    #[inline(never)]
    fn poll_any(&mut self, cx: &task::Context<'_>, ask: impl FnOnce(Wait) -> Want) -> Poll<io::Result<()>> {
        let futures = &self.mailbox.futures;
        if self.in_task.is_some() && self.in_task == futures.running.get() {
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
        self.withdraw();
        let wait = if self.what.kind == Kind::Recv { Wait::Recv(self.what.fd) } else { Wait::Send(self.what.fd) };
        self.request.poll(self.mailbox, cx, ask(wait)).map(|outcome| match outcome {
            Some(outcome) => outcome.map_err(WaitError::into),
            None => Err(io::Error::other("awaited by somebody who is not a task of the descriptor's scheduler")),
        })
    }

    /// The wait is nobody's one wait any more. If its task does not run, that is found out when the task is resumed for it.
    #[cold]
    #[inline(never)]
    fn withdraw(&mut self) {
        if self.in_task.is_some() && self.in_task.take() == self.mailbox.futures.running.get() {
            self.mailbox.futures.one.set(FREE);
        }
    }
}

impl Drop for Ready<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.in_task.is_some() {
            self.withdraw();
        }
    }
}
