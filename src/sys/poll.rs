//! `poll(2)`.

use super::check;
use std::io;
use std::os::fd::RawFd;

pub(crate) use libc::{POLLIN, POLLNVAL, POLLOUT, pollfd};

/// One entry of the array handed to `poll(2)`.
pub(crate) const fn poll_entry(fd: RawFd, events: i16) -> pollfd {
    pollfd { fd, events, revents: 0 }
}

/// Sleeps until an entry is ready or `timeout_ms` have passed (negative: for ever). Returns how many entries have
/// something in `revents`; `revents` of all the others is 0.
pub(crate) fn poll(entries: &mut [pollfd], timeout_ms: libc::c_int) -> io::Result<usize> {
    // SAFETY: the pointer is to `len` initialised `pollfd`s that nothing else can reach during the call, because the slice is
    // borrowed exclusively.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout_ms) };
    check(count).map(|count| count as usize)
}
