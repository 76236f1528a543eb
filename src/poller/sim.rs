//! Virtual time and scripted readiness, for tests: of this crate's scheduler, and of tasks that use it.
//!
//! Nothing here asks the kernel. A [`Sim`] is given to the scheduler; its [`SimScript`] stays with the test, which says what
//! happens to which number when. Sleeping takes no time: the clock jumps to the next thing that was scripted.
//!
//! Every function here may be inlined, and so is compiled where it is used and nowhere else: a program without tests, such
//! as the daemon, does not pay for it with a fifth of its build time.

use super::{Fired, Patience, Poller, Side, Waiters};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// When so many waits in a row would have slept for ever, whoever polls will go on doing so, and the test fails.
const SLEEPS_MAX: usize = 100;

/// A poller whose clock is virtual and whose descriptors are only numbers. See [`SimScript`].
pub struct Sim {
    /// The instant from which the clock counts.
    start: Instant,
    state: Rc<RefCell<State>>,
}

/// The script of a [`Sim`]: says what happens to the numbers, and tells what the scheduler did.
#[derive(Clone)]
pub struct SimScript(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    /// How much virtual time has passed.
    now: Duration,
    watched: BTreeSet<(RawFd, Side)>,
    ready: BTreeSet<(RawFd, Side)>,
    hung_up: BTreeSet<RawFd>,
    closed: BTreeSet<RawFd>,
    files: BTreeMap<RawFd, u64>,
    agenda: BTreeMap<Duration, Vec<Happening>>,
    failures: VecDeque<io::ErrorKind>,
    interrupted: bool,
    waits: usize,
    /// How many waits in a row would have slept for ever.
    sleeps: usize,
}

/// Something that happens to a descriptor number in a [`SimScript`].
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// A side becomes ready, and stays so until it is said not to be.
    Ready(RawFd, Side),
    /// A side is not ready any more.
    NotReady(RawFd, Side),
    /// The peer is gone: whoever waits for either side is resumed.
    HungUp(RawFd),
    /// The number is closed, behind the scheduler's back.
    Closed(RawFd),
    /// The number is given to another file, on which nothing is ready.
    Reused(RawFd),
    /// A signal arrives: the wait that it falls into returns with what there is, which may be nothing.
    Signal,
}

impl Sim {
    /// A poller at instant zero, and the script that moves it.
    #[inline]
    pub fn new() -> (Sim, SimScript) {
        let state = Rc::default();
        (Sim { start: Instant::now(), state: Rc::clone(&state) }, SimScript(state))
    }
}

impl SimScript {
    /// Makes something happen now.
    #[inline]
    pub fn now(&self, happening: Happening) {
        self.0.borrow_mut().happen(happening);
    }

    /// Makes something happen when so much time has passed.
    #[inline]
    pub fn after(&self, delay: Duration, happening: Happening) {
        let mut state = self.0.borrow_mut();
        let at = state.now + delay;
        state.agenda.entry(at).or_default().push(happening);
    }

    /// Lets time pass while nobody sleeps, as it does on a busy machine.
    #[inline]
    pub fn advance(&self, by: Duration) {
        self.0.borrow_mut().now += by;
    }

    /// Makes the next wait fail, once for each time that this is said.
    #[inline]
    pub fn fail_next_wait(&self, kind: io::ErrorKind) {
        self.0.borrow_mut().failures.push_back(kind);
    }

    /// How much virtual time has passed.
    #[inline]
    pub fn elapsed(&self) -> Duration {
        self.0.borrow().now
    }

    /// How often the scheduler has polled.
    #[inline]
    pub fn waits(&self) -> usize {
        self.0.borrow().waits
    }

    /// Whether the last wait would have slept for ever.
    #[inline]
    pub fn is_asleep(&self) -> bool {
        self.0.borrow().sleeps > 0
    }

    /// The sides that are watched now, in order.
    #[inline]
    pub fn watched(&self) -> Vec<(RawFd, Side)> {
        self.0.borrow().watched.iter().copied().collect()
    }
}

impl State {
    #[inline]
    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Ready(fd, side) => drop(self.ready.insert((fd, side))),
            Happening::NotReady(fd, side) => drop(self.ready.remove(&(fd, side))),
            Happening::HungUp(fd) => drop(self.hung_up.insert(fd)),
            Happening::Closed(fd) => {
                self.hung_up.remove(&fd);
                self.ready.retain(|(ready, _)| *ready != fd);
                self.closed.insert(fd);
            }
            Happening::Reused(fd) => {
                self.happen(Happening::Closed(fd));
                self.closed.remove(&fd);
                *self.files.entry(fd).or_default() += 1;
            }
            Happening::Signal => self.interrupted = true,
        }
    }

    /// Carries out what was scripted for this instant and before.
    #[inline]
    fn catch_up(&mut self) {
        while let Some(entry) = self.agenda.first_entry() {
            if *entry.key() > self.now {
                break;
            }
            for happening in entry.remove() {
                self.happen(happening);
            }
        }
    }

    /// Says what fires now. Returns whether anything does.
    #[inline]
    fn collect(&self, waiters: &mut Waiters) -> bool {
        let mut has_fired = false;
        for &(fd, side) in &self.watched {
            let is_closed = self.closed.contains(&fd);
            if is_closed || self.hung_up.contains(&fd) || self.ready.contains(&(fd, side)) {
                waiters.fire(Fired { fd, side, is_closed });
                has_fired = true;
            }
        }
        has_fired
    }
}

impl Poller for Sim {
    #[inline]
    fn now(&self) -> Instant {
        self.start + self.state.borrow().now
    }

    #[inline]
    fn identity(&self, fd: RawFd) -> io::Result<(u64, u64)> {
        let state = self.state.borrow();
        if state.closed.contains(&fd) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((fd as u64, state.files.get(&fd).copied().unwrap_or(0)))
    }

    #[inline]
    fn watch(&mut self, fd: RawFd, side: Side, _owned: bool) {
        self.state.borrow_mut().watched.insert((fd, side));
    }

    #[inline]
    fn unwatch(&mut self, fd: RawFd, side: Side) {
        self.state.borrow_mut().watched.remove(&(fd, side));
    }

    #[inline]
    fn forget(&mut self, fd: RawFd) {
        self.unwatch(fd, Side::Recv);
        self.unwatch(fd, Side::Send);
    }

    /// A sleep that nothing scripted would ever end returns, so that whoever takes single turns gets to say what happens
    /// next.
    ///
    /// # Panics
    /// If that happens 100 times in a row: then the scheduler is in its `run`, which would never return.
    #[inline]
    fn wait(&mut self, patience: Patience, waiters: &mut Waiters) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.waits += 1;
        if let Some(kind) = state.failures.pop_front() {
            state.now += super::FAILURE_PAUSE;
            return Err(kind.into());
        }
        loop {
            state.catch_up();
            let interrupted = mem::take(&mut state.interrupted);
            if state.collect(waiters) || interrupted || patience == Patience::Look {
                break;
            }
            let next = state.agenda.first_key_value().map(|(at, _)| *at);
            if let Patience::Until(until) = patience {
                let until = until.saturating_duration_since(self.start);
                if next.is_none_or(|next| next > until) {
                    state.now = state.now.max(until);
                    break;
                }
            }
            let Some(next) = next else {
                state.sleeps += 1;
                assert!(state.sleeps < SLEEPS_MAX, "the scheduler sleeps for ever: watched is {:?}", state.watched);
                return Ok(());
            };
            state.now = next;
        }
        state.sleeps = 0;
        Ok(())
    }
}
