//! One wait of one future, in the list of the task that polls it: what the futures of this module are made of.

use super::list::{Waits, Want};
use crate::handle::Mailbox;
use crate::slots::Reason;
use crate::task::WaitError;
use std::rc::Rc;
use std::task::{self, Poll};

/// See the module's text.
pub(super) struct Request {
    /// Where the wait stands, once it does.
    standing: Option<(Rc<Waits>, usize)>,
}

impl Request {
    pub(super) const fn new() -> Request {
        Request { standing: None }
    }

    /// Asks for `want`, once; ready when that is what the task was resumed for. `None` if this was not polled by a task of
    /// the scheduler whose mailbox this is.
    #[cold]
    pub(super) fn poll(
        &mut self,
        mailbox: &Mailbox,
        cx: &task::Context<'_>,
        want: Want,
    ) -> Poll<Option<Result<(), WaitError>>> {
        if let Some((waits, index)) = &self.standing
            && waits.is_fulfilled(*index)
        {
            let outcome = waits.remove(*index);
            self.standing = None;
            return Poll::Ready(outcome);
        }
        let Some(running) = mailbox.futures.others() else { return Poll::Ready(None) };
        // Whom to wake, if that is not the task itself.
        let waker = if mailbox.futures.running_behind(cx).is_some() { None } else { Some(cx.waker().clone()) };
        match &self.standing {
            Some((waits, index)) if Rc::ptr_eq(waits, &running) => waits.set_waker(*index, waker),
            // Whoever stands between is shared by several tasks. The one that it was first polled by still waits, and when it is
            // resumed for that it wakes all of them: to move the wait to each that polls would be to take it from the one before,
            // which would take it back.
            Some((waits, index)) if waker.is_some() && waits.task().is_some() => waits.set_waker(*index, waker),
            // Not yet, or the future has been moved to another task.
            _ => {
                self.give_up(mailbox);
                self.withdraw();
                let index = running.insert(want, waker);
                self.standing = Some((running, index));
            }
        }
        Poll::Pending
    }

    /// A task that waits is filed for what is withdrawn next, and has to say anew what it waits for.
    pub(super) fn give_up(&self, mailbox: &Mailbox) {
        if let Some((waits, _)) = &self.standing
            && let Some(task) = waits.task()
            && mailbox.futures.running() != Some(task)
        {
            mailbox.give_up(task, Reason::WAKE);
        }
    }

    #[cold]
    #[inline(never)]
    fn withdraw(&mut self) {
        if let Some((waits, index)) = self.standing.take() {
            waits.remove(index);
        }
    }
}

impl Drop for Request {
    #[inline]
    fn drop(&mut self) {
        if self.standing.is_some() {
            self.withdraw();
        }
    }
}
