//! Numbers that mean something else than they did: closed, reused, forgotten, alive under another number. Rules 3, 5 and 9
//! of the contract, and rows 5, 7 and 16 of the faults.

use super::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;

/// A socket pair whose near end has a number that no other test is given, so that it stays closed once it is.
fn numbered_pair() -> (OwnedFd, UnixStream) {
    let (near, far) = pair();
    (renumber(near), far)
}

/// Closes what `place` names and lets the same number name `new` instead, at once.
fn replace(place: &mut OwnedFd, new: &impl AsFd) {
    rustix::io::dup2(new, place).expect("dup2 onto an open descriptor");
}

pub(super) fn a_number_that_is_closed_fires_as_closed(rig: &dyn Fn() -> Rig) {
    for life in LIVES.into_iter().filter(|life| !life.owned) {
        let (mut rig, (near, _far)) = (rig(), numbered_pair());
        let fd = near.as_raw_fd();
        rig.leave_idle(&near, Side::Recv, life);
        drop(near);
        assert_eq!(rig.take(), [closed(fd, Side::Recv)], "{life:?}");
        rig.assert_asleep();
    }
}

pub(super) fn a_number_that_was_never_open_fires_as_closed(rig: &dyn Fn() -> Rig) {
    let mut rig = rig();
    let unused = renumber(pair().0);
    let unused_fd = unused.as_raw_fd();
    drop(unused);
    for fd in [unused_fd, 900_000] {
        rig.poller.watch(fd, Side::Send, false);
        rig.poller.watch(fd, Side::Recv, false);
        let fired = rig.take();
        assert_eq!(fired, [Side::Recv, Side::Send].map(|side| closed(fd, side)));
        rig.assert_asleep();
    }
}

pub(super) fn a_number_that_nobody_watches_may_be_closed_unnoticed(rig: &dyn Fn() -> Rig) {
    for life in LIVES.into_iter().filter(|life| !life.owned) {
        let (mut rig, (near, _far)) = (rig(), numbered_pair());
        rig.leave_idle(&near, Side::Recv, life);
        rig.unwatch(&near, Side::Recv);
        drop(near);
        rig.assert_asleep();
    }
}

pub(super) fn a_closed_number_that_is_opened_again_is_served_again(rig: &dyn Fn() -> Rig) {
    let life = Life { owned: false, idle_waits: LONG_IDLE_WAITS };
    let (mut rig, (near, _far)) = (rig(), numbered_pair());
    let fd = near.as_raw_fd();
    rig.leave_idle(&near, Side::Recv, life);
    drop(near);
    assert!(rig.take().iter().all(|fired| fired.is_closed));
    let (near, mut far) = pair();
    let near = rustix::io::fcntl_dupfd_cloexec(&near, fd).expect("a free number");
    assert_eq!(near.as_raw_fd(), fd, "nobody else uses this number");
    for owned in [false, true] {
        rig.leave_idle(&near, Side::Recv, Life { owned, ..life });
        far.write_all(b"x").expect("room");
        assert_eq!(rig.take(), [recv(fd)]);
        rustix::io::read(&near, &mut [0; 8]).expect("the byte is there");
    }
}

pub(super) fn a_wait_by_number_is_for_the_file_that_the_number_names_then(rig: &dyn Fn() -> Rig) {
    for life in LIVES.into_iter().filter(|life| !life.owned) {
        let (mut rig, (mut near, mut old_far)) = (rig(), numbered_pair());
        let (new_near, mut new_far) = pair();
        rig.leave_idle(&near, Side::Recv, life);
        let _old = near.try_clone().expect("a duplicate");
        replace(&mut near, &new_near);
        old_far.write_all(b"for the old one").expect("room");
        rig.assert_asleep();
        new_far.write_all(b"for the new one").expect("room");
        assert_eq!(rig.take(), [recv(near.as_raw_fd())], "{life:?}");
    }
}

pub(super) fn what_was_forgotten_does_not_fire_and_does_not_wake(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), numbered_pair());
        fill(&near);
        rig.watch(&near, Side::Recv, life);
        rig.leave_idle(&near, Side::Send, life);
        rig.poller.forget(near.as_raw_fd());
        far.write_all(b"x").expect("room");
        drain(&far);
        rig.assert_asleep();
        // It is still open, and may be watched again, as somebody else's this time.
        rig.watch(&near, Side::Recv, Life { owned: !life.owned, ..life });
        assert_eq!(rig.take(), [recv(near.as_raw_fd())], "{life:?}");
    }
}

pub(super) fn a_reused_number_is_never_left_asleep(rig: &dyn Fn() -> Rig) {
    for (before, after) in LIVES.into_iter().flat_map(|before| LIVES.map(|after| (before, after))) {
        let (mut rig, (mut near, mut old_far)) = (rig(), numbered_pair());
        let fd = near.as_raw_fd();
        rig.leave_idle(&near, Side::Recv, before);
        // Somebody holds the old file under another number: the kernel does not tell epoll that this one is closed.
        let old = near.try_clone().expect("a duplicate");
        let (new_near, mut new_far) = pair();
        rig.poller.forget(fd);
        replace(&mut near, &new_near);
        drop(new_near);
        rig.leave_idle(&near, Side::Recv, after);
        old_far.write_all(b"for the old one").expect("room");
        rig.assert_asleep();
        new_far.write_all(b"for the new one").expect("room");
        assert_eq!(rig.take(), [recv(fd)], "{before:?}, then {after:?}");
        drop(old);
        drop(new_far);
        rig.watch(&near, Side::Send, after);
        assert_eq!(rig.take(), [send(fd)], "{before:?}, then {after:?}: hung up");
    }
}

pub(super) fn a_number_reused_a_thousand_times_is_served_every_time(rig: &dyn Fn() -> Rig) {
    let (mut rig, (mut near, _far)) = (rig(), numbered_pair());
    let fd = near.as_raw_fd();
    // Some of the old files live on under other numbers, with something to read.
    let mut duplicates = Vec::new();
    for round in 0..1_000_usize {
        let life = Life { owned: true, idle_waits: [0, 0, 1, 7, 70][round % 5] };
        let (new_near, mut new_far) = pair();
        rig.poller.forget(fd);
        if round % 16 == 0 {
            duplicates.push((near.try_clone().expect("a duplicate"), new_far.try_clone().expect("a duplicate")));
        }
        replace(&mut near, &new_near);
        drop(new_near);
        rig.leave_idle(&near, Side::Recv, life);
        new_far.write_all(b"x").expect("room");
        assert_eq!(rig.take(), [recv(fd)], "round {round}");
        if round % 3 == 0 {
            rig.watch(&near, Side::Recv, life);
        }
    }
}

/// Nobody but the scheduler may close what it owns, and that can only be asked for, not enforced. What must not happen
/// is that a poller spins over it, or that the others are not served any more.
pub(super) fn an_owned_descriptor_closed_behind_its_back_harms_nobody_else(rig: &dyn Fn() -> Rig) {
    for (life, is_watched) in LIVES.into_iter().flat_map(|life| [(life, true), (life, false)]) {
        let (mut rig, (near, mut far)) = (rig(), numbered_pair());
        let (other, mut other_far) = pair();
        rig.watch(&near, Side::Recv, life);
        rig.leave_idle(&other, Side::Recv, life);
        if !is_watched {
            rig.unwatch(&near, Side::Recv);
        }
        let duplicate = near.try_clone().expect("a duplicate");
        let fd = near.as_raw_fd();
        drop(near);
        far.write_all(b"the duplicate can be received from, for ever").expect("room");
        let start = Instant::now();
        let mut waits = 0;
        while start.elapsed() < Duration::from_millis(60) {
            let fired = rig.wait(Patience::Until(start + Duration::from_millis(60)));
            // Whoever waits for it may hear of it, and does not wait for it again.
            assert!(fired.is_empty() || is_watched && fired.len() == 1 && fired[0].fd == fd, "{fired:?}, {life:?}");
            rig.unwatch_fired(&fired);
            waits += 1;
            assert!(waits < 20, "a spin over a descriptor that is closed: {life:?}, watched: {is_watched}");
        }
        other_far.write_all(b"x").expect("room");
        assert_eq!(rig.take(), [recv(other.as_raw_fd())], "the other is served: {life:?}, watched: {is_watched}");
        rig.watch(&other, Side::Recv, life);
        drain(&other);
        rig.idle(life.idle_waits);
        other_far.write_all(b"x").expect("room");
        assert_eq!(rig.take(), [recv(other.as_raw_fd())], "and again: {life:?}, watched: {is_watched}");
        drop(duplicate);
    }
}

/// As above, and the number goes to somebody else, who waits for it.
pub(super) fn a_number_reused_behind_its_back_is_served_once_it_is_forgotten(rig: &dyn Fn() -> Rig) {
    for (life, is_early) in LIVES.into_iter().flat_map(|life| [(life, true), (life, false)]) {
        let (mut rig, (mut near, mut old_far)) = (rig(), numbered_pair());
        let fd = near.as_raw_fd();
        let (new_near, mut new_far) = pair();
        rig.leave_idle(&near, Side::Recv, life);
        let duplicate = near.try_clone().expect("a duplicate");
        replace(&mut near, &new_near);
        if is_early {
            old_far.write_all(b"for the old one").expect("room");
            rig.take();
        }
        rig.poller.forget(fd);
        rig.assert_asleep();
        rig.leave_idle(&near, Side::Recv, life);
        if !is_early {
            old_far.write_all(b"for the old one").expect("room");
            rig.assert_asleep();
        }
        new_far.write_all(b"for the new one").expect("room");
        assert_eq!(rig.take(), [recv(fd)], "{life:?}, early: {is_early}");
        rig.assert_asleep();
        drop(duplicate);
    }
}

pub(super) fn two_numbers_of_one_file_fire_each_for_itself(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, mut far)) = (rig(), numbered_pair());
        let twin = renumber(near.try_clone().expect("a duplicate"));
        rig.watch(&near, Side::Recv, life);
        rig.leave_idle(&twin, Side::Recv, life);
        far.write_all(b"x").expect("room");
        assert_eq!(rig.take(), [recv(near.as_raw_fd()), recv(twin.as_raw_fd())], "{life:?}");
        rig.watch(&twin, Side::Recv, life);
        rig.poller.forget(near.as_raw_fd());
        drop(near);
        assert_eq!(rig.take(), [recv(twin.as_raw_fd())], "{life:?}, alone");
        rig.assert_asleep();
    }
}

pub(super) fn an_identity_is_that_of_the_open_file(rig: &dyn Fn() -> Rig) {
    let (rig, (mut near, far)) = (rig(), numbered_pair());
    let identity = |fd: &dyn AsRawFd| rig.poller.identity(fd.as_raw_fd());
    let before = identity(&near).expect("it is open");
    assert_eq!(identity(&near).expect("it is open"), before, "the same file stays the same");
    assert_ne!(identity(&far).expect("it is open"), before, "two sockets are two files");
    let long = memfd_create("long", MemfdFlags::empty()).expect("a file without a name");
    ftruncate(&long, 3 << 30).expect("a hole takes no room");
    identity(&long).expect("it is open, however long it is");
    let (new_near, _new_far) = pair();
    replace(&mut near, &new_near);
    assert_ne!(identity(&near).expect("it is open"), before, "a reused number is another file");
    let fd = near.as_raw_fd();
    drop(near);
    let error = rig.poller.identity(fd).expect_err("it is closed");
    assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()));
}
