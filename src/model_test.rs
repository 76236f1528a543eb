//! A seeded model run of the scheduler: random tasks wait, spawn, cancel, wake, fail, panic, and close and reuse descriptors
//! in virtual time, and after every turn the scheduler's books are held against what the tasks have noted down themselves.
//!
//! What must hold:
//! - Every live task is in exactly one place: ready, and then once in the deque; or waiting, and then in the wait maps
//!   under each descriptor that it waits for.
//! - No wait map entry names a task that does not wait for it.
//! - What is ready when a turn begins is resumed once in it, and nothing else is.
//! - What fired, is due, or was woken is ready when the turn ends; what is ready has one of these reasons, or an error that
//!   names a wait which it asked for.
//! - Nothing is watched, when the scheduler polls, that nobody waits for.
//! - When all has ended, everything is as it was: no slot, no entry, no watched side, no open descriptor.

use crate::context::Context;
use crate::handle::{Descriptor, Handle};
use crate::poller::{Fired, Happening, Patience, Poller, Sim, SimScript};
use crate::scheduler::Scheduler;
use crate::slots::Reason;
use crate::state::Core;
use crate::task::{Side, Task, TaskId, Wait, WaitError};
use crate::timers::NEVER;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many runs there are; a failure names its seed.
const SEEDS: u64 = 1_000;

/// How many turns a run takes before everything is cancelled.
const TURNS: usize = 60;

/// Beyond so many live tasks none is spawned.
const TASKS_MAX: usize = 24;

/// The numbers that tasks wait on without owning them. Beyond those that the system hands out.
const RAW_FDS: std::ops::Range<RawFd> = 30_000..30_006;

/// What the tasks know of themselves, and what the world does to them.
struct Ledger {
    random: Cell<u64>,
    script: SimScript,
    handle: Handle,
    tasks: RefCell<HashMap<TaskId, Record>>,
    /// Every task that was ever spawned: some have ended.
    ids: RefCell<Vec<TaskId>>,
    resumed: RefCell<Vec<TaskId>>,
    /// Who must be ready when the turn ends, and why that may be.
    woken: RefCell<HashSet<TaskId>>,
    fired: RefCell<BTreeSet<(RawFd, Side)>>,
    /// The numbers of the descriptors that tasks own.
    owned: RefCell<BTreeSet<RawFd>>,
    /// The other ends of what they own, by the number of this end.
    readers: RefCell<Vec<PipeReader>>,
    stopped: Cell<bool>,
    drained: Cell<bool>,
    /// What a task has found wrong.
    wrong: RefCell<Option<String>>,
}

/// What one task has noted down about itself.
#[derive(Default)]
struct Record {
    waits: BTreeSet<(RawFd, Side)>,
    until: Option<Instant>,
    /// It is new, or has said `Wait::Turn`.
    is_ready: bool,
}

impl Ledger {
    /// xorshift64*: good enough to shuffle.
    fn below(&self, end: usize) -> usize {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }

    fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn any_fd(&self) -> RawFd {
        let owned = self.owned.borrow();
        let index = self.below(RAW_FDS.len() + owned.len());
        owned.iter().nth(index).copied().unwrap_or_else(|| RAW_FDS.start + self.below(RAW_FDS.len()) as RawFd)
    }

    fn any_side(&self) -> Side {
        if self.one_in(2) { Side::Recv } else { Side::Send }
    }

    fn any_id(&self) -> TaskId {
        let ids = self.ids.borrow();
        // Mostly one of the younger: the others have ended.
        let among = ids.len().min(if self.one_in(4) { ids.len() } else { TASKS_MAX });
        ids[ids.len() - 1 - self.below(among)]
    }

    /// Something happens to some descriptor. Only raw ones are closed behind the scheduler's back.
    fn disturb(&self) {
        let raw = RAW_FDS.start + self.below(RAW_FDS.len()) as RawFd;
        self.script.now(match self.below(12) {
            0..=4 => Happening::Ready(self.any_fd(), self.any_side()),
            5..=8 => Happening::Drained(self.any_fd(), self.any_side()),
            9 if self.one_in(3) => Happening::HungUp(self.any_fd()),
            10 if self.one_in(2) => Happening::Closed(raw),
            9..=10 => Happening::Reused(raw),
            _ => Happening::Signal,
        });
    }

    fn note_spawned(&self, id: TaskId) {
        self.ids.borrow_mut().push(id);
        self.tasks.borrow_mut().insert(id, Record { is_ready: true, ..Record::default() });
    }

    /// Says that a task, which waits now or will in a moment, is to be woken.
    fn wake(&self, id: TaskId, waits: bool) {
        self.handle.wake(id);
        if waits {
            self.woken.borrow_mut().insert(id);
        }
    }
}

/// A task that does random things.
struct Chaotic {
    ledger: Rc<Ledger>,
    id: Option<TaskId>,
    owned: Vec<Descriptor>,
}

impl Chaotic {
    fn new(ledger: &Rc<Ledger>) -> Chaotic {
        Chaotic { ledger: Rc::clone(ledger), id: None, owned: Vec::new() }
    }

    fn act(&mut self, cx: &mut Context<'_>) {
        let ledger = Rc::clone(&self.ledger);
        match ledger.below(16) {
            0..=3 if ledger.tasks.borrow().len() < TASKS_MAX => {
                let id = cx.spawn(Chaotic::new(&ledger));
                ledger.note_spawned(id);
            }
            4 => cx.cancel(ledger.any_id()),
            5..=6 => {
                let id = ledger.any_id();
                let waits = cx.core.is_waiting(id) || id == cx.id();
                ledger.wake(id, waits);
            }
            7..=8 if self.owned.len() < 3 => {
                let (reader, writer) = io::pipe().expect("a pipe");
                rustix::io::ioctl_fionbio(&reader, true).expect("a pipe can be non-blocking");
                ledger.script.now(Happening::Reused(writer.as_raw_fd()));
                ledger.owned.borrow_mut().insert(writer.as_raw_fd());
                ledger.readers.borrow_mut().push(reader);
                self.owned.push(cx.adopt(writer));
            }
            9 => self.let_go(),
            10..=13 => ledger.disturb(),
            14 if ledger.one_in(30) => {
                ledger.stopped.set(true);
                cx.stop();
            }
            15 if ledger.one_in(60) => {
                ledger.drained.set(true);
                cx.drain(cx.now() + Duration::from_millis(ledger.below(20) as u64));
            }
            _ => {}
        }
    }

    fn let_go(&mut self) {
        if let Some(descriptor) = self.owned.pop() {
            self.ledger.owned.borrow_mut().remove(&descriptor.as_raw_fd());
        }
    }

    fn any_wait(&self, cx: &Context<'_>) -> Wait {
        let ledger = &self.ledger;
        let own = self.owned.last().map_or_else(|| ledger.any_fd(), AsRawFd::as_raw_fd);
        match ledger.below(16) {
            0..=4 => ledger.any_side().of(own),
            5..=8 => ledger.any_side().of(ledger.any_fd()),
            9..=10 => Wait::Until(cx.now() + Duration::from_micros(ledger.below(4_000) as u64)),
            11 => ledger.any_side().of(-1 - ledger.below(2) as RawFd),
            12..=13 => Wait::Turn,
            _ => Wait::Wake,
        }
    }

    /// Acts, and says what comes next; notes it down first.
    fn go_on(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let ledger = Rc::clone(&self.ledger);
        self.id = Some(cx.id());
        ledger.resumed.borrow_mut().push(cx.id());
        ledger.woken.borrow_mut().remove(&cx.id());
        ledger.tasks.borrow_mut().insert(cx.id(), Record::default());
        for _ in 0..ledger.below(3) {
            self.act(cx);
        }
        let mut record = Record::default();
        let mut note = |wait: Wait| match wait {
            Wait::Until(at) => record.until = Some(record.until.map_or(at, |before: Instant| before.min(at))),
            Wait::Turn => record.is_ready = true,
            wait => record.waits.extend(wait.descriptor()),
        };
        for _ in 0..ledger.below(9) / 4 {
            let wait = self.any_wait(cx);
            note(wait);
            cx.or(wait);
        }
        match ledger.below(40) {
            0 => return Ok(Wait::Done),
            1 => return Err(io::Error::other("a random error")),
            2 => resume_unwind(Box::new("a random panic")),
            _ => {}
        }
        let wait = self.any_wait(cx);
        note(wait);
        ledger.tasks.borrow_mut().insert(cx.id(), record);
        Ok(wait)
    }

    /// Holds the reason for a resume against what the task has noted down. A panic here would be the task's own end, so
    /// what is wrong is noted, too.
    fn check_why(&self, cx: &Context<'_>) {
        let tasks = self.ledger.tasks.borrow();
        let record = tasks.get(&cx.id()).expect("a live task has a record");
        let is_right = match cx.why() {
            Wait::Recv(fd) => record.waits.contains(&(fd, Side::Recv)),
            Wait::Send(fd) => record.waits.contains(&(fd, Side::Send)),
            Wait::Until(at) => record.until == Some(at) && at <= cx.now(),
            Wait::Turn => record.is_ready || self.ledger.drained.get(),
            Wait::Wake => self.ledger.woken.borrow().contains(&cx.id()),
            Wait::Done => false,
        };
        if !is_right {
            *self.ledger.wrong.borrow_mut() = Some(format!("{} is resumed for {}", cx.id(), cx.why()));
        }
    }
}

impl Task for Chaotic {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.check_why(cx);
        self.go_on(cx)
    }

    fn wait_failed(&mut self, cx: &mut Context<'_>, error: WaitError) -> io::Result<Wait> {
        let (WaitError::Busy(wait) | WaitError::Closed(wait)) = error;
        if cx.why() != wait {
            *self.ledger.wrong.borrow_mut() = Some(format!("{} is told {error}, and {}", cx.id(), cx.why()));
        }
        self.check_why(cx);
        if self.ledger.one_in(3) { Err(error.into()) } else { self.go_on(cx) }
    }

    fn drain(&mut self) -> bool {
        self.ledger.one_in(2)
    }
}

impl Drop for Chaotic {
    fn drop(&mut self) {
        while !self.owned.is_empty() {
            self.let_go();
        }
        if let Some(id) = self.id {
            self.ledger.tasks.borrow_mut().remove(&id);
            self.ledger.woken.borrow_mut().remove(&id);
        }
        if self.ledger.one_in(50) {
            resume_unwind(Box::new("a random panic in drop"));
        }
    }
}

/// A [`Sim`] that looks at what is watched when the scheduler polls, and notes what fires.
struct Checked {
    sim: Sim,
    ledger: Rc<RefCell<Option<Rc<Ledger>>>>,
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

    fn wait(&mut self, patience: Patience, fired: &mut Vec<Fired>) -> io::Result<()> {
        let ledger = self.ledger.borrow().clone().expect("the run has begun");
        {
            let tasks = ledger.tasks.borrow();
            let waited: BTreeSet<_> = tasks.values().flat_map(|record| &record.waits).copied().collect();
            for side in ledger.script.watched() {
                assert!(waited.contains(&side), "{side:?} is watched, and nobody waits for it");
            }
        }
        let before = fired.len();
        let result = self.sim.wait(patience, fired);
        *ledger.fired.borrow_mut() = fired[before..].iter().map(|one| (one.fd(), one.side())).collect();
        result
    }
}

/// Holds the scheduler's books against each other, and against what the tasks have noted down.
fn check(scheduler: &Scheduler, ledger: &Ledger) {
    let core = &scheduler.core;
    let mut queued: BTreeMap<u32, usize> = BTreeMap::new();
    for index in core.ready.iter() {
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
        let is_due = record.until.is_some_and(|at| at <= core.now);
        assert!(!record.is_ready && !is_due, "{id} waits, although it is ready");
        assert!(!ledger.woken.borrow().contains(&id), "{id} waits, although it was woken");
        let first = slot.reason.wait(|| core.now).descriptor();
        let also = slot.also.iter().flat_map(|also| also.iter()).filter_map(|wait| wait.descriptor());
        let waits: BTreeSet<_> = first.into_iter().chain(also).collect();
        assert_eq!(waits, record.waits, "{id} waits for what it asked for");
        for (fd, side) in waits {
            let map = if side == Side::Recv { &core.recv_wait } else { &core.send_wait };
            assert_eq!(map.get(fd), Some(id.slot()), "{id} is filed under {side:?} {fd}");
            assert!(watched.contains(&(fd, side)), "{id} waits for {side:?} {fd}, and nobody watches it");
            assert!(!ledger.fired.borrow().contains(&(fd, side)), "{side:?} {fd} has fired, and {id} waits for it");
            entries += 1;
        }
        assert_eq!(slot.deadline == NEVER, record.until.is_none(), "{id} has the deadline that it asked for");
        assert!(slot.queued <= slot.deadline, "{id} is queued too late");
    }
    assert_eq!(
        core.recv_wait.len() + core.send_wait.len(),
        entries,
        "an entry names somebody who does not wait for it"
    );
}

/// Whether a ready task may still renew the wait that it is ready for.
fn has_fired(core: &Core, id: TaskId) -> bool {
    let reason = core.slots.get(id).map_or(Reason::TURN, |slot| slot.reason);
    reason.wait(|| core.now).descriptor().is_some_and(|(fd, side)| {
        let map = if side == Side::Recv { &core.recv_wait } else { &core.send_wait };
        map.has_fired(fd, id.slot())
    })
}

/// Holds why a task is ready against what it has noted down.
fn check_ready(id: TaskId, reason: Reason, record: &Record, scheduler: &Scheduler, ledger: &Ledger) {
    let wait = reason.wait(|| scheduler.core.now);
    if let Some(side) = wait.descriptor() {
        assert!(record.waits.contains(&side), "{id} is ready for {wait}, for which it did not wait");
    } else if reason == Reason::UNTIL {
        assert!(record.until.is_some_and(|at| at <= scheduler.core.now), "{id} is ready too early");
    } else if reason == Reason::WAKE {
        assert!(ledger.woken.borrow().contains(&id), "{id} is ready, and nobody woke it");
    } else {
        assert!(record.is_ready || ledger.drained.get(), "{id} is ready, and did not ask for a turn");
    }
}

/// Takes one turn, and asserts that whoever was ready is resumed once, and nobody else.
fn turn(scheduler: &mut Scheduler, ledger: &Ledger) {
    scheduler.settle();
    let live = |scheduler: &Scheduler, id: &TaskId| scheduler.core.slots.get(*id).is_some();
    let ready: Vec<TaskId> =
        scheduler.core.ready.iter().filter_map(|index| scheduler.core.slots.id_at(index)).collect();
    ledger.resumed.borrow_mut().clear();
    ledger.stopped.set(false);
    ledger.fired.borrow_mut().clear();
    scheduler.turn();
    assert_eq!(ledger.wrong.take(), None);
    let resumed = ledger.resumed.take();
    let mut rest = resumed.iter();
    // In the order of the deque; whoever is missing has been cancelled, or comes after a stop, or ended by an error.
    for id in &ready {
        if rest.as_slice().first() == Some(id) {
            rest.next();
        } else {
            assert!(!live(scheduler, id) || ledger.stopped.get(), "{id} was ready and has not been resumed");
        }
    }
    assert_eq!(rest.as_slice(), [], "somebody was resumed who was not ready when the turn began, or twice");
    check(scheduler, ledger);
}

/// Things that happen between two turns, from outside.
fn meddle(scheduler: &mut Scheduler, ledger: &Rc<Ledger>) {
    for _ in 0..ledger.below(3) {
        match ledger.below(8) {
            0..=3 => ledger.disturb(),
            4 => ledger.handle.cancel(ledger.any_id()),
            5 => {
                let id = ledger.any_id();
                // What was said before has been carried out, but for a cancel that was said in this very loop.
                scheduler.settle();
                let waits = scheduler.core.is_waiting(id);
                ledger.wake(id, waits);
            }
            6 => ledger.script.advance(Duration::from_micros(ledger.below(1_000) as u64)),
            _ if ledger.one_in(4) => ledger.script.fail_next_wait(io::ErrorKind::OutOfMemory),
            _ => {}
        }
    }
    if ledger.tasks.borrow().len() < 6 {
        let id = scheduler.spawn(Chaotic::new(ledger));
        ledger.note_spawned(id);
    }
}

/// One run from one seed.
fn run(seed: u64) {
    let (sim, script) = Sim::new();
    let link = Rc::new(RefCell::new(None));
    let mut scheduler = Scheduler::with_poller(Box::new(Checked { sim, ledger: Rc::clone(&link) }));
    let ledger = Rc::new(Ledger {
        random: Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        script,
        handle: scheduler.handle(),
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
    });
    *link.borrow_mut() = Some(Rc::clone(&ledger));
    let id = scheduler.spawn(Chaotic::new(&ledger));
    ledger.note_spawned(id);
    for _ in 0..TURNS {
        meddle(&mut scheduler, &ledger);
        turn(&mut scheduler, &ledger);
    }
    scheduler.cancel_all();
    assert_eq!(scheduler.core.slots.len(), 0);
    assert_eq!(scheduler.core.recv_wait.len() + scheduler.core.send_wait.len(), 0);
    for reader in ledger.readers.borrow().iter() {
        let end = (&*reader).read(&mut [0]).expect("a descriptor that a task owned is closed");
        assert_eq!(end, 0);
    }
    // One more poll, and nothing is watched.
    let id = scheduler.spawn(crate::task_fn("last", |_| Ok(Wait::Turn)));
    scheduler.turn();
    scheduler.handle().cancel(id);
    assert!(!scheduler.turn());
    assert_eq!(ledger.script.watched(), []);
    assert!(scheduler.core.ready.is_empty());
}

#[test]
fn whatever_random_tasks_do_the_books_are_right_after_every_turn() {
    for seed in 1..=SEEDS {
        assert!(catch_unwind(|| run(seed)).is_ok(), "seed {seed}");
    }
}
