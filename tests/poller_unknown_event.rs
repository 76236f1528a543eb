//! An event of the parked poller's epoll instance that the poller knows nothing of (row 16 of the faults): a registration that
//! others have left in it, as a child process can that was forked and shares it. Or the instance's number has been closed and
//! is another file's now. It needs a program of its own, in which there is one epoll instance.

#![cfg(target_os = "linux")]

use fdtask::Side;
use fdtask::poller::{Parked, Patience, Poller, Waiters};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::dup2;
use std::fs;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// More waits than it takes until what is idle is parked.
const LONG_IDLE_WAITS: usize = 400;

/// How long the poller is to sleep if nothing fires.
const NAP: Duration = Duration::from_millis(200);

/// How long it may sleep if something does: longer than a busy machine keeps a process waiting.
const LONG_NAP: Duration = Duration::from_secs(20);

/// The one epoll instance that this process has.
fn epoll_instance(_open: &Parked) -> BorrowedFd<'_> {
    let entries = fs::read_dir("/proc/self/fd").expect("Linux says what is open").flatten();
    let is_epoll = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|file| file.to_string_lossy() == "anon_inode:[eventpoll]")
    };
    let number = entries.filter(is_epoll).find_map(|entry| entry.file_name().to_str()?.parse().ok());
    // SAFETY: it is the poller's, which keeps it open at least as long as it is borrowed here.
    unsafe { BorrowedFd::borrow_raw(number.expect("something is parked")) }
}

/// What fires while the poller may sleep for so long, and whether it slept until then.
fn nap(poller: &mut Parked, watched: &io::PipeReader, time: Duration) -> (Vec<i32>, bool) {
    let mut nobody = Waiters::default();
    let begin = Instant::now();
    poller.wait(Patience::Until(begin + time), &mut nobody).expect("it can poll");
    let slept = begin.elapsed() >= time;
    let fired: Vec<i32> = nobody.take_unclaimed().iter().map(|one| one.fd).collect();
    if fired.contains(&watched.as_raw_fd()) {
        poller.watch(watched.as_raw_fd(), Side::Recv, true);
    }
    (fired, slept)
}

#[test]
fn a_poller_whose_instance_others_meddle_with_starts_afresh_and_sleeps_again() {
    starts_afresh(|instance, ready| {
        let data = EventData::new_u64(ready.as_raw_fd() as u64);
        epoll::add(instance, ready, data, EventFlags::IN).expect("anybody who shares the instance can add to it");
    });
    starts_afresh(|instance, ready| {
        // SAFETY: it is the poller's number, which goes on to be open, and is not closed here.
        let mut number = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(instance.as_raw_fd()) });
        dup2(ready, &mut number).expect("a number can be given to another file");
    });
}

/// `meddle` is given the instance, and something that is ready for good.
fn starts_afresh(meddle: impl FnOnce(BorrowedFd<'_>, &io::PipeReader)) {
    let mut poller = Parked::new();
    // Of a few, none would be parked.
    let crowd: Vec<_> = (0..10).map(|_| io::pipe().expect("a pipe")).collect();
    for (silent, _) in &crowd {
        poller.watch(silent.as_raw_fd(), Side::Recv, true);
    }
    let (parked, mut writer) = io::pipe().expect("a pipe");
    poller.watch(parked.as_raw_fd(), Side::Recv, true);
    let mut nobody = Waiters::default();
    for _ in 0..LONG_IDLE_WAITS {
        poller.wait(Patience::Look, &mut nobody).expect("it can poll");
    }
    assert_eq!(nobody.take_unclaimed(), []);

    let (ready, mut unread) = io::pipe().expect("a pipe");
    unread.write_all(b"!").expect("room");
    meddle(epoll_instance(&poller), &ready);

    // The first wait finds it out, and need not sleep; from then on all is well.
    let (fired, slept) = nap(&mut poller, &parked, LONG_NAP);
    assert!(fired.is_empty() && !slept, "the test is void: {fired:?}, it slept: {slept}");
    for _ in 0..3 {
        assert_eq!(nap(&mut poller, &parked, NAP), (vec![], true), "what others have done keeps it awake");
    }
    // Who was parked is served.
    writer.write_all(b"!").expect("room");
    assert_eq!(nap(&mut poller, &parked, LONG_NAP), (vec![parked.as_raw_fd()], false));
}
