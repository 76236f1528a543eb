//! What it means that `accept` fails, and how long to pause while descriptors are short.

use std::io;
use std::time::Duration;

/// How long whoever is out of descriptors waits before looking for one again, at most. Nothing tells a process that a descriptor
/// has come free elsewhere in the system.
pub const DESCRIPTORS_RETRY: Duration = Duration::from_millis(200);

/// How long the first time; then twice as long each time, until a connection has been accepted. A queue may be full of clients
/// that have given up long ago. What such a connection takes is free again at once, and whoever stands behind a thousand of them
/// would wait for minutes if a few were let in every 200 ms.
const DESCRIPTORS_RETRY_FIRST: Duration = Duration::from_millis(1);

/// Why a connection could not be accepted. That none is there (`EWOULDBLOCK`) counts as [`Passing`](Refusal::Passing).
pub(crate) enum Refusal {
    /// The listener is broken: it will never accept again.
    Broken,
    /// Descriptors or memory are short: the clients stay in the kernel's queue. Linux says so even when no client is there.
    Shortage,
    /// It is about this one connection, which is gone (`ECONNABORTED`, `EPROTO`, `EPERM`), or about the network, whose errors
    /// Linux hands to whoever accepts next (`ENETDOWN` and its like).
    Passing,
}

impl Refusal {
    pub(crate) fn of(error: &io::Error) -> Refusal {
        match error.raw_os_error() {
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK) => Refusal::Broken,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Refusal::Shortage,
            _ => Refusal::Passing,
        }
    }
}

/// The pauses during a [`Refusal::Shortage`]: how long the last one was.
#[derive(Default)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    /// How long to pause now.
    pub(crate) fn next(&mut self) -> Duration {
        self.0 = (self.0 * 2).clamp(DESCRIPTORS_RETRY_FIRST, DESCRIPTORS_RETRY);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_is_short_of_is_not_over_with_one_connection() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let error = io::Error::from_raw_os_error(errno);
            assert!(matches!(Refusal::of(&error), Refusal::Shortage), "{error}");
        }
    }
}
