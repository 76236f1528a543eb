//! A wait map: which task waits on a descriptor. The seed's `recv_wait` and `send_wait`, one of these each.
//!
//! The seed uses a dict. But descriptors are small integers, of which the kernel always hands out the lowest that is free. So
//! this is a vector indexed by descriptor: a look-up is an addition, nothing is hashed, and nothing is allocated once the vector
//! has grown to the highest number in use.

use crate::task::TaskId;
use std::os::fd::RawFd;

/// The entry of a descriptor that no task waits on. It cannot be mistaken for a task's: without its two highest bits it would be
/// the number of the last of a billion slots, and memory ends long before there are so many tasks.
const NOBODY: u32 = u32::MAX;

/// The bits of an entry that are the number of the task's slot. If no other bit is set, the task waits for this descriptor and
/// for no other.
const SLOT: u32 = FIRED - 1;

/// The task has been resumed, or is about to be, for this very wait, and may renew it.
const FIRED: u32 = 1 << 30;

/// The task waits for another descriptor, too.
const SEVERAL: u32 = 1 << 31;

/// Which open file a number names.
pub(crate) type Identity = (u64, u64);

/// From the number of a descriptor to the task that waits on it.
///
/// Almost every task waits for the same again. So a task that is resumed keeps its entry, which is only marked as [`FIRED`]. If
/// the task waits for the same again, the mark is taken off, which is called *renewing* the wait. Nothing else has to be done,
/// because the poller has gone on watching. For all other tasks an entry with the mark is free.
#[derive(Default)]
pub(crate) struct WaitMap {
    /// The slot of the task that waits, with [`FIRED`] and [`SEVERAL`], or [`NOBODY`]; by descriptor.
    entries: Vec<u32>,
    /// By descriptor: the task for which it was last asked which file the number names, and the answer. `None` if the last wait
    /// was for a descriptor that the scheduler owns. The vector ends with the highest number that was ever asked about.
    checked: Vec<Option<(TaskId, Identity)>>,
    /// How many entries are not [`NOBODY`].
    len: usize,
}

impl WaitMap {
    /// How many tasks are filed here: they wait, or have been resumed for what they waited for and not yet said what
    /// comes next.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot of the task that waits on `fd`.
    pub(crate) fn get(&self, fd: RawFd) -> Option<u32> {
        self.entries.get(fd as usize).filter(|entry| **entry & FIRED == 0).map(|entry| entry & SLOT)
    }

    /// Marks the entry of `fd`, because the task that waits on it is about to be resumed for that. Returns the slot of the task.
    pub(crate) fn fire(&mut self, fd: RawFd) -> Option<u32> {
        let slot = self.get(fd)?;
        self.entries[fd as usize] |= FIRED;
        Some(slot)
    }

    /// [`fire`](WaitMap::fire), if the task waits for no other descriptor.
    #[inline]
    pub(crate) fn fire_only(&mut self, fd: RawFd) -> Option<u32> {
        match self.entries.get_mut(fd as usize) {
            Some(entry) if *entry <= SLOT => {
                let slot = *entry;
                *entry = slot | FIRED;
                Some(slot)
            }
            _ => None,
        }
    }

    /// Files the task in `slot` under `fd` again, if that was the only descriptor it waited for, it has been resumed for it, and
    /// the entry has not changed since. Returns whether that was so.
    #[inline]
    pub(crate) fn renew(&mut self, fd: RawFd, slot: u32) -> bool {
        match self.entries.get_mut(fd as usize) {
            Some(entry) if *entry == slot | FIRED => {
                *entry = slot;
                true
            }
            _ => false,
        }
    }

    /// Frees the entry of `fd` if it has fired for the task in `slot`, which has not renewed its wait. Returns whether that was
    /// so.
    pub(crate) fn lapse(&mut self, fd: RawFd, slot: u32) -> bool {
        let has_fired = self.has_fired(fd, slot);
        if has_fired {
            self.remove(fd);
        }
        has_fired
    }

    /// Whether `fd` has fired for the task in `slot`, which has not yet said what it waits for next.
    pub(crate) fn has_fired(&self, fd: RawFd, slot: u32) -> bool {
        self.entries.get(fd as usize).is_some_and(|entry| entry & !SEVERAL == slot | FIRED)
    }

    /// Frees the entry of `fd`. Returns the slot of the task that waited there, if one did.
    pub(crate) fn take(&mut self, fd: RawFd) -> Option<u32> {
        let waiter = self.get(fd);
        self.remove(fd);
        waiter
    }

    fn remove(&mut self, fd: RawFd) {
        if let Some(entry) = self.entries.get_mut(fd as usize).filter(|entry| **entry != NOBODY) {
            *entry = NOBODY;
            self.len -= 1;
        }
    }

    /// Whether `task` may be filed under `fd` without asking the kernel which file that is: nobody waits, and either the
    /// scheduler owns the descriptor or it was this same task that last waited here.
    pub(crate) fn is_free_for(&self, fd: RawFd, task: TaskId, owned: bool) -> bool {
        self.get(fd).is_none() && (owned || self.checked(fd).is_some_and(|(by, _)| by == task))
    }

    /// The file that the waiter of `fd` means. `None` if nobody waits, or if the scheduler owns the descriptor, because then
    /// nobody has asked which file it is.
    pub(crate) fn checked_identity(&self, fd: RawFd) -> Option<Identity> {
        self.get(fd)?;
        self.checked(fd).map(|(_, identity)| identity)
    }

    /// Files the task in `slot` under `fd`, which nobody waits on; `is_only` says that it waits for no other.
    pub(crate) fn file(&mut self, fd: RawFd, slot: u32, is_only: bool) {
        let index = fd as usize;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, NOBODY);
        }
        self.len += usize::from(self.entries[index] == NOBODY);
        self.entries[index] = if is_only { slot } else { slot | SEVERAL };
    }

    /// Remembers for which task it was asked which file `fd` names, and the answer; `None` for an owned descriptor.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_that_are_owned_take_no_room_for_what_was_checked() {
        let mut map = WaitMap::default();
        for fd in 0..20_000 {
            map.file(fd, 0, true);
            map.set_checked(fd, None);
        }
        assert_eq!((map.len(), map.checked.capacity()), (20_000, 0));
    }
}
