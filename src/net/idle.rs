//! How long a connection has gone without progress.

use super::Stream;
use std::time::{Duration, Instant};

/// Tells when a connection has stood still for too long. Progress is whatever moves, in either direction: what the
/// client sends, what it is sent, and also what it takes out of the kernel's send queue, which no descriptor reports.
pub(crate) struct Idle {
    timeout: Duration,
    /// When something last moved, as far as is known. The task that counts has not run yet if it is none.
    since: Option<Instant>,
    /// When the send queue was last looked at and how much was in it then; none since something last moved. Looking is a
    /// system call, so it is not done with each message.
    looked: Option<(Instant, usize)>,
}

/// As long as something is in the send queue, it is looked at in so many steps per timeout. What is taken out between two
/// looks counts from the second, so the timeout is that much too long at most, and never too short.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// The first look comes sooner: most queues are empty by then, and that much is then all that the timeout is too long.
const FIRST_LOOK_PART: u32 = 16;

impl Idle {
    /// Begins to count at the first [`deadline`](Idle::deadline).
    pub(crate) fn new(timeout: Duration) -> Idle {
        Idle { timeout, since: None, looked: None }
    }

    /// When to ask [`has_expired`](Idle::has_expired), unless something moves.
    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.since.get_or_insert(now);
        let look = match self.looked {
            // Nothing is in the queue, and so nothing can move unnoticed.
            Some((_, 0)) => None,
            Some((at, _)) => at.checked_add(self.timeout / LOOKS_PER_TIMEOUT),
            None => since.checked_add(self.timeout / FIRST_LOOK_PART),
        };
        since.checked_add(self.timeout).into_iter().chain(look).min()
    }

    /// Something has moved.
    pub(crate) fn progress(&mut self, now: Instant) {
        self.since = Some(now);
        self.looked = None;
    }

    /// Whether nothing has moved for too long. Looks at the send queue, so that the client is seen to take what it is sent.
    pub(crate) fn has_expired(&mut self, now: Instant, stream: &Stream) -> bool {
        if self.deadline(now).is_none_or(|deadline| now < deadline) {
            return false;
        }
        let queued = stream.send_queue_bytes();
        let has_moved = self.looked.is_none_or(|(_, before)| queued < before);
        self.looked = Some((now, queued));
        if has_moved {
            self.since = Some(now);
        }
        self.since.and_then(|since| since.checked_add(self.timeout)).is_some_and(|end| end <= now)
    }
}
