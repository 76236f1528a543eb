//! How long a connection has gone without progress.

use super::Stream;
use crate::timers::{NEVER, Nanos};
use std::time::Duration;

/// Tells when a connection has stood still for too long. Progress is whatever moves, in either direction: what the
/// client sends, what it is sent, and also what it takes out of the kernel's send queue, which no descriptor reports.
pub(crate) struct Idle {
    timeout: Nanos,
    /// When something last moved, as far as is known.
    since: Nanos,
    /// When to look whether the timeout is over, unless something moves. [`NEVER`] until the connection's task has run.
    deadline: Nanos,
    /// How much was in the send queue at the last look. `None` if nobody has looked since something moved: looking is a system
    /// call, so it is not done with each message.
    queued: Option<usize>,
}

/// How many times per timeout the send queue is looked at, as long as something is in it. What the client takes out between two
/// looks counts from the second one, so the connection may live for one such step longer than the timeout, and never shorter.
const LOOKS_PER_TIMEOUT: u64 = 4;

/// The first look comes after one to two of these parts of the timeout: most queues are empty by then, and such a connection
/// lives no longer than that beyond the timeout. All connections are first looked at on the multiples of a part, so that the
/// process does not wake up for each when thousands fall silent one after the other.
const PARTS_OF_TIMEOUT: u64 = 32;

impl Idle {
    /// Begins to count at the first [`deadline`](Idle::deadline).
    pub(crate) fn new(timeout: Duration) -> Idle {
        let timeout = Nanos::try_from(timeout.as_nanos()).unwrap_or(NEVER);
        Idle { timeout, since: 0, deadline: NEVER, queued: None }
    }

    /// When to ask [`has_expired`](Idle::has_expired), unless something moves.
    pub(crate) fn deadline(&mut self, now: Nanos) -> Nanos {
        if self.deadline == NEVER {
            self.progress(now);
        }
        self.deadline
    }

    /// Something has moved.
    pub(crate) fn progress(&mut self, now: Nanos) {
        let part = (self.timeout / PARTS_OF_TIMEOUT).max(1);
        self.since = now;
        self.deadline = now.saturating_add(part).checked_next_multiple_of(part).unwrap_or(NEVER);
        self.queued = None;
    }

    /// Whether nothing has moved for too long. Looks at the send queue, so that the client is seen to take what it is sent.
    pub(crate) fn has_expired(&mut self, now: Nanos, stream: &Stream) -> bool {
        if now < self.deadline(now) {
            return false;
        }
        let queued = stream.send_queue_bytes();
        if self.queued.is_none_or(|before| queued < before) {
            self.since = now;
        }
        self.queued = Some(queued);
        let end = self.since.saturating_add(self.timeout);
        // Nothing can move unnoticed if nothing is in the queue.
        let look = if queued == 0 { NEVER } else { now.saturating_add(self.timeout / LOOKS_PER_TIMEOUT) };
        self.deadline = end.min(look);
        end <= now
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::scheduler::Scheduler;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    const MS: Nanos = 1_000_000;

    #[test]
    fn a_timeout_of_almost_nothing_is_over_soon() {
        assert_eq!(Idle::new(Duration::from_nanos(1)).deadline(20), 21);
    }

    #[test]
    fn the_timeout_counts_from_the_look_that_finds_something_taken_and_an_empty_queue_is_not_looked_at() {
        let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
        let stream = Stream::new(&Scheduler::new().handle(), near).expect("a socket can be non-blocking");
        let mut idle = Idle::new(Duration::from_millis(1600));
        // Each instant at which it is asked, and when it is to be asked next; `None` if the timeout is over.
        let expect = |idle: &mut Idle, looks: &[(u64, Option<u64>)]| {
            for (now, next) in looks {
                assert_eq!(idle.has_expired(now * MS, &stream), next.is_none(), "at {now}");
                assert!(next.is_none_or(|next| idle.deadline(now * MS) == next * MS), "at {now}");
            }
        };
        assert_eq!(idle.deadline(20 * MS), 100 * MS);
        expect(&mut idle, &[(99, Some(100)), (100, Some(1700)), (1699, Some(1700)), (1700, None)]);
        stream.send(b"one").and(stream.send(b"two")).expect("room");
        idle.progress(2000 * MS);
        expect(&mut idle, &[(2100, Some(2500)), (2500, Some(2900))]);
        far.read_exact(&mut [0; 3]).expect("it has been sent");
        expect(
            &mut idle,
            &[(2900, Some(3300)), (3300, Some(3700)), (3700, Some(4100)), (4100, Some(4500)), (4500, None)],
        );
        // What was in the queue when something moved says nothing of what has been taken since.
        idle.progress(5000 * MS);
        expect(&mut idle, &[(5100, Some(5500)), (6650, Some(6700)), (6700, None)]);
    }
}
