//! How long a connection has gone without progress.

use super::Stream;
use std::time::{Duration, Instant};

/// Tells when a connection has stood still for too long. Progress is whatever moves, in either direction: what the
/// client sends, what it is sent, and also what it takes out of the kernel's send queue, which no descriptor reports.
pub(crate) struct Idle {
    timeout: Duration,
    /// When something last moved, as far as is known. `None` until the connection's task has run.
    since: Option<Instant>,
    /// When to look whether the timeout is over, unless something moves. `None` is never: no clock shows that instant.
    deadline: Option<Instant>,
    /// How much was in the send queue at the last look. `None` if nobody has looked since something moved: looking is a system
    /// call, so it is not done with each message.
    queued: Option<usize>,
}

/// How many times per timeout the send queue is looked at, as long as something is in it. What the client takes out between two
/// looks counts from the second one, so the connection may live for one such step longer than the timeout, and never shorter.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// The first look comes after this part of the timeout: most queues are empty by then, and such a connection lives no longer than
/// that beyond the timeout.
const FIRST_LOOK_PART: u32 = 16;

impl Idle {
    /// Begins to count at the first [`deadline`](Idle::deadline).
    pub(crate) fn new(timeout: Duration) -> Idle {
        Idle { timeout, since: None, deadline: None, queued: None }
    }

    /// When to ask [`has_expired`](Idle::has_expired), unless something moves.
    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.since.is_none() {
            self.progress(now);
        }
        self.deadline
    }

    /// Something has moved.
    pub(crate) fn progress(&mut self, now: Instant) {
        self.since = Some(now);
        self.deadline = now.checked_add(self.timeout / FIRST_LOOK_PART);
        self.queued = None;
    }

    /// Whether nothing has moved for too long. Looks at the send queue, so that the client is seen to take what it is sent.
    pub(crate) fn has_expired(&mut self, now: Instant, stream: &Stream) -> bool {
        if self.deadline(now).is_none_or(|deadline| now < deadline) {
            return false;
        }
        let queued = stream.send_queue_bytes();
        if self.queued.is_none_or(|before| queued < before) {
            self.since = Some(now);
        }
        self.queued = Some(queued);
        let end = self.since.and_then(|since| since.checked_add(self.timeout));
        // Nothing can move unnoticed if nothing is in the queue.
        let look = if queued == 0 { None } else { now.checked_add(self.timeout / LOOKS_PER_TIMEOUT) };
        self.deadline = end.into_iter().chain(look).min();
        end.is_some_and(|end| end <= now)
    }
}
