//! The table of live tasks: one slot a task, used again when the task has ended.

use crate::reason::Reason;
use crate::task::{Side, Task, TaskId, Wait};
use crate::timers::{Entry, NEVER, Nanos};
use std::num::NonZeroU32;
use std::os::fd::RawFd;

/// One live task, or a free slot.
///
/// A slot is as long as a cache line. But an allocator usually puts a large block 16 bytes behind the beginning of a line, so a
/// slot lies in two lines: its first 48 bytes in one, the rest in the next. What each message needs stands in those 48 bytes, so
/// that with ten thousand tasks a message touches one line here. (Aligning the slots to whole lines would cost memory: an
/// aligned block is copied when it grows, and leaves a hole.)
#[repr(C)]
pub(crate) struct Slot {
    /// The task; absent while it is being resumed, and in a free slot.
    pub(crate) task: Option<Box<dyn Task>>,
    /// The deadline of the wait, or [`NEVER`].
    pub(crate) deadline: Nanos,
    /// Since when the task waits.
    pub(crate) since: Nanos,
    pub(crate) resumes: u64,
    /// The serial number of the task; `None` in a free slot.
    serial: Option<NonZeroU32>,
    /// The task is ready, for any reason but the most common one: that the only descriptor it waits for has fired. That one is
    /// written down in the wait map. See `Core::is_waiting`.
    pub(crate) is_ready: bool,
    pub(crate) is_service: bool,
    /// The task's direct wait was [given up](crate::handle::GivenUp), and the task has not looked since.
    pub(crate) has_lost_direct: bool,
    /// Somebody has woken the task, and it was moved to the deque without a poll before that. See `Scheduler::wake`.
    pub(crate) was_woken: bool,
    pub(crate) reason: Reason,
    /// The entry that the timers hold for this task, or [`NEVER`]. Not later than `deadline`.
    pub(crate) queued: Nanos,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Slot>() == 64);

/// What is kept of a task beside its [`Slot`], because it is seldom looked at.
struct Aside {
    /// The descriptors that the task waits for beside its `reason`. Absent until it first waits for several; then kept, so that
    /// it does not allocate each time.
    #[expect(clippy::box_collection, reason = "a third of the size, for every task")]
    also: Option<Box<Vec<Wait>>>,
    spawned_by: Option<TaskId>,
}

#[derive(Default)]
pub(crate) struct Slots {
    all: Vec<Slot>,
    /// Beside each of `all`.
    aside: Vec<Aside>,
    /// The slots that may be used again.
    free: Vec<u32>,
    last_serial: u32,
    /// How many tasks are live and are not services.
    pub(crate) foreground: usize,
}

impl Slots {
    /// How many tasks there are, with those that have ended and whose slot is still named in the ready deque.
    pub(crate) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Whether another task takes the place of one that has ended.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Puts a new task into a slot, ready.
    pub(crate) fn insert(
        &mut self,
        task: Box<dyn Task>,
        is_service: bool,
        spawned_by: Option<TaskId>,
        now: Nanos,
    ) -> TaskId {
        let serial = NonZeroU32::new(self.last_serial.wrapping_add(1)).unwrap_or(NonZeroU32::MIN);
        self.last_serial = serial.get();
        self.foreground += usize::from(!is_service);
        let slot = Slot {
            task: Some(task),
            reason: Reason::TURN,
            deadline: NEVER,
            queued: NEVER,
            since: now,
            resumes: 0,
            serial: Some(serial),
            is_ready: true,
            is_service,
            has_lost_direct: false,
            was_woken: false,
        };
        let aside = Aside { also: None, spawned_by };
        let index = if let Some(index) = self.free.pop() {
            self.all[index as usize] = slot;
            self.aside[index as usize] = aside;
            index
        } else {
            self.all.push(slot);
            self.aside.push(aside);
            (self.all.len() - 1) as u32
        };
        TaskId::new(index, serial)
    }

    /// Notes that a task has ended. Its slot can be used again, unless the ready deque still names it: then when that
    /// [has been seen](Slots::reclaim). What was in it must have been taken out.
    pub(crate) fn remove(&mut self, id: TaskId, is_in_deque: bool) {
        if let Some(slot) = self.get_mut(id) {
            slot.serial = None;
            self.foreground -= usize::from(!slot.is_service);
            self.aside[id.slot() as usize].also = None;
            if !is_in_deque {
                self.free.push(id.slot());
            }
        }
    }

    /// Frees the slot of a task that had ended while the ready deque still named it; now the deque does not any more. Returns
    /// true, as `Scheduler::resume` does when nothing is left to be done.
    #[cold]
    pub(crate) fn reclaim(&mut self, index: u32) -> bool {
        self.free.push(index);
        true
    }

    /// The slot of a task, unless the task has ended.
    pub(crate) fn get_mut(&mut self, id: TaskId) -> Option<&mut Slot> {
        self.all.get_mut(id.slot() as usize).filter(|slot| slot.serial == Some(id.serial()))
    }

    /// The slot of a task, unless the task has ended.
    pub(crate) fn get(&self, id: TaskId) -> Option<&Slot> {
        self.all.get(id.slot() as usize).filter(|slot| slot.serial == Some(id.serial()))
    }

    /// The slot of the task whose deadline this is; none if the entry is stale.
    pub(crate) fn of_entry(&mut self, entry: Entry) -> Option<&mut Slot> {
        self.get_mut(entry.task()).filter(|slot| slot.queued == entry.at)
    }

    /// Which task spawned this live one.
    pub(crate) fn spawned_by(&self, id: TaskId) -> Option<TaskId> {
        self.get(id).and_then(|_| self.aside[id.slot() as usize].spawned_by)
    }

    /// The waits for descriptors of a live task beside its `reason`.
    pub(crate) fn also(&self, id: TaskId) -> &[Wait] {
        self.get(id).and_then(|_| self.aside[id.slot() as usize].also.as_deref()).map_or(&[], Vec::as_slice)
    }

    /// Adds one to these.
    pub(crate) fn push_also(&mut self, id: TaskId, wait: Wait) {
        self.aside[id.slot() as usize].also.get_or_insert_default().push(wait);
    }

    /// Takes one of these out.
    pub(crate) fn pop_also(&mut self, id: TaskId) -> Option<(RawFd, Side)> {
        self.aside[id.slot() as usize].also.as_mut()?.pop()?.descriptor()
    }

    /// Takes this one of these out, once, if it is among them.
    pub(crate) fn remove_also(&mut self, id: TaskId, fd: RawFd, side: Side) {
        if let Some(also) = self.aside[id.slot() as usize].also.as_mut()
            && let Some(index) = also.iter().position(|wait| wait.descriptor() == Some((fd, side)))
        {
            let _ = also.swap_remove(index);
        }
    }

    /// The slot of this number.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.all.get_mut(index as usize)
    }

    /// The slot of this number.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&Slot> {
        self.all.get(index as usize)
    }

    /// The live task in the slot of this number.
    pub(crate) fn id_at(&self, index: u32) -> Option<TaskId> {
        let serial = self.all.get(index as usize)?.serial?;
        Some(TaskId::new(index, serial))
    }

    /// The live tasks, in the order of their slots.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TaskId> {
        (0..self.all.len() as u32).filter_map(|index| self.id_at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_four_billion_tasks_the_serial_numbers_begin_again() {
        let mut slots = Slots { last_serial: u32::MAX - 1, ..Slots::default() };
        let mut insert = || slots.insert(Box::new(crate::task_fn("task", |_| Ok(Wait::Done))), false, None, 0);
        let serials: Vec<u32> = (0..3).map(|_| insert().serial().get()).collect();
        assert_eq!(serials, [u32::MAX, 1, 2]);
    }
}
