//! The array handed to `poll(2)`, kept up to date between calls; and the call.
//!
//! An entry stays in the array for as long as a side of its descriptor is watched, so in the steady state nothing is
//! touched between two calls. If an entry has lost its last bit when the next call is due, the array is walked and such
//! entries are taken out; a call walks it anyway, at a higher price.
//!
//! The first entry is the poller's own, for a descriptor of its own that it wants to hear of in the same sleep. While that is
//! negative, the entry is not handed to the kernel. Beside each entry the poller may keep something, a `T`.

use super::failures::Failures;
use super::{Fired, Patience, Side, Waiters};
use crate::sys::{self, POLLIN, POLLNVAL, POLLOUT, poll_entry, pollfd};
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

/// The position of a descriptor that has no entry: that of the first entry, which no watched descriptor has.
const ABSENT: u32 = 0;

pub(super) struct Array<T> {
    entries: Vec<pollfd>,
    /// What is kept beside each entry, in the same order.
    beside: Vec<T>,
    /// Where in `entries` a descriptor is, by descriptor.
    positions: Vec<u32>,
    /// How many entries have no bit left.
    blank: usize,
    failures: Failures,
}

/// A first entry that is not in use.
const NO_FIRST: pollfd = poll_entry(-1, POLLIN);

impl<T: Default> Default for Array<T> {
    fn default() -> Array<T> {
        let (entries, beside) = (vec![NO_FIRST], vec![T::default()]);
        Array { entries, beside, positions: Vec::new(), blank: 0, failures: Failures::default() }
    }
}

/// The bit of `poll(2)` for a side.
pub(super) const fn bit(side: Side) -> i16 {
    match side {
        Side::Recv => POLLIN,
        Side::Send => POLLOUT,
    }
}

/// Says what fires of the watched `events` when `poll(2)` or epoll reports `revents`: a hang-up, an error or a number
/// that is not open has no bit of its own to ask for, and concerns both sides.
#[inline]
pub(super) fn collect(fd: RawFd, events: i16, revents: i16, waiters: &mut Waiters) {
    if revents == POLLIN {
        waiters.fire(Fired { fd, side: Side::Recv, is_closed: false });
    } else {
        collect_any(fd, events, revents, waiters);
    }
}

#[cold]
fn collect_any(fd: RawFd, events: i16, revents: i16, waiters: &mut Waiters) {
    let bits = if revents & !(POLLIN | POLLOUT) == 0 { events & revents } else { events };
    for side in [Side::Recv, Side::Send] {
        if bits & bit(side) != 0 {
            waiters.fire(Fired { fd, side, is_closed: revents & POLLNVAL != 0 });
        }
    }
}

impl<T> Array<T> {
    /// How many descriptors have an entry, without the first.
    #[cfg(target_os = "linux")]
    pub(super) fn len(&self) -> usize {
        self.entries.len() - 1
    }

    /// The entry at `index`, not counting the first, and what is kept beside it.
    #[cfg(target_os = "linux")]
    pub(super) fn at(&mut self, index: usize) -> Option<(pollfd, &mut T)> {
        Some((*self.entries.get(1 + index)?, self.beside.get_mut(1 + index)?))
    }

    /// Puts `fd` into the first entry, or nothing.
    #[cfg(target_os = "linux")]
    pub(super) fn set_first(&mut self, fd: Option<RawFd>) {
        self.entries[0] = fd.map_or(NO_FIRST, |fd| poll_entry(fd, POLLIN));
    }

    /// Watches the sides in `bits`, with `beside` if that makes a new entry; returns whether it does.
    pub(super) fn watch(&mut self, fd: RawFd, bits: i16, beside: T) -> bool {
        if let Some(position) = self.position(fd) {
            let entry = &mut self.entries[position];
            self.blank -= usize::from(entry.events == 0);
            entry.events |= bits;
            return false;
        }
        let index = fd as usize;
        if self.positions.len() <= index {
            self.positions.resize(index + 1, ABSENT);
        }
        self.positions[index] = self.entries.len() as u32;
        self.entries.push(poll_entry(fd, bits));
        self.beside.push(beside);
        true
    }

    pub(super) fn unwatch(&mut self, fd: RawFd, bits: i16) {
        if let Some(position) = self.position(fd) {
            let entry = &mut self.entries[position];
            let before = entry.events;
            entry.events &= !bits;
            self.blank += usize::from(before != 0 && entry.events == 0);
        }
    }

    pub(super) fn remove(&mut self, fd: RawFd) {
        if let Some(position) = self.position(fd) {
            self.blank -= usize::from(self.entries[position].events == 0);
            self.remove_at(position);
        }
    }

    fn remove_at(&mut self, position: usize) {
        self.beside.swap_remove(position);
        let removed = self.entries.swap_remove(position);
        self.positions[removed.fd as usize] = ABSENT;
        if let Some(moved) = self.entries.get(position) {
            self.positions[moved.fd as usize] = position as u32;
        }
    }

    /// Takes out the entries that have no bit left. An entry without bits must not stay: `poll` would report a hang-up
    /// on it that nobody waits for, at once, every time.
    #[cold]
    fn sweep(&mut self) {
        let mut position = 1;
        while self.blank > 0 && position < self.entries.len() {
            if self.entries[position].events == 0 {
                self.blank -= 1;
                self.remove_at(position);
            } else {
                position += 1;
            }
        }
    }

    /// Calls `poll(2)`; returns how many entries fired, for [`collect`](Array::collect).
    #[inline]
    pub(super) fn poll(&mut self, patience: Patience) -> io::Result<usize> {
        let timeout_ms = patience.timeout_ms(Instant::now);
        if self.blank > 0 {
            self.sweep();
        }
        let begin = usize::from(self.entries[0].fd < 0);
        if self.entries.len() == begin && timeout_ms == 0 {
            return Ok(0);
        }
        // A first entry that is not in use is kept from the kernel, which refuses an array that is longer than the process may
        // have descriptors.
        self.failures.judge(sys::poll(&mut self.entries[begin..], timeout_ms))
    }

    /// Says what fired according to the last [`poll`](Array::poll), which has returned `count`; what is kept beside each entry
    /// that fired is handed to `each`. Returns whether the first entry is one of them.
    #[inline]
    pub(super) fn collect(&mut self, count: usize, waiters: &mut Waiters, mut each: impl FnMut(&mut T)) -> bool {
        let has_first_fired = count > 0 && self.entries[0].revents != 0;
        let mut left = count - usize::from(has_first_fired);
        if left == 0 {
            return has_first_fired;
        }
        let beside = &mut self.beside[1..self.entries.len()];
        for (entry, beside) in self.entries[1..].iter().zip(beside) {
            if entry.revents != 0 {
                collect(entry.fd, entry.events, entry.revents, waiters);
                each(beside);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        has_first_fired
    }

    fn position(&self, fd: RawFd) -> Option<usize> {
        self.positions.get(fd as usize).filter(|position| **position != ABSENT).map(|position| *position as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    /// More numbers than the process has descriptors under.
    const FDS: usize = 12;

    /// Asserts that the array holds just these entries, each with what is kept beside it.
    fn check(array: &Array<u32>, entries: &BTreeMap<RawFd, (i16, u32)>) {
        assert_eq!((array.entries.len(), array.beside.len()), (1 + entries.len(), 1 + entries.len()));
        assert_eq!(array.blank, entries.values().filter(|(bits, _)| *bits == 0).count());
        for fd in 0..FDS as RawFd {
            let place = array.position(fd);
            assert_eq!(place.map(|place| array.entries[place].fd), entries.get(&fd).map(|_| fd));
            let held = place.map(|place| (array.entries[place].events, array.beside[place]));
            assert_eq!(held.as_ref(), entries.get(&fd), "{fd}");
        }
    }

    #[test]
    fn whatever_is_watched_and_not_watched_any_more_the_entries_are_right() {
        let (mut array, mut entries) = (Array::<u32>::default(), BTreeMap::new());
        let mut random = Random::new(1);
        for step in 0..20_000 {
            let fd = random.below(FDS) as RawFd;
            let bits = [POLLIN, POLLOUT, POLLIN | POLLOUT][random.below(3)];
            match random.below(8) {
                0..=2 => {
                    let is_new = array.watch(fd, bits, step);
                    assert_eq!(is_new, !entries.contains_key(&fd));
                    entries.entry(fd).or_insert((0, step)).0 |= bits;
                }
                3..=5 => {
                    array.unwatch(fd, bits);
                    if let Some((left, _)) = entries.get_mut(&fd) {
                        *left &= !bits;
                    }
                }
                6 => {
                    array.remove(fd);
                    entries.remove(&fd);
                }
                _ => {
                    array.sweep();
                    entries.retain(|_, (bits, _)| *bits != 0);
                }
            }
            check(&array, &entries);
        }
    }

    #[test]
    fn what_has_fired_is_not_collected_again_after_a_call_that_was_interrupted() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let (fd, mut waiters) = (reader.as_raw_fd(), Waiters::default());
        writer.write_all(b"!").expect("room");
        let mut array = Array::<()>::default();
        array.watch(fd, POLLIN, ());
        // As the first entry and as another: the kernel leaves what it has said of both where it is.
        array.entries[0] = poll_entry(fd, POLLIN);
        let count = array.poll(Patience::Look).expect("the system can poll");
        assert!(array.collect(count, &mut waiters, |()| {}));
        assert_eq!(waiters.take_unclaimed(), [Fired { fd, side: Side::Recv, is_closed: false }]);
        assert!(!array.collect(0, &mut waiters, |()| {}));
        assert_eq!(waiters.take_unclaimed(), []);
    }
}
