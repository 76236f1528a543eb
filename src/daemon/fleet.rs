//! What the workers of one daemon share: what one of them is told, all of them learn.

use fdtask::{Handle, Remote, Scheduler, TaskId, Wait, task_fn};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The workers, each a scheduler on a thread of its own; the first is on the main thread, and has the signals.
#[derive(Clone, Default)]
pub struct Fleet(Arc<Mutex<Shared>>);

#[derive(Default)]
pub struct Shared {
    /// The schedulers of the workers but the first.
    pub others: Vec<Remote>,
    /// The first worker's scheduler, and its task that waits for the others to end.
    first: Option<(Remote, TaskId)>,
    /// One of them cannot go on.
    pub is_broken: bool,
    /// How many connections have been ended although the client had not hung up.
    pub cut_off: usize,
    /// What trouble has been reported lately, and when.
    reports: Vec<(String, Instant)>,
}

/// How often the same trouble is reported, at most, by however many workers.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Fleet {
    /// What they share, for the length of a statement: whoever holds it keeps all the others waiting.
    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.0)
    }

    /// A worker but the first has ended, and its scheduler is gone.
    pub fn leave(&self) {
        if let Some((first, waiting)) = &self.shared().first {
            first.wake(*waiting);
        }
    }

    /// Whether any worker but the first has not ended.
    pub fn has_others(&self) -> bool {
        self.shared().others.iter().any(|other| !other.is_closed())
    }

    /// Makes the first worker, which receives the signals, run for as long as any other does, but not beyond `by`.
    ///
    /// # Errors
    /// The others would have no way to tell it.
    pub fn wait_for_others(&self, first: &mut Scheduler, by: Option<Instant>) -> io::Result<()> {
        let (remote, fleet) = (first.remote()?, self.clone());
        let task = task_fn("other workers", move |cx| {
            Ok(match by {
                _ if !fleet.has_others() => Wait::Done,
                Some(by) if cx.now() >= by => Wait::Done,
                Some(by) => Wait::Until(by),
                None => Wait::Wake,
            })
        });
        self.shared().first = Some((remote, first.spawn(task)));
        Ok(())
    }

    /// Drains all of them. `own` is the scheduler of the worker that says so.
    pub fn drain(&self, own: &Handle, by: Instant) {
        own.drain(by);
        let shared = self.shared();
        shared.others.iter().for_each(|other| other.drain(by));
        if let Some((first, _)) = &shared.first {
            first.drain(by);
        }
    }

    /// Whether to report this now: not if the same has been reported within the last second, be it of another listener.
    pub fn may_report(&self, what: &str) -> bool {
        let what = trouble(what);
        let now = Instant::now();
        let reports = &mut self.shared().reports;
        reports.retain(|(_, at)| now.duration_since(*at) < REPORT_INTERVAL);
        let is_new = !reports.iter().any(|(before, _)| *before == what);
        if is_new {
            reports.push((what, now));
        }
        is_new
    }
}

/// Nothing is left half-done under any of these locks, whoever panics.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is the matter, without the listener's address: `cannot accept on 0.0.0.0:25000: Too many open files; …` is
/// `cannot accept: Too many open files; …`. (By the text, because text is what an observer is told.)
fn trouble(report: &str) -> String {
    match (report.split_once(" on "), report.split_once(": ")) {
        (Some((what, _)), Some((_, reason))) => format!("{what}: {reason}"),
        _ => report.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listeners_have_the_same_trouble_if_the_reason_is_the_same() {
        let first = trouble("cannot accept on 127.0.0.1:1: no descriptor is left; clients wait");
        assert_eq!(trouble("cannot accept on [::1]:2: no descriptor is left; clients wait"), first);
        assert_ne!(trouble("cannot accept on [::1]:2: network is down; clients wait"), first);
        assert_ne!(trouble("cannot poll: no descriptor is left; retrying"), first);
    }
}
