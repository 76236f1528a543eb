//! How long a connection has gone without progress.

use super::Stream;
use std::time::{Duration, Instant};

/// Tells when a connection has stood still for too long. Progress is whatever moves, in either direction: what the
/// client sends, what it is sent, and also what it takes out of the kernel's send queue, which no descriptor reports.
pub(crate) struct Idle {
    timeout: Duration,
    /// When something last moved. The task that counts has not run yet if it is none.
    since: Option<Instant>,
    /// How much was in the send queue when that was last looked at. Looking is a system call, so it is done when the
    /// queue is full, and when the time seems to be over.
    send_queue_bytes: Option<usize>,
}

/// A connection whose time seems to be over, but whose client may be reading slowly, is given this part of its timeout to
/// show it.
const SECOND_LOOK_PART: u32 = 4;

impl Idle {
    /// Begins to count at the first [`progress`](Idle::progress).
    pub(crate) fn new(timeout: Duration) -> Idle {
        Idle { timeout, since: None, send_queue_bytes: None }
    }

    /// When the connection's time is over, unless something moves.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since?.checked_add(self.timeout)
    }

    /// Something has moved. `is_full` says that the send queue has no room left.
    pub(crate) fn progress(&mut self, now: Instant, stream: &Stream, is_full: bool) {
        self.since = Some(now);
        self.send_queue_bytes = is_full.then(|| stream.send_queue_bytes());
    }

    /// Whether nothing has moved for too long.
    pub(crate) fn has_expired(&mut self, now: Instant, stream: &Stream) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        let before = self.send_queue_bytes;
        let queued = stream.send_queue_bytes();
        self.send_queue_bytes = Some(queued);
        match before {
            _ if queued == 0 => true,
            Some(before) if queued >= before => true,
            Some(_) => {
                self.since = Some(now);
                false
            }
            None => {
                let spent = self.timeout.saturating_sub(self.timeout / SECOND_LOOK_PART);
                self.since = now.checked_sub(spent);
                false
            }
        }
    }
}
