//! Plain `poll(2)`: every Unix has it, and when most descriptors are busy nothing is cheaper.
//!
//! # What poll(2) really does
//! - It answers about *numbers*, as they are at the moment of the call. A number that is not open is `POLLNVAL`; a number that
//!   was closed and opened again is the new file. There is no registration that could go stale.
//! - `POLLHUP`, `POLLERR` and `POLLNVAL` are reported whether they were asked for or not, and may come without `POLLIN` or
//!   `POLLOUT`. Whoever waits must be resumed for them, or the next call returns at once with the same, for ever. A
//!   reset connection is `POLLIN|POLLOUT|POLLERR|POLLHUP`, with the data that came before the reset still to be read.
//! - A negative number is skipped in silence, so a wait for one would sleep for ever. The scheduler refuses it before it
//!   gets here.
//! - Closing a descriptor in another thread does not wake a `poll` that sleeps on it.
//! - It fails with `EINVAL` when the array is longer than `RLIMIT_NOFILE`, which can be lowered under a running process,
//!   and with `ENOMEM`. Neither lasts; the loop pauses and tries again.
//! - The kernel walks the whole array each time: some 20 ns for each entry, more when they do not fit into the cache. When it
//!   must sleep it also queues itself on every entry, which costs several times as much. That is what [`Parked`](super::Parked)
//!   is for.

use super::array::{Array, bit};
use super::{Patience, Poller, Side, Waiters};
use std::io;
use std::os::fd::RawFd;

/// The poller that is `poll(2)` and nothing else. Where many descriptors are idle, [`Parked`](super::Parked) is cheaper.
#[derive(Default)]
pub struct Poll(Array<()>);

impl Poll {
    /// A poller that watches nothing yet.
    pub fn new() -> Poll {
        Poll::default()
    }
}

impl Poller for Poll {
    fn watch(&mut self, fd: RawFd, side: Side, _owned: bool) {
        self.0.watch(fd, bit(side), ());
    }

    fn unwatch(&mut self, fd: RawFd, side: Side) {
        self.0.unwatch(fd, bit(side));
    }

    fn forget(&mut self, fd: RawFd) {
        self.0.remove(fd);
    }

    fn wait(&mut self, patience: Patience, waiters: &mut Waiters) -> io::Result<()> {
        let count = self.0.poll(patience)?;
        self.0.collect(count, waiters, |()| {});
        Ok(())
    }
}
