//! One wait of one future, in the list of the task that polls it.

use super::list::{List, State, Want};
use crate::handle::{GivenUp, Mailbox};
use crate::task::WaitError;
use std::rc::Rc;
use std::task::{self, Poll};

/// See the module's text.
#[derive(Default)]
pub(super) struct Request {
    /// Where the wait stands, once it does.
    standing: Option<(Rc<List>, usize)>,
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
        if let Some((list, index)) = &self.standing
            && list.is_over(*index)
        {
            return Poll::Ready(self.withdraw(mailbox, false));
        }
        let Some(running) = mailbox.futures.list() else { return Poll::Ready(None) };
        // Whom to wake, if that is not the task itself.
        let waker = if mailbox.futures.running_behind(cx).is_some() { None } else { Some(cx.waker().clone()) };
        match &self.standing {
            // In the list of another task that still waits, the wait stays: several tasks share a combinator, and when that one
            // is resumed, the combinator's waker wakes all. If each that polls took the wait over, it would go round without end.
            Some((list, index)) if Rc::ptr_eq(list, &running) || waker.is_some() && list.task().is_some() => {
                list.set_waker(*index, waker);
            }
            // Its first poll, or the future has been moved to another task.
            standing => {
                let was_begun = standing.is_some();
                self.withdraw(mailbox, true);
                // All who poll it are resumed at its deadline. If each took it from the other, it would never be over.
                if was_begun && mailbox.now.get().is_some_and(|now| want.is_due(now)) {
                    return Poll::Ready(Some(Ok(())));
                }
                let index = running.insert(want, waker);
                self.standing = Some((running, index));
            }
        }
        Poll::Pending
    }

    /// The wait stands nowhere any more. Returns what had become of it. If another task is filed for it, that wait is withdrawn;
    /// that task is told, unless the one that runs has taken the future over. Whoever owns this calls it before dropping it.
    #[cold]
    #[inline(never)]
    pub(super) fn withdraw(&mut self, mailbox: &Mailbox, is_taken_over: bool) -> Option<Result<(), WaitError>> {
        let (list, index) = self.standing.take()?;
        match (list.remove(index), list.task()) {
            (State::Fulfilled, _) => Some(Ok(())),
            (State::Failed(why), _) => why.error().map(Err),
            (State::Waiting(Want { wait: Some(wait), .. }), Some(task)) if mailbox.futures.running() != Some(task) => {
                mailbox.give_up(GivenUp { task, what: wait.into(), is_direct: false, is_taken_over });
                None
            }
            _ => None,
        }
    }
}
