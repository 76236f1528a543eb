//! Futures that know nothing of this crate: combinators of `futures-util`.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;

use fdtask::Scheduler;
use fdtask::future::{self, Source, readable, recv, send_all, sleep, task};
use futures::{LONG, pair, run, wait_in_another_task};
use futures_util::future::{FutureExt, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{join, pin_mut, select};
use limited::within_limit;
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn select_takes_the_socket_that_is_ready_and_withdraws_the_other() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let ((a, _quiet), (b, mut loud)) = (pair(&scheduler), pair(&scheduler));
        loud.write_all(b"!").expect("room");
        let (first, again) = run(&mut scheduler, async move {
            let first = select! {
                result = readable(&a).fuse() => result.map(|()| "a"),
                result = readable(&b).fuse() => result.map(|()| "b"),
            };
            // The wait for `a` was withdrawn with its future, so another may wait for it.
            let again = select! {
                result = readable(&a).fuse() => result.map(|()| "a"),
                result = readable(&b).fuse() => result.map(|()| "b"),
            };
            (first, again)
        });
        assert_eq!(first.expect("it can be waited for"), "b");
        assert_eq!(again.expect("it can be waited for"), "b");
    });
}

#[test]
fn what_lost_a_select_is_free_for_another_task_while_the_first_goes_on() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let ((a, _quiet), (b, mut loud)) = (pair(&scheduler), pair(&scheduler));
        loud.write_all(b"!").expect("room");
        let a = Rc::new(a);
        let other = Rc::clone(&a);
        let refused = run(&mut scheduler, async move {
            select! { _ = readable(&a).fuse() => unreachable!("it is quiet"), _ = readable(&b).fuse() => {} }
            // This task waits on, for something else; meanwhile another waits for what the first has given up.
            wait_in_another_task(&handle, other).await
        });
        assert!(matches!(refused, Err(future::TimedOut)), "{refused:?}");
    });
}

#[test]
fn select_of_a_silent_socket_and_a_timer_takes_the_timer_and_not_early() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let (socket, _far) = pair(&scheduler);
        let begin = Instant::now();
        let what = run(&mut scheduler, async move {
            select! {
                _ = readable(&socket).fuse() => "socket",
                () = sleep(&handle, Duration::from_millis(30)).fuse() => "timer",
            }
        });
        assert_eq!(what, "timer");
        assert!(begin.elapsed() >= Duration::from_millis(30));
    });
}

#[test]
fn select_of_a_ready_socket_and_a_timer_takes_the_socket() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let (socket, far) = pair(&scheduler);
        drop(far);
        let what = run(&mut scheduler, async move {
            select! {
                _ = readable(&socket).fuse() => "socket",
                () = sleep(&handle, LONG).fuse() => "timer",
            }
        });
        assert_eq!(what, "socket");
    });
}

#[test]
fn join_waits_for_two_sockets_and_a_timer_in_one_task() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let ((a, mut a_far), (b, mut b_far)) = (pair(&scheduler), pair(&scheduler));
        let writer = thread::spawn(move || {
            a_far.write_all(b"a").expect("room");
            b_far.write_all(b"b").expect("room");
            (a_far, b_far)
        });
        let (x, y, ()) =
            run(
                &mut scheduler,
                async move { join!(readable(&a), readable(&b), sleep(&handle, Duration::from_millis(1))) },
            );
        x.and(y).expect("both can be waited for");
        writer.join().expect("the writer ends");
    });
}

#[test]
fn futures_unordered_serves_many_sockets_in_the_order_in_which_they_speak() {
    within_limit(|| {
        const SOCKETS: usize = 40;
        let mut scheduler = Scheduler::new();
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for _ in 0..SOCKETS {
            let (socket, other) = pair(&scheduler);
            near.push(socket);
            far.push(other);
        }
        let order: Vec<usize> = (0..SOCKETS).map(|index| index * 7 % SOCKETS).collect();
        let expected = order.clone();
        let seen = run(&mut scheduler, async move {
            let mut waiting: FuturesUnordered<_> =
                near.iter().enumerate().map(|(index, socket)| readable(socket).map(move |_| index)).collect();
            let mut seen = Vec::new();
            for next in order {
                (&far[next]).write_all(b"!").expect("room");
                seen.extend(waiting.next().await);
            }
            assert!(waiting.next().await.is_none(), "all have spoken");
            seen
        });
        assert_eq!(seen, expected);
    });
}

#[test]
fn futures_unordered_is_polled_once_for_each_thing_that_happens() {
    within_limit(|| {
        // Each combinator that wakes its task for what the task was resumed for would otherwise cost another poll.
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let polls = Rc::new(Cell::new(0));
        let count = Rc::clone(&polls);
        run(&mut scheduler, async move {
            let mut sleeps: FuturesUnordered<_> =
                (1..=5).map(|n| sleep(&handle, Duration::from_millis(20 * n))).collect();
            poll_fn(|cx| {
                count.set(count.get() + 1);
                loop {
                    match sleeps.poll_next_unpin(cx) {
                        Poll::Ready(None) => return Poll::Ready(()),
                        Poll::Ready(Some(())) => {}
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
        });
        // One at first, one more because `FuturesUnordered` gives way after it has polled all it has, one for each.
        assert!(polls.get() <= 7, "{} polls", polls.get());
    });
}

#[test]
fn join_all_of_sleeps_takes_as_long_as_the_longest() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let begin = Instant::now();
        run(&mut scheduler, async move { join_all((0..50).map(|n| sleep(&handle, Duration::from_millis(n)))).await });
        assert!(begin.elapsed() >= Duration::from_millis(49));
    });
}

#[test]
fn a_wait_stands_while_its_future_is_not_polled() {
    within_limit(|| {
        // The contract of a future: it was told whom to wake, so it need not be polled in every poll of its task.
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let (socket, mut far) = pair(&scheduler);
        let mut polls = 0;
        run(&mut scheduler, async move {
            let (mut socket_ready, timer) = (readable(&socket), sleep(&handle, Duration::from_millis(5)));
            pin_mut!(timer);
            poll_fn(move |cx| {
                polls += 1;
                match polls {
                    // Only the first poll asks for the socket, only the second for the timer.
                    1 => {
                        assert!(Pin::new(&mut socket_ready).poll(cx).is_pending());
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    2 => {
                        assert!(timer.as_mut().poll(cx).is_pending());
                        Poll::Pending
                    }
                    3 => {
                        assert!(timer.as_mut().poll(cx).is_ready());
                        far.write_all(b"!").expect("room");
                        Poll::Pending
                    }
                    _ => Pin::new(&mut socket_ready).poll(cx).map(|result| result.expect("the wait stood")),
                }
            })
            .await;
        });
    });
}

#[test]
fn a_future_that_keeps_waking_itself_does_not_starve_the_socket_beside_it() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (socket, far) = pair(&scheduler);
        drop(far);
        let turns = run(&mut scheduler, async move {
            let mut turns = 0;
            let busy = async {
                while turns < 10_000 {
                    turns += 1;
                    future::next_turn().await;
                }
            };
            let mut ready = readable(&socket).fuse();
            {
                let busy = busy.fuse();
                pin_mut!(busy);
                select! { _ = ready => {}, () = busy => {} }
            }
            turns
        });
        assert!(turns < 100, "the socket was seen after {turns} turns");
    });
}

#[test]
fn an_echo_of_futures_answers_over_tcp() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let listener = fdtask::net::Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let address = listener.address();
        let incoming = future::Incoming::new(&handle, listener);
        scheduler.spawn(task(async move {
            let (stream, _) = incoming.accept().await?;
            let mut buffer = [0; 64];
            loop {
                match recv(&stream, &mut buffer).await? {
                    0 => return Ok(()),
                    len => send_all(&stream, &buffer[..len]).await?,
                }
            }
        }));
        let echoed = run(&mut scheduler, async move {
            let stream = future::connect(&handle, address).await?;
            let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
            let sending = async {
                send_all(&stream, &sent).await?;
                stream.shutdown_send()
            };
            let receiving = async {
                let (mut all, mut buffer) = (Vec::new(), [0; 1_000]);
                loop {
                    match recv(&stream, &mut buffer).await? {
                        0 => return io::Result::Ok(all),
                        len => all.extend_from_slice(&buffer[..len]),
                    }
                }
            };
            let (sent_all, received) = join!(sending, receiving);
            sent_all?;
            assert!(stream.descriptor().scheduler().now() <= Instant::now());
            io::Result::Ok(received? == sent)
        });
        assert!(echoed.expect("no error"), "what came back is what was sent");
    });
}
