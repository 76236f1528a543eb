//! One wait of one future, in the list of the task that polls it.

use super::list::{Waits, Want};
use crate::handle::Mailbox;
use crate::task::WaitError;
use std::rc::Rc;
use std::task::{self, Poll};

/// See the module's text.
#[derive(Default)]
pub(super) struct Request {
    /// Where the wait stands, once it does.
    standing: Option<(Rc<Waits>, usize)>,
}

impl Request {
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
            // A combinator that several tasks share. The task that polled it first still waits, and when it is resumed, the
            // combinator's waker wakes all of them. So the wait stays there: if each task that polls took it over, they would
            // take it from each other without end.
            Some((waits, index)) if waker.is_some() && waits.task().is_some() => waits.set_waker(*index, waker),
            // Its first poll, or the future has been moved to another task.
            _ => {
                self.give_up(mailbox);
                self.withdraw();
                let index = running.insert(want, waker);
                self.standing = Some((running, index));
            }
        }
        Poll::Pending
    }

    /// If the wait is in another task's list, that task is told: it is filed for the wait, and has to be filed anew without it.
    pub(super) fn give_up(&self, mailbox: &Mailbox) {
        if let Some((waits, index)) = &self.standing
            && let Some(task) = waits.task()
            && mailbox.futures.running() != Some(task)
        {
            mailbox.give_up(task, waits.what(*index), false);
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
