//! How many connections may be open at a time.

use super::lookout::Rotation;
use crate::panics::lock;
use crate::remote::Remote;
use crate::task::TaskId;
use std::sync::{Arc, Mutex};

/// A number of connections that may be open at a time, shared by the acceptors that are given a clone of it, on whichever
/// thread they run. An acceptor that finds no room waits, without polling its listener, until one of the connections is
/// closed. When no descriptor is left, the acceptors that share a limit look for one together and not each by itself, which is a
/// reason to share even a limit of [`usize::MAX`].
///
/// A connection counts until the [`Stream`](super::Stream) that the acceptor has made of it is closed, whichever task owns it by
/// then.
///
/// Without a limit an acceptor takes the last descriptor there is, and a client for whom a file or another connection is opened
/// finds none. So a proxy, say, which needs two for each client, asks [`raise_descriptor_limit`](super::raise_descriptor_limit)
/// how many there are, leaves some for itself, and accepts half as many clients.
#[derive(Clone)]
pub struct Limit(Arc<Inner>);

struct Inner {
    max: usize,
    state: Mutex<State>,
    rotation: Rotation,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Whom to wake when a connection is closed.
    waiting: Vec<(Remote, TaskId)>,
}

/// One of the connections of a [`Limit`]; open until it is dropped.
pub(crate) struct Permit(Limit);

impl Limit {
    /// At most `max` connections at a time. With 0, none is ever accepted.
    pub fn new(max: usize) -> Limit {
        Limit(Arc::new(Inner { max, state: Mutex::default(), rotation: Rotation::default() }))
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        lock(&self.0.state).open
    }

    /// How many more may be open now.
    pub(crate) fn room(&self) -> u32 {
        u32::try_from(self.0.max.saturating_sub(self.open())).unwrap_or(u32::MAX)
    }

    /// How many may be open.
    pub(crate) fn max(&self) -> usize {
        self.0.max
    }

    /// What those that are out of descriptors share.
    pub(crate) fn rotation(&self) -> &Rotation {
        &self.0.rotation
    }

    /// Room for one more connection, if there is any; otherwise `task` is woken when there is.
    pub(crate) fn permit(&self, scheduler: &Remote, task: TaskId) -> Option<Permit> {
        let mut state = lock(&self.0.state);
        if state.open < self.0.max {
            state.open += 1;
            return Some(Permit(self.clone()));
        }
        state.waiting.push((scheduler.clone(), task));
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0.state);
        state.open -= 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for (scheduler, task) in waiting {
            scheduler.wake(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Scheduler;
    use crate::task::{Wait, task_fn};
    use std::hint;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    /// So often a connection is closed while an acceptor on another thread finds out that there is no room.
    const ROUNDS: usize = 30_000;

    /// More looks, giving way to the other thread after each, than that takes for what it is about to do.
    const LOOKS_MAX: usize = 1_000_000;

    /// Notes how many connections are open when it is dropped.
    struct Witness(Limit, mpsc::Sender<usize>);

    impl Drop for Witness {
        fn drop(&mut self) {
            let _ = self.1.send(self.0.open());
        }
    }

    #[test]
    fn there_is_room_before_whoever_waits_for_it_is_told() {
        let mut scheduler = Scheduler::new();
        let task = scheduler.spawn(task_fn("acceptor", |_| Ok(Wait::Wake)));
        let (remote, limit) = (Remote::unconnected(), Limit::new(1));
        let permit = limit.permit(&remote, task);
        assert!(limit.permit(&remote, task).is_none());
        // The list has the last clone, which is dropped as soon as the acceptor has been told, with all that has been said by it.
        let (saw, seen) = mpsc::channel();
        let witness = Witness(limit.clone(), saw);
        remote.call(move |_| drop(witness));
        drop(remote);
        drop(permit);
        assert_eq!(
            seen.try_iter().collect::<Vec<_>>(),
            [0],
            "an acceptor that is told and finds no room waits for ever"
        );
    }

    #[test]
    fn room_that_comes_free_while_an_acceptor_begins_to_wait_for_it_is_not_lost() {
        let mut scheduler = Scheduler::new();
        let task = scheduler.spawn(task_fn("acceptor", |_| Ok(Wait::Wake)));
        // Nobody receives what is said here; what is asserted is that something was.
        let (remote, limit) = (Remote::unconnected(), Limit::new(1));
        let round = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=ROUNDS {
                    let permit = limit.permit(&remote, task);
                    if round.fetch_max(2 * number - 1, Ordering::SeqCst) > 2 * number {
                        return;
                    }
                    // Not at the same moment each time.
                    (0..number % 64).for_each(|_| hint::spin_loop());
                    drop(permit);
                    while round.load(Ordering::SeqCst) < 2 * number {
                        thread::yield_now();
                    }
                }
            });
            for number in 1..=ROUNDS {
                while round.load(Ordering::SeqCst) < 2 * number - 1 {
                    thread::yield_now();
                }
                if limit.permit(&remote, task).is_none() {
                    while limit.open() > 0 {
                        thread::yield_now();
                    }
                    // Whoever closes takes it off the list right after that, and wakes whoever is on it.
                    let mut looks = 0;
                    while !lock(&limit.0.state).waiting.is_empty() {
                        looks += 1;
                        if looks == LOOKS_MAX {
                            // The other thread must end, or the failure would not be seen.
                            round.store(usize::MAX, Ordering::SeqCst);
                            panic!("it waits, and nobody will wake it");
                        }
                        thread::yield_now();
                    }
                }
                lock(&limit.0.state).waiting.clear();
                round.store(2 * number, Ordering::SeqCst);
            }
        });
    }
}
