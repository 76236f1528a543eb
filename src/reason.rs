//! Why a task is resumed, or what it waits for: one word of the scheduler's own for what a [`Wait`] and a [`WaitError`] say.

use crate::task::{Side, Wait, WaitError};
use std::os::fd::RawFd;
use std::time::Instant;

/// What a waiting task waits for in the first place, and why a ready task is resumed: a [`Wait`] without its instant, which is
/// the slot's deadline, or a [`WaitError`].
///
/// The kind, the side and the number of the descriptor, which are 0 where the kind has none, are in one word, because futures
/// compare and move it for each message. Its highest bits are free for what a future has to note beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The side of the descriptor is waited for, or is ready.
    Ready,
    /// It cannot be waited for: see [`WaitError::Busy`].
    Busy,
    /// It cannot be waited for: see [`WaitError::Closed`].
    Closed,
    Until,
    Turn,
    Wake,
}

impl Reason {
    pub(crate) const UNTIL: Reason = Reason::new(Kind::Until, Side::Recv, 0);
    pub(crate) const TURN: Reason = Reason::new(Kind::Turn, Side::Recv, 0);
    pub(crate) const WAKE: Reason = Reason::new(Kind::Wake, Side::Recv, 0);

    #[inline]
    pub(crate) const fn new(kind: Kind, side: Side, fd: RawFd) -> Reason {
        Reason((kind as u64) << 33 | (side as u64) << 32 | fd as u32 as u64)
    }

    #[inline]
    fn kind(self) -> Kind {
        match self.0 >> 33 {
            0 => Kind::Ready,
            1 => Kind::Busy,
            2 => Kind::Closed,
            3 => Kind::Until,
            4 => Kind::Turn,
            _ => Kind::Wake,
        }
    }

    /// The wait for the side of a descriptor that this is about, if it is about one.
    #[inline]
    fn about(self) -> Wait {
        let side = if self.0 >> 32 & 1 == 0 { Side::Recv } else { Side::Send };
        side.of(self.0 as RawFd)
    }

    /// Why the task cannot wait, if that is the reason.
    pub(crate) fn error(self) -> Option<WaitError> {
        match self.kind() {
            Kind::Busy => Some(WaitError::Busy(self.about())),
            Kind::Closed => Some(WaitError::Closed(self.about())),
            Kind::Ready | Kind::Until | Kind::Turn | Kind::Wake => None,
        }
    }

    /// The wait for a descriptor that this is, if it is one and nothing else.
    #[inline]
    pub(crate) fn descriptor_wait(self) -> Option<Wait> {
        // Kind and side at once: to look at one after the other is two instructions more for each message.
        match self.0 >> 32 {
            0 => Some(Wait::Recv(self.0 as RawFd)),
            1 => Some(Wait::Send(self.0 as RawFd)),
            _ => None,
        }
    }

    /// The side of a descriptor that this is about: that is ready, is waited for, or cannot be waited for.
    pub(crate) fn descriptor(self) -> Option<(RawFd, Side)> {
        match self.kind() {
            Kind::Ready | Kind::Busy | Kind::Closed => self.about().descriptor(),
            Kind::Until | Kind::Turn | Kind::Wake => None,
        }
    }

    /// The wait that this is, or was meant to be; `deadline` stands for the instant.
    pub(crate) fn wait(self, deadline: impl FnOnce() -> Instant) -> Wait {
        match self.kind() {
            Kind::Ready | Kind::Busy | Kind::Closed => self.about(),
            Kind::Until => Wait::Until(deadline()),
            Kind::Turn => Wait::Turn,
            Kind::Wake => Wait::Wake,
        }
    }
}

impl From<Wait> for Reason {
    fn from(wait: Wait) -> Reason {
        match wait {
            Wait::Recv(fd) => Reason::new(Kind::Ready, Side::Recv, fd),
            Wait::Send(fd) => Reason::new(Kind::Ready, Side::Send, fd),
            Wait::Until(_) => Reason::UNTIL,
            Wait::Turn => Reason::TURN,
            Wait::Wake | Wait::Done => Reason::WAKE,
        }
    }
}
