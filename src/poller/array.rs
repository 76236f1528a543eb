//! The array handed to `poll(2)`, kept up to date between calls.
//!
//! An entry stays where it is while its descriptor is busy: firing clears the bit of the side that fired, waiting again
//! sets it, and neither moves anything. Only entries whose bits are still clear when the next call is due are taken out,
//! by putting the last entry in their place. So a message costs two look-ups here, and nothing is rebuilt.

use super::{Fired, Side};
use crate::sys::{self, POLLIN, POLLNVAL, POLLOUT, PollEntry};
use std::io;
use std::os::fd::RawFd;

/// The position of a descriptor that has no entry.
const ABSENT: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Array {
    entries: Vec<PollEntry>,
    /// Where in `entries` a descriptor is, by descriptor.
    positions: Vec<u32>,
    /// Descriptors whose entry may have no bit left. Some are in here twice, and some have been watched again since.
    unwatched: Vec<RawFd>,
}

/// The bit of `poll(2)` for a side.
pub(super) const fn bit(side: Side) -> i16 {
    match side {
        Side::Recv => POLLIN,
        Side::Send => POLLOUT,
    }
}

/// What `revents` mean for the sides in `events`: a hang-up or an error has no bit of its own to ask for, and concerns
/// both.
pub(super) fn fired_sides(fd: RawFd, events: i16, revents: i16) -> Fired {
    let both = revents & !(POLLIN | POLLOUT) != 0;
    Fired {
        fd,
        recv: events & POLLIN != 0 && (both || revents & POLLIN != 0),
        send: events & POLLOUT != 0 && (both || revents & POLLOUT != 0),
        closed: revents & POLLNVAL != 0,
    }
}

impl Array {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The descriptor at `position`.
    pub(super) fn fd_at(&self, position: usize) -> Option<RawFd> {
        self.entries.get(position).map(PollEntry::fd)
    }

    pub(super) fn contains(&self, fd: RawFd) -> bool {
        self.position(fd).is_some()
    }

    /// The bits of `fd` that are watched.
    pub(super) fn events(&self, fd: RawFd) -> i16 {
        self.position(fd).map_or(0, |position| self.entries[position].events())
    }

    pub(super) fn watch(&mut self, fd: RawFd, bits: i16) {
        if let Some(position) = self.position(fd) {
            let entry = &mut self.entries[position];
            entry.set_events(entry.events() | bits);
        } else {
            self.insert(fd, bits);
        }
    }

    pub(super) fn unwatch(&mut self, fd: RawFd, bits: i16) {
        if let Some(position) = self.position(fd) {
            self.clear(position, bits);
        }
    }

    pub(super) fn remove(&mut self, fd: RawFd) {
        if let Some(position) = self.position(fd) {
            self.positions[fd as usize] = ABSENT;
            self.entries.swap_remove(position);
            if let Some(moved) = self.entries.get(position) {
                self.positions[moved.fd() as usize] = position as u32;
            }
        }
    }

    /// Takes out the entries that have no bit left. An entry without bits must not stay: `poll` would report a hang-up
    /// on it that nobody waits for, at once, every time.
    pub(super) fn sweep(&mut self) {
        while let Some(fd) = self.unwatched.pop() {
            if self.contains(fd) && self.events(fd) == 0 {
                self.remove(fd);
            }
        }
    }

    /// Calls `poll(2)`; returns how many entries fired, for [`take_fired`](Array::take_fired).
    pub(super) fn poll(&mut self, timeout_ms: i32) -> io::Result<usize> {
        self.sweep();
        if self.entries.is_empty() && timeout_ms == 0 {
            return Ok(0);
        }
        sys::poll(&mut self.entries, timeout_ms)
    }

    /// Hands the `count` entries that fired to `each`, and stops watching the sides that did.
    pub(super) fn take_fired(&mut self, mut count: usize, mut each: impl FnMut(Fired)) {
        let mut position = 0;
        while count > 0 && position < self.entries.len() {
            let entry = self.entries[position];
            if entry.revents() != 0 {
                count -= 1;
                let fired = fired_sides(entry.fd(), entry.events(), entry.revents());
                let bits = if fired.closed { POLLIN | POLLOUT } else { fired_bits(fired) };
                self.clear(position, bits);
                each(fired);
            }
            position += 1;
        }
    }

    fn clear(&mut self, position: usize, bits: i16) {
        let entry = &mut self.entries[position];
        entry.set_events(entry.events() & !bits);
        if entry.events() == 0 {
            self.unwatched.push(entry.fd());
        }
    }

    fn insert(&mut self, fd: RawFd, bits: i16) {
        let index = fd as usize;
        if self.positions.len() <= index {
            self.positions.resize(index + 1, ABSENT);
        }
        self.positions[index] = self.entries.len() as u32;
        self.entries.push(PollEntry::new(fd, bits));
    }

    fn position(&self, fd: RawFd) -> Option<usize> {
        self.positions.get(fd as usize).filter(|position| **position != ABSENT).map(|position| *position as usize)
    }
}

/// The bits of the sides that fired.
pub(super) fn fired_bits(fired: Fired) -> i16 {
    (if fired.recv { POLLIN } else { 0 }) | (if fired.send { POLLOUT } else { 0 })
}
