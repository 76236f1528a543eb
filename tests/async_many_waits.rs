//! The waits of a task that waits for several things at once: an error is for whom it concerns, the waker that was given last
//! is the one that counts, and a wait goes with its future. The numbers are scripted, and no time passes but virtual time.

#[path = "common/promised.rs"]
mod promised;

use fdtask::future::{draining, next_turn, race, readable_fd, sleep, task, writable_fd};
use fdtask::poller::{Happening, Sim, SimScript};
use fdtask::{Scheduler, Side, Wait, WaitError, task_fn};
use futures_util::future::join3;
use futures_util::stream::{FuturesUnordered, StreamExt};
use promised::promised;
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

fn world() -> (Scheduler, SimScript) {
    let (sim, script) = Sim::new();
    (Scheduler::with_poller(Box::new(sim)), script)
}

fn turns(scheduler: &mut Scheduler, count: usize) {
    for _ in 0..count {
        scheduler.turn();
    }
}

/// What has become of the waits for some numbers, in its order. The numbers are higher than those of real descriptors: the
/// scheduler makes one of its own when somebody else holds a waker.
type Outcomes = Rc<RefCell<Vec<(RawFd, Result<(), Option<WaitError>>)>>>;

fn note(outcomes: &Outcomes, fd: RawFd, result: io::Result<()>) {
    outcomes.borrow_mut().push((fd, result.map_err(|error| error.downcast().ok())));
}

/// A task that waits for all of `fds`, one of which is 7,000, by means of `join` or of what polls nobody whom nobody woke.
fn waits_for(scheduler: &mut Scheduler, fds: [RawFd; 3], by_join: bool) -> Outcomes {
    let outcomes = Outcomes::default();
    let (handle, seen) = (scheduler.handle(), Rc::clone(&outcomes));
    scheduler.spawn(task(async move {
        let wait = |fd| {
            let (handle, seen) = (&handle, &seen);
            async move { note(seen, fd, readable_fd(handle, promised(fd)).await) }
        };
        if by_join {
            join3(wait(fds[0]), wait(fds[1]), wait(fds[2])).await;
        } else {
            fds.into_iter().map(wait).collect::<FuturesUnordered<_>>().collect::<Vec<()>>().await;
        }
        Ok(())
    }));
    outcomes
}

/// Each order in which 7,000 can stand among the others, and each way of polling.
const WAYS: [([RawFd; 3], bool); 4] = [
    ([7_000, 5_000, 9_000], true),
    ([5_000, 7_000, 9_000], true),
    ([5_000, 9_000, 7_000], true),
    ([5_000, 7_000, 9_000], false),
];

/// 7,000 has failed with `error`, and the two others are waited for, and not in vain.
fn goes_on_without_the_failed(mut scheduler: Scheduler, script: &SimScript, outcomes: &Outcomes, error: WaitError) {
    assert_eq!(*outcomes.borrow(), [(7_000, Err(Some(error)))]);
    for fd in [9_000, 5_000] {
        outcomes.borrow_mut().clear();
        assert!(script.watched().contains(&(fd, Side::Recv)), "{fd} is not waited for");
        script.now(Happening::Ready(fd, Side::Recv));
        turns(&mut scheduler, 6);
        assert_eq!(*outcomes.borrow(), [(fd, Ok(()))]);
    }
}

#[test]
fn a_number_that_is_not_open_is_an_error_to_who_waits_for_it_and_to_nobody_beside_it() {
    for (fds, by_join) in WAYS {
        let (mut scheduler, script) = world();
        script.now(Happening::Closed(7_000));
        let outcomes = waits_for(&mut scheduler, fds, by_join);
        turns(&mut scheduler, 8);
        goes_on_without_the_failed(scheduler, &script, &outcomes, WaitError::Closed(Wait::Recv(7_000)));
    }
}

#[test]
fn a_number_that_is_closed_meanwhile_is_an_error_to_who_waits_for_it_and_to_nobody_beside_it() {
    for (fds, by_join) in WAYS {
        let (mut scheduler, script) = world();
        let outcomes = waits_for(&mut scheduler, fds, by_join);
        turns(&mut scheduler, 4);
        assert!(script.watched().contains(&(7_000, Side::Recv)));
        script.now(Happening::Closed(7_000));
        turns(&mut scheduler, 8);
        goes_on_without_the_failed(scheduler, &script, &outcomes, WaitError::Closed(Wait::Recv(7_000)));
    }
}

#[test]
fn a_number_that_is_given_to_another_file_is_an_error_to_who_waits_for_nothing_else() {
    let (mut scheduler, script) = world();
    let (handle, outcomes) = (scheduler.handle(), Outcomes::default());
    let seen = Rc::clone(&outcomes);
    scheduler.spawn(task(async move {
        note(&seen, 7_000, readable_fd(&handle, promised(7_000)).await);
        Ok(())
    }));
    turns(&mut scheduler, 2);
    script.now(Happening::Reused(7_000));
    // What waits for the number now finds out that it names another file.
    scheduler.spawn(task_fn("new owner", |_| Ok(Wait::Recv(7_000))));
    turns(&mut scheduler, 6);
    assert_eq!(*outcomes.borrow(), [(7_000, Err(Some(WaitError::Closed(Wait::Recv(7_000)))))]);
}

#[test]
fn who_sleeps_for_no_time_at_all_lets_the_others_run() {
    let (mut scheduler, _script) = world();
    let said = Rc::new(RefCell::new(String::new()));
    for name in ["a", "b"] {
        let (handle, said) = (scheduler.handle(), Rc::clone(&said));
        scheduler.spawn(task(async move {
            for _ in 0..2 {
                sleep(&handle, Duration::ZERO).await;
                said.borrow_mut().push_str(name);
            }
            Ok(())
        }));
    }
    turns(&mut scheduler, 6);
    assert_eq!(*said.borrow(), "abab");
}

#[test]
fn a_number_that_another_task_waits_for_is_an_error_to_who_is_second_and_to_nobody_beside_it() {
    for (fds, by_join) in WAYS {
        let (mut scheduler, script) = world();
        scheduler.spawn(task_fn("first", |_| Ok(Wait::Recv(7_000))));
        turns(&mut scheduler, 2);
        let outcomes = waits_for(&mut scheduler, fds, by_join);
        turns(&mut scheduler, 8);
        goes_on_without_the_failed(scheduler, &script, &outcomes, WaitError::Busy(Wait::Recv(7_000)));
    }
}

/// A waker of a combinator's, which counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn of_the_wakers_that_a_wait_was_polled_with_the_last_is_woken() {
    let (mut scheduler, script) = world();
    let counts = [(); 2].map(|()| Arc::new(Count::default()));
    let (handle, wakers) = (scheduler.handle(), counts.clone().map(Waker::from));
    scheduler.spawn(task(async move {
        let mut waiting = sleep(&handle, Duration::from_millis(10));
        let mut is_first = true;
        poll_fn(|_| {
            if std::mem::take(&mut is_first) {
                for waker in &wakers {
                    assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(waker)).is_pending());
                }
                return Poll::Pending;
            }
            Pin::new(&mut waiting).poll(&mut Context::from_waker(&wakers[1]))
        })
        .await;
        Ok(())
    }));
    turns(&mut scheduler, 4);
    assert!(script.elapsed() >= Duration::from_millis(10));
    let woken = counts.map(|count| count.0.load(Ordering::Relaxed));
    assert_eq!(woken, [0, 1]);
}

#[test]
fn of_two_tasks_that_have_polled_a_wait_within_a_combinator_the_last_is_woken() {
    let (mut scheduler, script) = world();
    let counts = [(); 2].map(|()| Arc::new(Count::default()));
    let waiting = Rc::new(RefCell::new(sleep(&scheduler.handle(), Duration::from_millis(10))));
    for count in &counts {
        let (waiting, waker) = (Rc::clone(&waiting), Waker::from(Arc::clone(count)));
        scheduler.spawn(task(async move {
            let poll = Pin::new(&mut *waiting.borrow_mut()).poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending());
            pending().await
        }));
    }
    turns(&mut scheduler, 4);
    assert!(script.elapsed() >= Duration::from_millis(10));
    let woken = counts.map(|count| count.0.load(Ordering::Relaxed));
    assert_eq!(woken, [0, 1]);
}

#[test]
fn a_number_that_the_scheduler_does_not_own_is_waited_for_until_it_can_be_sent_to() {
    let (mut scheduler, script) = world();
    let (handle, is_ready) = (scheduler.handle(), Rc::new(Cell::new(false)));
    let ready = Rc::clone(&is_ready);
    scheduler.spawn(task(async move {
        writable_fd(&handle, promised(7)).await?;
        ready.set(true);
        Ok(())
    }));
    script.now(Happening::Ready(7, Side::Recv));
    turns(&mut scheduler, 4);
    assert!(!is_ready.get(), "it can be received from");
    script.now(Happening::Ready(7, Side::Send));
    turns(&mut scheduler, 4);
    assert!(is_ready.get());
}

#[test]
fn a_turn_that_is_over_is_not_taken_for_a_descriptor_that_is_ready() {
    let (mut scheduler, _script) = world();
    let (handle, first) = (scheduler.handle(), Rc::new(Cell::new("nothing")));
    let says = Rc::clone(&first);
    scheduler.spawn(task(async move {
        let ready = async { readable_fd(&handle, promised(7_000)).await.map(|()| "the descriptor") };
        let turn = async {
            next_turn().await;
            Ok("the turn")
        };
        says.set(race(ready, turn).await?);
        Ok(())
    }));
    turns(&mut scheduler, 4);
    assert_eq!(first.get(), "the turn");
}

#[test]
fn a_time_that_no_clock_can_show_is_slept_for() {
    let (mut scheduler, script) = world();
    let handle = scheduler.handle();
    scheduler.spawn(task(async move {
        sleep(&handle, Duration::MAX).await;
        Ok(())
    }));
    script.after(Duration::from_secs(365 * 24 * 60 * 60), Happening::Signal);
    turns(&mut scheduler, 2);
    assert!(script.elapsed() >= Duration::from_secs(365 * 24 * 60 * 60), "it is asleep");
    assert_eq!(scheduler.tasks().len(), 1, "and sleeps on");
}

#[test]
fn a_wait_that_is_moved_to_another_task_resumes_that_one() {
    let (mut scheduler, script) = world();
    let handle = scheduler.handle();
    let (place, has_slept) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
    let (moved, sleeps) = (Rc::clone(&place), Rc::clone(&has_slept));
    scheduler.spawn(task(async move {
        let mut waiting = sleep(&handle, Duration::from_millis(10));
        poll_fn(|cx| {
            assert!(Pin::new(&mut waiting).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        place.replace(Some(waiting));
        pending().await
    }));
    // The first goes on waiting, for nothing any more.
    scheduler.spawn(task(async move {
        let waiting = moved.take().expect("it has been put there");
        waiting.await;
        sleeps.set(true);
        Ok(())
    }));
    turns(&mut scheduler, 4);
    assert!(has_slept.get(), "it sleeps for ever");
    assert_eq!(script.elapsed(), Duration::from_millis(10));
}

#[test]
fn a_drain_wakes_whoever_waits_for_it_within_a_combinator_that_polls_only_who_is_woken() {
    let (mut scheduler, _script) = world();
    let (handle, told) = (scheduler.handle(), Rc::new(Cell::new(0)));
    let (listening, tells) = (handle.clone(), Rc::clone(&told));
    scheduler.spawn(task(async move {
        let mut waits: FuturesUnordered<_> = (0..3).map(|_| draining(&listening)).collect();
        while waits.next().await.is_some() {
            tells.set(tells.get() + 1);
        }
        Ok(())
    }));
    turns(&mut scheduler, 4);
    assert_eq!(told.get(), 0);
    handle.drain(Instant::now() + Duration::from_secs(3600));
    turns(&mut scheduler, 8);
    assert_eq!(told.get(), 3);
}

#[test]
fn who_begins_to_wait_for_a_drain_turns_after_it_has_begun_does_not_wait() {
    let (mut scheduler, _script) = world();
    let (handle, is_told) = (scheduler.handle(), Rc::new(Cell::new(false)));
    let tells = Rc::clone(&is_told);
    scheduler.spawn(task(async move {
        handle.drain(Instant::now() + Duration::from_secs(3600));
        for _ in 0..4 {
            next_turn().await;
        }
        draining(&handle).await;
        tells.set(true);
        Ok(())
    }));
    // Nothing lasts here, but what waits in vain for a drain would end at its deadline.
    turns(&mut scheduler, 7);
    assert!(is_told.get(), "it was told of no drain");
}

#[test]
fn of_three_waits_the_others_are_withdrawn_with_the_task_that_had_them_after_another_task_has_dropped_one() {
    let (mut scheduler, script) = world();
    let wait = |fd| {
        let handle = scheduler.handle();
        Box::pin(async move { readable_fd(&handle, promised(fd)).await })
    };
    let (mut first, second, mut third) = (wait(7_000), wait(7_001), wait(7_002));
    let given = Rc::new(RefCell::new(Some(second)));
    let place = Rc::clone(&given);
    scheduler.spawn(task(async move {
        poll_fn(|cx| match place.borrow_mut().as_mut() {
            None => Poll::Ready(()),
            Some(second) => {
                for wait in [&mut first, second, &mut third] {
                    assert!(wait.as_mut().poll(cx).is_pending());
                }
                Poll::Pending
            }
        })
        .await;
        drop((first, third));
        pending().await
    }));
    scheduler.turn();
    assert_eq!(script.watched().len(), 3);
    let mut resumes = 0;
    scheduler.spawn(task_fn("drops it", move |_| {
        given.take();
        resumes += 1;
        Ok(if resumes < 4 { Wait::Turn } else { Wait::Done })
    }));
    turns(&mut scheduler, 3);
    assert_eq!(script.watched(), []);
}

#[test]
fn a_wake_is_not_lost_when_what_the_task_waited_for_is_taken_over_by_another_that_ends() {
    let (mut scheduler, _script) = world();
    let handle = scheduler.handle();
    let wait = Box::pin(async move { readable_fd(&handle, promised(7_000)).await });
    let given = Rc::new(RefCell::new(Some(wait)));
    let resumes = Rc::new(Cell::new(0));
    let (place, count) = (Rc::clone(&given), Rc::clone(&resumes));
    let woken = scheduler.spawn(task(poll_fn(move |cx| {
        count.set(count.get() + 1);
        assert!(place.borrow_mut().as_mut().is_none_or(|wait| wait.as_mut().poll(cx).is_pending()));
        Poll::Pending
    })));
    // The second of two wakes is held until after the poll.
    let mut turn = 0;
    scheduler.spawn(task_fn("wakes twice", move |cx| {
        turn += 1;
        (turn != 2).then(|| cx.wake(woken));
        Ok(if turn < 3 { Wait::Turn } else { Wait::Done })
    }));
    scheduler.spawn(task(async move {
        next_turn().await;
        next_turn().await;
        let mut wait = given.take().expect("it was given away");
        assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await.is_pending());
        Ok(())
    }));
    scheduler.run();
    assert_eq!(resumes.get(), 3, "when it was new, and for each wake");
}
