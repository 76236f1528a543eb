//! The one wait that almost every future has takes a short way through its task. These are the ways in which it could be
//! mistaken: for another's wait, for one that is over, for all that can resume the task.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{self, readable, task};
use fdtask::{Descriptor, Scheduler, Task, Wait, task_fn};
use futures::{pair, run, turns, wait_in_another_task};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use limited::within_limit;
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{self, Write};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Waits = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// Waits for a socket, and can be moved from one task to another meanwhile.
fn waits(socket: &Rc<Descriptor>) -> Waits {
    let socket = Rc::clone(socket);
    Box::pin(async move { readable(&socket).await })
}

/// Is ready when it is polled after `is_over` has been set; keeps the waker that it was last polled with.
async fn woken(kept: Rc<RefCell<Option<Waker>>>, is_over: Rc<Cell<bool>>) {
    poll_fn(|cx| {
        kept.replace(Some(cx.waker().clone()));
        if is_over.get() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[test]
fn a_combinator_with_wakers_of_its_own_may_be_all_that_a_task_waits_with() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        far.write_all(b"!").expect("room");
        let near = Rc::new(near);
        let rounds = run(&mut scheduler, async move {
            let mut rounds = 0;
            while rounds < 3 {
                // First by itself, so that the task is used to its one wait.
                readable(&near).await.expect("nobody else waits");
                let mut unordered = FuturesUnordered::new();
                unordered.push(waits(&near));
                unordered.next().await.expect("there is one").expect("nobody else waits");
                rounds += 1;
            }
            rounds
        });
        assert_eq!(rounds, 3);
    });
}

#[test]
fn a_wait_that_is_moved_into_a_combinator_in_its_middle_wakes_that() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        let (near, seen) = (Rc::new(near), Rc::new(Cell::new(None)));
        let place = Rc::clone(&seen);
        scheduler.spawn(task(async move {
            let mut waiting = waits(&near);
            let is_pending = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
            let mut unordered = FuturesUnordered::new();
            unordered.push(waiting);
            let is_ready = matches!(unordered.next().await, Some(Ok(())));
            place.set(Some((is_pending, is_ready)));
            Ok(())
        }));
        turns(&mut scheduler);
        assert_eq!(seen.get(), None, "nothing has been sent");
        far.write_all(b"!").expect("room");
        scheduler.run();
        assert_eq!(seen.get(), Some((true, true)));
    });
}

#[test]
fn a_wait_that_is_moved_into_a_combinator_and_given_up_there_keeps_nobody_else_from_waiting() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        let (near, waits_too) = (Rc::new(near), Rc::new(Cell::new(None)));
        let (place, other) = (Rc::clone(&waits_too), waits(&near));
        scheduler.spawn(task(async move {
            let mut waiting = waits(&near);
            poll_fn(|cx| {
                assert!(waiting.as_mut().poll(cx).is_pending());
                assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                Poll::Ready(())
            })
            .await;
            drop(waiting);
            pending().await
        }));
        turns(&mut scheduler);
        scheduler.spawn(task(async move {
            place.set(Some(other.await.is_ok()));
            Ok(())
        }));
        turns(&mut scheduler);
        far.write_all(b"!").expect("room");
        turns(&mut scheduler);
        assert_eq!(waits_too.get(), Some(true));
    });
}

#[test]
fn a_task_that_waits_for_a_socket_is_resumed_by_whoever_holds_its_waker() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, _quiet) = pair(&scheduler);
        let (kept, is_over) = (Rc::default(), Rc::default());
        let waiting = woken(Rc::clone(&kept), Rc::clone(&is_over));
        scheduler.spawn(task(async move {
            match select(pin!(readable(&near)), pin!(waiting)).await {
                Either::Left(_) => Err(io::Error::other("it is quiet")),
                Either::Right(((), _)) => Ok(()),
            }
        }));
        turns(&mut scheduler);
        is_over.set(true);
        kept.take().expect("it has been polled").wake();
        scheduler.run();
    });
}

#[test]
fn whoever_makes_a_context_of_the_same_waker_is_resumed_all_the_same() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        let received = Rc::new(Cell::new(0));
        let counted = Rc::clone(&received);
        let task_id = scheduler.spawn(task(async move {
            let mut polls = 0;
            loop {
                let mut waiting = pin!(readable(&near));
                poll_fn(|cx| {
                    polls += 1;
                    // By turns, also in the middle of one wait.
                    if polls % 3 == 0 {
                        waiting.as_mut().poll(cx)
                    } else {
                        waiting.as_mut().poll(&mut Context::from_waker(cx.waker()))
                    }
                })
                .await?;
                rustix::io::read(&near, &mut [0; 8]).expect("it is readable");
                counted.set(counted.get() + 1);
            }
        }));
        for messages in 1..=6 {
            turns(&mut scheduler);
            scheduler.handle().wake(task_id);
            turns(&mut scheduler);
            far.write_all(b"!").expect("room");
            turns(&mut scheduler);
            assert_eq!(received.get(), messages);
        }
    });
}

#[test]
fn a_waker_that_is_held_and_not_used_makes_no_future_be_polled_twice() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        let (kept, polls) = (Rc::default(), Rc::new(Cell::new(0)));
        let counted = Rc::clone(&polls);
        scheduler.spawn(task(async move {
            let mut never = pin!(woken(kept, Rc::default()));
            let mut both = pin!(async {
                loop {
                    select(pin!(readable(&near)), never.as_mut()).await;
                    rustix::io::read(&near, &mut [0; 8]).expect("it is readable");
                }
            });
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                both.as_mut().poll(cx)
            })
            .await
        }));
        turns(&mut scheduler);
        for message in 1..=5 {
            far.write_all(b"!").expect("room");
            turns(&mut scheduler);
            assert_eq!(polls.get(), 1 + message);
        }
    });
}

#[test]
fn a_future_that_is_moved_to_another_task_does_not_take_that_ones_wait_for_its_own() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let ((quiet, _far), (loud, mut far)) = (pair(&scheduler), pair(&scheduler));
        let moved = Rc::new(RefCell::new(None));
        let place = Rc::clone(&moved);
        scheduler.spawn_service(task(async move {
            let mut waiting = waits(&Rc::new(quiet));
            poll_fn(|cx| {
                assert!(waiting.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            place.replace(Some(waiting));
            pending().await
        }));
        turns(&mut scheduler);
        far.write_all(b"!").expect("room");
        let was_ready = run(&mut scheduler, async move {
            let mut own = readable(&loud);
            let mut moved = moved.take().expect("it has been put there");
            let mut is_first = true;
            poll_fn(|cx| {
                let was_ready = !is_first && moved.as_mut().poll(cx).is_ready();
                is_first = false;
                Pin::new(&mut own).poll(cx).map(|_| was_ready)
            })
            .await
        });
        assert!(!was_ready, "nothing has been said on the quiet socket");
    });
}

#[test]
fn a_wait_that_is_given_up_is_not_filed_again() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let ((quiet, _far), (loud, mut far)) = (pair(&scheduler), pair(&scheduler));
        far.write_all(b"!").expect("room");
        let quiet = Rc::new(quiet);
        let other = Rc::clone(&quiet);
        let refused = run(&mut scheduler, async move {
            // The first of them is the one wait, whose place must be free again when it has lost.
            let won = select(readable(&quiet), readable(&loud)).await;
            assert!(matches!(won, Either::Right(_)));
            drop(won);
            wait_in_another_task(&handle, other).await
        });
        assert!(matches!(refused, Err(future::TimedOut)), "{refused:?}");
    });
}

#[test]
fn a_wait_that_is_over_leaves_the_place_to_the_next_though_it_is_dropped_late() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let ((first, mut far), (second, mut other_far)) = (pair(&scheduler), pair(&scheduler));
        far.write_all(b"!").expect("room");
        other_far.write_all(b"!").expect("room");
        let result = run(&mut scheduler, async move {
            let (mut over, mut next) = (Some(readable(&first)), readable(&second));
            poll_fn(|cx| {
                let is_over = over.as_mut().is_none_or(|wait| Pin::new(wait).poll(cx).is_ready());
                let poll = if is_over { Pin::new(&mut next).poll(cx) } else { Poll::Pending };
                over = over.take().filter(|_| !is_over);
                poll
            })
            .await
        });
        assert!(result.is_ok(), "{result:?}");
    });
}

#[test]
fn a_wait_that_is_taken_for_one_that_was_given_up_does_not_cost_another_its_place() {
    for is_dropped in [false, true] {
        within_limit(move || is_taken_for_one_that_was_given_up(is_dropped));
    }
}

/// `is_dropped` says that it is not polled again, but dropped.
fn is_taken_for_one_that_was_given_up(is_dropped: bool) {
    // A hand-written task that polls two futures: to the scheduler they are one.
    let mut scheduler = Scheduler::new();
    let ((quiet, _far), (other, _other_far)) = (pair(&scheduler), pair(&scheduler));
    let (loud, mut far) = pair(&scheduler);
    let quiet = Rc::new(quiet);
    let given_up = Rc::new(RefCell::new(waits(&quiet)));
    let polled = Rc::clone(&given_up);
    let mut first = Some(task(poll_fn(move |cx| polled.borrow_mut().as_mut().poll(cx))));
    let mut second = task(async move {
        let (mut early, mut late, mut polls) = (Some(readable(&other)), readable(&loud), 0);
        poll_fn(|cx| {
            polls += 1;
            // The second time `late` takes the place that `early` believes to have.
            if polls > 1 && Pin::new(&mut late).poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            early = early.take().filter(|_| polls == 1 || !is_dropped);
            early.as_mut().map_or(Poll::Pending, |early| Pin::new(early).poll(cx))
        })
        .await
    });
    scheduler.spawn(task_fn("both", move |cx| {
        if let Some(mut first) = first.take() {
            let wait = first.resume(cx)?;
            cx.or(wait);
        }
        second.resume(cx)
    }));
    turns(&mut scheduler);
    drop(given_up);
    turns(&mut scheduler);
    far.write_all(b"!").expect("room");
    turns(&mut scheduler);
    assert!(scheduler.tasks().is_empty(), "{:?}", scheduler.tasks()[0].state);
}

#[test]
fn after_a_panic_nobody_is_taken_for_the_future_that_panicked() {
    let mut scheduler = Scheduler::new();
    scheduler.spawn(task(async { panic!("on purpose") }));
    turns(&mut scheduler);
    // What is said from outside of any task is nobody's child.
    scheduler.handle().spawn(task_fn("orphan", |_| Ok(Wait::Wake)));
    turns(&mut scheduler);
    let tasks = scheduler.tasks();
    let orphan = tasks.iter().find(|info| info.name == "orphan").expect("it waits");
    assert_eq!(orphan.spawned_by, None);
}

#[test]
fn who_has_another_wait_for_the_same_keeps_that_when_one_is_taken_over() {
    within_limit(|| {
        for taken in [0, 1] {
            let mut scheduler = Scheduler::new();
            let (near, mut far) = pair(&scheduler);
            let near = Rc::new(near);
            let both = Rc::new(RefCell::new(vec![waits(&near), waits(&near)]));
            let (left, is_told) = (Rc::clone(&both), Rc::new(Cell::new(false)));
            let told = Rc::clone(&is_told);
            scheduler.spawn(task(async move {
                poll_fn(|cx| {
                    let mut left = left.borrow_mut();
                    let polls: Vec<_> = left.iter_mut().map(|wait| wait.as_mut().poll(cx)).collect();
                    polls.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
                })
                .await?;
                told.set(true);
                Ok(())
            }));
            turns(&mut scheduler);
            let taken_over = both.borrow_mut().remove(taken);
            scheduler.spawn(task(taken_over));
            turns(&mut scheduler);
            far.write_all(b"!").expect("room");
            turns(&mut scheduler);
            assert!(is_told.get() && scheduler.tasks().is_empty(), "{taken}");
        }
    });
}

#[test]
fn whoever_has_the_place_of_a_task_that_has_ended_is_woken_when_that_ones_future_is_taken_over() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        let (near, handle) = (Rc::new(near), scheduler.handle());
        let future = Rc::new(RefCell::new(waits(&near)));
        let shared = || {
            let future = Rc::clone(&future);
            task(poll_fn(move |cx| future.borrow_mut().as_mut().poll(cx)))
        };
        let first = scheduler.spawn(shared());
        turns(&mut scheduler);
        handle.cancel(first);
        handle.stop();
        scheduler.run();
        // It gets the slot that is free, and waits for the same, but by itself.
        scheduler.spawn(task(waits(&near)));
        turns(&mut scheduler);
        scheduler.spawn(shared());
        turns(&mut scheduler);
        far.write_all(b"!").expect("room");
        turns(&mut scheduler);
        assert!(scheduler.tasks().is_empty(), "nobody is left asleep");
    });
}
