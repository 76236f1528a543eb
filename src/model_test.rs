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

mod books;
mod chaotic;
mod ledger;

use crate::poller::Sim;
use crate::scheduler::Scheduler;
use crate::task::{TaskId, Wait};
use books::{Checked, check};
use chaotic::Chaotic;
use ledger::Ledger;
use std::cell::RefCell;
use std::io::{self, Read};
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;

/// How many runs there are; a failure names its seed.
const SEEDS: u64 = 1_000;

/// How many turns a run takes before everything is cancelled.
const TURNS: usize = 60;

/// Takes one turn, and asserts that whoever was ready is resumed once, and nobody else.
fn turn(scheduler: &mut Scheduler, ledger: &Ledger) {
    scheduler.settle();
    scheduler.wake_held(false);
    let live = |scheduler: &Scheduler, id: &TaskId| scheduler.core.slots.get(*id).is_some();
    let ready: Vec<TaskId> =
        scheduler.core.waiters.ready.iter().filter_map(|index| scheduler.core.slots.id_at(index)).collect();
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
    let ledger = Rc::new(Ledger::new(seed, script, scheduler.handle()));
    *link.borrow_mut() = Some(Rc::clone(&ledger));
    let id = scheduler.spawn(Chaotic::new(&ledger));
    ledger.note_spawned(id);
    for _ in 0..TURNS {
        meddle(&mut scheduler, &ledger);
        turn(&mut scheduler, &ledger);
    }
    scheduler.cancel_all();
    assert_eq!(scheduler.core.slots.ids().count(), 0);
    assert_eq!(scheduler.core.waiters.waiting(), 0);
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
    assert!(scheduler.core.waiters.ready.is_empty());
    assert_eq!(scheduler.core.slots.len(), 0, "the slot of each who has ended is free");
}

#[test]
fn whatever_random_tasks_do_the_books_are_right_after_every_turn() {
    for seed in 1..=SEEDS {
        assert!(catch_unwind(|| run(seed)).is_ok(), "seed {seed}");
    }
}
