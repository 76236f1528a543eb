//! Whoever waits for what has just been waited for: by itself, which was given an error, or by another, which is on its way out.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;
#[path = "common/promised.rs"]
mod promised;
mod scripted;

use fdtask::future::{self, FutureTask, Readiness, next_turn, race, readable, readable_fd, sleep, timeout};
use fdtask::poller::Happening;
use fdtask::{Context, Descriptor, Scheduler, Side, Task, Wait};
use futures::{LONG, pair, run};
use limited::within_limit;
use promised::promised;
use scripted::{Scripted, World, ms};
use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io::{self, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

#[test]
fn who_waits_again_for_a_number_that_was_closed_has_its_deadlines_and_its_wakes() {
    // Row 5: after the error the number may be open again, by whoever has heard of it.
    for wakes in [false, true] {
        let mut world = World::new();
        let script = world.script.clone();
        let waiter = Scripted::new("waiter", &world.trace, |_, n| Ok(if n == 0 { Wait::Recv(7) } else { Wait::Done }));
        let waiter = world.scheduler.spawn(waiter.on_wait_failed(move |cx, _| {
            script.now(Happening::Reused(7));
            if !wakes {
                cx.or(Wait::Until(cx.now() + ms(50)));
            }
            Ok(Wait::Recv(7))
        }));
        world.turns(1);
        world.script.now(Happening::Closed(7));
        if wakes {
            world.settle();
            assert_eq!(world.table(), ["waiter: recv fd 7"]);
            world.scheduler.handle().wake(waiter);
        }
        world.run();
        let why = if wakes { "wake" } else { "until" };
        assert!(world.trace.take().iter().any(|line| line.starts_with(&format!("waiter: {why}"))), "{why}");
        assert_eq!(world.script.elapsed(), if wakes { ms(0) } else { ms(50) });
        world.assert_empty();
    }
}

#[test]
fn a_future_that_waits_again_for_a_number_that_was_closed_has_its_deadline() {
    within_limit(|| {
        let (near, _far) = io::pipe().expect("a pipe");
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let number = rustix::io::fcntl_dupfd_cloexec(&near, 200).expect("a number that nobody else takes");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&number);
        let closing = handle.clone();
        handle.spawn(future::task(async move {
            sleep(&closing, ms(20)).await;
            drop(number);
            Ok(())
        }));
        let ended = run(&mut scheduler, async move {
            let error = readable_fd(&handle, promised(fd)).await.expect_err("it was closed");
            assert!(error.to_string().contains("closed"), "{error}");
            let _again = rustix::io::fcntl_dupfd_cloexec(&near, fd).expect("the same number");
            timeout(&handle, ms(50), readable_fd(&handle, promised(fd))).await
        });
        ended.expect_err("nothing is to be received");
    });
}

/// Lets the other tasks come as far as they can.
async fn pass_turns() {
    for _ in 0..3 {
        next_turn().await;
    }
}

#[test]
fn who_cancels_a_task_may_wait_at_once_for_what_that_has_waited_for() {
    within_limit(|| {
        let mut world = World::new();
        let first = world.spawn_waits("first", std::iter::repeat(Wait::Recv(3)));
        world.spawn("second", move |cx, n| match n {
            0 => Ok(Wait::Turn),
            1 => {
                cx.cancel(first);
                Ok(Wait::Recv(3))
            }
            _ => Ok(Wait::Done),
        });
        world.turns(2);
        world.fire(3, Side::Recv);
        world.run();
        let lines = world.trace.take();
        assert!(lines.contains(&"second: recv fd 3".to_owned()), "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains('!')), "{lines:?}");
        world.assert_empty();
    });
}

#[test]
fn who_gives_up_a_task_that_is_joined_may_wait_at_once_for_what_that_has_waited_for() {
    within_limit(|| {
        for by_timeout in [false, true] {
            let mut scheduler = Scheduler::new();
            let (near, mut far) = pair(&scheduler);
            let (handle, near) = (scheduler.handle(), Rc::new(near));
            let received = run(&mut scheduler, async move {
                let its = Rc::clone(&near);
                let reader = future::spawn(&handle, async move { readable(&its).await });
                if by_timeout {
                    timeout(&handle, ms(10), reader).await.expect_err("nothing has come");
                } else {
                    pass_turns().await;
                    drop(reader);
                }
                far.write_all(b"!").expect("room");
                readable(&near).await
            });
            received.expect("nobody else waits any more");
        }
    });
}

#[test]
fn who_gives_up_a_task_may_wait_at_once_for_what_those_have_waited_for_that_it_takes_with_it() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        let (handle, near) = (scheduler.handle(), Rc::new(near));
        let received = run(&mut scheduler, async move {
            let (its, spawns) = (Rc::clone(&near), handle.clone());
            let session = future::spawn(&handle, async move {
                let reader = future::spawn(&spawns, async move { readable(&its).await });
                reader.await.expect("it is not cancelled")
            });
            pass_turns().await;
            drop(session);
            far.write_all(b"!").expect("room");
            readable(&near).await
        });
        received.expect("nobody else waits any more");
    });
}

#[test]
fn a_future_that_another_task_drops_withdraws_its_wait_whether_or_not_it_is_the_only_one() {
    within_limit(|| {
        for has_others in [false, true] {
            let mut scheduler = Scheduler::new();
            let (handle, (near, mut far), (silent, _silent)) = (scheduler.handle(), pair(&scheduler), pair(&scheduler));
            // The future is polled by one task, and dropped by another.
            let shared: Rc<RefCell<Option<Readiness<'_>>>> = Rc::default();
            let near: &'static Descriptor = Box::leak(Box::new(near));
            shared.replace(Some(readable(near)));
            let (polled, waits) = (Rc::clone(&shared), handle.clone());
            handle.spawn(future::task(async move {
                let first = async {
                    if has_others {
                        let _ = readable(&silent).await;
                    }
                    pending::<()>().await;
                };
                let second = poll_fn(|cx| match polled.borrow_mut().as_mut() {
                    Some(ready) => Pin::new(ready).poll(cx).map(drop),
                    None => Poll::Pending,
                });
                let _ = timeout(&waits, LONG, race(first, second)).await;
                Ok(())
            }));
            let received = run(&mut scheduler, {
                let handle = handle.clone();
                async move {
                    pass_turns().await;
                    shared.replace(None);
                    pass_turns().await;
                    far.write_all(b"!").expect("room");
                    let received = readable(near).await;
                    handle.stop();
                    received
                }
            });
            received.expect("nobody else waits any more");
        }
    });
}

/// Polls a future, and then drops what that waits with.
struct GivesUp<F>(FutureTask<F>, Rc<RefCell<Option<Readiness<'static>>>>);

impl<F: Future<Output = io::Result<()>> + 'static> Task for GivesUp<F> {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let wait = self.0.resume(cx)?;
        self.1.replace(None);
        Ok(wait)
    }
}

#[test]
fn a_task_that_gives_up_its_own_wait_before_it_returns_it_does_not_keep_others_from_waiting() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (handle, (near, mut far)) = (scheduler.handle(), pair(&scheduler));
        let near: &'static Descriptor = Box::leak(Box::new(near));
        let shared = Rc::new(RefCell::new(Some(readable(near))));
        let polled = Rc::clone(&shared);
        let future = poll_fn(move |cx| match polled.borrow_mut().as_mut() {
            Some(ready) => Pin::new(ready).poll(cx),
            None => Poll::Pending,
        });
        scheduler.spawn(GivesUp(future::task(future), shared));
        let received = run(&mut scheduler, async move {
            pass_turns().await;
            far.write_all(b"!").expect("room");
            let received = readable(near).await;
            handle.stop();
            received
        });
        received.expect("nobody else waits any more");
    });
}
