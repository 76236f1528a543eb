//! What the tasks of a run note down about themselves, and the dice that everything is thrown with.

use crate::handle::Handle;
use crate::poller::{Happening, SimScript};
use crate::random::Random;
use crate::task::{Side, TaskId};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::PipeReader;
use std::os::fd::RawFd;
use std::time::Instant;

/// Beyond so many live tasks none is spawned.
pub(super) const TASKS_MAX: usize = 24;

/// The numbers that tasks wait on without owning them. Beyond those that the system hands out.
pub(super) const RAW_FDS: std::ops::Range<RawFd> = 30_000..30_006;

/// What the tasks know of themselves, and what the world does to them.
pub(super) struct Ledger {
    random: RefCell<Random>,
    pub(super) script: SimScript,
    pub(super) handle: Handle,
    pub(super) tasks: RefCell<HashMap<TaskId, Record>>,
    /// Every task that was ever spawned: some have ended.
    pub(super) ids: RefCell<Vec<TaskId>>,
    pub(super) resumed: RefCell<Vec<TaskId>>,
    /// Who must be ready when the turn ends, and why that may be.
    pub(super) woken: RefCell<HashSet<TaskId>>,
    pub(super) fired: RefCell<BTreeSet<(RawFd, Side)>>,
    /// The numbers of the descriptors that tasks own.
    pub(super) owned: RefCell<BTreeSet<RawFd>>,
    /// The other ends of what they own, or have owned.
    pub(super) readers: RefCell<Vec<PipeReader>>,
    pub(super) stopped: Cell<bool>,
    pub(super) drained: Cell<bool>,
    /// What a task has found wrong.
    pub(super) wrong: RefCell<Option<String>>,
}

/// What one task has noted down about itself.
#[derive(Default)]
pub(super) struct Record {
    pub(super) waits: BTreeSet<(RawFd, Side)>,
    pub(super) until: Option<Instant>,
    /// It is new, or has said `Wait::Turn`.
    pub(super) is_ready: bool,
}

impl Ledger {
    pub(super) fn new(seed: u64, script: SimScript, handle: Handle) -> Ledger {
        Ledger {
            random: RefCell::new(Random::new(seed)),
            script,
            handle,
            tasks: RefCell::default(),
            ids: RefCell::default(),
            resumed: RefCell::default(),
            woken: RefCell::default(),
            fired: RefCell::default(),
            owned: RefCell::default(),
            readers: RefCell::default(),
            stopped: Cell::default(),
            drained: Cell::default(),
            wrong: RefCell::default(),
        }
    }

    pub(super) fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    pub(super) fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn any_fd(&self) -> RawFd {
        let owned = self.owned.borrow();
        let index = self.below(RAW_FDS.len() + owned.len());
        owned.iter().nth(index).copied().unwrap_or_else(|| RAW_FDS.start + self.below(RAW_FDS.len()) as RawFd)
    }

    pub(super) fn any_side(&self) -> Side {
        if self.one_in(2) { Side::Recv } else { Side::Send }
    }

    pub(super) fn any_id(&self) -> TaskId {
        let ids = self.ids.borrow();
        // Mostly one of the younger: the others have ended.
        let among = ids.len().min(if self.one_in(4) { ids.len() } else { TASKS_MAX });
        ids[ids.len() - 1 - self.below(among)]
    }

    /// Something happens to some descriptor. Only raw ones are closed behind the scheduler's back.
    pub(super) fn disturb(&self) {
        let raw = RAW_FDS.start + self.below(RAW_FDS.len()) as RawFd;
        self.script.now(match self.below(12) {
            0..=4 => Happening::Ready(self.any_fd(), self.any_side()),
            5..=8 => Happening::NotReady(self.any_fd(), self.any_side()),
            9 if self.one_in(3) => Happening::HungUp(self.any_fd()),
            10 if self.one_in(2) => Happening::Closed(raw),
            9..=10 => Happening::Reused(raw),
            _ => Happening::Signal,
        });
    }

    pub(super) fn note_spawned(&self, id: TaskId) {
        self.ids.borrow_mut().push(id);
        self.tasks.borrow_mut().insert(id, Record { is_ready: true, ..Record::default() });
    }

    /// Says that a task, which waits now or will in a moment, is to be woken.
    pub(super) fn wake(&self, id: TaskId, waits: bool) {
        self.handle.wake(id);
        if waits {
            self.woken.borrow_mut().insert(id);
        }
    }
}
