//! When the parked poller parks, and when it does not. No task can tell; what it costs depends on it.

use super::*;
use crate::poller::Parked;
use crate::poller::parked::{BUSY_FIRES, BUSY_GAP, FEW, IDLE_WAITS, TIDY_WAITS};

/// A poller with a crowd, and a socket that it watches, with its peer.
fn watched() -> (Parked, UnixStream, UnixStream, Crowd) {
    let (mut poller, (near, far)) = (Parked::new(), pair());
    let crowd = crowd(&mut poller, CROWD);
    poller.watch(near.as_raw_fd(), Side::Recv, true);
    (poller, near, far, crowd)
}

/// So many waits, none of which sleeps; returns what has fired in the last one.
fn look(poller: &mut Parked, waits: usize) -> Vec<Fired> {
    let mut fired = Vec::new();
    for _ in 0..waits {
        fired = fired_in(poller, Patience::Look);
    }
    fired
}

/// A message comes, fires in one wait, and is received.
fn message(poller: &mut Parked, near: &UnixStream, mut far: &UnixStream) {
    far.write_all(b"x").expect("room");
    assert_eq!(look(poller, 1), [recv(near.as_raw_fd())]);
    drain(near);
}

#[test]
fn what_has_been_idle_for_long_is_parked_and_not_before() {
    let (mut poller, near, _far, _crowd) = watched();
    look(&mut poller, IDLE_WAITS as usize - 1);
    assert!(!poller.is_parked(&near));
    look(&mut poller, LONG_IDLE_WAITS);
    assert!(poller.is_parked(&near));
}

#[test]
fn what_fires_now_and_then_stays_where_it_is() {
    let (mut poller, near, far, _crowd) = watched();
    look(&mut poller, LONG_IDLE_WAITS);
    // Never soon after the last time, or never often in a row.
    for in_a_row in [1, BUSY_FIRES / 2] {
        for _ in 0..2 * BUSY_FIRES {
            for _ in 0..in_a_row {
                message(&mut poller, &near, &far);
            }
            assert_eq!(look(&mut poller, BUSY_GAP as usize + 1), []);
            assert!(poller.is_parked(&near));
        }
    }
    // What was not parked is not, either.
    let (mut poller, near, far, _crowd) = watched();
    for _ in 0..LONG_IDLE_WAITS {
        message(&mut poller, &near, &far);
        look(&mut poller, IDLE_WAITS as usize / 2);
        assert!(!poller.is_parked(&near));
    }
}

#[test]
fn what_fires_again_and_again_is_parked_no_more() {
    let (mut poller, near, far, _crowd) = watched();
    look(&mut poller, LONG_IDLE_WAITS);
    for _ in 0..=BUSY_FIRES {
        message(&mut poller, &near, &far);
    }
    assert!(!poller.is_parked(&near));
    // And once more, from the beginning.
    look(&mut poller, LONG_IDLE_WAITS);
    assert!(poller.is_parked(&near));
    message(&mut poller, &near, &far);
    assert!(poller.is_parked(&near));
}

#[test]
fn what_is_not_watched_any_more_is_not_parked_however_long_it_was_idle() {
    for idle_waits in 0..2 * IDLE_WAITS as usize {
        let (mut poller, near, far, _crowd) = watched();
        look(&mut poller, idle_waits);
        poller.unwatch(near.as_raw_fd(), Side::Recv);
        assert_eq!(look(&mut poller, 1), [], "after {idle_waits} waits");
        assert!(!poller.is_parked(&near), "after {idle_waits} waits");
        drop(far);
        let until = Instant::now() + Duration::from_millis(1);
        assert_eq!(fired_in(&mut poller, Patience::Until(until)), [], "after {idle_waits} waits");
        assert!(Instant::now() >= until, "after {idle_waits} waits: it has not slept");
    }
}

#[test]
fn what_is_watched_for_another_side_stays_parked() {
    let (mut poller, near, far, _crowd) = watched();
    fill(&near);
    let fd = near.as_raw_fd();
    look(&mut poller, LONG_IDLE_WAITS);
    let sides: [fn(&mut Parked, RawFd); 2] =
        [|poller, fd| poller.watch(fd, Side::Send, true), |poller, fd| poller.unwatch(fd, Side::Recv)];
    for change in sides {
        change(&mut poller, fd);
        assert_eq!(look(&mut poller, 1), []);
        assert!(poller.is_parked(&near));
    }
    // What is watched and not watched any more before anybody polls, or the other way round, has not changed.
    poller.unwatch(fd, Side::Send);
    poller.watch(fd, Side::Send, true);
    assert_eq!(look(&mut poller, 1), []);
    assert!(poller.is_parked(&near));
    drain(&far);
    assert_eq!(look(&mut poller, 1), [send(fd)]);
    poller.unwatch(fd, Side::Send);
    poller.watch(fd, Side::Recv, true);
    message(&mut poller, &near, &far);
    assert!(poller.is_parked(&near));
    poller.unwatch(fd, Side::Recv);
    assert_eq!(look(&mut poller, 1), []);
    assert!(!poller.is_parked(&near));
}

#[test]
fn what_was_closed_behind_its_back_fires_as_closed_and_others_are_parked_afterwards() {
    let mut poller = Parked::new();
    let _crowd = crowd(&mut poller, CROWD);
    let (near, _far) = pair();
    fill(&near);
    let near = renumber(near);
    let fd = near.as_raw_fd();
    poller.watch(fd, Side::Recv, true);
    look(&mut poller, LONG_IDLE_WAITS);
    assert!(poller.is_parked(&near));
    drop(near);
    // Its registration can neither be changed nor removed.
    poller.watch(fd, Side::Send, true);
    assert_eq!(look(&mut poller, 1), [closed(fd, Side::Recv), closed(fd, Side::Send)]);
    poller.forget(fd);
    let (near, _far) = pair();
    poller.watch(near.as_raw_fd(), Side::Recv, true);
    look(&mut poller, LONG_IDLE_WAITS);
    assert!(poller.is_parked(&near));
}

#[test]
fn of_a_few_descriptors_none_is_parked_and_what_was_parked_comes_back_when_few_are_left() {
    let mut poller = Parked::new();
    let mut crowd = crowd(&mut poller, FEW);
    let (first, last) = (crowd[0].0.as_raw_fd(), crowd[FEW - 1].0.as_raw_fd());
    look(&mut poller, LONG_IDLE_WAITS);
    assert!(!poller.is_parked(&first));
    let (near, far) = pair();
    poller.watch(near.as_raw_fd(), Side::Recv, true);
    look(&mut poller, LONG_IDLE_WAITS);
    assert!(poller.is_parked(&first) && poller.is_parked(&last) && poller.is_parked(&near));
    // One more or less makes no difference then, but half as many do.
    poller.forget(near.as_raw_fd());
    look(&mut poller, LONG_IDLE_WAITS);
    assert!(poller.is_parked(&first) && poller.is_parked(&last));
    for (gone, _) in &crowd[1..=FEW / 2] {
        assert!(poller.is_parked(&first));
        poller.forget(gone.as_raw_fd());
        look(&mut poller, TIDY_WAITS as usize);
    }
    assert!(!poller.is_parked(&first) && !poller.is_parked(&last));
    drop((near, far));
    // Whoever came back is heard.
    crowd[0].1.write_all(b"!").expect("room");
    assert_eq!(look(&mut poller, 1), [recv(first)]);
}
