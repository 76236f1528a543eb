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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::scheduler::Scheduler;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_timeout_counts_from_the_look_that_finds_something_taken_and_an_empty_queue_is_not_looked_at() {
        let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
        let stream = Stream::new(&Scheduler::new().handle(), near).expect("a socket can be non-blocking");
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut idle = Idle::new(Duration::from_millis(1600));
        // Each instant at which it is asked, and when it is to be asked next; `None` if the timeout is over.
        let expect = |idle: &mut Idle, looks: &[(u64, Option<u64>)]| {
            for (now, next) in looks {
                assert_eq!(idle.has_expired(at(*now), &stream), next.is_none(), "at {now}");
                assert!(next.is_none_or(|next| idle.deadline(at(*now)) == Some(at(next))), "at {now}");
            }
        };
        assert_eq!(idle.deadline(at(0)), Some(at(100)));
        expect(&mut idle, &[(99, Some(100)), (100, Some(1700)), (1699, Some(1700)), (1700, None)]);
        stream.send(b"one").and(stream.send(b"two")).expect("room");
        idle.progress(at(2000));
        expect(&mut idle, &[(2100, Some(2500)), (2500, Some(2900))]);
        far.read_exact(&mut [0; 3]).expect("it has been sent");
        expect(
            &mut idle,
            &[(2900, Some(3300)), (3300, Some(3700)), (3700, Some(4100)), (4100, Some(4500)), (4500, None)],
        );
        // What was in the queue when something moved says nothing of what has been taken since.
        idle.progress(at(5000));
        expect(&mut idle, &[(5100, Some(5500)), (6650, Some(6700)), (6700, None)]);
    }
}
