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
