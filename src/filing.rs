//! Filing a waiting task, which is step 2 of the loop, and the way back: withdrawing what it waits for, and ending it.

use crate::panics::catch;
use crate::ready::OTHERWISE;
use crate::reason::{Kind, Reason};
use crate::scheduler::Scheduler;
use crate::task::{End, Side, Task, TaskId, Wait};
use crate::timers::{NEVER, Nanos};
use crate::wait_map::Identity;
use std::os::fd::RawFd;

impl Scheduler {
    /// 2. File the task by the reason it gave.
    pub(crate) fn file(&mut self, id: TaskId, task: Box<dyn Task>, wait: Wait) {
        let core = &mut self.core;
        if core.is_tracing {
            core.tell(|observer| observer.waiting(id, wait));
        }
        let Some(slot) = core.slots.get_mut(id) else { return };
        slot.task = Some(task);
        slot.is_ready = false;
        slot.since = core.clock;
        let why = std::mem::replace(&mut slot.reason, Reason::from(wait));
        let filed = self.file_all(id, wait);
        // What was said with `or` holds for this wait only, and if it was refused, for none.
        self.core.or.clear();
        self.core.until = NEVER;
        self.lapse(id, why);
        if let Err(reason) = filed {
            self.move_to_ready(id, reason);
        }
    }

    /// Stops watching what the task was last resumed for, unless it waits for that again, or somebody else does.
    pub(crate) fn lapse(&mut self, id: TaskId, why: Reason) {
        if let Some((fd, side)) = why.descriptor()
            && self.core.waiters.map(side).lapse(fd, id.slot())
        {
            self.poller.unwatch(fd, side);
        }
    }

    /// Files the task under everything that it waits for: what it has returned, and what it has said with
    /// [`Context::or`](crate::Context::or) before. An `Err` is the reason to resume it at once instead.
    fn file_all(&mut self, id: TaskId, wait: Wait) -> Result<(), Reason> {
        match wait {
            Wait::Recv(fd) => self.file_descriptor(id, Side::Recv, fd, self.core.or.is_empty())?,
            Wait::Send(fd) => self.file_descriptor(id, Side::Send, fd, self.core.or.is_empty())?,
            Wait::Until(at) => self.core.until = self.core.until.min(self.core.epoch.nanos(at)),
            Wait::Turn => return Err(Reason::TURN),
            Wait::Wake | Wait::Done => {}
        }
        self.set_deadline(id, self.core.until);
        for index in 0..self.core.or.len() {
            let wait = self.core.or[index];
            let Some((fd, side)) = wait.descriptor() else { return Err(Reason::TURN) };
            self.file_descriptor(id, side, fd, false)?;
            self.core.slots.push_also(id, wait);
        }
        Ok(())
    }

    /// Files the task under one side of a descriptor. An `Err` is the reason why it cannot wait there.
    fn file_descriptor(&mut self, id: TaskId, side: Side, fd: RawFd, is_only: bool) -> Result<(), Reason> {
        let owned = self.core.mailbox.owned.borrow().contains(fd);
        let map = self.core.waiters.map(side);
        if map.is_free_for(fd, id, owned) {
            map.file(fd, id.slot(), is_only);
        } else {
            self.file_checked(id, side, fd, owned, is_only)?;
        }
        self.poller.watch(fd, side, owned);
        Ok(())
    }

    /// Files the task under a descriptor after asking which file that is, because somebody waits there already, or because
    /// it is the first time that this task waits for a number that the scheduler does not own.
    ///
    /// A number tells nothing about the file behind it: it may have been closed and given to another file since somebody
    /// began to wait for it. So what was found out at the first wait is kept, and compared when it matters.
    ///
    /// Two cases escape this. Files without an identity of their own, such as eventfds, or TCP sockets on other systems than
    /// Linux, all look alike: there the second waiter is refused. And if a task closes a descriptor and then waits for the next
    /// file that has its number, nothing is asked, because that task has waited for the number before. So what was found out
    /// is about the old file. When another task then waits for the number, too, the first one gets an error that it does not
    /// deserve; and a third one that still waits for the other side of the old file gets its error only then.
    #[cold]
    fn file_checked(&mut self, id: TaskId, side: Side, fd: RawFd, owned: bool, is_only: bool) -> Result<(), Reason> {
        let closed = Reason::new(Kind::Closed, side, fd);
        let identity = if fd < 0 { None } else { self.poller.identity(fd).ok() }.ok_or(closed)?;
        // A task that waits for both sides means the same file on both: its own wait is not stale, whatever was found out
        // when it waited for this number before.
        for side in [Side::Recv, Side::Send] {
            let map = self.core.waiters.map(side);
            if !owned && map.get(fd) == Some(id.slot()) {
                map.set_checked(fd, Some((id, identity)));
            }
        }
        self.evict_stale(fd, Some(identity));
        let map = self.core.waiters.map(side);
        match map.get(fd) {
            Some(waiter) if waiter == id.slot() => return Ok(()),
            Some(_) => return Err(Reason::new(Kind::Busy, side, fd)),
            None => {}
        }
        map.file(fd, id.slot(), is_only);
        map.set_checked(fd, Some((id, identity)));
        Ok(())
    }

    /// Gives an error to whoever waits for `fd` and means another file than the one that `fd` names now. `names` is that file;
    /// if it is `None`, the poller is asked. A wait for an owned descriptor cannot be stale, and is left alone.
    pub(crate) fn evict_stale(&mut self, fd: RawFd, names: Option<Identity>) {
        for side in [Side::Recv, Side::Send] {
            let Some(known) = self.core.waiters.map(side).checked_identity(fd) else { continue };
            if names.or_else(|| self.poller.identity(fd).ok()) != Some(known) {
                self.evict(side, fd);
            }
        }
    }

    /// Gives an error to whoever waits for a side of `fd`.
    pub(crate) fn evict(&mut self, side: Side, fd: RawFd) {
        if let Some(index) = self.core.waiters.map(side).take(fd) {
            self.poller.unwatch(fd, side);
            if let Some(id) = self.core.slots.id_at(index) {
                self.move_to_ready(id, Reason::new(Kind::Closed, side, fd));
            }
        }
    }

    /// Sets the deadline of the task's wait; [`NEVER`] is none.
    pub(crate) fn set_deadline(&mut self, id: TaskId, deadline: Nanos) {
        let Some(slot) = self.core.slots.get_mut(id) else { return };
        slot.deadline = deadline;
        // The queue may keep an instant that is too early, never one that is too late.
        if deadline < slot.queued {
            slot.queued = deadline;
            self.queue_deadline(id, deadline);
        }
    }

    /// Out of the way of the deadlines that move with each message, and need no queue.
    #[cold]
    fn queue_deadline(&mut self, id: TaskId, deadline: Nanos) {
        let core = &mut self.core;
        core.timers.push(deadline, id);
        core.timers.tidy(core.slots.len(), |entry| core.slots.of_entry(entry).is_some());
    }

    /// Drops queued deadlines that no task has any more, until the soonest is one that a task still has, so that the scheduler
    /// does not wake up for nothing.
    pub(crate) fn discard_stale_deadlines(&mut self) {
        let core = &mut self.core;
        core.timers.discard_while(|entry| match core.slots.of_entry(entry) {
            Some(slot) if slot.deadline == NEVER => {
                slot.queued = NEVER;
                true
            }
            slot => slot.is_none(),
        });
    }

    /// Moves a task to the deque, if it waits.
    #[cold]
    pub(crate) fn make_ready(&mut self, id: TaskId, reason: Reason) {
        if self.core.is_waiting(id) {
            self.move_to_ready(id, reason);
        }
    }

    /// Moves a waiting task to the deque, and withdraws everything that it waited for.
    #[cold]
    pub(crate) fn move_to_ready(&mut self, id: TaskId, reason: Reason) {
        self.withdraw(id);
        let core = &mut self.core;
        if let Some(slot) = core.slots.get_mut(id) {
            slot.is_ready = true;
            slot.reason = reason;
            core.waiters.ready.push_back(id.slot() | OTHERWISE);
        }
    }

    /// Takes a task out of the wait maps, wherever it waits, and tells the poller.
    pub(crate) fn withdraw(&mut self, id: TaskId) {
        let Some(first) = self.core.slots.get(id).map(|slot| slot.reason) else { return };
        if let Some((fd, side)) = first.descriptor() {
            self.withdraw_descriptor(id, side, fd);
        }
        while let Some((fd, side)) = self.core.slots.pop_also(id) {
            self.withdraw_descriptor(id, side, fd);
        }
    }

    pub(crate) fn withdraw_descriptor(&mut self, id: TaskId, side: Side, fd: RawFd) {
        let map = self.core.waiters.map(side);
        if map.get(fd) == Some(id.slot()) {
            map.take(fd);
            self.poller.unwatch(fd, side);
        }
    }

    /// Frees a task's slot, tells the observer, and drops the task.
    pub(crate) fn end(&mut self, id: TaskId, task: Box<dyn Task>, end: End, is_in_deque: bool) {
        let Some(why) = self.core.slots.get(id).map(|slot| slot.reason) else { return };
        let by = self.core.slots.spawned_by(id);
        self.lapse(id, why);
        self.core.slots.remove(id, is_in_deque);
        self.core.tell(|observer| observer.ended(id, by, task.as_ref(), &end));
        // Each by itself, because either may panic: to drop the error that it ended with runs somebody else's code, too.
        for dropped in [catch(|| drop(task)), catch(|| drop(end))] {
            if let Err(message) = dropped {
                self.core.tell(|observer| observer.drop_panicked(id, &message));
            }
        }
    }
}
