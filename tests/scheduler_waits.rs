//! Waiting for descriptors: one receiver and one sender each, hang-ups, several at once. Rows 4, 6, 26 and 27 of the
//! faults, with scripted readiness.

mod scripted;

use fdtask::poller::Happening;
use fdtask::{Side, Wait, WaitError};
use scripted::{Scripted, World, ms, shared};
use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

#[test]
fn a_receiver_and_a_sender_of_one_descriptor_are_each_resumed_by_their_own_side() {
    let mut world = World::new();
    world.spawn_both_sides(7);
    for _ in 0..3 {
        world.fire(7, Side::Recv);
        assert_eq!(world.trace.take(), ["receiver: recv fd 7"]);
        world.fire(7, Side::Send);
        assert_eq!(world.trace.take(), ["sender: send fd 7"]);
    }
    assert_eq!(world.script.watched(), [(7, Side::Recv), (7, Side::Send)]);
}

#[test]
fn a_hang_up_resumes_the_receiver_and_the_sender() {
    // Row 4: POLLHUP and POLLERR come without POLLIN and POLLOUT.
    let mut world = World::new();
    world.spawn_waits("receiver", [Wait::Recv(7)]);
    world.spawn_waits("sender", [Wait::Send(7)]);
    world.turns(1);
    world.trace.take();
    world.script.now(Happening::HungUp(7));
    world.turns(1);
    world.run();
    let mut lines = world.trace.take();
    lines.retain(|line| line.contains(" fd "));
    lines.sort();
    assert_eq!(lines, ["receiver: recv fd 7", "sender: send fd 7"]);
    world.assert_empty();
    assert!(world.script.waits() < 6, "a hang-up that nobody waits for is no reason to spin");
}

#[test]
fn a_hang_up_resumes_a_lone_waiter_once() {
    for wait in [Wait::Recv(7), Wait::Send(7)] {
        let mut world = World::new();
        // It finds out by its own call, and then waits for something else.
        world.spawn_waits("lone", [wait, Wait::Wake]);
        world.turns(1);
        world.script.now(Happening::HungUp(7));
        world.turns(1);
        let waits = world.script.waits();
        world.settle();
        assert_eq!(world.trace.take(), ["lone: ready".to_owned(), format!("lone: {wait}")]);
        assert!(world.script.waits() - waits <= 2, "it does not spin over what nobody waits for");
        world.turn_awake();
        assert_eq!(world.script.watched(), []);
    }
}

#[test]
fn a_second_waiter_for_the_same_side_is_refused_by_name_and_the_first_completes() {
    // Row 6.
    for (wait, side) in [(Wait::Recv(7), Side::Recv), (Wait::Send(7), Side::Send)] {
        let mut world = World::new();
        world.spawn_waits("first", [wait]);
        let seen = shared(None);
        let error = seen.clone();
        let second = Scripted::new("second", &world.trace, move |_, _| Ok(wait)).on_wait_failed(move |cx, why| {
            error.set(Some((why, cx.why())));
            Ok(Wait::Done)
        });
        world.scheduler.spawn(second);
        world.turns(2);
        assert_eq!(seen.get(), Some((WaitError::Busy(wait), wait)));
        world.trace.take();
        world.fire(7, side);
        assert_eq!(world.trace.take(), [format!("first: {wait}"), "first ended: done".into(), "first dropped".into()]);
        world.assert_empty();
    }
}

#[test]
fn a_refused_waiter_ends_with_the_error_unless_it_has_something_better_to_do() {
    let mut world = World::new();
    world.spawn_waits("first", std::iter::repeat(Wait::Recv(7)));
    world.spawn_waits("ends", [Wait::Recv(7)]);
    let patient = Scripted::new("patient", &world.trace, |_, n| Ok(if n == 0 { Wait::Recv(7) } else { Wait::Done }))
        .on_wait_failed(|cx, _| Ok(Wait::Until(cx.now() + ms(5))));
    world.scheduler.spawn(patient);
    world.settle();
    let busy = "cannot wait to recv fd 7: another task already does";
    assert_eq!(
        world.trace.take(),
        [
            "first: ready".to_owned(),
            "ends: ready".to_owned(),
            "patient: ready".to_owned(),
            format!("ends! {busy}"),
            format!("ends ended: {busy}"),
            "ends dropped".to_owned(),
            format!("patient! {busy}"),
            "patient: until".to_owned(),
            "patient ended: done".to_owned(),
            "patient dropped".to_owned(),
        ]
    );
    assert_eq!(world.table(), ["first: recv fd 7"]);
}

#[test]
fn the_errors_of_a_wait_are_typed() {
    let busy: io::Error = WaitError::Busy(Wait::Send(3)).into();
    assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
    let closed: io::Error = WaitError::Closed(Wait::Recv(3)).into();
    assert_eq!(closed.kind(), io::ErrorKind::NotFound);
    let source = closed.into_inner().and_then(|inner| inner.downcast::<WaitError>().ok());
    assert_eq!(source.as_deref(), Some(&WaitError::Closed(Wait::Recv(3))));
}

#[test]
fn spurious_readiness_is_a_reason_to_wait_again() {
    // Row 26: a task that is resumed and finds nothing returns the same wait, as often as that happens.
    let mut world = World::new();
    world.spawn_waits("task", vec![Wait::Recv(7); 100]);
    world.turns(1);
    world.script.now(Happening::Ready(7, Side::Recv));
    world.turns(99);
    world.script.now(Happening::NotReady(7, Side::Recv));
    world.settle();
    assert_eq!(world.table(), ["task: recv fd 7"]);
    world.fire(7, Side::Recv);
    world.assert_empty();
}

#[test]
fn of_several_waits_the_first_to_fire_resumes_once_and_the_rest_is_withdrawn() {
    let waits = [Wait::Recv(3), Wait::Send(3), Wait::Send(4), Wait::Recv(5)];
    for (returned, fired) in (0..4).flat_map(|returned| (0..4).map(move |fired| (returned, fired))) {
        let mut world = World::new();
        world.spawn("task", move |cx, n| {
            if n > 0 {
                return Ok(Wait::Wake);
            }
            waits.iter().filter(|wait| **wait != waits[returned]).for_each(|wait| cx.or(*wait));
            Ok(waits[returned])
        });
        world.turns(1);
        world.trace.take();
        assert_eq!(world.script.watched().len(), 4);
        let (fd, side) = [(3, Side::Recv), (3, Side::Send), (4, Side::Send), (5, Side::Recv)][fired];
        world.fire(fd, side);
        assert_eq!(world.trace.take(), [format!("task: {}", waits[fired])]);
        assert_eq!(world.table(), ["task: wake"]);
        world.turn_awake();
        assert_eq!(world.script.watched(), []);
    }
}

#[test]
fn a_task_that_waits_for_several_which_all_fire_is_resumed_once_and_each_of_them_is_the_reason_in_time() {
    const WAITS: [Wait; 4] = [Wait::Recv(3), Wait::Send(3), Wait::Recv(4), Wait::Recv(5)];
    let mut world = World::new();
    world.spawn("task", |cx, _| {
        WAITS[1..].iter().for_each(|wait| cx.or(*wait));
        Ok(WAITS[0])
    });
    world.turns(1);
    world.trace.take();
    world.script.now(Happening::Ready(3, Side::Send));
    for fd in [3, 4, 5] {
        world.script.now(Happening::Ready(fd, Side::Recv));
    }
    world.turns(1);
    let mut counts = [0; WAITS.len()];
    for _ in 0..60 {
        world.turns(1);
        let lines = world.trace.take();
        assert_eq!(lines.len(), 1, "once a turn, not once for each: {lines:?}");
        let which = WAITS.iter().position(|wait| lines[0] == format!("task: {wait}"));
        counts[which.expect("one of those that it waits for")] += 1;
    }
    // How they take turns is not promised, only that none is kept from it by the others.
    assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
}

#[test]
fn tasks_that_wait_for_several_in_turns_each_have_every_reason_in_time() {
    // They wait for what is always ready, and then run for some turns, so that each of them meets every so manieth poll only.
    for (tasks, pauses) in [(2, 1), (2, 3), (3, 2), (4, 3), (6, 8)] {
        let mut world = World::new();
        let counts: Rc<RefCell<Vec<[u32; 2]>>> = Rc::new(RefCell::new(vec![[0; 2]; tasks]));
        for task in 0..tasks {
            let counts = Rc::clone(&counts);
            let numbers = [0, 1].map(|which| (10 + 2 * task + which) as RawFd);
            let (waits, mut pause) = (numbers.map(Wait::Recv), task);
            for fd in numbers {
                world.script.now(Happening::Ready(fd, Side::Recv));
            }
            world.spawn("task", move |cx, _| {
                if let Some(which) = waits.iter().position(|wait| *wait == cx.why()) {
                    counts.borrow_mut()[task][which] += 1;
                    pause = pauses;
                }
                if pause > 0 {
                    pause -= 1;
                    return Ok(Wait::Turn);
                }
                cx.or(waits[1]);
                Ok(waits[0])
            });
        }
        world.turns(80 * (pauses + 2));
        let counts = counts.take();
        assert!(counts.iter().flatten().all(|count| *count >= 5), "{tasks} tasks, {pauses} pauses: {counts:?}");
    }
}

#[test]
fn what_a_task_waits_for_beside_its_wait_holds_for_one_wait_and_for_no_other_task() {
    // Each wait that is not filed after all, because it cannot be, or need not be.
    let refused: [fn() -> io::Result<Wait>; 5] = [
        || Ok(Wait::Turn),
        || Ok(Wait::Recv(-1)),
        || Ok(Wait::Recv(9)),
        || Ok(Wait::Done),
        || Err(io::Error::other("an error")),
    ];
    for (case, returns) in refused.into_iter().enumerate() {
        let mut world = World::new();
        world.spawn_waits("busy", std::iter::repeat(Wait::Recv(9)));
        world.spawn("talker", move |cx, n| {
            if n > 0 {
                return Ok(Wait::Done);
            }
            cx.or(Wait::Send(4));
            cx.or(Wait::Until(cx.now() + ms(5)));
            returns()
        });
        world.spawn_waits("innocent", std::iter::repeat(Wait::Recv(3)));
        world.turns(2);
        let table = world.table();
        assert!(table.contains(&"innocent: recv fd 3".to_owned()), "case {case}: {table:?}");
        world.settle();
        world.trace.take();
        world.script.now(Happening::Ready(4, Side::Send));
        world.settle();
        assert_eq!(world.trace.take(), [""; 0], "case {case}");
        assert_eq!(world.script.elapsed(), ms(0), "case {case}: nobody sleeps until a deadline");
    }
}

#[test]
fn what_was_said_before_a_panic_is_forgotten_with_the_task() {
    let mut world = World::new();
    world.spawn("panics", |cx, _| {
        cx.or(Wait::Recv(4));
        panic!("as it must");
    });
    world.spawn_waits("innocent", [Wait::Recv(3)]);
    world.turns(1);
    assert_eq!(world.table(), ["innocent: recv fd 3"]);
}

#[test]
fn an_alternative_that_is_refused_withdraws_the_rest_and_says_which() {
    let mut world = World::new();
    world.spawn_waits("first", std::iter::repeat(Wait::Send(4)));
    let second = Scripted::new("second", &world.trace, |cx, _| {
        cx.or(Wait::Recv(5));
        cx.or(Wait::Send(4));
        cx.or(Wait::Recv(6));
        cx.or(Wait::Until(cx.now() + ms(5)));
        Ok(Wait::Recv(3))
    })
    .on_wait_failed(|_, error| {
        assert_eq!(error, WaitError::Busy(Wait::Send(4)));
        Ok(Wait::Wake)
    });
    world.scheduler.spawn(second);
    world.settle();
    assert_eq!(world.table(), ["first: send fd 4", "second: wake"]);
    assert_eq!(world.script.watched(), [(4, Side::Send)]);
    assert_eq!(world.trace.take().len(), 3, "the deadline is withdrawn, too");
}

#[test]
fn one_wait_said_twice_is_one_wait() {
    let mut world = World::new();
    world.spawn("task", |cx, n| {
        cx.or(Wait::Recv(3));
        cx.or(Wait::Recv(3));
        Ok(if n > 1 { Wait::Done } else { Wait::Recv(3) })
    });
    world.turns(1);
    world.fire(3, Side::Recv);
    world.fire(3, Side::Recv);
    assert_eq!(
        world.trace.take(),
        ["task: ready", "task: recv fd 3", "task: recv fd 3", "task ended: done", "task dropped"]
    );
    world.assert_empty();
}

#[test]
fn or_a_turn_means_the_next_turn_and_or_done_means_nothing() {
    let mut world = World::new();
    world.spawn("task", |cx, n| {
        cx.or(if n == 0 { Wait::Turn } else { Wait::Done });
        Ok(Wait::Recv(3))
    });
    world.settle();
    assert_eq!(world.trace.take(), ["task: ready", "task: ready"]);
    assert_eq!(world.table(), ["task: recv fd 3"]);
}

#[test]
fn what_fired_and_is_not_waited_for_again_is_not_watched_whatever_the_others_do() {
    let mut world = World::new();
    // Two waits of one descriptor are renewed; one of another is not.
    world.spawn_both_sides(3);
    world.spawn_waits("leaves", [Wait::Recv(4), Wait::Wake]);
    world.turns(1);
    for (fd, side) in [(3, Side::Recv), (3, Side::Send), (4, Side::Recv)] {
        world.script.now(Happening::Ready(fd, side));
    }
    world.turns(2);
    assert_eq!(world.script.watched(), [(3, Side::Recv), (3, Side::Send)]);
    world.script.now(Happening::NotReady(3, Side::Recv));
    world.script.now(Happening::NotReady(3, Side::Send));
    world.settle();
    assert_eq!(world.script.watched(), [(3, Side::Recv), (3, Side::Send)]);
}

#[test]
fn a_task_may_change_what_it_waits_for_every_time() {
    let mut world = World::new();
    let waits = [Wait::Recv(3), Wait::Send(3), Wait::Send(4), Wait::Recv(3), Wait::Recv(4)];
    world.spawn_waits("task", waits);
    world.turns(1);
    world.trace.take();
    for wait in waits {
        let (fd, side) = match wait {
            Wait::Recv(fd) => (fd, Side::Recv),
            Wait::Send(fd) => (fd, Side::Send),
            _ => unreachable!("only descriptors are waited for"),
        };
        assert_eq!(world.script.watched(), [(fd, side)]);
        world.fire(fd, side);
        assert_eq!(world.trace.take()[0], format!("task: {wait}"));
        world.turn_awake();
    }
    world.assert_empty();
}

#[test]
fn who_is_woken_between_two_runs_to_stop_the_next_keeps_nobody_from_a_descriptor_or_a_deadline() {
    let mut world = World::new();
    world.spawn("receiver", |_, n| Ok(if n < 2 { Wait::Recv(7) } else { Wait::Done }));
    world.spawn("sleeper", |cx, n| Ok(if n == 0 { Wait::Until(cx.now() + ms(1)) } else { Wait::Done }));
    let stopper = world.spawn("stopper", |cx, _| {
        cx.stop();
        Ok(Wait::Wake)
    });
    world.script.now(Happening::Ready(7, Side::Recv));
    for _ in 0..10 {
        world.script.advance(ms(1));
        world.scheduler.handle().wake(stopper);
        world.scheduler.run();
        assert!(!world.script.is_asleep(), "it only looks");
    }
    assert_eq!(world.table(), ["stopper: wake"]);
}

#[test]
fn a_wait_that_is_said_again_beside_another_keeps_no_run_going_when_it_is_over() {
    let mut world = World::new();
    world.spawn("task", |cx, n| {
        cx.or(Wait::Send(4));
        Ok(if n < 3 { Wait::Recv(3) } else { Wait::Done })
    });
    world.spawn("asleep", |_, _| Ok(Wait::Wake));
    world.script.now(Happening::Ready(3, Side::Recv));
    world.run();
    assert_eq!(world.table(), ["asleep: wake"]);
}
