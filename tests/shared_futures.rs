//! Futures that are not one task's alone: awaited by several tasks, handed from one to another, given up by whoever polls them.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{self, FutureTask, JoinHandle, readable, sleep, task};
use fdtask::{Context, Descriptor, Handle, Notify, Scheduler, Task, Wait, task_fn};
use futures::{pair, run, turns};
use futures_util::future::{FutureExt, LocalBoxFuture, Shared};
use futures_util::stream::{FuturesUnordered, StreamExt};
use limited::within_limit;
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Waits for a socket, and can be moved from one task to another meanwhile.
fn waits(socket: &Rc<Descriptor>) -> LocalBoxFuture<'static, io::Result<()>> {
    let socket = Rc::clone(socket);
    async move { readable(&socket).await }.boxed_local()
}

type Outcome = Shared<LocalBoxFuture<'static, Result<(), io::ErrorKind>>>;

/// Tasks that wait for the same, in the order in which they poll it.
fn tasks_await(handle: &Handle, shared: &Outcome, count: usize) -> Vec<JoinHandle<Result<(), io::ErrorKind>>> {
    (0..count).map(|_| future::spawn(handle, shared.clone())).collect()
}

#[test]
fn several_tasks_may_await_one_shared_wait_and_sleep_meanwhile() {
    within_limit(|| {
        for is_first_cancelled in [false, true] {
            for of_a_socket in [false, true] {
                let mut scheduler = Scheduler::new();
                let (handle, (near, mut far)) = (scheduler.handle(), pair(&scheduler));
                let sleeps = sleep(&handle, Duration::from_millis(5));
                let near = Rc::new(near);
                let shared = if of_a_socket {
                    waits(&near).map(|ready| ready.map_err(|error| error.kind())).boxed_local().shared()
                } else {
                    sleeps.map(Ok).boxed_local().shared()
                };
                let mut tasks = tasks_await(&handle, &shared, 3);
                drop(shared);
                turns(&mut scheduler);
                if is_first_cancelled {
                    drop(tasks.remove(0));
                    turns(&mut scheduler);
                }
                let resumes = scheduler.tasks().iter().map(|info| info.resumes).max();
                assert!(!of_a_socket || resumes < Some(6), "they take turns: {resumes:?}");
                far.write_all(b"!").expect("room");
                while !tasks.iter().all(JoinHandle::is_ended) {
                    turns(&mut scheduler);
                }
                for task in tasks {
                    let ended = task.try_join().map_err(|_| "it still waits, or takes turns for ever");
                    assert_eq!(
                        ended.expect("ended").expect("not cancelled"),
                        Ok(()),
                        "{is_first_cancelled} {of_a_socket}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_shared_wait_outlives_the_panic_of_the_task_that_has_begun_it() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let shared = sleep(&handle, Duration::from_millis(5)).map(Ok).boxed_local().shared();
        let mut begins = shared.clone();
        scheduler.spawn(task(async move {
            poll_fn(|cx| Poll::Ready(begins.poll_unpin(cx).is_pending())).await;
            panic!("on purpose");
        }));
        let waits = tasks_await(&handle, &shared, 2);
        scheduler.run();
        assert!(waits.iter().all(JoinHandle::is_ended));
    });
}

#[test]
fn waits_that_are_moved_to_another_task_outlive_the_one_that_has_begun_them() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (handle, (near, mut far)) = (scheduler.handle(), pair(&scheduler));
        let near = Rc::new(near);
        let received = run(&mut scheduler, async move {
            let place = Rc::new(RefCell::new(None));
            let put = Rc::clone(&place);
            let begins = future::spawn(&handle, async move {
                let mut unordered = FuturesUnordered::from_iter([waits(&near)]);
                poll_fn(|cx| {
                    assert!(unordered.poll_next_unpin(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                put.replace(Some(unordered));
                pending::<()>().await;
            });
            while place.borrow().is_none() {
                future::next_turn().await;
            }
            let mut unordered = place.take().expect("it has been put there");
            // Polled here before the other one ends.
            let mut begins = Some(begins);
            let next = poll_fn(|cx| {
                let next = unordered.poll_next_unpin(cx);
                begins.take();
                next
            });
            far.write_all(b"!").expect("room");
            next.await.expect("there is one")
        });
        received.expect("nobody else waits");
    });
}

#[test]
fn a_future_that_two_tasks_poll_is_over_in_the_end_and_both_sleep_meanwhile() {
    within_limit(|| {
        for of_a_socket in [false, true] {
            let mut scheduler = Scheduler::new();
            let (handle, (near, mut far)) = (scheduler.handle(), pair(&scheduler));
            let sleeps = sleep(&handle, Duration::from_millis(5)).map(Ok).boxed_local();
            let future = Rc::new(RefCell::new(if of_a_socket { waits(&Rc::new(near)) } else { sleeps }));
            let polls = Rc::new(Cell::new(0));
            for _ in 0..2 {
                let (handle, future, polls) = (handle.clone(), Rc::clone(&future), Rc::clone(&polls));
                scheduler.spawn(task(poll_fn(move |cx| {
                    polls.set(polls.get() + 1);
                    future.borrow_mut().poll_unpin(cx).map_ok(|()| handle.stop())
                })));
            }
            turns(&mut scheduler);
            far.write_all(b"!").expect("room");
            scheduler.run();
            assert!(polls.get() < 8, "they take it from each other: {} polls, {of_a_socket}", polls.get());
        }
    });
}

#[test]
fn a_future_that_is_handed_on_by_a_task_that_waits_for_something_else_too_may_be_awaited_or_dropped_at_once() {
    within_limit(|| {
        for (is_dropped, was_woken) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut scheduler = Scheduler::new();
            let (handle, (silent, _silent), (near, mut far)) = (scheduler.handle(), pair(&scheduler), pair(&scheduler));
            let near = Rc::new(near);
            let place = Rc::new(RefCell::new(Some(waits(&near))));
            let (polled, pending) = (Rc::clone(&place), Rc::new(Cell::new(0)));
            let count = Rc::clone(&pending);
            let giver = scheduler.spawn_service(task(async move {
                let mut other = readable(&silent);
                poll_fn(move |cx| {
                    if let Some(waiting) = polled.borrow_mut().as_mut() {
                        let polls = [other.poll_unpin(cx), waiting.poll_unpin(cx)];
                        count.set(polls.iter().filter(|poll| poll.is_pending()).count());
                    }
                    Poll::Pending
                })
                .await
            }));
            turns(&mut scheduler);
            if was_woken {
                // Of two wakes in a row, the second waits for a poll.
                handle.wake(giver);
                turns(&mut scheduler);
            }
            assert_eq!(pending.get(), 2, "nothing has been sent");
            let received = run(&mut scheduler, async move {
                let waiting = place.take().expect("it has been put there");
                far.write_all(b"!").expect("room");
                let received = if is_dropped {
                    drop(waiting);
                    readable(&near).await
                } else {
                    waiting.await
                };
                handle.stop();
                received
            });
            received.expect("nobody else waits any more");
        }
    });
}

#[test]
fn a_task_whose_futures_are_dropped_by_others_in_every_turn_hears_of_what_else_it_waits_for() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (handle, (silent, _silent), (near, mut far)) = (scheduler.handle(), pair(&scheduler), pair(&scheduler));
        far.write_all(b"!").expect("room");
        let (silent, place) = (Rc::new(silent), Rc::new(RefCell::new(None)));
        let given = Rc::clone(&place);
        // In each turn it leaves a future to its neighbour, which drops it before the poll.
        scheduler.spawn(task(async move {
            let mut own = readable(&near);
            let is_heard = poll_fn(|cx| {
                let heard = own.poll_unpin(cx);
                let mut other = waits(&silent);
                assert!(other.poll_unpin(cx).is_pending(), "nobody sends");
                given.replace(Some(other));
                heard
            });
            is_heard.await?;
            handle.stop();
            Ok(())
        }));
        let drops = Rc::new(Cell::new(0));
        let count = Rc::clone(&drops);
        scheduler.spawn(task_fn("neighbour", move |_| {
            drop(place.take());
            count.set(count.get() + 1);
            Ok(if count.get() < 100 { Wait::Turn } else { Wait::Done })
        }));
        scheduler.run();
        assert!(drops.get() < 10, "it has been heard after {} turns", drops.get());
    });
}

#[test]
fn a_task_that_gives_up_the_rest_when_others_have_dropped_one_of_its_futures_is_in_nobodys_way() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let ((near, mut far), (silent, _silent)) = (pair(&scheduler), pair(&scheduler));
        let (near, silent, place) = (Rc::new(near), Rc::new(silent), Rc::new(RefCell::new(None)));
        let (given, mut own) = (Rc::clone(&place), vec![waits(&near), waits(&silent)]);
        scheduler.spawn_service(task(poll_fn(move |cx| {
            if own.len() == 2 {
                assert!(own.iter_mut().all(|waiting| waiting.poll_unpin(cx).is_pending()), "nobody has sent");
                given.replace(own.pop());
            } else {
                own.clear();
            }
            Poll::Pending
        })));
        turns(&mut scheduler);
        drop(place.take().expect("it has been put there"));
        turns(&mut scheduler);
        far.write_all(b"!").expect("room");
        run(&mut scheduler, async move { readable(&near).await }).expect("nobody else waits any more");
    });
}

#[test]
fn a_run_ends_although_a_future_was_dropped_when_its_task_was_ready_and_had_not_had_its_turn() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        let (near, place) = (Rc::new(near), Rc::new(RefCell::new(None)));
        let mut waiting = Some(waits(&near));
        let given = Rc::clone(&place);
        scheduler.spawn(task(poll_fn(move |cx| {
            if let Some(mut waiting) = waiting.take() {
                assert!(waiting.poll_unpin(cx).is_pending(), "nobody has sent");
                given.replace(Some(waiting));
            }
            Poll::Pending
        })));
        let mut turns = 0;
        // Its turn comes before that of whoever has heard of something.
        scheduler.spawn(task_fn("neighbour", move |_| {
            turns += 1;
            match turns {
                1 => far.write_all(b"!")?,
                _ => drop(place.take()),
            }
            Ok(if turns == 1 { Wait::Turn } else { Wait::Done })
        }));
        scheduler.run();
        assert_eq!(scheduler.tasks().len(), 1, "it waits for nothing");
    });
}

#[test]
fn a_task_is_resumed_when_others_have_dropped_all_that_it_waited_for() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (silent, _far): (Vec<_>, Vec<_>) = (0..2).map(|_| pair(&scheduler)).unzip();
        let silent: Vec<Rc<Descriptor>> = silent.into_iter().map(Rc::new).collect();
        let place = Rc::new(RefCell::new(Vec::new()));
        let (given, mut polls) = (Rc::clone(&place), 0);
        scheduler.spawn(task(poll_fn(move |cx| {
            let mut others: Vec<_> = silent.iter().map(waits).collect();
            assert!(others.iter_mut().all(|other| other.poll_unpin(cx).is_pending()), "nobody sends");
            given.replace(others);
            polls += 1;
            if polls == 3 { Poll::Ready(Ok(())) } else { Poll::Pending }
        })));
        let mut drops = 0;
        scheduler.spawn(task_fn("neighbour", move |_| {
            drop(place.take());
            drops += 1;
            Ok(if drops == 3 { Wait::Done } else { Wait::Turn })
        }));
        scheduler.run();
        assert!(scheduler.tasks().is_empty(), "it waits for nothing, and was not told");
    });
}

/// Gives up the first future at a deadline, and goes on with the second.
struct Retries(Vec<FutureTask<LocalBoxFuture<'static, io::Result<()>>>>);

impl Task for Retries {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        if cx.timed_out() {
            drop(self.0.remove(0));
        }
        if self.0.len() > 1 {
            cx.or(Wait::Until(cx.now()));
        }
        self.0[0].resume(cx)
    }
}

#[test]
fn a_task_that_gives_up_a_future_and_begins_another_waits_for_that_one() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let ((silent, _silent), (near, mut far)) = (pair(&scheduler), pair(&scheduler));
        let futures = [silent, near].map(|socket| task(waits(&Rc::new(socket))));
        scheduler.spawn(Retries(futures.into()));
        turns(&mut scheduler);
        far.write_all(b"!").expect("room");
        turns(&mut scheduler);
        assert!(scheduler.tasks().is_empty(), "{:?}", scheduler.tasks()[0].state);
    });
}

/// Waits with its future until that has been resumed twice, and hands it to another task, which gets its slot.
struct Gives(Option<FutureTask<LocalBoxFuture<'static, io::Result<()>>>>, Option<Descriptor>, u32);

impl Task for Gives {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.2 += 1;
        if self.2 > 2
            && let (Some(future), Some(own)) = (self.0.take(), self.1.take())
        {
            cx.handle().spawn(Takes(future, own, false));
        }
        self.0.as_mut().map_or(Ok(Wait::Done), |future| future.resume(cx))
    }
}

/// Waits for a descriptor of its own, and goes on with the future then.
struct Takes(FutureTask<LocalBoxFuture<'static, io::Result<()>>>, Descriptor, bool);

impl Task for Takes {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let has_waited = std::mem::replace(&mut self.2, true);
        if !has_waited {
            return Ok(Wait::Recv(self.1.as_raw_fd()));
        }
        self.0.resume(cx)
    }
}

#[test]
fn a_future_that_is_handed_to_a_task_in_the_same_slot_hears_of_what_it_waits_for_there() {
    within_limit(|| {
        for waits_for_more in [false, true] {
            let mut scheduler = Scheduler::new();
            let ((near, mut far), (own, mut wakes)) = (pair(&scheduler), pair(&scheduler));
            let notify = Notify::new(&scheduler.handle());
            let notified = notify.clone();
            let future = async move {
                for _ in 0..2 {
                    readable(&near).await?;
                    rustix::io::read(&near, &mut [0; 8])?;
                }
                let notified = notified.notified().map(Ok);
                if waits_for_more { future::race(notified, readable(&near)).await } else { notified.await }
            };
            scheduler.spawn(Gives(Some(task(future.boxed_local())), Some(own), 0));
            for _ in 0..2 {
                turns(&mut scheduler);
                far.write_all(b"!").expect("room");
            }
            turns(&mut scheduler);
            wakes.write_all(b"!").expect("room");
            turns(&mut scheduler);
            assert!(scheduler.tasks()[0].resumes < 5, "it does not wait, but turns");
            notify.notify();
            turns(&mut scheduler);
            assert!(scheduler.tasks().is_empty(), "{:?}", scheduler.tasks()[0].state);
        }
    });
}
