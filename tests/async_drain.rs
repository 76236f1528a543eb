//! A drain as futures see it, and the first of two futures.

#[path = "common/limited.rs"]
mod limited;
#[path = "common/promised.rs"]
mod promised;

use fdtask::future::{self, draining, race, readable, readable_fd, sleep, task, writable};
use fdtask::{Descriptor, Scheduler, Wait, task_fn};
use futures_util::stream::{FuturesUnordered, StreamExt};
use limited::within_limit;
use promised::promised;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// What happened, in its order.
type Trace = Rc<RefCell<Vec<&'static str>>>;

fn pair(scheduler: &Scheduler) -> (Descriptor, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    near.set_nonblocking(true).expect("non-blocking");
    (scheduler.adopt(near), far)
}

/// Drains in a later turn than the first, by when everybody waits.
fn drain_soon(scheduler: &mut Scheduler) {
    let mut turns = 0;
    scheduler.spawn(task_fn("drainer", move |cx| {
        turns += 1;
        if turns < 4 {
            return Ok(Wait::Turn);
        }
        cx.drain(cx.now() + LONG);
        Ok(Wait::Done)
    }));
}

/// Runs the scheduler, which must be done long before the drain's deadline.
fn run_soon(scheduler: &mut Scheduler) {
    let begin = Instant::now();
    scheduler.run();
    assert!(begin.elapsed() < LONG / 2, "it took the drain's deadline to end somebody");
}

#[test]
fn a_wait_until_a_drain_is_ready_before_it_and_none_from_then_on() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (socket, mut far) = pair(&scheduler);
        far.write_all(b"!").expect("room");
        let trace = Trace::default();
        let seen = Rc::clone(&trace);
        let handle = scheduler.handle();
        scheduler.spawn(task(async move {
            let note = |what: Option<_>| seen.borrow_mut().push(if what.is_some() { "ready" } else { "drain" });
            note(readable(&socket).until_drain().await.transpose()?);
            note(writable(&socket).until_drain().await.transpose()?);
            handle.drain(Instant::now() + LONG);
            // It could be received from, but it is too late.
            note(readable(&socket).until_drain().await.transpose()?);
            note(readable(&socket).until_drain().await.transpose()?);
            note(writable(&socket).until_drain().await.transpose()?);
            // Whoever does not say so waits on through a drain.
            note(Some(readable(&socket).await?));
            Ok(())
        }));
        run_soon(&mut scheduler);
        assert_eq!(*trace.borrow(), ["ready", "ready", "drain", "drain", "drain", "ready"]);
    });
}

#[test]
fn a_wait_until_a_drain_ends_when_one_begins_wherever_it_is_polled() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let trace = Trace::default();
        let handle = scheduler.handle();
        // As the only wait of a task; beside another wait; and polled by a combinator that polls nobody whom nobody woke.
        let ((alone, _a), (raced, _b), (third, _c), (fourth, _d)) =
            (pair(&scheduler), pair(&scheduler), pair(&scheduler), pair(&scheduler));
        let seen = Rc::clone(&trace);
        scheduler.spawn(task(async move {
            assert!(readable(&alone).until_drain().await.is_none());
            seen.borrow_mut().push("alone");
            Ok(())
        }));
        let seen = Rc::clone(&trace);
        scheduler.spawn(task(async move {
            let long = async {
                sleep(&handle, LONG).await;
                panic!("it slept through the drain")
            };
            assert!(race(readable(&raced).until_drain(), long).await.is_none());
            seen.borrow_mut().push("raced");
            Ok(())
        }));
        let seen = Rc::clone(&trace);
        scheduler.spawn(task(async move {
            let mut waits = FuturesUnordered::new();
            waits.push(readable(&third).until_drain());
            waits.push(readable(&fourth).until_drain());
            while let Some(ready) = waits.next().await {
                assert!(ready.is_none());
                seen.borrow_mut().push("unordered");
            }
            Ok(())
        }));
        drain_soon(&mut scheduler);
        run_soon(&mut scheduler);
        assert_eq!(*trace.borrow(), ["alone", "raced", "unordered", "unordered"]);
    });
}

#[test]
fn a_wait_until_a_drain_that_a_drain_has_ended_does_not_stand_any_more() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (socket, mut far) = pair(&scheduler);
        let handle = scheduler.handle();
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        scheduler.spawn(task(async move {
            let mut ready = readable(&socket).until_drain();
            assert!((&mut ready).await.is_none(), "a drain has begun");
            // From here on it could be received from, and nobody wants to know.
            far.write_all(b"!")?;
            let mut pause = pin!(sleep(&handle, Duration::from_millis(50)));
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                pause.as_mut().poll(cx)
            })
            .await;
            drop(ready);
            Ok(())
        }));
        drain_soon(&mut scheduler);
        run_soon(&mut scheduler);
        assert_eq!(polls.get(), 2, "it was resumed for what it does not wait for");
    });
}

#[test]
fn what_is_received_while_a_combinator_waits_until_a_drain_is_no_drain() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let ((quiet, _quiet_far), (loud, mut loud_far)) = (pair(&scheduler), pair(&scheduler));
        loud_far.write_all(b"!").expect("room");
        let trace = Trace::default();
        let seen = Rc::clone(&trace);
        scheduler.spawn(task(async move {
            let mut waits = FuturesUnordered::new();
            waits.push(readable(&quiet).until_drain());
            waits.push(readable(&loud).until_drain());
            while let Some(ready) = waits.next().await {
                seen.borrow_mut().push(if ready.transpose()?.is_some() { "ready" } else { "drain" });
            }
            Ok(())
        }));
        drain_soon(&mut scheduler);
        run_soon(&mut scheduler);
        assert_eq!(*trace.borrow(), ["ready", "drain"]);
    });
}

#[test]
fn a_race_yields_the_first_and_drops_the_other_with_its_wait() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let (socket, _far) = pair(&scheduler);
        let trace = Trace::default();
        let seen = Rc::clone(&trace);
        scheduler.spawn(task(async move {
            let receive = || async {
                readable(&socket).await.expect("it can be waited for");
                "received"
            };
            let short = || async {
                sleep(&handle, Duration::from_millis(1)).await;
                "slept"
            };
            for winner in [race(receive(), short()).await, race(short(), receive()).await] {
                seen.borrow_mut().push(winner);
            }
            // The lost waits are withdrawn, so this is the only one: it is refused if another stands.
            let outcome = future::timeout(&handle, Duration::from_millis(1), readable(&socket)).await;
            assert!(outcome.is_err(), "{outcome:?}");
            let of_both = race(async { "first" }, async { "second" }).await;
            seen.borrow_mut().push(of_both);
            Ok(())
        }));
        scheduler.run();
        assert_eq!(*trace.borrow(), ["slept", "slept", "first"]);
    });
}

#[test]
fn who_waits_for_a_drain_that_has_begun_does_not_wait() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let trace = Trace::default();
        let seen = Rc::clone(&trace);
        scheduler.spawn(task(async move {
            handle.drain(Instant::now() + LONG);
            draining(&handle).await;
            seen.borrow_mut().push("told");
            Ok(())
        }));
        run_soon(&mut scheduler);
        assert_eq!(*trace.borrow(), ["told"]);
    });
}

#[test]
fn who_waits_for_a_drain_has_a_turn_in_it_though_its_deadline_is_over_when_it_begins() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (handle, (silent, _far)) = (scheduler.handle(), pair(&scheduler));
        let trace = Trace::default();
        let (service, guest, until) = (Rc::clone(&trace), Rc::clone(&trace), Rc::clone(&trace));
        let (by_service, by_guest) = (handle.clone(), handle.clone());
        scheduler.spawn_service(task(async move {
            draining(&by_service).await;
            service.borrow_mut().push("service");
            Ok(())
        }));
        scheduler.spawn_service(task(async move {
            if readable(&silent).until_drain().await.is_none() {
                until.borrow_mut().push("until");
            }
            Ok(())
        }));
        scheduler.spawn(task(async move {
            draining(&by_guest).await;
            guest.borrow_mut().push("guest");
            // It is not waited for any longer.
            sleep(&by_guest, LONG).await;
            Ok(())
        }));
        let mut turns = 0;
        scheduler.spawn(task_fn("drainer", move |cx| {
            turns += 1;
            if turns < 4 {
                return Ok(Wait::Turn);
            }
            cx.drain(cx.now());
            Ok(Wait::Done)
        }));
        run_soon(&mut scheduler);
        trace.borrow_mut().sort_unstable();
        assert_eq!(*trace.borrow(), ["guest", "service", "until"]);
        assert!(scheduler.tasks().is_empty());
    });
}

#[test]
fn a_task_that_hears_of_a_drain_and_of_an_error_at_once_hears_of_both() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (socket, _far) = pair(&scheduler);
        let trace = Trace::default();
        let (seen, handle, fd) = (Rc::clone(&trace), scheduler.handle(), socket.as_raw_fd());
        scheduler.spawn(task(async move {
            let mut waits: FuturesUnordered<Pin<Box<dyn Future<Output = &str>>>> = FuturesUnordered::new();
            let (socket, drain) = (handle.clone(), handle);
            waits
                .push(Box::pin(async move { readable_fd(&socket, promised(fd)).await.map_or("closed", |()| "ready") }));
            waits.push(Box::pin(async move {
                draining(&drain).await;
                "drain"
            }));
            while let Some(what) = waits.next().await {
                seen.borrow_mut().push(what);
            }
            Ok(())
        }));
        let mut socket = Some(socket);
        let mut turns = 0;
        scheduler.spawn(task_fn("drainer", move |cx| {
            turns += 1;
            if turns < 4 {
                return Ok(Wait::Turn);
            }
            drop(socket.take());
            cx.drain(cx.now() + LONG);
            Ok(Wait::Done)
        }));
        run_soon(&mut scheduler);
        trace.borrow_mut().sort_unstable();
        assert_eq!(*trace.borrow(), ["closed", "drain"]);
    });
}
