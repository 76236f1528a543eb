//! Watching and not watching, readiness and sleep: rules 1 to 4 of the contract.

use super::*;
use std::thread;

pub(super) fn a_watched_side_that_is_ready_fires_in_every_wait(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        let fd = near.as_raw_fd();
        rig.watch(&near, Side::Recv, life);
        for round in 0..3 {
            rig.idle(life.idle_waits);
            far.write_all(b"x").expect("room");
            // In the first of them, too, and whether its task waits again (and says so) or has not run yet.
            for wait in 0..LONG_IDLE_WAITS {
                assert_eq!(rig.look(), [recv(fd)], "{life:?}, round {round}, wait {wait}");
                if wait % 3 == 0 {
                    rig.watch(&near, Side::Recv, life);
                }
            }
            // The other side comes and goes meanwhile.
            rig.watch(&near, Side::Send, life);
            assert_eq!(rig.look(), [recv(fd), send(fd)], "{life:?}, round {round}");
            rig.unwatch(&near, Side::Send);
            assert_eq!(rig.look(), [recv(fd)], "{life:?}, round {round}");
            drain(&near);
            rig.assert_asleep();
        }
    }
}

pub(super) fn a_side_that_fired_and_is_unwatched_wakes_nobody(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        rig.leave_idle(&near, Side::Recv, life);
        far.write_all(b"x").expect("room");
        assert_eq!(rig.sleep(), [recv(near.as_raw_fd())], "{life:?}");
        far.write_all(b"more, and nothing of it is read").expect("room");
        rig.assert_asleep();
        rig.idle(life.idle_waits);
        rig.assert_asleep();
    }
}

pub(super) fn a_side_that_is_watched_again_fires_again(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        rig.leave_idle(&near, Side::Recv, life);
        far.write_all(b"x").expect("room");
        for round in 0..LONG_IDLE_WAITS {
            assert_eq!(rig.look(), [recv(near.as_raw_fd())], "{life:?}, round {round}");
            rig.unwatch(&near, Side::Recv);
            if round % 2 == 0 {
                assert_eq!(rig.look(), [], "{life:?}, round {round}");
            }
            rig.watch(&near, Side::Recv, life);
        }
        drain(&near);
        rig.assert_asleep();
        rig.idle(life.idle_waits);
        far.write_all(b"x").expect("room");
        assert_eq!(rig.sleep(), [recv(near.as_raw_fd())], "{life:?}, once it has been idle again");
    }
}

pub(super) fn a_side_that_is_not_watched_does_not_fire(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        rig.leave_idle(&near, Side::Recv, life);
        rig.unwatch(&near, Side::Recv);
        far.write_all(b"x").expect("room");
        rig.assert_asleep();
        rig.idle(life.idle_waits);
        rig.watch(&near, Side::Recv, life);
        assert_eq!(rig.take(), [recv(near.as_raw_fd())], "{life:?}, watched again");
    }
}

pub(super) fn unwatching_and_forgetting_what_is_not_watched_is_harmless(rig: &dyn Fn() -> Rig) {
    let (mut rig, (near, mut far)) = (rig(), pair());
    for fd in [near.as_raw_fd(), 0, 1_000_000, RawFd::MAX] {
        rig.poller.unwatch(fd, Side::Recv);
        rig.poller.unwatch(fd, Side::Send);
        rig.poller.forget(fd);
    }
    rig.poller.watch(near.as_raw_fd(), Side::Recv, true);
    rig.poller.unwatch(near.as_raw_fd(), Side::Send);
    far.write_all(b"x").expect("room");
    assert_eq!(rig.take(), [recv(near.as_raw_fd())]);
    rig.poller.unwatch(near.as_raw_fd(), Side::Recv);
    rig.assert_asleep();
}

pub(super) fn watching_twice_fires_once(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        rig.watch(&near, Side::Recv, life);
        rig.leave_idle(&near, Side::Recv, life);
        rig.watch(&near, Side::Recv, life);
        far.write_all(b"x").expect("room");
        assert_eq!(rig.take(), [recv(near.as_raw_fd())], "{life:?}");
        rig.assert_asleep();
    }
}

pub(super) fn the_two_sides_of_one_descriptor_fire_each_for_itself(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        let fd = near.as_raw_fd();
        // The receiving side first, and idle; then the sending side, which is ready.
        rig.leave_idle(&near, Side::Recv, life);
        rig.watch(&near, Side::Send, life);
        assert_eq!(rig.take(), [send(fd)], "{life:?}");
        rig.idle(life.idle_waits);
        far.write_all(b"x").expect("room");
        assert_eq!(rig.take(), [recv(fd)], "{life:?}");
        rig.assert_asleep();
        // The sending side first, and idle because there is no room; then the receiving side.
        fill(&near);
        rig.leave_idle(&near, Side::Send, life);
        rig.watch(&near, Side::Recv, life);
        assert_eq!(rig.take(), [recv(fd)], "{life:?}");
        drain(&near);
        rig.leave_idle(&near, Side::Recv, life);
        drain(&far);
        assert_eq!(rig.take(), [send(fd)], "{life:?}");
        // Both at once, in one event.
        rig.watch(&near, Side::Send, life);
        far.write_all(b"x").expect("room");
        assert_eq!(rig.take(), [recv(fd), send(fd)], "{life:?}");
    }
}

pub(super) fn unwatching_one_side_leaves_the_other(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        fill(&near);
        rig.watch(&near, Side::Recv, life);
        rig.leave_idle(&near, Side::Send, life);
        rig.unwatch(&near, Side::Recv);
        far.write_all(b"x").expect("room");
        rig.assert_asleep();
        drain(&far);
        assert_eq!(rig.take(), [send(near.as_raw_fd())], "{life:?}");
        rig.assert_asleep();
    }
}

pub(super) fn a_wait_lasts_until_its_instant_and_not_a_moment_less(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, _far)) = (rig(), pair());
        rig.leave_idle(&near, Side::Recv, life);
        // 900 µs would be over at once if they were rounded down to milliseconds.
        for ahead in [Duration::from_micros(900), Duration::from_micros(2_300), Duration::from_millis(10)] {
            let until = rig.poller.now() + ahead;
            let mut waits = 0;
            while rig.poller.now() < until {
                assert_eq!(rig.wait(Patience::Until(until)), []);
                waits += 1;
            }
            // A signal may cut a wait short; rounding down would ask some thousand times.
            assert!(waits <= 3, "{waits} waits for {ahead:?}, {life:?}");
        }
    }
}

pub(super) fn a_look_does_not_sleep(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, _far)) = (rig(), pair());
        rig.leave_idle(&near, Side::Recv, life);
        // A sleep of a single millisecond would be seen in each of them; what a busy machine takes, in some.
        let mut look = || {
            let before = Instant::now();
            assert_eq!(rig.look(), []);
            before.elapsed()
        };
        let mut times: Vec<Duration> = (0..100).map(|_| look()).collect();
        times.sort();
        assert!(times[50] < Duration::from_micros(900), "looks took {times:?}");
    }
}

pub(super) fn a_sleep_without_end_is_ended_by_readiness(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), pair());
        rig.leave_idle(&near, Side::Recv, life);
        let peer = thread::spawn(move || {
            // Long enough that the poller is asleep by then, most of the time; either way it must wake.
            thread::sleep(Duration::from_millis(5));
            far.write_all(b"x").expect("room");
            far
        });
        let mut fired = Vec::new();
        while fired.is_empty() {
            fired = rig.wait(Patience::Forever);
        }
        assert_eq!(fired, [recv(near.as_raw_fd())], "{life:?}");
        peer.join().expect("the peer wrote");
    }
}
