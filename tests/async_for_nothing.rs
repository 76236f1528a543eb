//! No future is polled, and no task resumed, for what has been seen already or is somebody else's; and none is told that it is
//! too late for what is there.

#[path = "common/futures.rs"]
mod futures;

use fdtask::future::{self, readable};
use fdtask::{Scheduler, Wait, task_fn};
use futures::{LONG, pair, run, turns};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[test]
fn a_future_that_has_woken_itself_and_is_polled_for_its_descriptor_is_not_polled_for_the_wake_too() {
    let mut scheduler = Scheduler::new();
    let (near, mut far) = pair(&scheduler);
    let polls = Rc::new(Cell::new(0));
    let count = Rc::clone(&polls);
    scheduler.spawn(future::task(async move {
        let mut waiting = pin!(async {
            readable(&near).await?;
            rustix::io::read(&near, &mut [0; 9])?;
            readable(&near).await
        });
        poll_fn(|cx| {
            count.set(count.get() + 1);
            if count.get() == 1 {
                cx.waker().wake_by_ref();
            }
            waiting.as_mut().poll(cx)
        })
        .await
    }));
    far.write_all(b"x").expect("room");
    turns(&mut scheduler);
    assert_eq!(polls.get(), 2);
}

#[test]
fn what_a_task_has_waited_for_that_has_ended_is_not_given_up_for_the_next_one_in_its_place() {
    let mut scheduler = Scheduler::new();
    // A turn does not sleep.
    scheduler.spawn(task_fn("always ready", |_| Ok(Wait::Turn)));
    let pass = |scheduler: &mut Scheduler| assert!((0..5).all(|_| scheduler.turn()));
    let (near, _far) = pair(&scheduler);
    let (fd, near) = (near.as_raw_fd(), Rc::new(near));
    let shared = Rc::new(RefCell::new(Some(Box::pin({
        let near = Rc::clone(&near);
        async move { readable(&near).await }
    }))));
    let begun = Rc::clone(&shared);
    let first = scheduler.spawn(future::task(poll_fn(move |_| {
        // As a combinator does, with a waker of its own.
        let mut cx = Context::from_waker(Waker::noop());
        let is_pending = begun.borrow_mut().as_mut().is_some_and(|future| future.as_mut().poll(&mut cx).is_pending());
        assert!(is_pending, "there is nothing to receive");
        Poll::Pending
    })));
    pass(&mut scheduler);
    scheduler.handle().cancel(first);
    pass(&mut scheduler);
    let resumes = Rc::new(Cell::new(0));
    let count = Rc::clone(&resumes);
    scheduler.spawn(task_fn("next", move |_| {
        count.set(count.get() + 1);
        Ok(Wait::Recv(fd))
    }));
    pass(&mut scheduler);
    drop(shared.take());
    pass(&mut scheduler);
    assert_eq!(resumes.get(), 1, "it has its own wait");
}

#[test]
fn who_gives_up_a_wait_in_the_same_poll_is_not_polled_for_that() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let polls = Rc::new(Cell::new(0));
    let count = Rc::clone(&polls);
    scheduler.spawn(future::task(poll_fn(move |cx| {
        count.set(count.get() + 1);
        let mut sleep = pin!(future::sleep(&handle, LONG));
        assert!(sleep.as_mut().poll(cx).is_pending());
        Poll::Pending
    })));
    turns(&mut scheduler);
    assert_eq!(polls.get(), 1);
}

#[test]
fn whose_wait_another_task_has_taken_over_is_not_polled_for_that() {
    let mut scheduler = Scheduler::new();
    let (near, _far) = pair(&scheduler);
    let shared = Rc::new(RefCell::new(Box::pin(async move { readable(&near).await })));
    let polls = Rc::new(RefCell::new(Vec::new()));
    for name in ["first", "second"] {
        let (shared, polls) = (Rc::clone(&shared), Rc::clone(&polls));
        scheduler.spawn(future::task(poll_fn(move |cx| {
            polls.borrow_mut().push(name);
            shared.borrow_mut().as_mut().poll(cx)
        })));
    }
    turns(&mut scheduler);
    assert_eq!(*polls.borrow(), ["first", "second"]);
}

#[test]
fn what_is_there_when_its_time_is_over_is_not_too_late() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let in_time = async move { future::timeout(&handle, Duration::ZERO, future::next_turn()).await };
    assert_eq!(run(&mut scheduler, in_time), Ok(()));
}
