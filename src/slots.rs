//! The table of live tasks: one slot a task, used again when the task has ended.

use crate::task::{Side, Task, TaskId, Wait, WaitError};
use crate::timers::{NEVER, Nanos};
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::time::Instant;

/// What a waiting task waits for in the first place; why a ready task is resumed. A [`Wait`] whose instant is the slot's
/// deadline, or a [`WaitError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) kind: Kind,
    /// The descriptor, where the kind has one.
    pub(crate) fd: RawFd,
}

/// Those that are errors come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
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
    pub(crate) const UNTIL: Reason = Reason { kind: Kind::Until, fd: -1 };
    pub(crate) const TURN: Reason = Reason { kind: Kind::Turn, fd: -1 };
    pub(crate) const WAKE: Reason = Reason { kind: Kind::Wake, fd: -1 };

    pub(crate) fn ready(side: Side, fd: RawFd) -> Reason {
        let kind = match side {
            Side::Recv => Kind::Recv,
            Side::Send => Kind::Send,
        };
        Reason { kind, fd }
    }

    pub(crate) fn busy(side: Side, fd: RawFd) -> Reason {
        let kind = match side {
            Side::Recv => Kind::RecvBusy,
            Side::Send => Kind::SendBusy,
        };
        Reason { kind, fd }
    }

    pub(crate) fn closed(side: Side, fd: RawFd) -> Reason {
        let kind = match side {
            Side::Recv => Kind::RecvClosed,
            Side::Send => Kind::SendClosed,
        };
        Reason { kind, fd }
    }

    /// Whether the reason is that the task cannot wait.
    pub(crate) fn is_error(self) -> bool {
        self.kind >= Kind::RecvBusy
    }

    /// Why the task cannot wait, if that is the reason.
    pub(crate) fn error(self) -> Option<WaitError> {
        match self.kind {
            Kind::Recv | Kind::Send | Kind::Until | Kind::Turn | Kind::Wake => None,
            Kind::RecvBusy => Some(WaitError::Busy(Wait::Recv(self.fd))),
            Kind::SendBusy => Some(WaitError::Busy(Wait::Send(self.fd))),
            Kind::RecvClosed => Some(WaitError::Closed(Wait::Recv(self.fd))),
            Kind::SendClosed => Some(WaitError::Closed(Wait::Send(self.fd))),
        }
    }

    /// The wait that this is, or was meant to be; `deadline` stands for the instant.
    pub(crate) fn wait(self, deadline: impl FnOnce() -> Instant) -> Wait {
        match self.kind {
            Kind::Recv | Kind::RecvBusy | Kind::RecvClosed => Wait::Recv(self.fd),
            Kind::Send | Kind::SendBusy | Kind::SendClosed => Wait::Send(self.fd),
            Kind::Until => Wait::Until(deadline()),
            Kind::Turn => Wait::Turn,
            Kind::Wake => Wait::Wake,
        }
    }
}

impl From<Wait> for Reason {
    fn from(wait: Wait) -> Reason {
        match wait {
            Wait::Recv(fd) => Reason { kind: Kind::Recv, fd },
            Wait::Send(fd) => Reason { kind: Kind::Send, fd },
            Wait::Until(_) => Reason::UNTIL,
            Wait::Turn => Reason::TURN,
            Wait::Wake | Wait::Done => Reason::WAKE,
        }
    }
}

pub(crate) struct Slot {
    /// The task; absent while it is being resumed, and in a free slot.
    pub(crate) task: Option<Box<dyn Task>>,
    /// The descriptors that the task waits for beside `reason`. Kept when empty, so that a task that waits for several
    /// does not allocate each time; absent in a task that never did.
    #[expect(clippy::box_collection, reason = "a third of the size, in every slot")]
    pub(crate) also: Option<Box<Vec<Wait>>>,
    pub(crate) reason: Reason,
    pub(crate) spawned_by: Option<TaskId>,
    /// The deadline of the wait, or [`NEVER`].
    pub(crate) deadline: Nanos,
    /// The entry that the timers hold for this task, or [`NEVER`]. Not later than `deadline`.
    pub(crate) queued: Nanos,
    /// Since when the task waits. (What is ready is so since the last poll.)
    pub(crate) since: Nanos,
    pub(crate) resumes: u64,
    /// The serial number of the task; of none in a free slot.
    serial: Option<NonZeroU32>,
    /// The task is ready for any reason but the most common one, which is written down in a wait map: that the descriptor
    /// has fired which is all that it waits for. See `Core::is_waiting`.
    pub(crate) is_ready: bool,
    pub(crate) is_service: bool,
}

#[derive(Default)]
pub(crate) struct Slots {
    all: Vec<Slot>,
    /// The slots that may be used again.
    free: Vec<u32>,
    last_serial: u32,
    live: usize,
    services: usize,
}

impl Slots {
    /// How many tasks are live.
    pub(crate) fn len(&self) -> usize {
        self.live
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
        self.live += 1;
        self.services += usize::from(is_service);
        let slot = Slot {
            task: Some(task),
            also: None,
            reason: Reason::TURN,
            spawned_by,
            deadline: NEVER,
            queued: NEVER,
            since: now,
            resumes: 0,
            serial: Some(serial),
            is_ready: true,
            is_service,
        };
        let index = if let Some(index) = self.free.pop() {
            self.all[index as usize] = slot;
            index
        } else {
            self.all.push(slot);
            (self.all.len() - 1) as u32
        };
        TaskId { slot: index, serial }
    }

    /// Notes that a task has ended. Its slot can be used again, unless the ready deque still names it: then when that
    /// [has been seen](Slots::reclaim). What was in it must have been taken out.
    pub(crate) fn remove(&mut self, id: TaskId, is_in_deque: bool) {
        if let Some(slot) = self.get_mut(id) {
            slot.serial = None;
            slot.also = None;
            let was_service = slot.is_service;
            self.live -= 1;
            self.services -= usize::from(was_service);
            if !is_in_deque {
                self.free.push(id.slot);
            }
        }
    }

    /// The ready deque does not name this slot any more, whose task has ended. There is nothing to be done after that, which
    /// is what this returns.
    #[cold]
    pub(crate) fn reclaim(&mut self, index: u32) -> bool {
        self.free.push(index);
        true
    }

    /// The slot of a task, unless the task has ended.
    pub(crate) fn get_mut(&mut self, id: TaskId) -> Option<&mut Slot> {
        match self.all.get_mut(id.slot as usize) {
            Some(slot) if slot.serial == Some(id.serial) => Some(slot),
            _ => None,
        }
    }

    /// The slot of a task, unless the task has ended.
    pub(crate) fn get(&self, id: TaskId) -> Option<&Slot> {
        match self.all.get(id.slot as usize) {
            Some(slot) if slot.serial == Some(id.serial) => Some(slot),
            _ => None,
        }
    }

    /// The slot of this number.
    #[inline]
    pub(crate) fn at(&mut self, index: u32) -> Option<&mut Slot> {
        self.all.get_mut(index as usize)
    }

    /// What the task in the slot of this number waits for, or is resumed for.
    #[inline]
    pub(crate) fn reason_at(&self, index: u32) -> Reason {
        self.all.get(index as usize).map_or(Reason::TURN, |slot| slot.reason)
    }

    /// The live task in the slot of this number.
    pub(crate) fn id_at(&self, index: u32) -> Option<TaskId> {
        let serial = self.all.get(index as usize)?.serial?;
        Some(TaskId { slot: index, serial })
    }

    /// The live tasks, in the order of their slots.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        let id = |(index, slot): (usize, &Slot)| Some(TaskId { slot: index as u32, serial: slot.serial? });
        self.all.iter().enumerate().filter_map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_four_billion_tasks_the_serial_numbers_begin_again() {
        let mut slots = Slots { last_serial: u32::MAX - 1, ..Slots::default() };
        let mut insert = || slots.insert(Box::new(crate::task_fn("task", |_| Ok(Wait::Done))), false, None, 0);
        let serials: Vec<u32> = (0..3).map(|_| insert().serial.get()).collect();
        assert_eq!(serials, [u32::MAX, 1, 2]);
    }
}
