//! One suite over every implementation of the [`Poller`] contract, with real descriptors.
//!
//! A test is a function of the poller that it drives; the macro at the end emits it once for each implementation, as
//! `poll::a_ready_side_fires` and `parked::a_ready_side_fires`. Most tests go through [`LIVES`]: a descriptor behaves the
//! same whether the scheduler owns it or not, and whether it was watched just now or has been idle for hundreds of waits,
//! which is where a poller that parks has something to get wrong.

use super::{Fired, Patience, Poller, Side};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

mod basics;

/// How a descriptor under test has lived so far: who closes it, and for how many waits it has been idle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    owned: bool,
    idle_waits: usize,
}

/// More waits than any poller takes to find out that a descriptor is idle.
pub(super) const LONG_IDLE_WAITS: usize = 400;

/// Every life that is worth a run.
pub(super) const LIVES: [Life; 6] = [
    Life { owned: false, idle_waits: 0 },
    Life { owned: false, idle_waits: LONG_IDLE_WAITS },
    Life { owned: true, idle_waits: 0 },
    Life { owned: true, idle_waits: 1 },
    Life { owned: true, idle_waits: 40 },
    Life { owned: true, idle_waits: LONG_IDLE_WAITS },
];

/// Longer than anything here takes, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a poller is looked at when it should sleep.
const QUIET: Duration = Duration::from_millis(30);

/// A poller, and a pipe that is always ready: the busy neighbour of whatever is idle.
pub(super) struct Rig {
    poller: Box<dyn Poller>,
    busy: (PipeReader, PipeWriter),
}

impl Rig {
    pub(super) fn new(poller: Box<dyn Poller>) -> Rig {
        let mut busy = io::pipe().expect("a pipe");
        busy.1.write_all(b"!").expect("room in a new pipe");
        Rig { poller, busy }
    }

    fn watch(&mut self, fd: &impl AsRawFd, side: Side, life: Life) {
        self.poller.watch(fd.as_raw_fd(), side, life.owned);
    }

    fn unwatch(&mut self, fd: &impl AsRawFd, side: Side) {
        self.poller.unwatch(fd.as_raw_fd(), side);
    }

    /// What fires in one wait that does not sleep.
    fn look(&mut self) -> Vec<Fired> {
        let mut fired = Vec::new();
        self.poller.wait(Patience::Look, &mut fired).expect("the system can poll");
        fired
    }

    /// What fires in the two waits that the contract gives it, in the order of the numbers.
    fn look_twice(&mut self) -> Vec<Fired> {
        let mut fired = self.look();
        fired.extend(self.look());
        fired.sort_by_key(|one| one.fd);
        fired
    }

    /// What fires first, within [`LIMIT`].
    fn sleep(&mut self) -> Vec<Fired> {
        let end = Instant::now() + LIMIT;
        let mut fired = Vec::new();
        while fired.is_empty() {
            assert!(Instant::now() < end, "nothing has fired within {LIMIT:?}");
            self.poller.wait(Patience::Until(end), &mut fired).expect("the system can poll");
        }
        fired
    }

    /// Lets so many waits pass in which nothing fires but the busy neighbour, asleep and awake by turns.
    fn idle(&mut self, waits: usize) {
        let busy = self.busy.0.as_raw_fd();
        for wait in 0..waits {
            let mut fired = Vec::new();
            let patience = if wait % 4 == 0 { Patience::Look } else { Patience::Until(Instant::now() + LIMIT) };
            self.poller.watch(busy, Side::Recv, false);
            self.poller.wait(patience, &mut fired).expect("the system can poll");
            assert_eq!(fired, [recv(busy)], "only the busy pipe fires, in wait {wait}");
        }
        assert_eq!(self.look(), [], "and it fires only once");
    }

    /// Asserts that nothing fires, and that the poller really sleeps: a wait that returns at once with nothing, over and
    /// over, is a spin.
    fn assert_asleep(&mut self) {
        let end = Instant::now() + QUIET;
        let mut waits = 0;
        let mut fired = Vec::new();
        while Instant::now() < end {
            self.poller.wait(Patience::Until(end), &mut fired).expect("the system can poll");
            assert_eq!(fired, [], "nothing is watched that is ready");
            waits += 1;
        }
        // One, and a few more for the signals that a machine may send us and for a stale entry that is cleaned up.
        assert!(waits <= 5, "{waits} waits in {QUIET:?} with nothing to do");
    }
}

/// The event of a receiving side.
fn recv(fd: RawFd) -> Fired {
    Fired { fd, recv: true, send: false, closed: false }
}

/// The event of a sending side.
fn send(fd: RawFd) -> Fired {
    Fired { fd, recv: false, send: true, closed: false }
}

/// Two connected sockets, neither of which ever blocks.
fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    near.set_nonblocking(true).expect("a socket can be non-blocking");
    far.set_nonblocking(true).expect("a socket can be non-blocking");
    (near, far)
}

/// Sends until there is no room.
fn fill(mut socket: &UnixStream) {
    let chunk = [0; 64 * 1024];
    loop {
        match socket.write(&chunk) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => panic!("cannot fill the socket: {error}"),
        }
    }
}

/// Receives until nothing is there.
fn drain(mut socket: &UnixStream) {
    let mut chunk = [0; 64 * 1024];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => panic!("cannot drain the socket: {error}"),
        }
    }
}

/// Emits each named test for each implementation. A test is a function from a [`Rig`], and is given a new one.
macro_rules! over_every_poller {
    ($($module:ident: $($test:ident)+;)+) => {
        mod poll {
            $($(#[test] fn $test() { super::$module::$test(&|| super::Rig::new(Box::new(crate::poller::Poll::new()))); })+)+
        }

        #[cfg(target_os = "linux")]
        mod parked {
            $($(#[test] fn $test() { super::$module::$test(&|| super::Rig::new(Box::new(crate::poller::Parked::new()))); })+)+
        }
    };
}

over_every_poller! {
    basics:
        a_ready_side_fires_in_the_next_wait
        a_side_that_fired_is_not_watched_any_more
        a_side_that_is_still_ready_fires_again_when_it_is_watched_again
        a_side_that_is_not_watched_does_not_fire
        unwatching_and_forgetting_what_is_not_watched_is_harmless
        watching_twice_fires_once
        the_two_sides_of_one_descriptor_fire_each_for_itself
        unwatching_one_side_leaves_the_other
        a_wait_lasts_until_its_instant_and_not_a_moment_less
        a_look_does_not_sleep
        a_sleep_without_end_is_ended_by_readiness;
}
