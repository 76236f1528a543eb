//! Deadlines: which task is due at which instant. Takes `now`, never reads a clock.
//!
//! A deadline that moves with every message (an idle timeout) must not touch the queue every time. So the queue may hold
//! an instant that is too early: the newest deadline stands in the task's slot, and when the entry expires too early, the
//! scheduler queues the newest instead. Only a deadline that is sooner than that entry costs an insertion.

use crate::task::TaskId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Nanoseconds since the scheduler was made: an instant in half the space, cheap to compare.
pub(crate) type Nanos = u64;

/// The deadline of a task that has none.
pub(crate) const NEVER: Nanos = Nanos::MAX;

/// The instant from which one scheduler counts its [`Nanos`].
#[derive(Clone, Copy)]
pub(crate) struct Epoch(pub(crate) Instant);

impl Epoch {
    /// `instant` as nanoseconds: 0 if it is before the epoch, clamped (in some 584 years) so that it is never [`NEVER`].
    pub(crate) fn nanos(self, instant: Instant) -> Nanos {
        let since = instant.saturating_duration_since(self.0);
        Nanos::try_from(since.as_nanos()).unwrap_or(NEVER).min(NEVER - 1)
    }

    pub(crate) fn instant(self, nanos: Nanos) -> Instant {
        self.0.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.0)
    }
}

/// Queued deadlines, the soonest first, and that of a drain.
pub(crate) struct Timers {
    queue: BinaryHeap<Reverse<Entry>>,
    /// The deadline of the drain that has begun, or [`NEVER`].
    drain_by: Nanos,
    /// The soonest of all of them, looked at three times a turn.
    soonest: Nanos,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { queue: BinaryHeap::new(), drain_by: NEVER, soonest: NEVER }
    }
}

/// One queued deadline of one task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) at: Nanos,
    slot: u32,
    serial: NonZeroU32,
}

impl Entry {
    pub(crate) fn task(self) -> TaskId {
        TaskId::new(self.slot, self.serial)
    }
}

/// The queue is tidied when it holds more than twice as many entries as there are tasks, and this many more.
const STALE_ENTRIES_MAX: usize = 64;

impl Timers {
    /// The soonest instant at which a task or a drain may be due, which may turn out to be early for a task; [`NEVER`] if there
    /// is none.
    #[inline]
    pub(crate) fn soonest(&self) -> Nanos {
        self.soonest
    }

    fn find_soonest(&mut self) {
        self.soonest = self.queue.peek().map_or(NEVER, |Reverse(entry)| entry.at).min(self.drain_by);
    }

    /// Whether no task has a deadline that is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, at: Nanos, task: TaskId) {
        self.queue.push(Reverse(Entry { at, slot: task.slot(), serial: task.serial() }));
        self.find_soonest();
    }

    /// Takes out the soonest entry, if it is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<Entry> {
        if self.queue.peek()?.0.at > now {
            return None;
        }
        let due = self.queue.pop()?.0;
        self.find_soonest();
        Some(due)
    }

    /// Throws out the soonest entries for as long as they are stale.
    pub(crate) fn discard_while(&mut self, mut is_stale: impl FnMut(Entry) -> bool) {
        while self.queue.peek().is_some_and(|Reverse(entry)| is_stale(*entry)) {
            self.queue.pop();
        }
        self.find_soonest();
    }

    /// The deadline of the drain that has begun, or [`NEVER`].
    pub(crate) fn drain_by(&self) -> Nanos {
        self.drain_by
    }

    pub(crate) fn set_drain_by(&mut self, drain_by: Nanos) {
        self.drain_by = drain_by;
        self.find_soonest();
    }

    /// Throws out the entries that `is_live` disowns, once they could be the greater part. Entries go stale when a task
    /// ends before its deadline, or is given a sooner one.
    pub(crate) fn tidy(&mut self, live_tasks: usize, mut is_live: impl FnMut(Entry) -> bool) {
        if self.queue.len() > 2 * live_tasks + STALE_ENTRIES_MAX {
            self.queue.retain(|Reverse(entry)| is_live(*entry));
            self.find_soonest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_since_the_epoch_never_read_as_never() {
        let epoch = Epoch(Instant::now());
        let far = epoch.0 + Duration::from_secs(1_000_000_000);
        assert_eq!(epoch.instant(epoch.nanos(far)), far);
        let beyond = epoch.0.checked_add(Duration::from_secs(60 * 60 * 24 * 365 * 1_000));
        assert!(beyond.is_none_or(|instant| epoch.nanos(instant) < NEVER));
        let before = epoch.0.checked_sub(Duration::from_secs(1));
        assert!(before.is_none_or(|instant| epoch.nanos(instant) == 0));
    }
}
