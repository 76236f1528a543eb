//! The table of live tasks: one slot a task, used again when the task has ended.

use crate::task::{Side, Task, TaskId, Wait};
use crate::timers::{NEVER, Nanos};
use std::num::NonZeroU32;
use std::os::fd::RawFd;

/// Where a live task is. Every live task is in exactly one of these places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the ready deque.
    Ready,
    /// Being resumed, right now.
    Running,
    /// In the wait maps, in the timers, or asleep until it is woken.
    Waiting,
}

/// What a waiting task waits for in the first place; why a ready task is resumed. A [`Wait`] whose instant is the slot's
/// deadline, or a [`WaitError`](crate::WaitError).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Fd(Side, RawFd),
    Until,
    Turn,
    Wake,
    Busy(Side, RawFd),
    Closed(Side, RawFd),
}

pub(crate) struct Slot {
    /// The task; absent while it is being resumed, and in a free slot.
    pub(crate) task: Option<Box<dyn Task>>,
    /// The descriptors that the task waits for beside `reason`. Kept when empty, so that a task that waits for several
    /// does not allocate each time; absent in a task that never did.
    pub(crate) also: Option<Box<Vec<Wait>>>,
    pub(crate) reason: Reason,
    pub(crate) spawned_by: Option<TaskId>,
    /// The deadline of the wait, or [`NEVER`].
    pub(crate) deadline: Nanos,
    /// The entry that the timers hold for this task, or [`NEVER`]. Not later than `deadline`.
    pub(crate) queued: Nanos,
    /// Since when the task is where it is.
    pub(crate) since: Nanos,
    pub(crate) resumes: u64,
    serial: NonZeroU32,
    pub(crate) place: Place,
    pub(crate) is_service: bool,
    is_live: bool,
}

#[derive(Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    last_serial: u32,
    services: usize,
}

impl Slots {
    /// How many tasks are live.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many tasks are live and are not services.
    pub(crate) fn foreground(&self) -> usize {
        self.len() - self.services
    }

    /// Puts a new task into a slot, ready.
    pub(crate) fn insert(
        &mut self,
        task: Box<dyn Task>,
        is_service: bool,
        spawned_by: Option<TaskId>,
        now: Nanos,
    ) -> TaskId {
        self.last_serial = self.last_serial.wrapping_add(1);
        let serial = NonZeroU32::new(self.last_serial).unwrap_or(NonZeroU32::MIN);
        self.last_serial = serial.get();
        self.services += usize::from(is_service);
        let slot = Slot {
            task: Some(task),
            also: None,
            reason: Reason::Turn,
            spawned_by,
            deadline: NEVER,
            queued: NEVER,
            since: now,
            resumes: 0,
            serial,
            place: Place::Ready,
            is_service,
            is_live: true,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        TaskId { slot: index, serial }
    }

    /// Frees the slot of a task that has ended. What was in it must have been taken out.
    pub(crate) fn remove(&mut self, id: TaskId) {
        if let Some(slot) = self.get_mut(id) {
            slot.is_live = false;
            slot.also = None;
            let was_service = slot.is_service;
            self.services -= usize::from(was_service);
            self.free.push(id.slot);
        }
    }

    /// The slot of a task, unless the task has ended.
    pub(crate) fn get_mut(&mut self, id: TaskId) -> Option<&mut Slot> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.is_live && slot.serial == id.serial)
    }

    /// The slot of a task, unless the task has ended.
    pub(crate) fn get(&self, id: TaskId) -> Option<&Slot> {
        self.slots.get(id.slot as usize).filter(|slot| slot.is_live && slot.serial == id.serial)
    }

    /// The live task in a slot.
    pub(crate) fn id_at(&self, index: u32) -> Option<TaskId> {
        let slot = self.slots.get(index as usize).filter(|slot| slot.is_live)?;
        Some(TaskId { slot: index, serial: slot.serial })
    }

    /// The live tasks, in the order of their slots.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        (0..self.slots.len() as u32).filter_map(|index| self.id_at(index)).collect()
    }
}
