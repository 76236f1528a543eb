//! `epoll(7)`, as far as the parked poller needs it. Linux only.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// One event: the number of the descriptor, which is the user data of every registration here, and what fired, in the bits of
/// `poll(2)`. Linux gives `EPOLLIN`, `EPOLLOUT`, `EPOLLERR` and `EPOLLHUP` the same values.
pub(crate) use libc::epoll_event;

/// An epoll instance: level-triggered, its user data always the descriptor's number.
pub(crate) struct Epoll(pub(crate) OwnedFd);

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: no pointer is passed; the call only makes a descriptor.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just returned `fd` to us and nobody else knows it.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn add(&self, fd: RawFd, events: i16) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events)
    }

    pub(crate) fn modify(&self, fd: RawFd, events: i16) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events)
    }

    pub(crate) fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, events: i16) -> io::Result<()> {
        let mut event = epoll_event { events: events as u32, u64: fd as u64 };
        // SAFETY: `event` is a live `epoll_event` for the length of the call. A number that is not open is answered with
        // EBADF by the kernel.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, ptr::from_mut(&mut event)) }).map(drop)
    }

    /// Writes the events that are there now into `events`, without sleeping, and returns how many they are.
    pub(crate) fn look(&self, events: &mut [epoll_event]) -> io::Result<usize> {
        let room = events.len().min(libc::c_int::MAX as usize) as libc::c_int;
        // SAFETY: the pointer is to at least `room` events, borrowed exclusively for the length of the call.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, 0) };
        check(count).map(|count| count as usize)
    }
}
