//! What another thread says while the scheduler is falling asleep is not lost: row 39 of the faults. The same for wakers is in
//! `foreign_wakers.rs`.

#[path = "common/limited.rs"]
mod limited;

use fdtask::{Remote, Scheduler, TaskId, Wait, task_fn};
use limited::within_limit;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here is waited for.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn of_a_million_wakes_of_a_hand_written_task_the_last_is_never_lost() {
    within_limit(|| {
        const WAKES: usize = 1_000_000;
        let (asked, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        let (seen, answer) = (Arc::clone(&asked), Arc::clone(&answered));
        let sleeper = scheduler.spawn(task_fn("sleeper", move |cx| {
            // With a deadline, so that a lost wake fails the test instead of hanging it: nobody answers any more.
            if cx.timed_out() {
                return Ok(Wait::Done);
            }
            let number = seen.load(Ordering::Acquire);
            answer.store(number, Ordering::Release);
            if number == WAKES {
                return Ok(Wait::Done);
            }
            cx.or(Wait::Until(cx.now() + LONG));
            Ok(Wait::Wake)
        }));
        // In bursts, the last wake of each of which is answered before the next begins: were it lost, no other would make up
        // for it.
        let thread = thread::spawn(move || {
            let mut number = 0;
            while number < WAKES {
                for _ in 0..=(number % 97).min(WAKES - number - 1) {
                    number += 1;
                    asked.store(number, Ordering::Release);
                    remote.wake(sleeper);
                }
                let begin = Instant::now();
                while answered.load(Ordering::Acquire) < number {
                    if begin.elapsed() > LONG + LONG / 4 {
                        return Err(number);
                    }
                    thread::yield_now();
                }
            }
            Ok(())
        });
        scheduler.run();
        assert_eq!(thread.join().expect("it has ended"), Ok(()), "the wake with this number was lost");
    });
}

#[test]
fn of_many_calls_from_another_thread_none_waits_for_the_next() {
    within_limit(|| {
        // A wake may make up for another; a call cannot.
        const CALLS: usize = 50_000;
        let mut scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        let thread = thread::spawn(move || {
            let (called, mut number) = (Arc::new(AtomicUsize::new(0)), 0);
            while number < CALLS && called.load(Ordering::Acquire) == number {
                for _ in 0..=number % 7 {
                    number += 1;
                    let called = Arc::clone(&called);
                    remote.call(move |_| {
                        let _ = called.fetch_add(1, Ordering::AcqRel);
                    });
                }
                let begin = Instant::now();
                while called.load(Ordering::Acquire) < number && begin.elapsed() < LONG {
                    thread::yield_now();
                }
            }
            // The stop may make up for the last one.
            let called = called.load(Ordering::Acquire);
            remote.stop();
            (called, number)
        });
        scheduler.spawn(task_fn("patient", |_| Ok(Wait::Wake)));
        // Not so soon that it would make up for a call that waits for the next.
        scheduler.spawn(task_fn("in no hurry", |cx| Ok(Wait::Until(cx.now() + LONG * 100))));
        scheduler.run();
        let (called, number) = thread.join().expect("it has ended");
        assert_eq!(called, number, "calls were not made for {LONG:?}");
        assert!(number >= CALLS);
    });
}

#[test]
fn what_one_thread_says_takes_effect_in_the_order_in_which_it_says_it() {
    within_limit(|| {
        type Says = fn(&Remote, TaskId);
        let says: [(&str, Says); 3] = [
            ("the task is cancelled", |remote, task| remote.cancel(task)),
            ("the scheduler drains", |remote, task| {
                remote.drain(Instant::now() + LONG);
                remote.cancel(task);
            }),
            ("the scheduler stops", |remote, _| remote.stop()),
        ];
        for (what, says) in says {
            let mut scheduler = Scheduler::new();
            let remote = scheduler.remote().expect("descriptors");
            let called = Arc::new(AtomicUsize::new(0));
            let waiter = scheduler.spawn(task_fn("waiter", |_| Ok(Wait::Wake)));
            for number in 1..=2 {
                let called = Arc::clone(&called);
                remote.call(move |cx| {
                    let is_first = !cx.is_draining() && cx.tasks().iter().any(|task| task.id == waiter);
                    called.fetch_add(if is_first { number } else { 0 }, Ordering::Relaxed);
                });
            }
            says(&remote, waiter);
            scheduler.run();
            assert_eq!(called.load(Ordering::Relaxed), 3, "{what} before what was said first has been done");
        }
    });
}

#[test]
fn a_scheduler_hears_other_threads_also_after_all_of_its_tasks_have_been_cancelled() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        // Whoever cancels what is in the task table does not know which of it is the scheduler's own.
        scheduler.spawn(task_fn("operator", |cx| {
            let others = cx.tasks().into_iter().filter(|task| task.id != cx.id());
            others.for_each(|task| cx.cancel(task.id));
            Ok(Wait::Done)
        }));
        scheduler.run();
        let waiter = scheduler.spawn(task_fn("waiter", |cx| {
            if cx.timed_out() {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            Ok(Wait::Until(cx.now() + LONG))
        }));
        let begin = Instant::now();
        let thread = thread::spawn(move || {
            assert!(!remote.is_closed());
            remote.cancel(waiter);
        });
        scheduler.run();
        thread.join().expect("it goes on");
        assert!(begin.elapsed() < LONG, "nothing was heard");
    });
}

#[test]
fn a_wake_that_is_said_after_a_call_comes_after_it_although_the_task_is_resumed_for_something_else_before() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut speaks = far.try_clone().expect("a clone");
        near.set_nonblocking(true).expect("non-blocking");
        let near = scheduler.adopt(near);
        let is_called = Arc::new(AtomicUsize::new(0));
        let (calls, mut resumes) = (Arc::clone(&is_called), 0);
        let waiter = scheduler.spawn(task_fn("waiter", move |cx| {
            resumes += 1;
            if resumes == 1 {
                // So that it stands behind the service that receives the messages.
                return Ok(Wait::Turn);
            }
            if is_called.load(Ordering::Relaxed) > 0 {
                return Ok(Wait::Done);
            }
            assert!(!cx.timed_out(), "the wake was lost");
            let _ = rustix::io::read(&near, &mut [0; 8]);
            cx.or(Wait::Until(cx.now() + LONG));
            Ok(Wait::Recv(near.as_raw_fd()))
        }));
        let mut turns = 0;
        scheduler.spawn(task_fn("speaker", move |_| {
            turns += 1;
            if turns < 3 {
                return Ok(Wait::Turn);
            }
            let calls = Arc::clone(&calls);
            remote.call(move |_| calls.store(1, Ordering::Relaxed));
            remote.wake(waiter);
            speaks.write_all(b"!").expect("room");
            Ok(Wait::Done)
        }));
        let begin = Instant::now();
        scheduler.run();
        assert!(begin.elapsed() < LONG, "the wake was lost");
        drop(far);
        assert!(scheduler.tasks().iter().all(|task| task.id != waiter));
    });
}

#[test]
fn what_was_said_to_a_scheduler_that_is_gone_may_say_something_when_it_is_dropped() {
    /// Says something when it is dropped.
    struct LastWords(Remote);

    impl Drop for LastWords {
        fn drop(&mut self) {
            self.0.stop();
        }
    }

    within_limit(|| {
        let scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        let say = |remote: &Remote| {
            let last_words = LastWords(remote.clone());
            remote.call(move |_| drop(last_words));
        };
        say(&remote);
        drop(scheduler);
        say(&remote);
        assert!(remote.is_closed());
    });
}

#[test]
fn what_is_said_after_the_service_was_cancelled_that_had_not_heard_yet_is_heard() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        scheduler.turn();
        let service = scheduler.tasks()[0].id;
        let says = remote.clone();
        scheduler.spawn(task_fn("operator", move |cx| {
            says.wake(cx.id());
            cx.cancel(service);
            Ok(Wait::Done)
        }));
        (0..5).for_each(|_| {
            scheduler.spawn(task_fn("nobody", |_| Ok(Wait::Done)));
            scheduler.turn();
        });
        let waiter = scheduler
            .spawn(task_fn("waiter", |cx| Ok(if cx.timed_out() { Wait::Done } else { Wait::Until(cx.now() + LONG) })));
        let begin = Instant::now();
        remote.cancel(waiter);
        scheduler.run();
        assert!(begin.elapsed() < LONG, "nothing was heard");
    });
}
