//! `poll(2)`.

use super::check;
use std::io;
use std::os::fd::RawFd;

pub(crate) const POLLIN: i16 = libc::POLLIN;
pub(crate) const POLLOUT: i16 = libc::POLLOUT;
pub(crate) const POLLNVAL: i16 = libc::POLLNVAL;

/// One entry of the array handed to `poll(2)`: a `struct pollfd`, as it is.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct PollEntry(libc::pollfd);

impl PollEntry {
    pub(crate) const fn new(fd: RawFd, events: i16) -> PollEntry {
        PollEntry(libc::pollfd { fd, events, revents: 0 })
    }

    pub(crate) fn fd(self) -> RawFd {
        self.0.fd
    }

    pub(crate) fn events(self) -> i16 {
        self.0.events
    }

    pub(crate) fn set_events(&mut self, events: i16) {
        self.0.events = events;
    }

    pub(crate) fn revents(self) -> i16 {
        self.0.revents
    }
}

/// Sleeps until an entry is ready or `timeout_ms` have passed (negative: for ever). Returns how many entries have
/// something in `revents`; `revents` of all the others is 0.
pub(crate) fn poll(entries: &mut [PollEntry], timeout_ms: libc::c_int) -> io::Result<usize> {
    // SAFETY: `PollEntry` is a transparent `pollfd`, so the pointer is to `len` initialised `pollfd`s that nothing else
    // can reach during the call, because the slice is borrowed exclusively.
    let count = unsafe { libc::poll(entries.as_mut_ptr().cast(), entries.len() as libc::nfds_t, timeout_ms) };
    check(count).map(|count| count as usize)
}
