//! Wakers in hands that know nothing of this crate: those of a channel of `async-channel`, and of another thread.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{promise, readable, task};
use fdtask::{Notify, Scheduler};
use futures::{LONG, pair, run, turns};
use futures_util::future::FutureExt;
use limited::within_limit;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;

#[test]
fn async_channel_passes_values_between_tasks_of_one_scheduler() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (sender, receiver) = async_channel::bounded(3);
        scheduler.spawn(task(async move {
            for number in 0..1_000_u32 {
                sender.send(number).await.map_err(io::Error::other)?;
            }
            Ok(())
        }));
        let numbers = run(&mut scheduler, async move {
            let mut numbers = Vec::new();
            while let Ok(number) = receiver.recv().await {
                numbers.push(number);
            }
            numbers
        });
        assert_eq!(numbers, (0..1_000).collect::<Vec<u32>>());
    });
}

#[test]
fn async_channel_passes_values_from_another_thread() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (sender, receiver) = async_channel::bounded(3);
        let producer = thread::spawn(move || (0..10_000_u32).all(|number| sender.send_blocking(number).is_ok()));
        let sum = run(&mut scheduler, async move {
            let mut sum = 0_u64;
            while let Ok(number) = receiver.recv().await {
                sum += u64::from(number);
            }
            sum
        });
        assert_eq!(sum, 49_995_000);
        assert!(producer.join().expect("the producer ends"));
    });
}

/// Is ready when it was woken so many times, and counts on every single one: another thread wakes only when the one before
/// has been seen.
#[test]
fn of_a_million_wakes_from_another_thread_none_is_lost() {
    within_limit(|| {
        struct Shared {
            waker: Mutex<Option<Waker>>,
            asked: AtomicU64,
            answered: AtomicU64,
        }
        const WAKES: u64 = 1_000_000;
        let shared =
            Arc::new(Shared { waker: Mutex::new(None), asked: AtomicU64::new(0), answered: AtomicU64::new(0) });
        let mut scheduler = Scheduler::new();
        let (other, remote) = (Arc::clone(&shared), scheduler.remote().expect("descriptors"));
        // It hands over a number and wakes, in bursts as fast as it can: a burst ends when the other side has seen its last.
        // So most wakes come while the task runs, polls or falls asleep, and a lost one would stop everything.
        let thread = thread::spawn(move || {
            let mut number = 0;
            while number < WAKES {
                // The last burst ends with the last number: the other side stops listening when it has seen that.
                for _ in 0..=(number % 97).min(WAKES - number - 1) {
                    number += 1;
                    other.asked.store(number, Ordering::Release);
                    let waker = other.waker.lock().expect("nobody panics").clone();
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
                let begin = Instant::now();
                while other.answered.load(Ordering::Acquire) < number {
                    if begin.elapsed() > LONG {
                        remote.stop();
                        return Err(number);
                    }
                    thread::yield_now();
                }
            }
            Ok(())
        });
        let seen = Arc::clone(&shared);
        let wait = poll_fn(move |cx| {
            *seen.waker.lock().expect("nobody panics") = Some(cx.waker().clone());
            let asked = seen.asked.load(Ordering::Acquire);
            seen.answered.store(asked, Ordering::Release);
            if asked >= WAKES { Poll::Ready(Ok(())) } else { Poll::Pending }
        });
        let woken = scheduler.spawn(task(wait));
        scheduler.run();
        assert_eq!(thread.join().expect("the thread ends"), Ok(()), "the wake for this number was lost");
        assert!(scheduler.tasks().iter().all(|task| task.id != woken), "it has not seen the last");
    });
}

/// Cannot wake anybody.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

#[test]
fn a_waker_that_panics_harms_nobody_who_keeps_or_breaks_a_promise() {
    let broken = Waker::from(Arc::new(Broken));
    for is_kept in [true, false] {
        let (promise, mut promised) = promise();
        assert!(promised.poll_unpin(&mut Context::from_waker(&broken)).is_pending());
        let thread = thread::spawn(move || {
            // If it panics while it is dropped because of a panic, the process ends.
            let promise = promise;
            assert!(is_kept, "on purpose");
            promise.keep(());
        });
        assert_eq!(thread.join().is_ok(), is_kept);
    }
}

#[test]
fn a_waker_that_panics_ends_no_turn_and_keeps_nobody_else_asleep() {
    within_limit(|| {
        for panics in [false, true] {
            let mut scheduler = Scheduler::new();
            let (notify, (near, _far)) = (Notify::new(&scheduler.handle()), pair(&scheduler));
            let woken = Rc::new(Cell::new(0));
            let (between, change) = (Rc::new(RefCell::new(None)), notify.clone());
            let place = Rc::clone(&between);
            scheduler.spawn(task(async move {
                let broken = Waker::from(Arc::new(Broken));
                let receives = async move { readable(&near).await.is_ok() };
                let mut waits = [receives.boxed_local(), notify.notified().map(|()| true).boxed_local()];
                for waiting in &mut waits {
                    assert!(waiting.as_mut().poll(&mut Context::from_waker(&broken)).is_pending());
                }
                // They outlive the task by way of which they wait.
                place.replace(Some(waits));
                assert!(!panics, "on purpose");
                Ok(())
            }));
            for _ in 0..2 {
                let (happens, counted) = (change.notified(), Rc::clone(&woken));
                scheduler.spawn(task(async move {
                    happens.await;
                    counted.set(counted.get() + 1);
                    Ok(())
                }));
            }
            turns(&mut scheduler);
            change.notify();
            turns(&mut scheduler);
            assert_eq!(woken.get(), 2);
            assert!(between.take().is_some() && scheduler.tasks().is_empty());
        }
    });
}
