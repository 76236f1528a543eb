//! Carrying out what tasks have said while they ran: adopt, spawn, cancel, give up, close, wake, drain, in this
//! order.

use crate::handle::{GivenUp, MAIL};
use crate::panics::catch;
use crate::reason::Reason;
use crate::scheduler::Scheduler;
use crate::slots::Slot;
use crate::task::{End, Side, TaskId};
use crate::timers::NEVER;
use std::mem;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Instant;

impl Scheduler {
    /// Carries out what was said during a resume. Three orders are kept here and nowhere else: *cancel, then drop*; *unregister,
    /// then close*; *close, then say that there is room*. To carry out one thing may put another into the mailbox, as when a task
    /// that is dropped has descriptors to close, so this goes on until the mailbox is empty.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if self.core.mailbox.notes.get() & MAIL != 0 {
            self.settle_all();
        }
    }

    #[inline(never)]
    fn settle_all(&mut self) {
        while self.core.mailbox.forget(MAIL) {
            let mailbox = Rc::clone(&self.core.mailbox);
            self.settle_adopted();
            self.settle_ended(None);
            while let Some(fd) = mailbox.closing.next() {
                let number = fd.as_raw_fd();
                self.evict(Side::Recv, number);
                self.evict(Side::Send, number);
                self.poller.forget(number);
                mailbox.owned.borrow_mut().remove(number);
                mailbox.urgent.borrow_mut().retain(|urgent| *urgent != number);
                drop(fd);
            }
            while let Some(what) = mailbox.after_closing.next() {
                what();
            }
            while let Some(id) = mailbox.woken.next() {
                self.wake(id);
            }
            if let Some(by) = mailbox.drain_by.get() {
                self.begin_drain(by);
            }
        }
    }

    /// Moves a task that has been woken to the deque. That withdraws what else it waits for, descriptors and a deadline. If
    /// somebody woke it in each turn, after it was filed and before the poll, it would never hear of them. So if it has any, one
    /// wake moves it at once, but the one after that is *held*: it moves the task after the next poll.
    fn wake(&mut self, id: TaskId) {
        if !self.core.is_waiting(id) {
            return;
        }
        let waits_for_several = !self.core.slots.also(id).is_empty();
        if let Some(slot) = self.core.slots.get_mut(id)
            && (waits_for_several || slot.reason != Reason::WAKE || slot.deadline != NEVER)
            && mem::replace(&mut slot.was_woken, true)
        {
            self.core.held.push_back(id);
        } else {
            self.move_to_ready(id, Reason::WAKE);
        }
    }

    /// Moves the tasks whose wake was held to the deque, unless they are there already, because the poll has found something for
    /// them. Where no poll comes, because a turn begins or somebody has said stop, they are moved all the same, and their next
    /// wake is held, too.
    pub(crate) fn wake_held(&mut self, has_polled: bool) {
        while let Some(id) = self.core.held.pop_front() {
            if let Some(slot) = self.core.slots.get_mut(id) {
                slot.was_woken = !has_polled;
            }
            self.make_ready(id, Reason::WAKE);
        }
    }

    /// Takes note of the descriptors that the scheduler has come to own. This is done before the task that has adopted one is
    /// filed, so that somebody who still waits for the file that had the number before does not get in its way.
    pub(crate) fn settle_adopted(&mut self) {
        while let Some(fd) = self.core.mailbox.adopted.next() {
            self.evict_stale(fd, None);
            for side in [Side::Recv, Side::Send] {
                self.core.waiters.map(side).set_checked(fd, None);
            }
        }
    }

    /// Spawns what is to be spawned, ends the tasks that have been cancelled, with all that they cancel in turn, and withdraws
    /// the waits that were [given up](GivenUp).
    ///
    /// After a resume this is done before `running`, the task that has said all this, is filed, because it may wait for the same
    /// descriptors next. What it has said about itself stays in the mailbox until it is filed.
    ///
    /// If the future of a wait that was given up was dropped, the task that waited is woken, to look what else there is to do. It
    /// is woken only when the descriptors that were dropped with the future are closed, which is what it is to hear if it waits
    /// for their numbers in another way, too. If the future was polled by another task, the task is not woken: it might
    /// poll the future again and so take it back, and the two would go on like this without end.
    pub(crate) fn settle_ended(&mut self, running: Option<TaskId>) {
        let mailbox = Rc::clone(&self.core.mailbox);
        // First, as a task may have been spawned and cancelled in one resume.
        while let Some(new) = mailbox.spawned.next() {
            let id = self.core.spawn(new.task, new.is_service, new.by);
            if let Some(tell_id) = new.tell_id {
                tell_id(id);
            }
        }
        let mut is_cancelled = false;
        while let Some(id) = mailbox.cancelled.next() {
            if running == Some(id) {
                is_cancelled = true;
            } else {
                self.end_other(id, End::Cancelled);
            }
        }
        if let Some(running) = running.filter(|_| is_cancelled) {
            self.handle().cancel(running);
        }
        while let Some(given_up) = mailbox.given_up.next() {
            let id = self.give_up(&given_up);
            // Whoever has that task's slot now may wait for the same through a future of its own.
            if !given_up.is_taken_over || id != given_up.task {
                self.handle().wake(id);
            }
        }
    }

    /// Ends a task that waits or is ready: any other than the one that is being resumed. Its waits are withdrawn first, so that
    /// nobody is resumed in its name.
    fn end_other(&mut self, id: TaskId, end: End) {
        let is_in_deque = !self.core.is_waiting(id);
        self.withdraw(id);
        if let Some(task) = self.core.slots.get_mut(id).and_then(|slot| slot.task.take()) {
            self.end(id, task, end, is_in_deque);
        }
    }

    /// Withdraws one wait of a task, at once, because somebody else may wait for the same next; the task's other waits stand.
    /// Returns the task.
    fn give_up(&mut self, given_up: &GivenUp) -> TaskId {
        let GivenUp { task: mut id, what, is_direct, .. } = *given_up;
        if let Some((fd, side)) = what.descriptor()
            && self.core.waiters.get(side, fd) == Some(id.slot())
        {
            // Almost always this is the same task. But if the task that began the future has ended, another may have taken over
            // both the future and the slot, and then it is the one that waits.
            id = self.core.slots.id_at(id.slot()).unwrap_or(id);
        }
        let is_waiting = self.core.is_waiting(id);
        let Some(slot) = self.core.slots.get_mut(id) else { return id };
        slot.has_lost_direct |= is_direct;
        if is_waiting && let Some((fd, side)) = what.descriptor() {
            if slot.reason == what {
                slot.reason = Reason::WAKE;
            } else {
                self.core.slots.remove_also(id, fd, side);
            }
            // Another future of the task may wait for the same, and was there before whoever comes next.
            if !self.core.slots.also(id).iter().any(|wait| wait.descriptor() == Some((fd, side))) {
                self.withdraw_descriptor(id, side, fd);
            }
        }
        id
    }

    fn begin_drain(&mut self, by: Instant) {
        let has_begun = self.core.timers.drain_by() != NEVER;
        self.core.timers.set_drain_by(self.core.epoch.nanos(by));
        if has_begun {
            return;
        }
        self.has_just_told = true;
        for id in self.core.slots.ids().collect::<Vec<_>>() {
            let Some(task) = self.core.slots.get_mut(id).and_then(|slot| slot.task.as_mut()) else { continue };
            match catch(|| task.drain()) {
                Ok(true) => self.make_ready(id, Reason::TURN),
                Ok(false) => {}
                Err(message) => self.end_other(id, End::Panicked(message)),
            }
        }
    }

    /// Ends every task that there is but the services, and with that a drain, if one has begun.
    pub fn cancel_all(&mut self) {
        self.cancel_each(|slot| !slot.is_service);
        // What is spawned from now on is no part of the drain.
        self.core.timers.set_drain_by(NEVER);
        self.core.mailbox.drain_by.set(None);
    }

    fn cancel_each(&mut self, is_meant: impl Fn(&Slot) -> bool) {
        // What has been spawned by now is to be among the tasks that it looks at.
        self.settle();
        for id in self.core.slots.ids().collect::<Vec<_>>() {
            if self.core.slots.get(id).is_some_and(&is_meant) {
                self.handle().cancel(id);
            }
        }
        self.settle();
    }
}

impl Drop for Scheduler {
    /// Drops every task, and with them whatever they own. The services come last, because one of them may be the log, and the
    /// others may have something to write as they are dropped.
    fn drop(&mut self) {
        self.core.mailbox.ending.set(true);
        self.cancel_all();
        self.cancel_each(|_| true);
        // Messages from other threads were received by a service, and that is gone.
        if let Some(remote) = self.core.mailbox.remote.get() {
            remote.close();
        }
        self.core.mailbox.orphaned.set(true);
    }
}
