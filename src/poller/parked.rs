//! `poll(2)` for what is busy; what is idle is parked in one epoll instance, which is itself an entry of the array.
//!
//! # Why
//! `poll` is the cheapest way there is to ask about descriptors of which many are ready: one call answers for all, nothing
//! needs to be registered first, and once it has found one ready it does not queue itself on the rest. But it walks the whole
//! array each time, and when it must sleep it queues itself on every entry (`poll.rs` has figures): ten thousand idle ones cost
//! milliseconds a call. epoll costs nothing for an idle descriptor and more for a busy one. So each descriptor is kept where it
//! is cheap, and the cost of a turn follows the busy ones, whatever is open beside them. The one call that sleeps is still
//! `poll`.
//!
//! # What epoll(7) really does, and what follows
//! - A registration belongs to the *open file*, under the number that it had. It ends when the last descriptor of the
//!   file is closed, not when the number is: while a duplicate lives (a `dup`, a child process), the registration of a
//!   closed number goes on reporting, and can no longer be removed, because `EPOLL_CTL_DEL` wants an open number. So
//!   **only descriptors that the scheduler owns are parked, and `forget` removes them before they are closed.** An event
//!   that nobody knows what to do with means that somebody else has closed one; then the instance is thrown away, and
//!   what is parked is registered in a new one.
//! - The other way round, a registration outlives the *wait* for it. If the number were closed and given to another file
//!   between two waits, and we believed in the registration, the new owner would sleep for ever. This is the same rule
//!   seen from the other side: an owned number cannot be closed without `forget`. A number that a task merely waits on
//!   may be closed by anyone at any time, and stays in the array, where `poll` looks at it afresh in each call.
//! - It is level-triggered, so a registration that nobody waits for keeps the instance, and with it `poll`, ready for
//!   ever, if only because hang-ups cannot be masked. So what has been unwatched is taken out before the next sleep. What
//!   is still watched, the common case, is left as it is and costs nothing, however often it fires.
//! - It refuses regular files with `EPERM` (they are always ready), and may fail with `ENOMEM` or `ENOSPC`. Whatever cannot
//!   be parked stays in the array, and the task cannot tell.
//! - One call returns as many events as there is room for; the ones it has returned go to the end of its list. So it is
//!   asked again until it has shown all, up to the number parked.
//! - When it sleeps, it returns `EINTR` after `SIGSTOP` and `SIGCONT` even in a process that handles no signal. Here it never
//!   sleeps, so whenever it fails the instance is of no use any more.
//!
//! # When to park
//! Taking a descriptor out of the instance for its first event, only to park it again, costs two system calls and several walks
//! over its entry. So a parked descriptor stays parked when it fires; only one that fires again and again, within
//! [`BUSY_GAP`] waits each time, goes back to the array. An entry of the array is parked when it has not fired for
//! [`IDLE_WAITS`] waits.
//!
//! If there are only a [`FEW`] descriptors, none is parked. The instance is not free: `poll` looks into it and queues itself on
//! it, which costs as much as some ten idle entries do. So a program with a listener and a client or two uses plain `poll`, and
//! one that has had more goes back to it soon after half of [`FEW`] are left. The instance exists from the beginning all the
//! same: if it were made for the ninth descriptor, it could take the last number that the process may have from a waiting
//! client.

use super::array::{self, Array, bit};
use super::{Patience, Poller, Side, Waiters};
use crate::sys::{Epoll, epoll_event};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// An entry of the array that has not fired for so many waits is parked.
pub(super) const IDLE_WAITS: u32 = 32;

/// A parked descriptor is busy when it fires within so many waits of the last time.
pub(super) const BUSY_GAP: u32 = 4;

/// A parked descriptor that was busy so many times in a row goes back to the array.
pub(super) const BUSY_FIRES: u8 = 8;

/// If no more than so many descriptors are watched, none is parked. When half as many are left, nothing stays parked.
pub(super) const FEW: usize = 8;

/// Once in so many waits the poller looks for idle entries in a part of the array, and whether the instance is still needed.
pub(super) const TIDY_WAITS: u32 = 8;

/// How many such parts the array has: so many looks go through the whole of it.
const SCAN_PARTS: usize = 8;

/// When so many of the parked have fired in one wait, the next wait asks epoll before it calls `poll`.
const LOOK_FIRST_FIRED: usize = 4;

/// How many events are asked for at a time.
const EVENTS_MAX: usize = 1024;

/// What is known of a descriptor, whether it has an entry in the array or is parked.
#[derive(Clone, Copy, Default)]
struct Lot {
    /// The number of the wait in which it last fired, while it is parked.
    fired: u32,
    /// How often in a row it has fired soon after the last time.
    busy: u8,
    /// What it is registered for in the epoll instance. 0 if it is not parked.
    registered: Bits,
    /// What of that is watched.
    watched: Bits,
    owned: bool,
}

/// `POLLIN` and `POLLOUT`, in a byte.
type Bits = u8;

/// The poller that keeps idle descriptors in an epoll instance, which is one entry of the array that is handed to `poll(2)`. Only
/// what the scheduler [owns](crate::Handle::adopt) is parked, when it has not fired for 32 waits, and nothing while no more
/// than 8 descriptors are watched.
pub struct Parked {
    /// With the number of the wait in which the descriptor last fired or was first watched.
    array: Array<u32>,
    lots: Vec<Lot>,
    /// Absent if it could not be made, which is tried again.
    epoll: Option<Epoll>,
    /// How many descriptors are registered in it.
    registered: usize,
    /// Parked descriptors whose registration may not be what is watched.
    outdated: Vec<RawFd>,
    events: Vec<epoll_event>,
    /// Counts the waits. Wraps; only differences are used.
    waits: u32,
    /// Where in the array the next look for idle entries begins.
    hand: usize,
    /// The instance may hold a registration that cannot be removed, or does not say what has fired, so it is to be thrown away.
    is_tainted: bool,
    /// The last look at the parked descriptors that followed a `poll` found many that had fired.
    found_many: bool,
}

impl Default for Parked {
    fn default() -> Parked {
        Parked::new()
    }
}

impl Parked {
    /// A poller that watches nothing yet, and has an epoll instance from the beginning, if the system has one for it.
    pub fn new() -> Parked {
        Parked {
            array: Array::default(),
            lots: Vec::new(),
            epoll: Epoll::new().ok(),
            registered: 0,
            outdated: Vec::new(),
            events: Vec::new(),
            waits: 0,
            hand: 0,
            is_tainted: false,
            found_many: false,
        }
    }

    #[cfg(test)]
    pub(super) fn is_parked(&self, fd: &impl AsRawFd) -> bool {
        self.lots.get(fd.as_raw_fd() as usize).is_some_and(|lot| lot.registered != 0)
    }

    /// The lot of `fd`, if that is parked.
    fn parked_lot(&mut self, fd: RawFd) -> Option<&mut Lot> {
        self.lots.get_mut(fd as usize).filter(|lot| lot.registered != 0)
    }

    /// Brings the registrations of [`outdated`](Parked) descriptors in line with what is watched. What is watched for another
    /// side stays parked: a task that waits before each `send`, as the seed did, changes sides twice with each message.
    fn update_registrations(&mut self) {
        while let Some(fd) = self.outdated.pop() {
            let Some(lot) = self.parked_lot(fd).copied() else { continue };
            if lot.watched == lot.registered {
                continue;
            }
            let modified = lot.watched != 0
                && self.epoll.as_ref().is_some_and(|epoll| epoll.modify(fd, i16::from(lot.watched)).is_ok());
            if modified {
                self.lots[fd as usize].registered = lot.watched;
            } else {
                self.unpark(fd);
            }
        }
    }

    /// Takes a descriptor out of the instance; what is watched of it goes back to the array.
    fn unpark(&mut self, fd: RawFd) {
        let waits = self.waits;
        let Some(lot) = self.parked_lot(fd) else { return };
        let watched = lot.watched;
        *lot = Lot { registered: 0, watched: 0, busy: 0, ..*lot };
        self.registered -= 1;
        if self.registered == 0 {
            self.array.set_first(None);
        }
        if let Some(epoll) = &self.epoll {
            // If this fails, somebody else has closed the descriptor, and its number may be another file's by now. If the old
            // file is still open elsewhere, the registration lives on, and its events would be taken for those of the new file.
            self.is_tainted |= epoll.delete(fd).is_err();
        }
        if watched != 0 {
            self.array.watch(fd, i16::from(watched), waits);
        }
    }

    /// Throws the instance away if it is of no use, empties it if it is not needed any more, and parks what is idle.
    #[cold]
    fn tidy(&mut self) {
        if std::mem::take(&mut self.is_tainted) {
            // What is parked goes back to the array, and will be parked in the new instance.
            self.epoll = None;
            self.evacuate();
            self.epoll = Epoll::new().ok();
        }
        let watched = self.array.len() + self.registered;
        if watched <= FEW / 2 {
            self.evacuate();
        }
        if watched > FEW {
            if self.epoll.is_none() {
                self.epoll = Epoll::new().ok();
            }
            self.park_idle();
        }
    }

    /// Parks entries of the array that have been idle for long. Looks at a part of the array at a time, a larger one the larger
    /// it is, so that no single wait is held up and ten thousand silent clients are parked soon all the same.
    fn park_idle(&mut self) {
        for _ in 0..self.array.len().div_ceil(SCAN_PARTS) {
            if self.hand >= self.array.len() {
                self.hand = 0;
            }
            let waits = self.waits;
            let Some((entry, last_fired)) = self.array.at(self.hand) else { return };
            let fired = *last_fired;
            let is_idle = waits.wrapping_sub(fired) >= IDLE_WAITS;
            if is_idle {
                // If it cannot be parked, that is tried again when it has been idle as long once more.
                *last_fired = waits;
            }
            // Parking puts the array's last entry in this place, so the hand stays.
            if !(is_idle && self.park(entry.fd, entry.events, fired)) {
                self.hand += 1;
            }
        }
    }

    /// Moves an entry of the array to the instance, if that takes it.
    fn park(&mut self, fd: RawFd, events: i16, fired: u32) -> bool {
        let Some(lot) = self.lots.get_mut(fd as usize).filter(|lot| lot.owned && events != 0) else { return false };
        let Some(epoll) = self.epoll.as_ref().filter(|epoll| epoll.add(fd, events).is_ok()) else { return false };
        *lot = Lot { registered: events as Bits, watched: events as Bits, busy: 0, fired, ..*lot };
        self.registered += 1;
        // The instance is in the array for as long as anything is parked in it.
        self.array.set_first(Some(epoll.0.as_raw_fd()));
        self.array.remove(fd);
        true
    }

    /// Says what fired among the parked; returns how many did.
    fn look_at_parked(&mut self, waiters: &mut Waiters) -> usize {
        let mut fired = 0;
        let mut events = std::mem::take(&mut self.events);
        events.resize(EVENTS_MAX, epoll_event { events: 0, u64: 0 });
        for _ in 0..=self.registered / EVENTS_MAX {
            let Some(epoll) = &self.epoll else { break };
            let Ok(count) = epoll.look(&mut events) else {
                // Somebody has closed it, perhaps. The next wait asks `poll` about everything.
                self.is_tainted = true;
                break;
            };
            for event in &events[..count] {
                fired += usize::from(self.take_event(*event, waiters));
            }
            if count < EVENTS_MAX {
                break;
            }
        }
        self.events = events;
        fired
    }

    /// Tells `waiters` of one event of epoll's. Returns whether it was for a parked descriptor that had not fired in this wait.
    fn take_event(&mut self, event: epoll_event, waiters: &mut Waiters) -> bool {
        let fd = event.u64 as RawFd;
        let waits = self.waits;
        let Some(lot) = self.parked_lot(fd) else {
            self.is_tainted = true;
            return false;
        };
        if lot.fired == waits {
            // It was in the last batch already, and is still ready.
            return false;
        }
        let watched = i16::from(lot.watched);
        lot.busy = if waits.wrapping_sub(lot.fired) <= BUSY_GAP { lot.busy + 1 } else { 0 };
        lot.fired = waits;
        if lot.busy >= BUSY_FIRES {
            self.unpark(fd);
        }
        array::collect(fd, watched, event.events as i16, waiters);
        true
    }

    /// Puts everything that is parked back into the array.
    fn evacuate(&mut self) {
        if self.registered == 0 {
            return;
        }
        for fd in 0..self.lots.len() as RawFd {
            self.unpark(fd);
        }
    }
}

impl Poller for Parked {
    fn watch(&mut self, fd: RawFd, side: Side, owned: bool) {
        let bits = bit(side);
        if let Some(lot) = self.parked_lot(fd) {
            lot.watched |= bits as Bits;
            if lot.watched & !lot.registered != 0 {
                self.outdated.push(fd);
            }
            return;
        }
        let is_new = self.array.watch(fd, bits, self.waits);
        if owned && is_new {
            let index = fd as usize;
            if self.lots.len() <= index {
                self.lots.resize(index + 1, Lot::default());
            }
            self.lots[index] = Lot { owned: true, ..Lot::default() };
        }
    }

    fn unwatch(&mut self, fd: RawFd, side: Side) {
        let bits = bit(side);
        if let Some(lot) = self.parked_lot(fd) {
            lot.watched &= !(bits as Bits);
            self.outdated.push(fd);
        } else {
            self.array.unwatch(fd, bits);
        }
    }

    fn forget(&mut self, fd: RawFd) {
        self.unpark(fd);
        if let Some(lot) = self.lots.get_mut(fd as usize) {
            *lot = Lot::default();
        }
        self.array.remove(fd);
    }

    fn wait(&mut self, patience: Patience, waiters: &mut Waiters) -> io::Result<()> {
        self.waits = self.waits.wrapping_add(1);
        self.update_registrations();
        if self.is_tainted || self.waits.is_multiple_of(TIDY_WAITS) {
            self.tidy();
        }
        // If the instance was busy the last time, and nothing else is to be polled, `poll` would most likely say no more than
        // that the instance is ready.
        if self.found_many && self.array.len() == 0 && self.look_at_parked(waiters) > 0 {
            return Ok(());
        }
        let count = self.array.poll(patience)?;
        let waits = self.waits;
        let look = self.array.collect(count, waiters, |last_fired| *last_fired = waits);
        self.found_many = look && self.look_at_parked(waiters) >= LOOK_FIRST_FIRED;
        Ok(())
    }
}
