//! Futures that are out of descriptors. They need a program of their own, because the limit that is lowered is the whole
//! process's. No time passes but virtual time.

use fdtask::Scheduler;
use fdtask::future::{Incoming, task};
use fdtask::net::{DESCRIPTORS_RETRY, Listener};
use fdtask::poller::{Happening, Sim};
use fdtask::{Side, Wait, task_fn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::poll_fn;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// As long as it lives, no descriptor is left.
struct NoneLeft(Rlimit);

impl NoneLeft {
    fn new() -> NoneLeft {
        let before = getrlimit(Resource::Nofile);
        let lowest_free = File::open("/dev/null").expect("every Unix has it").as_raw_fd() as u64;
        setrlimit(Resource::Nofile, Rlimit { current: Some(lowest_free), maximum: before.maximum })
            .expect("a limit can be lowered");
        assert!(File::open("/dev/null").is_err(), "a descriptor is left: the test is void");
        NoneLeft(before)
    }
}

impl Drop for NoneLeft {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).expect("it can be raised again");
    }
}

#[test]
fn who_accepts_without_a_descriptor_left_pauses_and_accepts_when_there_is_one() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let (address, fd) = (listener.address(), listener.as_fd().as_raw_fd());
    let client = TcpStream::connect(address).expect("it listens");
    script.now(Happening::Ready(fd, Side::Recv));
    let incoming = Incoming::new(&scheduler.handle(), listener);
    let accepted = Rc::new(RefCell::new(None));
    let place = Rc::clone(&accepted);
    scheduler.spawn(task(async move {
        let result = incoming.accept().await;
        *place.borrow_mut() = Some(result.map(|(_, peer)| peer));
        Ok(())
    }));

    let none_left = NoneLeft::new();
    // A try and a pause for every two turns. The first pauses are shorter: 1 ms, then twice as long each time.
    for _ in 0..100 {
        scheduler.turn();
    }
    let slept = script.elapsed();
    drop(none_left);
    assert!(accepted.borrow().is_none(), "it has ended: {accepted:?}");
    assert!(slept >= DESCRIPTORS_RETRY * 30, "it spins: 100 turns in {slept:?}");
    assert!(slept <= DESCRIPTORS_RETRY * 100, "it sleeps for too long: 100 turns in {slept:?}");

    while accepted.borrow().is_none() {
        assert!(script.elapsed() <= slept + DESCRIPTORS_RETRY, "it does not try again");
        scheduler.turn();
    }
    let peer = accepted.take().expect("it has ended").expect("there is a descriptor");
    assert_eq!(peer, client.local_addr().expect("it is connected"));
}

#[test]
fn another_thread_that_wakes_is_heard_soon_though_no_descriptor_is_left_to_hear_it_by() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    // So that one who does not look again sleeps for an hour, and not for ever.
    scheduler.spawn(task_fn("hourly", |cx| Ok(Wait::Until(cx.now() + Duration::from_secs(3600)))));
    let (kept, is_over) = (Arc::new(Mutex::new(None::<Waker>)), Rc::new(Cell::new(false)));
    let (polls, was_heard) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (place, over, count, hearing) =
        (Arc::clone(&kept), Rc::clone(&is_over), Rc::clone(&polls), Rc::clone(&was_heard));
    let none_left = NoneLeft::new();
    scheduler.spawn(task(async move {
        poll_fn(|cx| {
            count.set(count.get() + 1);
            *place.lock().expect("nobody panics") = Some(cx.waker().clone());
            if over.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        hearing.set(true);
        Ok(())
    }));

    for _ in 0..20 {
        scheduler.turn();
    }
    let slept = script.elapsed();
    assert!(slept >= DESCRIPTORS_RETRY * 8, "it spins: {} polls in {slept:?}", polls.get());
    assert!(slept <= DESCRIPTORS_RETRY * 20, "it does not look again: {} polls in {slept:?}", polls.get());

    let waker = kept.lock().expect("nobody panics").clone().expect("it has been polled");
    is_over.set(true);
    thread::spawn(move || waker.wake()).join().expect("waking is no trouble");
    let woken = script.elapsed();
    while !was_heard.get() {
        assert!(script.elapsed() <= woken + DESCRIPTORS_RETRY, "nobody hears the other thread");
        scheduler.turn();
    }
    drop(none_left);
}
