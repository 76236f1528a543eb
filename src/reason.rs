//! Why a task is resumed, or what it waits for: one word of the scheduler's own for what a [`Wait`] and a [`WaitError`] say.

use crate::task::{Side, Wait, WaitError};
use std::os::fd::RawFd;
use std::time::Instant;

/// What a waiting task waits for in the first place, and why a ready task is resumed: a [`Wait`] without its instant, which is
/// the slot's deadline, or a [`WaitError`].
///
/// The kind and the number of the descriptor, which is 0 where the kind has none, are in one word, because futures compare
/// and move it for each message. Its highest bits are free for what a future has to note beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Recv,
    Send,
    Until,
    Turn,
    Wake,
    RecvBusy,
    SendBusy,
    RecvClosed,
    SendClosed,
}

impl Reason {
    pub(crate) const UNTIL: Reason = Reason::new(Kind::Until, 0);
    pub(crate) const TURN: Reason = Reason::new(Kind::Turn, 0);
    pub(crate) const WAKE: Reason = Reason::new(Kind::Wake, 0);

    const fn new(kind: Kind, fd: RawFd) -> Reason {
        Reason((kind as u64) << 32 | fd as u32 as u64)
    }

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        const LAST: u32 = Kind::SendClosed as u32;
        match (self.0 >> 32) as u32 {
            0 => Kind::Recv,
            1 => Kind::Send,
            2 => Kind::Until,
            3 => Kind::Turn,
            4 => Kind::Wake,
            5 => Kind::RecvBusy,
            6 => Kind::SendBusy,
            7 => Kind::RecvClosed,
            LAST.. => Kind::SendClosed,
        }
    }

    /// The number of the descriptor.
    #[inline]
    pub(crate) fn fd(self) -> RawFd {
        self.0 as RawFd
    }

    #[inline]
    pub(crate) fn ready(side: Side, fd: RawFd) -> Reason {
        Reason::new(if side == Side::Recv { Kind::Recv } else { Kind::Send }, fd)
    }

    pub(crate) fn busy(side: Side, fd: RawFd) -> Reason {
        Reason::new(if side == Side::Recv { Kind::RecvBusy } else { Kind::SendBusy }, fd)
    }

    pub(crate) fn closed(side: Side, fd: RawFd) -> Reason {
        Reason::new(if side == Side::Recv { Kind::RecvClosed } else { Kind::SendClosed }, fd)
    }

    /// Why the task cannot wait, if that is the reason.
    pub(crate) fn error(self) -> Option<WaitError> {
        match self.kind() {
            Kind::Recv | Kind::Send | Kind::Until | Kind::Turn | Kind::Wake => None,
            Kind::RecvBusy => Some(WaitError::Busy(Wait::Recv(self.fd()))),
            Kind::SendBusy => Some(WaitError::Busy(Wait::Send(self.fd()))),
            Kind::RecvClosed => Some(WaitError::Closed(Wait::Recv(self.fd()))),
            Kind::SendClosed => Some(WaitError::Closed(Wait::Send(self.fd()))),
        }
    }

    /// The wait for a descriptor that this is, if it is one and nothing else.
    #[inline]
    pub(crate) fn descriptor_wait(self) -> Option<Wait> {
        match self.kind() {
            Kind::Recv => Some(Wait::Recv(self.fd())),
            Kind::Send => Some(Wait::Send(self.fd())),
            _ => None,
        }
    }

    /// The side of a descriptor that this is about: that is ready, is waited for, or cannot be waited for.
    pub(crate) fn descriptor(self) -> Option<(RawFd, Side)> {
        match self.kind() {
            Kind::Recv | Kind::RecvBusy | Kind::RecvClosed => Some((self.fd(), Side::Recv)),
            Kind::Send | Kind::SendBusy | Kind::SendClosed => Some((self.fd(), Side::Send)),
            Kind::Until | Kind::Turn | Kind::Wake => None,
        }
    }

    /// The wait that this is, or was meant to be; `deadline` stands for the instant.
    pub(crate) fn wait(self, deadline: impl FnOnce() -> Instant) -> Wait {
        match self.kind() {
            Kind::Until => Wait::Until(deadline()),
            Kind::Turn => Wait::Turn,
            _ => self.descriptor().map_or(Wait::Wake, |(fd, side)| side.of(fd)),
        }
    }
}

impl From<Wait> for Reason {
    fn from(wait: Wait) -> Reason {
        match wait {
            Wait::Recv(fd) => Reason::new(Kind::Recv, fd),
            Wait::Send(fd) => Reason::new(Kind::Send, fd),
            Wait::Until(_) => Reason::UNTIL,
            Wait::Turn => Reason::TURN,
            Wait::Wake | Wait::Done => Reason::WAKE,
        }
    }
}
