//! A number that becomes an owned descriptor while somebody waits for it, or has: row 7 of the faults, from the side of the
//! new owner.

mod scripted;

use fdtask::future::{readable, task};
use fdtask::{Context, Side, Task, Wait};
use futures_util::FutureExt;
use scripted::live::{Socket, count, over_every_poller, pair};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::Poll;

#[test]
fn who_adopts_a_number_and_waits_for_it_at_once_is_not_taken_for_who_waited_for_it_before() {
    over_every_poller(|live| {
        for same_task in [false, true] {
            let mut live = live();
            let (near, mut far) = pair();
            let number = near.as_raw_fd();
            let raw = RefCell::new(Some(Socket::new(&live.scheduler, near, false)));
            let (next_near, mut next_far) = pair();
            let (ended, next) = (Rc::new(RefCell::new(None)), RefCell::new(Some(next_near)));
            // The number is given to the next socket, which is adopted and waited for, all in one resume.
            let adopt = move |cx: &Context<'_>| {
                let next = rustix::io::dup(next.take().expect("once")).expect("the lowest number is free");
                let next = cx.adopt(next);
                assert_eq!(next.as_raw_fd(), number, "the test is void");
                next
            };
            let (keep, adopt) = (Rc::clone(&ended), Rc::new(adopt));
            let adopts = Rc::clone(&adopt);
            live.spawn("before", move |cx, n| {
                if n == 0 {
                    return Ok(Wait::Recv(number));
                }
                drop(raw.take());
                if !same_task || n > 1 {
                    return Ok(Wait::Done);
                }
                *keep.borrow_mut() = Some(adopts(cx));
                Ok(Wait::Recv(number))
            });
            live.idle(2);
            far.write_all(b"!").expect("room");
            live.idle(2);
            if !same_task {
                let keep = Rc::clone(&ended);
                live.spawn("after", move |cx, n| {
                    if n == 0 {
                        *keep.borrow_mut() = Some(adopt(cx));
                    }
                    Ok(if n == 0 { Wait::Recv(number) } else { Wait::Done })
                });
                live.idle(2);
            }
            next_far.write_all(b"!").expect("room");
            live.idle(2);
            let lines = live.trace.take();
            assert!(!lines.iter().any(|line| line.contains('!')), "{lines:?}");
            assert_eq!(count(&lines, if same_task { "before dropped" } else { "after dropped" }), 1, "{lines:?}");
        }
    });
}

#[test]
fn a_second_waiter_does_not_take_who_has_adopted_a_number_for_who_waited_for_it_before() {
    over_every_poller(|live| {
        for side in [Side::Recv, Side::Send] {
            let mut live = live();
            let (near, mut far) = pair();
            let number = near.as_raw_fd();
            let wait = if side == Side::Recv { Wait::Recv(number) } else { Wait::Send(number) };
            far.write_all(b"!").expect("room");
            let mut raw = Some(near);
            live.spawn("before", move |_, n| {
                if n == 0 {
                    return Ok(wait);
                }
                drop(raw.take());
                Ok(Wait::Done)
            });
            live.idle(2);
            // Neither can it be received from, nor is there room.
            let (mut next, _far) = pair();
            while next.write(&[0; 4096]).is_ok() {}
            assert_eq!(next.as_raw_fd(), number, "the test is void");
            let next = live.scheduler.adopt(next);
            live.spawn("owner", move |_, _| Ok(if next.as_raw_fd() == number { wait } else { Wait::Done }));
            live.idle(2);
            live.spawn_raw_waiter("second", wait);
            live.idle(2);
            let lines = live.trace.take();
            let errors: Vec<_> = lines.iter().filter(|line| line.contains('!')).collect();
            assert_eq!(errors, [&format!("second! cannot wait to {wait}: another task already does")], "{lines:?}");
        }
    });
}

#[test]
fn a_future_that_is_dropped_with_its_descriptor_hides_from_nobody_that_the_number_is_closed() {
    over_every_poller(|live| {
        for ends in [false, true] {
            let mut live = live();
            let (near, _far) = pair();
            let number = near.as_raw_fd();
            let near = live.scheduler.adopt(near);
            let future = Rc::new(RefCell::new(Some(async move { readable(&near).await }.boxed_local())));
            let shared = Rc::clone(&future);
            let mut polls = task(poll_fn(move |cx| {
                shared.borrow_mut().as_mut().map_or(Poll::Pending, |future| future.poll_unpin(cx))
            }));
            // Through the future, and by the number, which is the task's own affair.
            live.spawn("both", move |cx, _| {
                cx.or(Wait::Recv(number));
                polls.resume(cx)
            });
            let (is_time, next_far) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
            let time = Rc::clone(&is_time);
            live.spawn("dropper", move |_, _| {
                if time.get() {
                    drop(future.take());
                }
                Ok(if time.get() && ends { Wait::Done } else { Wait::Turn })
            });
            let (time, far) = (Rc::clone(&is_time), Rc::clone(&next_far));
            // Adopts the next socket, and leaves it to a new task, as an acceptor does.
            live.spawn("acceptor", move |cx, _| {
                if !time.get() {
                    return Ok(Wait::Turn);
                }
                let (next, next_far) = pair();
                let next = cx.adopt(next);
                assert_eq!(next.as_raw_fd(), number, "the test is void");
                *far.borrow_mut() = Some(next_far);
                cx.spawn(task(async move { readable(&next).await }).named("owner"));
                Ok(Wait::Done)
            });
            live.idle(2);
            is_time.set(true);
            live.idle(3);
            let lines = live.trace.take();
            let errors: Vec<_> = lines.iter().filter(|line| line.contains('!')).collect();
            assert_eq!(errors.len(), 1, "{lines:?}");
            assert!(errors[0].starts_with("both! ") && errors[0].contains("closed"), "{lines:?}");
            let waits = |live: &scripted::live::Live| live.scheduler.tasks().iter().any(|task| task.name == "owner");
            assert!(waits(&live), "nobody else waits for its socket");
            next_far.borrow_mut().as_mut().expect("there is one").write_all(b"!").expect("room");
            live.idle(2);
            assert!(!waits(&live), "it is resumed");
        }
    });
}
