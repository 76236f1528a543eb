//! One suite over every implementation of the [`Poller`] contract, with real descriptors.
//!
//! A test is a function of the poller that it drives; the macro at the end emits it once for each implementation, as
//! `poll::a_look_does_not_sleep` and `parked::a_look_does_not_sleep`. Most tests go through [`LIVES`]: a descriptor behaves the
//! same whether the scheduler owns it or not, and whether it was watched just now or has been idle for hundreds of waits,
//! which is where a poller that parks has something to get wrong.

use super::{Fired, Patience, Poller, Side, Waiters};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod basics;
mod crowds;
mod failures;
mod hangups;
#[path = "../../tests/common/limited.rs"]
mod limited;
mod numbers;
#[cfg(target_os = "linux")]
mod parking;
mod scripts;

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
const QUIET: Duration = Duration::from_millis(10);

/// How many silent neighbours whatever is tested has: more than are few to any poller.
const CROWD: usize = 10;

/// A poller, a crowd of pipes that it watches and on which nothing ever happens, and a pipe that is always ready: the busy
/// neighbour of whatever is idle.
pub(super) struct Rig {
    poller: Box<dyn Poller>,
    busy: (PipeReader, PipeWriter),
    _crowd: Crowd,
}

pub(super) type Crowd = Vec<(PipeReader, PipeWriter)>;

/// Makes `poller` watch a crowd of so many.
pub(super) fn crowd(poller: &mut dyn Poller, count: usize) -> Crowd {
    let crowd: Crowd = (0..count).map(|_| io::pipe().expect("a pipe")).collect();
    for (reader, _) in &crowd {
        poller.watch(reader.as_raw_fd(), Side::Recv, true);
    }
    crowd
}

/// What fires in one wait.
fn fired_in(poller: &mut dyn Poller, patience: Patience) -> Vec<Fired> {
    let mut nobody = Waiters::default();
    poller.wait(patience, &mut nobody).expect("the system can poll");
    nobody.take_unclaimed()
}

impl Rig {
    pub(super) fn new(poller: Box<dyn Poller>) -> Rig {
        Rig::with_crowd(poller, CROWD)
    }

    fn with_crowd(mut poller: Box<dyn Poller>, count: usize) -> Rig {
        let mut busy = io::pipe().expect("a pipe");
        busy.1.write_all(b"!").expect("room in a new pipe");
        let crowd = crowd(poller.as_mut(), count);
        Rig { poller, busy, _crowd: crowd }
    }

    fn watch(&mut self, fd: &impl AsRawFd, side: Side, life: Life) {
        self.poller.watch(fd.as_raw_fd(), side, life.owned);
    }

    /// Watches a side that is not ready, and lets it be idle for as long as its life says.
    fn leave_idle(&mut self, fd: &impl AsRawFd, side: Side, life: Life) {
        self.watch(fd, side, life);
        self.idle(life.idle_waits);
    }

    fn unwatch(&mut self, fd: &impl AsRawFd, side: Side) {
        self.poller.unwatch(fd.as_raw_fd(), side);
    }

    /// One wait. Each side fires once in it.
    fn wait(&mut self, patience: Patience) -> Vec<Fired> {
        let mut fired = fired_in(self.poller.as_mut(), patience);
        fired.sort_by_key(|one| order(*one));
        assert!(fired.windows(2).all(|two| order(two[0]) < order(two[1])), "a side has fired twice: {fired:?}");
        fired
    }

    /// What fires in one wait that does not sleep.
    fn look(&mut self) -> Vec<Fired> {
        self.wait(Patience::Look)
    }

    /// What fires in the two waits that the contract gives it, in the order of the numbers; not watched any more then.
    fn take(&mut self) -> Vec<Fired> {
        let mut fired = self.look();
        for again in self.look() {
            if !fired.contains(&again) {
                fired.push(again);
            }
        }
        fired.sort_by_key(|one| order(*one));
        self.unwatch_fired(&fired);
        fired
    }

    /// What fires first, within [`LIMIT`]; not watched any more then.
    fn sleep(&mut self) -> Vec<Fired> {
        let end = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < end, "nothing has fired within {LIMIT:?}");
            let fired = self.wait(Patience::Until(end));
            if !fired.is_empty() {
                self.unwatch_fired(&fired);
                return fired;
            }
        }
    }

    fn unwatch_fired(&mut self, fired: &[Fired]) {
        for one in fired {
            self.poller.unwatch(one.fd, one.side);
        }
    }

    /// Lets so many waits pass in which nothing fires but the busy neighbour, willing to sleep and not by turns.
    fn idle(&mut self, waits: usize) {
        let busy = self.busy.0.as_raw_fd();
        for wait in 0..waits {
            // Now and then the busy one is let go and waited for again, as real ones are.
            if wait % 16 == 0 {
                self.poller.unwatch(busy, Side::Recv);
            }
            self.poller.watch(busy, Side::Recv, false);
            let patience = if wait % 4 == 0 { Patience::Look } else { Patience::Until(Instant::now() + LIMIT) };
            assert_eq!(self.wait(patience), [recv(busy)], "only the busy pipe fires, in wait {wait}");
        }
        self.poller.unwatch(busy, Side::Recv);
        assert_eq!(self.look(), [], "nothing fires that is not watched");
    }

    /// Asserts that nothing fires, and that the poller really sleeps: a wait that returns at once with nothing, over and
    /// over, is a spin.
    fn assert_asleep(&mut self) {
        let end = Instant::now() + QUIET;
        let mut waits = 0;
        while Instant::now() < end {
            assert_eq!(self.wait(Patience::Until(end)), [], "nothing is watched that is ready");
            waits += 1;
        }
        // One, and a few more for the signals that a machine may send us and for a stale entry that is cleaned up.
        assert!(waits <= 5, "{waits} waits in {QUIET:?} with nothing to do");
    }
}

fn ready(fd: RawFd, side: Side) -> Fired {
    Fired { fd, side, is_closed: false }
}

fn recv(fd: RawFd) -> Fired {
    ready(fd, Side::Recv)
}

fn send(fd: RawFd) -> Fired {
    ready(fd, Side::Send)
}

fn closed(fd: RawFd, side: Side) -> Fired {
    Fired { fd, side, is_closed: true }
}

/// The order in which events are compared.
fn order(one: Fired) -> (RawFd, Side) {
    (one.fd, one.side)
}

/// Two connected sockets, neither of which ever blocks.
fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    near.set_nonblocking(true).expect("a socket can be non-blocking");
    far.set_nonblocking(true).expect("a socket can be non-blocking");
    (near, far)
}

/// Writes until there is no room.
fn fill(fd: &impl AsFd) {
    while rustix::io::write(fd, &[0; 4 * 1024]).is_ok() {}
}

/// Reads until nothing is there.
fn drain(fd: &impl AsFd) {
    while rustix::io::read(fd, &mut [0; 4 * 1024]).is_ok_and(|received| received > 0) {}
}

/// How many descriptors this process may have open, after it has asked for as many as it may.
fn descriptors_max() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        let limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.unwrap_or(20_000).min(20_000);
        if limit.current.is_some_and(|current| current < wanted) {
            // Where this is refused, what is allowed already has to do.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
        }
        getrlimit(Resource::Nofile).current.unwrap_or(wanted).min(20_000) as usize
    })
}

/// Moves a descriptor to a number that no other test is given: above all that the system hands out by itself, and used
/// once. So a test can close it and know that the number stays closed until the test itself opens it again.
fn renumber(fd: impl Into<OwnedFd>) -> OwnedFd {
    static USED: AtomicUsize = AtomicUsize::new(0);
    let first = descriptors_max() / 4 * 3;
    let number = first + USED.fetch_add(1, Ordering::Relaxed) % (descriptors_max() - first - 1);
    rustix::io::fcntl_dupfd_cloexec(fd.into(), number as RawFd).expect("a free number")
}

/// Emits each named test for each implementation. A test is a function from a [`Rig`], and is given a new one. A poller that
/// sleeps where it should not may never return, so each has a limit.
macro_rules! over_every_poller {
    ($($module:ident: $($test:ident)+;)+) => {
        mod poll {
            $($(#[test] fn $test() {
                let rig = || super::Rig::new(Box::new(crate::poller::Poll::new()));
                super::limited::within_limit(move || super::$module::$test(&rig));
            })+)+
        }

        #[cfg(target_os = "linux")]
        mod parked {
            $($(#[test] fn $test() {
                let rig = || super::Rig::new(Box::new(crate::poller::Parked::new()));
                super::limited::within_limit(move || super::$module::$test(&rig));
            })+)+
        }
    };
}

over_every_poller! {
    basics:
        a_watched_side_that_is_ready_fires_in_every_wait
        a_side_that_fired_and_is_unwatched_wakes_nobody
        a_side_that_is_watched_again_fires_again
        a_side_that_is_not_watched_does_not_fire
        unwatching_and_forgetting_what_is_not_watched_is_harmless
        watching_twice_fires_once
        the_two_sides_of_one_descriptor_fire_each_for_itself
        unwatching_one_side_leaves_the_other
        a_wait_lasts_until_its_instant_and_not_a_moment_less
        a_look_does_not_sleep
        a_sleep_without_end_is_ended_by_readiness;
    hangups:
        a_peer_that_is_gone_fires_whichever_side_is_watched
        a_hang_up_alone_fires
        an_error_alone_fires
        a_reset_fires_both_sides_and_the_data_is_still_there
        the_end_of_the_stream_can_be_received
        a_hang_up_that_nobody_watches_for_wakes_nobody;
    numbers:
        a_number_that_is_closed_fires_as_closed
        a_number_that_was_never_open_fires_as_closed
        a_number_that_nobody_watches_may_be_closed_unnoticed
        a_closed_number_that_is_opened_again_is_served_again
        a_wait_by_number_is_for_the_file_that_the_number_names_then
        what_was_forgotten_does_not_fire_and_does_not_wake
        a_reused_number_is_never_left_asleep
        a_number_reused_a_thousand_times_is_served_every_time
        an_owned_descriptor_closed_behind_its_back_harms_nobody_else
        a_number_reused_behind_its_back_is_served_once_it_is_forgotten
        two_numbers_of_one_file_fire_each_for_itself
        an_identity_is_that_of_the_open_file;
    crowds:
        more_ready_descriptors_than_one_call_returns_all_fire_within_two_waits
        a_few_that_stay_busy_do_not_hide_a_crowd_that_was_idle
        a_crowd_that_was_busy_lets_the_poller_sleep_when_it_is_quiet_again
        the_last_of_a_crowd_can_be_let_go_and_come_back
        a_file_that_is_always_ready_fires_each_time
        a_descriptor_that_epoll_refuses_is_served_after_it_was_idle
        a_number_may_change_between_a_socket_and_a_file
        a_listener_fires_when_a_connection_is_in_its_queue;
    scripts:
        a_seeded_script_fires_what_a_model_says;
}
