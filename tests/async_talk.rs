//! What tasks that are futures say to each other, to hand-written ones, and to other threads: channels, notifications, wakes,
//! work that blocks.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;

use fdtask::channel::{TryRecvError, TrySendError, channel};
use fdtask::future::{self, JoinError, readable, task};
use fdtask::{Notify, Scheduler, Wait, task_fn};
use futures::{LONG, is_closed, pair, turns};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use limited::within_limit;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_full_channel_holds_up_its_senders_and_loses_nothing() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (sender, receiver) = channel(&scheduler.handle(), 2);
        let most = Rc::new(Cell::new(0));
        for name in 0..3_u32 {
            let sender = sender.clone();
            scheduler.spawn(task(async move {
                for number in 0..100 {
                    sender.send((name, number)).await?;
                }
                Ok(())
            }));
        }
        let mut next = 0;
        scheduler.spawn(task_fn("fourth sender", move |cx| {
            while next < 100 {
                match sender.try_send((3, next)) {
                    Ok(()) => next += 1,
                    Err(TrySendError::Full(_)) => return Ok(sender.wait(cx)),
                    Err(TrySendError::Closed(_)) => panic!("somebody receives"),
                }
            }
            Ok(Wait::Done)
        }));
        let (arrived, seen) = (Rc::new(RefCell::new(Vec::new())), Rc::clone(&most));
        let place = Rc::clone(&arrived);
        scheduler.spawn(task(async move {
            loop {
                seen.set(seen.get().max(receiver.len()));
                match receiver.recv().await {
                    Some(value) => place.borrow_mut().push(value),
                    None => return Ok(()),
                }
            }
        }));
        scheduler.run();
        assert!(scheduler.tasks().is_empty(), "nobody is left waiting");
        assert!(most.get() <= 2, "{} in the queue", most.get());
        for name in 0..4 {
            let of_one =
                arrived.borrow().iter().filter(|value| value.0 == name).map(|value| value.1).collect::<Vec<u32>>();
            assert_eq!(of_one, (0..100).collect::<Vec<u32>>());
        }
    });
}

#[test]
fn senders_that_never_pause_take_turns() {
    within_limit(|| {
        for capacity in [1, 5] {
            let mut scheduler = Scheduler::new();
            let (sender, receiver) = channel(&scheduler.handle(), capacity);
            let counts = Rc::new(RefCell::new([0; 4]));
            for name in 0..3_usize {
                let sender = sender.clone();
                scheduler.spawn(task(async move {
                    while sender.send(name).await.is_ok() {}
                    Ok(())
                }));
            }
            scheduler.spawn(task_fn("fourth sender", move |cx| {
                loop {
                    match sender.try_send(3) {
                        Ok(()) => {}
                        Err(TrySendError::Full(_)) => return Ok(sender.wait(cx)),
                        Err(TrySendError::Closed(_)) => return Ok(Wait::Done),
                    }
                }
            }));
            let count = Rc::clone(&counts);
            scheduler.spawn(task(async move {
                for _ in 0..40 * capacity {
                    let name = receiver.recv().await.expect("they never end");
                    count.borrow_mut()[name] += 1;
                }
                Ok(())
            }));
            scheduler.run();
            assert!(scheduler.tasks().is_empty(), "nobody is left waiting");
            // Each fills the queue when its turn comes.
            let (least, most) = (9 * capacity, 11 * capacity);
            assert!(counts.borrow().iter().all(|count| (least..=most).contains(count)), "{counts:?}");
        }
    });
}

#[test]
fn of_two_who_wait_for_room_the_one_that_came_first_has_it() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (sender, receiver) = channel(&scheduler.handle(), 1);
        sender.try_send("before").expect("room");
        // Whether somebody has sent something before or not makes no difference.
        for (sender, value) in [(sender.clone(), "second"), (sender, "first")].into_iter().rev() {
            scheduler.spawn(task(async move { sender.send(value).await.map_err(Into::into) }));
        }
        for expected in ["before", "first", "second"] {
            turns(&mut scheduler);
            assert_eq!(receiver.try_recv(), Ok(expected));
        }
    });
}

#[test]
fn senders_of_one_task_that_are_polled_as_they_are_woken_take_turns() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (sender, receiver) = channel(&scheduler.handle(), 1);
        let mut senders: FuturesUnordered<_> = (0..3_usize)
            .map(|name| {
                let sender = sender.clone();
                async move { while sender.send(name).await.is_ok() {} }
            })
            .collect();
        drop(sender);
        scheduler.spawn(task(async move {
            while senders.next().await.is_some() {}
            Ok(())
        }));
        let counts = Rc::new(RefCell::new([0; 3]));
        let count = Rc::clone(&counts);
        scheduler.spawn(task(async move {
            for _ in 0..30 {
                let name = receiver.recv().await.expect("they never end");
                count.borrow_mut()[name] += 1;
            }
            Ok(())
        }));
        scheduler.run();
        assert!(counts.borrow().iter().all(|count| (9..=11).contains(count)), "{counts:?}");
    });
}

#[test]
fn a_channel_whose_other_end_is_gone_says_so() {
    within_limit(|| {
        let scheduler = Scheduler::new();
        let (sender, receiver) = channel(&scheduler.handle(), 1);
        sender.try_send(1).expect("room");
        drop(sender);
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
        let (sender, receiver) = channel(&scheduler.handle(), 1);
        let value = Rc::new(1);
        sender.try_send(Rc::clone(&value)).expect("room");
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(Rc::strong_count(&value), 1, "what nobody will receive is gone");
        assert!(matches!(sender.try_send(value), Err(TrySendError::Closed(_))));
    });
}

#[test]
fn a_hand_written_receiver_sleeps_until_there_is_a_value_or_the_end() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (sender, receiver) = channel(&scheduler.handle(), 1);
        let has_ended = Rc::new(Cell::new(None));
        let ends = Rc::clone(&has_ended);
        let mut resumes = 0;
        scheduler.spawn(task_fn("receiver", move |cx| {
            resumes += 1;
            match receiver.try_recv() {
                Ok(()) | Err(TryRecvError::Empty) => Ok(receiver.wait(cx)),
                Err(TryRecvError::Closed) => {
                    ends.set(Some(resumes));
                    Ok(Wait::Done)
                }
            }
        }));
        scheduler.spawn(task(async move {
            for _ in 0..5 {
                future::next_turn().await;
            }
            sender.send(()).await?;
            for _ in 0..5 {
                future::next_turn().await;
            }
            Ok(())
        }));
        scheduler.run();
        assert_eq!(has_ended.get(), Some(3), "resumed at first, for the value, and for the end");
    });
}

#[test]
fn a_value_that_panics_when_it_is_dropped_with_its_channel_keeps_no_sender_waiting() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    let mut scheduler = Scheduler::new();
    let (sender, receiver) = channel(&scheduler.handle(), 1);
    assert!(sender.try_send(Some(Panics)).is_ok());
    let is_refused = Rc::new(Cell::new(false));
    let refused = Rc::clone(&is_refused);
    scheduler.spawn(task(async move {
        refused.set(sender.send(None).await.is_err());
        Ok(())
    }));
    scheduler.spawn(task(async move {
        future::next_turn().await;
        drop(receiver);
        Ok(())
    }));
    scheduler.run();
    assert!(is_refused.get(), "it waits for room in a channel that is gone");
}

#[test]
fn a_notify_wakes_all_who_wait_and_forgets_those_who_stopped() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let notify = Notify::new(&handle);
        let woken = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let (notify, woken) = (notify.clone(), Rc::clone(&woken));
            scheduler.spawn(task(async move {
                notify.notified().await;
                woken.set(woken.get() + 1);
                Ok(())
            }));
        }
        let waiting = notify.clone();
        scheduler.spawn(task(async move {
            let short = future::timeout(&handle, Duration::from_millis(1), waiting.notified()).await;
            assert!(short.is_err());
            waiting.notify();
            Ok(())
        }));
        scheduler.run();
        assert_eq!(woken.get(), 3);
    });
}

#[test]
fn what_a_scheduler_that_is_gone_is_to_call_is_dropped_at_once() {
    let scheduler = Scheduler::new();
    let remote = scheduler.remote().expect("descriptors");
    drop(scheduler);
    let (sender, receiver) = mpsc::channel::<()>();
    remote.call(move |_| drop(sender));
    assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected), "whoever waits for it waits for ever");
}

#[test]
fn what_panics_when_a_scheduler_that_is_gone_drops_it_keeps_nothing_else_from_being_dropped() {
    struct Explodes;

    impl Drop for Explodes {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    let scheduler = Scheduler::new();
    let remote = scheduler.remote().expect("descriptors");
    for explodes in [Explodes, Explodes] {
        remote.call(move |_| drop(explodes));
    }
    let (sender, receiver) = mpsc::channel::<()>();
    remote.call(move |_| drop(sender));
    drop(scheduler);
    assert!(remote.is_closed());
    assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn another_thread_can_spawn_cancel_drain_and_stop() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        let (socket, far) = pair(&scheduler);
        let waiting = scheduler.spawn(task(async move { readable(&socket).await }));
        scheduler.spawn(task(std::future::pending()));
        let thread = thread::spawn({
            let remote = remote.clone();
            move || {
                let (ids, id) = mpsc::channel();
                // A task that is not `Send`, made where it runs.
                remote.call(move |cx| {
                    let (handle, me) = (cx.handle(), Rc::new(cx.id()));
                    cx.spawn(task(async move {
                        future::next_turn().await;
                        ids.send(*me).map_err(io::Error::other)?;
                        drop(handle);
                        Ok(())
                    }));
                });
                id.recv_timeout(LONG).expect("it runs");
                remote.call(|_| panic!("this ends nothing else"));
                remote.cancel(waiting);
                assert!(is_closed(&far), "the cancelled task's descriptor is closed");
                remote.drain(Instant::now());
            }
        });
        scheduler.run();
        thread.join().expect("all went well over there");
        scheduler.spawn(task(std::future::pending()));
        let stopper = thread::spawn({
            let remote = remote.clone();
            move || remote.stop()
        });
        scheduler.run();
        stopper.join().expect("it has stopped");
        assert!(!remote.is_closed());
        drop(scheduler);
        assert!(remote.is_closed());
        remote.call(|_| unreachable!("nobody calls it"));
    });
}

#[test]
fn work_that_blocks_holds_up_nobody_and_a_panic_in_it_is_an_error() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let trace = Rc::new(RefCell::new(Vec::new()));
        let (go, may_go) = mpsc::channel();
        let slow = Rc::clone(&trace);
        scheduler.spawn(task(async move {
            let answer = future::blocking(move || may_go.recv_timeout(LONG)).await?;
            slow.borrow_mut().push(format!("slow {answer:?}"));
            Ok(())
        }));
        let quick = Rc::clone(&trace);
        scheduler.spawn(task(async move {
            assert_eq!(future::blocking(|| panic!("ouch")).await, Err::<(), _>(JoinError::Panicked));
            quick.borrow_mut().push("quick".to_owned());
            go.send(5).map_err(io::Error::other)
        }));
        scheduler.run();
        assert_eq!(*trace.borrow(), ["quick", "slow Ok(5)"]);
    });
}

#[test]
fn a_promise_that_is_kept_when_nobody_awaits_it_any_more_wakes_nobody() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (promise, promised) = future::promise();
        let polls = Rc::new(Cell::new(0));
        let count = Rc::clone(&polls);
        scheduler.spawn(task(async move {
            future::race(promised.map(drop), future::next_turn()).await;
            poll_fn(|_| {
                count.set(count.get() + 1);
                Poll::Pending
            })
            .await
        }));
        turns(&mut scheduler);
        promise.keep(5);
        turns(&mut scheduler);
        assert_eq!(polls.get(), 1);
    });
}

#[test]
fn a_channel_has_room_for_one_value_at_least_and_says_how_many_it_holds() {
    let scheduler = Scheduler::new();
    let (sender, receiver) = channel(&scheduler.handle(), 0);
    assert_eq!((receiver.len(), receiver.is_empty()), (0, true));
    assert_eq!(sender.try_send('a'), Ok(()));
    assert_eq!((receiver.len(), receiver.is_empty()), (1, false));
    assert_eq!(sender.try_send('b'), Err(TrySendError::Full('b')));
}
