//! What a scheduler is not made for, and survives or refuses all the same.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{self, next_turn, readable};
use fdtask::poller::Sim;
use fdtask::{Context, Descriptor, Notify, Scheduler, Task, Wait, task_fn};
use futures::turns;
use limited::within_limit;
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;

/// A task that waits to be woken, and does something when it is dropped.
struct WhenDropped<F: FnMut()>(F);

impl<F: FnMut()> Task for WhenDropped<F> {
    fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
        Ok(Wait::Wake)
    }
}

impl<F: FnMut()> Drop for WhenDropped<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn pair(scheduler: &Scheduler) -> (Rc<Descriptor>, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    near.set_nonblocking(true).expect("non-blocking");
    (Rc::new(scheduler.adopt(near)), far)
}

#[test]
fn a_task_that_is_spawned_while_the_scheduler_is_dropped_may_panic_in_its_drop() {
    let dropped = catch_unwind(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        scheduler.spawn(WhenDropped(move || handle.spawn(WhenDropped(|| panic!("in its drop")))));
        scheduler.turn();
    });
    assert!(dropped.is_ok(), "the panic of a task has left the scheduler");
}

#[test]
fn a_future_that_another_task_drops_withdraws_its_wait() {
    for is_ready in [false, true] {
        within_limit(move || is_dropped_by_another(is_ready));
    }
}

/// `is_ready` says that the task that waits with the future is about to be resumed for another reason when that is dropped.
fn is_dropped_by_another(is_ready: bool) {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let (socket, _silent) = pair(&scheduler);
    let (given, turned) = (Rc::new(RefCell::new(None)), Notify::new(&handle));
    let (place, own, turns) = (Rc::clone(&given), Rc::clone(&socket), turned.clone());
    // Asks for the socket, gives the future away, and goes on with something else.
    let asks = scheduler.spawn(future::task(async move {
        let mut waits = Box::pin(async move { readable(&own).await });
        assert!(futures_util::poll!(&mut waits).is_pending());
        *place.borrow_mut() = Some(waits);
        loop {
            turns.notified().await;
        }
    }));
    if is_ready {
        let turned = turned.clone();
        scheduler.spawn(future::task(async move {
            turned.notify();
            Ok(())
        }));
    }
    let outcome = Rc::new(RefCell::new(None));
    let place = Rc::clone(&outcome);
    scheduler.spawn(future::task(async move {
        drop(given.take().expect("it was given away"));
        if !is_ready {
            turned.notify();
        }
        next_turn().await;
        next_turn().await;
        // The other task has been resumed since then, and waits for what it awaits now.
        *place.borrow_mut() = Some(future::timeout(&handle, Duration::from_millis(1), readable(&socket)).await);
        handle.cancel(asks);
        Ok(())
    }));
    scheduler.run();
    let outcome = outcome.take().expect("it has ended");
    assert!(outcome.is_err(), "nobody else waits for it: {outcome:?}");
}

#[test]
fn a_deadline_whose_future_another_task_has_dropped_keeps_no_run_going() {
    within_limit(|| {
        let (sim, _script) = Sim::new();
        let mut scheduler = Scheduler::with_poller(Box::new(sim));
        let (handle, begin) = (scheduler.handle(), scheduler.handle().now());
        let given = Rc::new(RefCell::new(None));
        let (place, own) = (Rc::clone(&given), handle.clone());
        // Sleeps, gives the future away, and waits for nothing else.
        scheduler.spawn(future::task(async move {
            let mut sleeps = Box::pin(future::sleep(&own, Duration::from_secs(3600)));
            assert!(futures_util::poll!(&mut sleeps).is_pending());
            *place.borrow_mut() = Some(sleeps);
            std::future::pending().await
        }));
        scheduler.spawn(future::task(async move {
            drop(given.take().expect("it was given away"));
            Ok(())
        }));
        scheduler.run();
        assert_eq!(handle.now() - begin, Duration::ZERO, "it has slept for nobody");
    });
}

#[test]
fn a_future_that_a_task_in_the_same_slot_has_taken_over_and_another_drops_withdraws_its_wait() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let ((socket, mut speaks), (own, mut wakes)) = (pair(&scheduler), pair(&scheduler));
        let given = Rc::new(RefCell::new(None));
        let place = Rc::clone(&given);
        // Waits for the socket twice, and gives the third wait away.
        let mut future = Some(future::task(async move {
            for _ in 0..2 {
                readable(&socket).await?;
                rustix::io::read(&*socket, &mut [0; 8])?;
            }
            let waited = Rc::clone(&socket);
            let mut waits = Box::pin(async move { readable(&waited).await });
            assert!(futures_util::poll!(&mut waits).is_pending());
            *place.borrow_mut() = Some(waits);
            std::future::pending().await
        }));
        let mut resumes = 0;
        scheduler.spawn(task_fn("begins it", move |cx| {
            resumes += 1;
            if resumes < 3 {
                return future.as_mut().map_or(Ok(Wait::Done), |future| future.resume(cx));
            }
            let (mut future, own, mut has_waited) = (future.take(), Rc::clone(&own), false);
            cx.handle().spawn(task_fn("goes on with it", move |cx| match &mut future {
                // What this is resumed for looks just as what the other was.
                Some(future) if has_waited => future.resume(cx),
                _ => {
                    has_waited = true;
                    Ok(Wait::Recv(own.as_raw_fd()))
                }
            }));
            Ok(Wait::Done)
        }));
        for _ in 0..2 {
            turns(&mut scheduler);
            speaks.write_all(b"!").expect("room");
        }
        turns(&mut scheduler);
        wakes.write_all(b"!").expect("room");
        turns(&mut scheduler);
        drop(given.take().expect("it was given away"));
        turns(&mut scheduler);
        assert_eq!(scheduler.tasks()[0].state, "wake", "nobody waits for the socket any more");
    });
}

#[test]
fn a_future_task_that_another_task_has_begun_is_woken_where_it_is_now() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let changed = Notify::new(&scheduler.handle());
        let has_ended = Rc::new(Cell::new(false));
        let (change, ends) = (changed.clone(), Rc::clone(&has_ended));
        let mut begun = Some(future::task(async move {
            change.notified().await;
            ends.set(true);
            Ok(())
        }));
        scheduler.spawn(task_fn("who begins it", move |cx| {
            if let Some(mut begun) = begun.take() {
                let _wait = begun.resume(cx)?;
                cx.spawn(begun);
            }
            Ok(Wait::Done)
        }));
        let seen = Rc::new(RefCell::new(None));
        let place = Rc::clone(&seen);
        let mut resumes = 0;
        scheduler.spawn(task_fn("who notifies it", move |cx| {
            resumes += 1;
            if resumes < 5 {
                return Ok(Wait::Turn);
            }
            let tasks = cx.tasks();
            let begun = tasks.iter().find(|task| task.spawned_by.is_some());
            place.replace(begun.map(|task| (task.state.clone(), task.resumes)));
            changed.notify();
            Ok(Wait::Done)
        }));
        scheduler.run();
        assert!(has_ended.get(), "it sleeps for ever");
        assert_eq!(seen.take(), Some(("wake".to_owned(), 1)), "it sleeps meanwhile");
    });
}

#[test]
fn a_task_that_is_spawned_while_the_scheduler_is_dropped_is_dropped_there_and_then() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let (is_gone, was_gone_at_once) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let at_once = Rc::clone(&was_gone_at_once);
    scheduler.spawn(WhenDropped(move || {
        let gone = Rc::clone(&is_gone);
        handle.spawn(WhenDropped(move || gone.set(true)));
        at_once.set(is_gone.get());
    }));
    drop(scheduler);
    assert!(was_gone_at_once.get());
}

#[test]
fn what_is_said_to_a_scheduler_that_is_gone_may_say_something_itself_as_it_is_dropped() {
    within_limit(|| {
        let remote = Scheduler::new().remote().expect("descriptors");
        let last_words = remote.clone();
        let says = WhenDropped(move || last_words.stop());
        remote.call(move |_| drop(says));
    });
}

#[test]
fn the_first_way_into_a_scheduler_from_other_threads_may_be_asked_for_when_it_is_gone() {
    within_limit(|| {
        let handle = Scheduler::new().handle();
        assert!(handle.remote().is_ok_and(|remote| remote.is_closed()));
    });
}
