//! Which acceptor looks next whether there is a descriptor again, and when.
//!
//! Nothing tells a process that a descriptor has come free elsewhere in the system, or that it may have more, so an acceptor that
//! is out of them has to look. Those that share a limit, on whichever threads, look one after the other, so that the process
//! wakes no more often than for one of them; whoever finds a descriptor wakes the others. Each has a time of its own to look
//! at, so if one of them is held up, the next one looks all the same.

use super::Pauses;
use crate::context::Context;
use crate::panics::lock;
use crate::remote::Remote;
use crate::task::TaskId;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What those who look one after the other share.
#[derive(Clone, Default)]
pub(crate) struct Rotation(Arc<Mutex<Round>>);

/// What there is to know until somebody has found a descriptor.
#[derive(Default)]
struct Round {
    number: u64,
    /// Whom to wake then.
    lookouts: Vec<(Remote, TaskId)>,
    /// When the last of them looks.
    last: Option<Instant>,
    /// How long after the one before each looks.
    pauses: Pauses,
}

impl Round {
    /// When the next one looks.
    fn next(&mut self, now: Instant) -> Instant {
        let at = self.last.map_or(now, |last| last.max(now)) + self.pauses.next();
        self.last = Some(at);
        at
    }
}

/// An acceptor that is out of descriptors. When this is dropped, because it has found one or because it does not look any more,
/// all the others look at once: there may be another, and nobody is to wait for the look that it will not take.
pub(crate) struct Lookout {
    rotation: Rotation,
    /// How the others reach it.
    scheduler: Option<Remote>,
    /// The round in which it has a place, and when that is.
    round: Option<u64>,
    at: Instant,
}

impl Lookout {
    /// Looks with the others of this rotation. Whoever has none, or cannot be reached, looks alone.
    pub(crate) fn new(cx: &Context<'_>, rotation: Option<&Rotation>) -> Lookout {
        let shared = rotation.and_then(|rotation| Some((rotation.clone(), Some(cx.remote().ok()?))));
        let (rotation, scheduler) = shared.unwrap_or_default();
        Lookout { rotation, scheduler, round: None, at: cx.now() }
    }

    /// There is no descriptor: when to look again.
    pub(crate) fn next(&mut self, cx: &Context<'_>) -> Instant {
        let mut round = lock(&self.rotation.0);
        let is_new = self.round.replace(round.number) != Some(round.number);
        if is_new {
            round.lookouts.extend(self.scheduler.clone().map(|scheduler| (scheduler, cx.id())));
        }
        // Whoever has looked before its time, because a drain has begun, keeps its place.
        if is_new || self.at <= cx.now() {
            self.at = round.next(cx.now());
        }
        self.at
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        let mut round = lock(&self.rotation.0);
        let number = round.number + 1;
        let ended = mem::replace(&mut *round, Round { number, ..Round::default() });
        drop(round);
        for (scheduler, task) in ended.lookouts {
            scheduler.wake(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Handle;
    use crate::scheduler::Scheduler;
    use crate::task::{Wait, task_fn};
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    #[test]
    fn who_has_not_looked_for_long_looks_later_and_not_at_once() {
        let (mut round, begin) = (Round::default(), Instant::now());
        let first = round.next(begin);
        assert!(first > begin);
        let later = begin + Duration::from_secs(60);
        assert!(round.next(later) > later);
    }

    /// More than it takes for the message that wakes a task to arrive.
    const TURNS: u32 = 10;

    /// Spawns one who looks each time that it is resumed, and finds nothing. Returns how often it has looked.
    fn spawn_in_vain(scheduler: &Handle, rotation: &Rotation) -> Rc<Cell<u32>> {
        let (looks, rotation) = (Rc::new(Cell::new(0)), rotation.clone());
        let count = Rc::clone(&looks);
        let mut lookout = None;
        scheduler.spawn(task_fn("in vain", move |cx| {
            count.set(count.get() + 1);
            lookout.get_or_insert_with(|| Lookout::new(cx, Some(&rotation))).next(cx);
            Ok(Wait::Wake)
        }));
        looks
    }

    #[test]
    fn whoever_has_looked_in_vain_is_woken_each_time_that_another_has_not() {
        let mut scheduler = Scheduler::new();
        // A turn does not sleep.
        scheduler.spawn(task_fn("always ready", |_| Ok(Wait::Turn)));
        let (handle, rotation) = (scheduler.handle(), Rotation::default());
        let in_vain = spawn_in_vain(&handle, &rotation);
        let turns = |scheduler: &mut Scheduler| (0..TURNS).all(|_| scheduler.turn());
        assert!(turns(&mut scheduler));
        for found in 1..=3 {
            scheduler.spawn(task_fn("in luck", {
                let rotation = rotation.clone();
                move |cx| {
                    Lookout::new(cx, Some(&rotation)).next(cx);
                    Ok(Wait::Done)
                }
            }));
            assert!(turns(&mut scheduler));
            assert_eq!(in_vain.get(), 1 + found);
        }
    }
}
