//! Real descriptors that are closed, dropped, replaced and reused while tasks wait for them, over both pollers. Rows 5, 7
//! and 16 of the faults: the old waiter gets an error, not a byte crosses, and the new owner is never left asleep.

mod scripted;

use fdtask::{Scheduler, Wait, WaitError, task_fn};
use scripted::live::{IDLE_TURNS, LIMIT, Socket, count, over_every_poller, pair};
use scripted::{Scripted, shared};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

#[test]
fn a_number_closed_elsewhere_gives_each_waiter_an_error_once_and_the_loop_goes_on() {
    over_every_poller(|live| {
        for turns in IDLE_TURNS {
            let (mut live, (near, far)) = (live(), pair());
            let (other_near, other_far) = pair();
            let fd = near.as_raw_fd();
            let full = [0; 4096];
            while (&near).write(&full).is_ok() {}
            live.spawn_raw_waiter("receiver", Wait::Recv(fd));
            live.spawn_raw_waiter("sender", Wait::Send(fd));
            let other = Socket::new(&live.scheduler, other_near, true);
            live.spawn_echo("other", other);
            live.idle(turns + 2);
            assert_eq!(live.trace.take(), ["receiver: ready", "sender: ready", "other: ready"], "all is quiet");
            drop(near);
            live.idle(4);
            let lines = live.trace.take();
            for side in ["receiver! cannot wait to recv", "sender! cannot wait to send"] {
                assert_eq!(count(&lines, &format!("{side} fd {fd}: the descriptor is closed")), 1, "{lines:?}");
            }
            assert_eq!(lines.len(), 4, "each error once, and each waiter ends with it: {lines:?}");
            live.assert_echoes(&other_far, b"still here");
            drop(far);
        }
    });
}

#[test]
fn a_number_replaced_by_another_file_gives_the_old_waiter_an_error_when_the_new_owner_waits() {
    // Within one turn and across turns; by dup2, which replaces at once.
    over_every_poller(|live| {
        for (turns, owned) in IDLE_TURNS.into_iter().flat_map(|turns| [(turns, false), (turns, true)]) {
            let (mut live, (near, mut old_far)) = (live(), pair());
            let (new_near, new_far) = pair();
            let fd = near.as_raw_fd();
            live.spawn_raw_waiter("old", Wait::Recv(fd));
            live.idle(turns + 1);
            let mut place = OwnedFd::from(near);
            // The old file lives on, as it does in a child process: it can be received from all the time.
            let _duplicate = place.try_clone().expect("a duplicate");
            rustix::io::dup2(&new_near, &mut place).expect("dup2 onto an open descriptor");
            drop(new_near);
            let socket = Socket::new(&live.scheduler, place.into(), owned);
            live.spawn_echo("new", socket);
            live.idle(turns + 3);
            old_far.write_all(b"for the old one").expect("room");
            live.assert_echoes(&new_far, b"for the new one");
            let lines = live.trace.take();
            assert_eq!(count(&lines, &format!("old! cannot wait to recv fd {fd}: the descriptor is closed")), 1);
            assert_eq!(
                count(&lines, &format!("old: recv fd {fd}")),
                0,
                "the old one is resumed for nothing: {lines:?}"
            );
        }
    });
}

#[test]
fn a_number_closed_and_reused_within_one_resume_goes_to_its_new_owner() {
    // The system hands out the lowest free number: the one that was just closed.
    over_every_poller(|live| {
        for (turns, owned) in IDLE_TURNS.into_iter().flat_map(|turns| [(turns, false), (turns, true)]) {
            let mut live = live();
            let (new_near, new_far) = pair();
            let (near, _old_far) = pair();
            let fd = near.as_raw_fd();
            live.spawn_raw_waiter("old", Wait::Recv(fd));
            let go = shared(false);
            let (gone, handle) = (go.clone(), live.scheduler.handle());
            let (mut near, mut new) = (Some(near), Some(new_near));
            let mut socket = None;
            live.spawn("new", move |_, _| {
                if !gone.get() {
                    return Ok(Wait::Turn);
                }
                if let (Some(near), Some(new)) = (near.take(), new.take()) {
                    drop(near);
                    let again = new.try_clone()?;
                    assert_eq!(again.as_raw_fd(), fd, "the lowest free number");
                    socket = Some(if owned { Socket::Owned(handle.adopt(again)) } else { Socket::Raw(again.into()) });
                }
                let socket = socket.as_ref().expect("it is open");
                let mut buffer = [0; 64];
                if let Ok(received) = socket.receive(&mut buffer) {
                    socket.send(&buffer[..received])?;
                }
                Ok(Wait::Recv(socket.number()))
            });
            live.idle(turns + 1);
            live.trace.take();
            go.set(true);
            live.idle(2);
            live.assert_echoes(&new_far, b"for the new one");
            let lines = live.trace.take();
            assert_eq!(count(&lines, &format!("old! cannot wait to recv fd {fd}: the descriptor is closed")), 1);
            assert_eq!(count(&lines, &format!("old: recv fd {fd}")), 0, "{lines:?}");
        }
    });
}

#[test]
fn an_owned_descriptor_that_its_holder_drops_gives_whoever_waits_on_it_an_error_and_is_closed() {
    over_every_poller(|live| {
        for turns in IDLE_TURNS {
            let (mut live, (near, mut far)) = (live(), pair());
            let full = [0; 4096];
            while (&near).write(&full).is_ok() {}
            while far.read(&mut [0; 4096]).is_ok_and(|received| received == 4096) {}
            while (&near).write(&full).is_ok() {}
            let descriptor = live.scheduler.adopt(near);
            let fd = descriptor.as_raw_fd();
            live.spawn_raw_waiter("receiver", Wait::Recv(fd));
            live.spawn_raw_waiter("sender", Wait::Send(fd));
            let go = shared(false);
            let (gone, is_taken) = (go.clone(), shared(false));
            let (seen, mut descriptor) = (is_taken.clone(), Some(descriptor));
            live.spawn("holder", move |_, _| {
                if !gone.get() {
                    return Ok(Wait::Turn);
                }
                drop(descriptor.take());
                // The number is still taken, so it can be nobody else's while the old waits are filed.
                let another = io::pipe()?;
                seen.set(another.0.as_raw_fd() != fd && another.1.as_raw_fd() != fd);
                Ok(Wait::Done)
            });
            live.idle(turns + 1);
            live.trace.take();
            go.set(true);
            live.idle(3);
            let mut lines = live.trace.take();
            lines.retain(|line| line.contains('!'));
            lines.sort();
            assert_eq!(
                lines,
                [
                    format!("receiver! cannot wait to recv fd {fd}: the descriptor is closed"),
                    format!("sender! cannot wait to send fd {fd}: the descriptor is closed")
                ]
            );
            assert!(is_taken.get(), "somebody else has the number already");
            far.set_nonblocking(false).expect("a socket can be blocking");
            far.set_read_timeout(Some(LIMIT)).expect("a socket can time out");
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).expect("what was sent, and then the end of the stream");
        }
    });
}

#[test]
fn a_task_that_waits_on_what_it_has_just_dropped_gets_an_error_once() {
    over_every_poller(|live| {
        let (mut live, (near, _far)) = (live(), pair());
        let mut descriptor = Some(live.scheduler.adopt(near));
        let errors = Rc::new(RefCell::new(Vec::new()));
        let seen = errors.clone();
        let task = Scripted::new("task", &live.trace, move |_, _| {
            let fd = descriptor.take().expect("it is resumed once").as_raw_fd();
            Ok(Wait::Recv(fd))
        });
        let task = task.on_wait_failed(move |_, error| {
            seen.borrow_mut().push(error);
            Ok(Wait::Wake)
        });
        live.scheduler.spawn(task);
        live.idle(10);
        assert!(matches!(errors.borrow()[..], [WaitError::Closed(Wait::Recv(_))]), "{errors:?}");
    });
}

#[test]
fn the_new_owner_of_a_number_is_never_left_asleep() {
    // A number that is owned, idle for a while, dropped, and reused by the next, a hundred times over. Now and then a
    // duplicate of the old file lives on, and can be received from for ever: the end of its stream.
    over_every_poller(|live| {
        let mut live = live();
        let mut duplicates = Vec::new();
        let mut number = None;
        for round in 0..100 {
            let (near, far) = pair();
            let fd = near.as_raw_fd();
            assert_eq!(*number.get_or_insert(fd), fd, "the number is reused");
            if round % 4 == 0 {
                // It takes a higher number, and is kept.
                duplicates.push(rustix::io::fcntl_dupfd_cloexec(&near, 100 + round).expect("a free number"));
            }
            let owned = round % 3 != 0;
            let socket = Socket::new(&live.scheduler, near, owned);
            live.spawn_echo("echo", socket);
            live.idle([1, 2, 9, 90][round as usize % 4]);
            live.assert_echoes(&far, b"first");
            live.idle([90, 1, 2, 9][round as usize % 4]);
            live.assert_echoes(&far, b"second");
            // The half-close ends the echo, and that closes its end; then the number is free for the next.
            far.shutdown(std::net::Shutdown::Write).expect("a connected socket");
            let tasks = live.scheduler.tasks().len();
            let trace = live.trace.clone();
            live.until("the echo's end", || trace.take().iter().any(|line| line == "echo dropped"));
            live.idle(2);
            assert_eq!(live.scheduler.tasks().len(), tasks - 1);
            drop(far);
        }
    });
}

#[test]
fn a_descriptor_dropped_while_its_file_lives_on_elsewhere_keeps_nobody_awake() {
    // Row 16: the old file's registration in an epoll instance would stay ready for ever.
    over_every_poller(|live| {
        for is_waited_for in [true, false] {
            let (mut live, (near, mut far)) = (live(), pair());
            let duplicate = near.try_clone().expect("a duplicate");
            let descriptor = live.scheduler.adopt(near);
            let fd = descriptor.as_raw_fd();
            live.spawn_raw_waiter("waiter", Wait::Recv(fd));
            live.idle(300);
            if !is_waited_for {
                let waiter = live.scheduler.tasks().into_iter().find(|task| task.name == "waiter").expect("it lives");
                live.scheduler.handle().cancel(waiter.id);
            }
            drop(descriptor);
            live.idle(3);
            far.write_all(b"for nobody").expect("room");
            let scheduler = std::mem::replace(&mut live.scheduler, Scheduler::new());
            assert_is_asleep(scheduler);
            drop(duplicate);
        }
    });
}

/// Asserts that a scheduler with nothing to do sleeps: it takes a few turns, not thousands.
fn assert_is_asleep(mut scheduler: Scheduler) {
    let busy = scheduler.tasks().into_iter().find(|task| task.name == "busy").expect("it lives");
    scheduler.handle().cancel(busy.id);
    scheduler.turn();
    let ticks = 6;
    let mut left = ticks;
    scheduler.spawn(task_fn("ticker", move |cx| {
        left -= 1;
        Ok(if left == 0 { Wait::Done } else { Wait::Until(cx.now() + Duration::from_millis(10)) })
    }));
    let mut turns = 0;
    while scheduler.turn() {
        turns += 1;
        assert!(turns < 10 * ticks, "a spin: more than {turns} turns in 50 ms");
    }
}

#[test]
fn a_regular_file_is_always_ready_over_every_poller() {
    // It is never idle, so it is never offered to epoll, which would refuse it. (Row 17 is in `src/poller/suite/crowds.rs`.)
    over_every_poller(|live| {
        for owned in [false, true] {
            let mut live = live();
            let program = std::env::current_exe().expect("this program has a path");
            let file = OwnedFd::from(std::fs::File::open(program).expect("this program can be read"));
            let socket = if owned { Socket::Owned(live.scheduler.adopt(file)) } else { Socket::Raw(file) };
            let total = shared(0);
            let sum = total.clone();
            live.spawn("reader", move |_, n| {
                let mut buffer = [0; 128];
                sum.set(sum.get() + socket.receive(&mut buffer)?);
                Ok(if n == 400 { Wait::Done } else { Wait::Recv(socket.number()) })
            });
            let read = total.clone();
            live.until("400 reads", move || read.get() == 401 * 128);
        }
    });
}

#[test]
fn a_cancelled_tasks_descriptors_are_closed_and_their_numbers_are_free() {
    over_every_poller(|live| {
        for turns in IDLE_TURNS {
            let (mut live, (near, mut far)) = (live(), pair());
            let fd = near.as_raw_fd();
            let socket = Socket::new(&live.scheduler, near, true);
            live.spawn_echo("victim", socket);
            live.idle(turns + 1);
            let victim = live.scheduler.tasks().into_iter().find(|task| task.name == "victim").expect("it lives");
            live.scheduler.handle().cancel(victim.id);
            live.idle(2);
            assert_eq!(far.read(&mut [0; 8]).expect("the end of the stream"), 0);
            let (reused, new_far) = pair();
            assert_eq!(reused.as_raw_fd(), fd);
            let socket = Socket::new(&live.scheduler, reused, true);
            live.spawn_echo("next", socket);
            live.idle(turns);
            live.assert_echoes(&new_far, b"hello");
        }
    });
}

#[test]
fn a_descriptor_that_is_adopted_while_a_task_waits_for_its_number_keeps_that_wait() {
    over_every_poller(|live| {
        for turns in IDLE_TURNS {
            let (mut live, (near, mut far)) = (live(), pair());
            let fd = near.as_raw_fd();
            live.spawn_raw_waiter("waiter", Wait::Recv(fd));
            live.idle(turns + 1);
            let descriptor = live.scheduler.adopt(near);
            live.idle(turns + 1);
            live.trace.take();
            far.write_all(b"x").expect("room");
            let trace = live.trace.clone();
            live.until("the wake-up", || count(&trace.take(), &format!("waiter: recv fd {fd}")) > 0);
            drop(descriptor);
        }
    });
}

#[test]
fn a_hang_up_and_a_reset_resume_both_sides_of_an_idle_descriptor() {
    // Rows 4 and 27, with a socket that is full, so that neither side is ready until the peer is gone.
    over_every_poller(|live| {
        for (turns, owned) in IDLE_TURNS.into_iter().flat_map(|turns| [(turns, false), (turns, true)]) {
            let (mut live, (near, far)) = (live(), pair());
            while (&near).write(&[0; 4096]).is_ok() {}
            let socket = Socket::new(&live.scheduler, near, owned);
            let fd = socket.number();
            for (name, wait) in [("receiver", Wait::Recv(fd)), ("sender", Wait::Send(fd))] {
                live.spawn(name, move |_, n| Ok(if n == 0 { wait } else { Wait::Done }));
            }
            live.idle(turns + 1);
            live.trace.take();
            drop(far);
            let trace = live.trace.clone();
            let mut lines = Vec::new();
            live.until("both sides", || {
                lines.extend(trace.take());
                lines.len() >= 4
            });
            assert_eq!(count(&lines, &format!("receiver: recv fd {fd}")), 1, "{lines:?}");
            assert_eq!(count(&lines, &format!("sender: send fd {fd}")), 1, "{lines:?}");
        }
    });
}
