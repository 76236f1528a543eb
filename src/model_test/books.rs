//! The scheduler's books, held against each other and against what the tasks have noted down; and what is watched when it
//! polls, against what they wait for.

use super::ledger::{Ledger, Record};
use crate::poller::{Patience, Poller, Sim, Waiters};
use crate::reason::Reason;
use crate::scheduler::Scheduler;
use crate::state::Core;
use crate::task::{Side, TaskId};
use crate::timers::NEVER;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Instant;

/// A [`Sim`] that looks at what is watched when the scheduler polls, and notes what fires.
pub(super) struct Checked {
    pub(super) sim: Sim,
    pub(super) ledger: Rc<RefCell<Option<Rc<Ledger>>>>,
}

impl Poller for Checked {
    fn now(&self) -> Instant {
        self.sim.now()
    }

    fn identity(&self, fd: RawFd) -> io::Result<(u64, u64)> {
        self.sim.identity(fd)
    }

    fn watch(&mut self, fd: RawFd, side: Side, owned: bool) {
        assert!(fd >= 0, "a negative number is refused before it gets here");
        self.sim.watch(fd, side, owned);
    }

    fn unwatch(&mut self, fd: RawFd, side: Side) {
        self.sim.unwatch(fd, side);
    }

    fn forget(&mut self, fd: RawFd) {
        self.sim.forget(fd);
    }

    fn wait(&mut self, patience: Patience, waiters: &mut Waiters) -> io::Result<()> {
        let ledger = self.ledger.borrow().clone().expect("the run has begun");
        {
            let tasks = ledger.tasks.borrow();
            let waited: BTreeSet<_> = tasks.values().flat_map(|record| &record.waits).copied().collect();
            for side in ledger.script.watched() {
                assert!(waited.contains(&side), "{side:?} is watched, and nobody waits for it");
            }
        }
        let mut nobody = Waiters::default();
        let result = self.sim.wait(patience, &mut nobody);
        let fired = nobody.take_unclaimed();
        *ledger.fired.borrow_mut() = fired.iter().map(|one| (one.fd, one.side)).collect();
        for one in fired {
            waiters.fire(one);
        }
        result
    }
}

/// Holds the scheduler's books against each other, and against what the tasks have noted down.
pub(super) fn check(scheduler: &Scheduler, ledger: &Ledger) {
    let core = &scheduler.core;
    let mut queued: BTreeMap<u32, usize> = BTreeMap::new();
    for index in core.waiters.ready.iter() {
        *queued.entry(index).or_default() += 1;
    }
    assert!(queued.values().all(|count| *count == 1), "a slot is named twice in the deque");
    let watched: BTreeSet<_> = ledger.script.watched().into_iter().collect();
    let records = ledger.tasks.borrow();
    let mut entries = 0;
    for id in core.slots.ids() {
        let slot = core.slots.get(id).expect("a live task has a slot");
        let record = &records[&id];
        assert!(slot.task.is_some(), "{id} is in its slot when nobody runs");
        let (count, is_waiting) = (queued.get(&id.slot()).copied().unwrap_or(0), core.is_waiting(id));
        assert_eq!(count, usize::from(!is_waiting), "{id} waits: {is_waiting}, and is {count} times ready");
        if !is_waiting {
            entries += usize::from(has_fired(core, id));
            check_ready(id, slot.reason, record, scheduler, ledger);
            continue;
        }
        let is_due = !ledger.stopped.get() && record.until.is_some_and(|at| at <= core.mailbox.now());
        assert!(!record.is_ready && !is_due, "{id} waits, although it is ready");
        assert!(!ledger.woken.borrow().contains(&id), "{id} waits, although it was woken");
        let first = slot.reason.descriptor();
        let also = core.slots.also(id).iter().filter_map(|wait| wait.descriptor());
        let waits: BTreeSet<_> = first.into_iter().chain(also).collect();
        assert_eq!(waits, record.waits, "{id} waits for what it asked for");
        for (fd, side) in waits {
            assert_eq!(core.waiters.get(side, fd), Some(id.slot()), "{id} is filed under {side:?} {fd}");
            assert!(watched.contains(&(fd, side)), "{id} waits for {side:?} {fd}, and nobody watches it");
            assert!(!ledger.fired.borrow().contains(&(fd, side)), "{side:?} {fd} has fired, and {id} waits for it");
            entries += 1;
        }
        assert_eq!(slot.deadline == NEVER, record.until.is_none(), "{id} has the deadline that it asked for");
        assert!(slot.queued <= slot.deadline, "{id} is queued too late");
        assert!(core.timers.soonest() <= slot.queued, "{id} is due before what is thought to be the soonest");
    }
    assert_eq!(core.waiters.waiting(), entries, "an entry names somebody who does not wait for it");
}

/// Whether a ready task may still renew the wait that it is ready for.
fn has_fired(core: &Core, id: TaskId) -> bool {
    let reason = core.slots.get(id).map_or(Reason::TURN, |slot| slot.reason);
    reason.descriptor().is_some_and(|(fd, side)| {
        let map = if side == Side::Recv { &core.waiters.recv_wait } else { &core.waiters.send_wait };
        map.has_fired(fd, id.slot())
    })
}

/// Holds why a task is ready against what it has noted down.
fn check_ready(id: TaskId, reason: Reason, record: &Record, scheduler: &Scheduler, ledger: &Ledger) {
    let wait = reason.wait(|| scheduler.core.mailbox.now());
    if let Some(side) = wait.descriptor() {
        assert!(record.waits.contains(&side), "{id} is ready for {wait}, for which it did not wait");
    } else if reason == Reason::UNTIL {
        assert!(record.until.is_some_and(|at| at <= scheduler.core.mailbox.now()), "{id} is ready too early");
    } else if reason == Reason::WAKE {
        assert!(ledger.woken.borrow().contains(&id), "{id} is ready, and nobody woke it");
    } else {
        assert!(record.is_ready || ledger.drained.get(), "{id} is ready, and did not ask for a turn");
    }
}
