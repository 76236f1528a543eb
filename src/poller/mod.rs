//! The poller: what the scheduler asks for when it wants to know which descriptors are ready, and what time it is.
//!
//! # The contract
//! A poller keeps a set of *watched* sides of descriptors. Every implementation must provide, and the scheduler relies on,
//! exactly this; `suite.rs` runs the same tests over [`Poll`] and [`Parked`]. [`Sim`] keeps to it, but for what its own text
//! says. A number is never negative: the scheduler refuses such a wait before it gets here.
//!
//! 1. **watch** makes a side watched, until it is unwatched or forgotten. It does not fail: a number that is not open, or a
//!    file that the mechanism cannot handle, is a matter for `wait`, which must report it or treat it as `poll(2)` would.
//! 2. **unwatch** makes a side not watched. It is harmless for one that is not.
//! 3. **forget** makes both sides not watched and drops everything that is known of the number. The scheduler says it
//!    before it closes a descriptor that it owns.
//! 4. **wait** sleeps until a watched side is ready, as long as its [`Patience`] lasts, and tells the [`Waiters`] what fired:
//!    each side once, the two of one descriptor one after the other. Readiness is level-triggered: a watched side that is ready
//!    fires in every `wait`, so whoever does not want to hear of it again must unwatch it. Everything that is ready fires
//!    within two waits, however many sides are ready.
//! 5. A hang-up and an error fire whichever sides are watched. A number that is not open fires as [closed](Fired::is_closed).
//! 6. A signal that interrupts the sleep is no error and no event: `wait` may return early with nothing.
//! 7. An `Err` from `wait` means that nothing could be learnt, and is returned only after a pause of
//!    [`FAILURE_PAUSE`], so that a caller who simply tries again does not spin.
//! 8. **now** is the poller's clock, the only one there is: monotonic, and virtual in [`Sim`]. The scheduler reads it
//!    once a turn, and once more when a run or a single turn begins, or a `wait` fails.
//! 9. **identity** says which open file a number names, so that a wait for a number that has been closed and reused can
//!    be told from a wait for the same descriptor.

mod array;
mod failures;
#[cfg(target_os = "linux")]
mod parked;
mod poll;
mod sim;
#[cfg(test)]
mod suite;

pub use crate::waiters::{Fired, Waiters};
#[cfg(target_os = "linux")]
pub use parked::Parked;
pub use poll::Poll;
pub use sim::{Happening, Sim, SimScript};

use crate::sys;
use crate::task::Side;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// How long a poller pauses before it reports that the system could not poll (out of memory, or a descriptor limit lowered
/// under what is open). Long enough to be no load, short enough that service resumes at once when the cause is gone.
pub const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// Something that knows which descriptors are ready. The module's text is the contract.
pub trait Poller {
    /// The time, by the clock that deadlines are measured with.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Which open file `fd` names: equal for as long as it is the same one.
    ///
    /// # Errors
    /// `EBADF` if the number is not open.
    fn identity(&self, fd: RawFd) -> io::Result<(u64, u64)> {
        sys::file_identity(fd)
    }

    /// Watches a side of `fd`. `owned` says that [`forget`](Poller::forget) will be said before the descriptor is closed.
    fn watch(&mut self, fd: RawFd, side: Side, owned: bool);

    /// Does not watch a side of `fd` any more.
    fn unwatch(&mut self, fd: RawFd, side: Side);

    /// Drops everything that is known of `fd`, which is about to be closed.
    fn forget(&mut self, fd: RawFd);

    /// Sleeps until something fires, or until `patience` is over, and tells `waiters` what fired.
    ///
    /// # Errors
    /// The system could not poll; nothing has fired. The poller has paused already: try again.
    fn wait(&mut self, patience: Patience, waiters: &mut Waiters) -> io::Result<()>;
}

/// How long a [`Poller::wait`] may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: something else is ready to run.
    Look,
    /// Until this instant, and not a moment less.
    Until(Instant),
    /// For ever.
    Forever,
}

impl Patience {
    /// As `poll(2)` wants it: in milliseconds, rounded up because to wake early would mean to ask again at once, over and
    /// over; clamped to what an `int` holds; negative for ever. Asks for the time only where it is needed.
    fn timeout_ms(self, now: impl FnOnce() -> Instant) -> i32 {
        match self {
            Patience::Look => 0,
            Patience::Forever => -1,
            Patience::Until(until) => {
                let ms = until.saturating_duration_since(now()).as_nanos().div_ceil(1_000_000);
                i32::try_from(ms).unwrap_or(i32::MAX)
            }
        }
    }
}

/// The poller that suits this system: [`Parked`] on Linux, [`Poll`] elsewhere.
pub fn default_poller() -> Box<dyn Poller> {
    #[cfg(target_os = "linux")]
    return Box::new(Parked::new());
    #[cfg(not(target_os = "linux"))]
    Box::new(Poll::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_rounded_up_to_milliseconds_and_clamped() {
        let now = Instant::now();
        let cases = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(900), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_nanos(1_000_001), 2),
            (Duration::from_millis(i32::MAX as u64), i32::MAX),
            (Duration::from_secs(3_000_000), i32::MAX),
        ];
        for (ahead, ms) in cases {
            assert_eq!(Patience::Until(now + ahead).timeout_ms(|| now), ms, "{ahead:?} ahead");
        }
        assert_eq!(Patience::Forever.timeout_ms(|| now), -1);
        assert_eq!(Patience::Look.timeout_ms(|| now), 0);
        let later = now + Duration::from_millis(5);
        assert_eq!(Patience::Until(now).timeout_ms(|| later), 0, "a deadline that has passed does not sleep");
    }
}
