//! A wait map: which task waits on a descriptor. The seed's `recv_wait` and `send_wait`, one of these each.
//!
//! The seed uses a dict. Descriptors are small integers that the kernel hands out lowest first, so this is a vector
//! indexed by descriptor: a look-up is an addition, nothing is hashed, and nothing is allocated once it has grown to the
//! highest number in use.

use crate::task::TaskId;
use std::os::fd::RawFd;

/// A slot number that no task has.
const NOBODY: u32 = u32::MAX;

/// Which open file a number names.
pub(crate) type Identity = (u64, u64);

#[derive(Default)]
pub(crate) struct WaitMap {
    /// The slot of the task that waits, or [`NOBODY`], by descriptor.
    waiters: Vec<u32>,
    /// By descriptor: whose wait was last checked against the kernel, and which file the number named then. `None` after
    /// a wait for a descriptor that the scheduler owns. Only as long as the highest number that was ever checked.
    checked: Vec<Option<(TaskId, Identity)>>,
    len: usize,
}

impl WaitMap {
    /// How many tasks wait here.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot of the task that waits on `fd`.
    pub(crate) fn get(&self, fd: RawFd) -> Option<u32> {
        self.waiters.get(fd as usize).copied().filter(|waiter| *waiter != NOBODY)
    }

    /// Takes out the task that waits on `fd`.
    pub(crate) fn take(&mut self, fd: RawFd) -> Option<u32> {
        let waiter = self.waiters.get_mut(fd as usize).filter(|waiter| **waiter != NOBODY)?;
        self.len -= 1;
        Some(std::mem::replace(waiter, NOBODY))
    }

    /// Whether `task` may be filed under `fd` without asking the kernel which file that is: nobody waits, and either the
    /// scheduler owns the descriptor or it was this same task that last waited here.
    pub(crate) fn is_free_for(&self, fd: RawFd, task: TaskId, owned: bool) -> bool {
        self.get(fd).is_none() && (owned || self.checked(fd).is_some_and(|(by, _)| by == task))
    }

    /// The file that the waiter of `fd` waits for, if somebody waits and that is known by check, not by ownership.
    pub(crate) fn checked_identity(&self, fd: RawFd) -> Option<Identity> {
        self.get(fd)?;
        self.checked(fd).map(|(_, identity)| identity)
    }

    /// Files the task in `slot` under `fd`, which nobody waits on.
    pub(crate) fn file(&mut self, fd: RawFd, slot: u32) {
        let index = fd as usize;
        if self.waiters.len() <= index {
            self.waiters.resize(index + 1, NOBODY);
        }
        self.waiters[index] = slot;
        self.len += 1;
    }

    /// Files the task in `slot` under `fd`, where it has waited before, unless somebody waits there now.
    pub(crate) fn file_if_free(&mut self, fd: RawFd, slot: u32) -> bool {
        match self.waiters.get_mut(fd as usize) {
            Some(waiter) if *waiter == NOBODY => {
                *waiter = slot;
                self.len += 1;
                true
            }
            _ => false,
        }
    }

    /// Remembers whose wait for `fd` was checked, and which file it was found to be; `None` for an owned descriptor.
    pub(crate) fn set_checked(&mut self, fd: RawFd, checked: Option<(TaskId, Identity)>) {
        let index = fd as usize;
        if self.checked.len() <= index {
            if checked.is_none() {
                return;
            }
            self.checked.resize(index + 1, None);
        }
        self.checked[index] = checked;
    }

    fn checked(&self, fd: RawFd) -> Option<(TaskId, Identity)> {
        self.checked.get(fd as usize).copied().flatten()
    }
}
