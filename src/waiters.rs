//! Where the tasks are that wait for a descriptor, and those that can run: the seed's `recv_wait`, `send_wait` and `tasks`.
//!
//! A poller is handed all three, and says what fired. Almost always there is one task that waits for that, and for nothing else:
//! then it moves from its map to the deque there and then. Whatever needs more than that goes into a list, for the scheduler.

use crate::ready::ReadyDeque;
use crate::task::Side;
use crate::wait_map::WaitMap;
use std::os::fd::RawFd;

/// A watched side of a descriptor that fired: acting on it is worth trying, or tells why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The number of the descriptor.
    pub fd: RawFd,
    /// The side that fired.
    pub side: Side,
    /// The number is not open: whoever waits for this side gets an error.
    pub is_closed: bool,
}

/// Whom a [`Poller`](crate::poller::Poller) tells what [fired](Waiters::fire).
#[derive(Default)]
pub struct Waiters {
    /// The tasks that can run. A task that is ended while it is in here stays in here, and its slot is empty when its turn comes.
    pub(crate) ready: ReadyDeque,
    /// Which task waits to receive from a descriptor.
    pub(crate) recv_wait: WaitMap,
    /// Which task waits to send to a descriptor.
    pub(crate) send_wait: WaitMap,
    /// What has fired and needs more than that one task be moved to the deque.
    pub(crate) unclaimed: Vec<Fired>,
}

impl Waiters {
    /// Takes note of what has fired: moves the task that waits for it to the deque, or leaves it to the scheduler.
    #[inline]
    pub fn fire(&mut self, fired: Fired) {
        let waiter = if fired.is_closed { None } else { self.map(fired.side).fire_only(fired.fd) };
        match waiter {
            Some(slot) => self.ready.push_back(slot),
            None => self.leave(fired),
        }
    }

    #[cold]
    fn leave(&mut self, fired: Fired) {
        self.unclaimed.push(fired);
    }

    /// Takes out what has fired without moving a task to the deque, in the order in which it fired: the task waits for something
    /// else, too, or has to be told of an error, or there is none. `Waiters::default()` has no tasks, so a test of a poller
    /// finds everything here.
    pub fn take_unclaimed(&mut self) -> Vec<Fired> {
        std::mem::take(&mut self.unclaimed)
    }

    #[inline]
    pub(crate) fn map(&mut self, side: Side) -> &mut WaitMap {
        match side {
            Side::Recv => &mut self.recv_wait,
            Side::Send => &mut self.send_wait,
        }
    }

    /// The slot of the task that waits for this side of `fd`.
    pub(crate) fn get(&self, side: Side, fd: RawFd) -> Option<u32> {
        match side {
            Side::Recv => self.recv_wait.get(fd),
            Side::Send => self.send_wait.get(fd),
        }
    }

    /// How many tasks the two maps hold.
    pub(crate) fn waiting(&self) -> usize {
        self.recv_wait.len() + self.send_wait.len()
    }
}
