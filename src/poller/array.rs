//! The array handed to `poll(2)`, kept up to date between calls.
//!
//! An entry stays where it is for as long as a side of its descriptor is watched, so in the steady state nothing is
//! touched between two calls. If an entry has lost its last bit when the next call is due, the array is walked and such
//! entries are taken out; a call walks it anyway, at a higher price.

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
    /// How many entries have no bit left.
    blank: usize,
}

/// The bit of `poll(2)` for a side.
pub(super) const fn bit(side: Side) -> i16 {
    match side {
        Side::Recv => POLLIN,
        Side::Send => POLLOUT,
    }
}

/// What fires of the watched `events` when `poll(2)` or epoll reports `revents`: a hang-up, an error or a number that is
/// not open has no bit of its own to ask for, and concerns both sides.
pub(super) const fn fired(fd: RawFd, events: i16, revents: i16) -> Fired {
    let bits = if revents & !(POLLIN | POLLOUT) == 0 { events & revents } else { events };
    Fired { fd, recv: bits & POLLIN != 0, send: bits & POLLOUT != 0, closed: revents & POLLNVAL != 0 }
}

impl Array {
    #[cfg(target_os = "linux")]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The descriptor at `position`.
    #[cfg(target_os = "linux")]
    pub(super) fn fd_at(&self, position: usize) -> Option<RawFd> {
        self.entries.get(position).map(|entry| entry.fd())
    }

    /// The bits of `fd` that are watched.
    #[cfg(target_os = "linux")]
    pub(super) fn events(&self, fd: RawFd) -> i16 {
        self.position(fd).map_or(0, |position| self.entries[position].events())
    }

    /// Watches the sides in `bits`; returns whether that made a new entry.
    pub(super) fn watch(&mut self, fd: RawFd, bits: i16) -> bool {
        let Some(position) = self.position(fd) else {
            self.insert(fd, bits);
            return true;
        };
        let entry = &mut self.entries[position];
        self.blank -= usize::from(entry.events() == 0);
        entry.set_events(entry.events() | bits);
        false
    }

    pub(super) fn unwatch(&mut self, fd: RawFd, bits: i16) {
        if let Some(position) = self.position(fd) {
            let entry = &mut self.entries[position];
            let before = entry.events();
            entry.set_events(before & !bits);
            self.blank += usize::from(before != 0 && entry.events() == 0);
        }
    }

    pub(super) fn remove(&mut self, fd: RawFd) {
        if let Some(position) = self.position(fd) {
            self.blank -= usize::from(self.entries[position].events() == 0);
            self.remove_at(position);
        }
    }

    fn remove_at(&mut self, position: usize) {
        let removed = self.entries.swap_remove(position);
        self.positions[removed.fd() as usize] = ABSENT;
        if let Some(moved) = self.entries.get(position) {
            self.positions[moved.fd() as usize] = position as u32;
        }
    }

    /// Takes out the entries that have no bit left. An entry without bits must not stay: `poll` would report a hang-up
    /// on it that nobody waits for, at once, every time.
    fn sweep(&mut self) {
        let mut position = 0;
        while self.blank > 0 && position < self.entries.len() {
            if self.entries[position].events() == 0 {
                self.blank -= 1;
                self.remove_at(position);
            } else {
                position += 1;
            }
        }
    }

    /// Calls `poll(2)`; returns how many entries fired, for [`fired`](Array::fired).
    pub(super) fn poll(&mut self, timeout_ms: i32) -> io::Result<usize> {
        self.sweep();
        if self.entries.is_empty() && timeout_ms == 0 {
            return Ok(0);
        }
        sys::poll(&mut self.entries, timeout_ms)
    }

    /// Hands the `count` entries that fired to `each`.
    pub(super) fn fired(&self, count: usize, mut each: impl FnMut(Fired)) {
        let mut left = count;
        for entry in &self.entries {
            if left == 0 {
                break;
            }
            if entry.revents() != 0 {
                left -= 1;
                each(fired(entry.fd(), entry.events(), entry.revents()));
            }
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
