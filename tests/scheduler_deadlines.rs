//! Deadlines and sleeping, in virtual time: never early, never lost, never in anybody's way. Row 36 of the faults.

mod scripted;

use fdtask::poller::Happening;
use fdtask::{Side, Wait};
use scripted::{Scripted, World, lines_of, ms, shared};
use std::time::{Duration, Instant};

#[test]
fn a_sleeper_is_resumed_at_its_instant_and_not_a_moment_earlier() {
    for sleep in [Duration::from_nanos(1), Duration::from_micros(900), ms(1), Duration::from_secs(100 * 24 * 60 * 60)] {
        let mut world = World::new();
        let woken = shared(None);
        let at = woken.clone();
        world.spawn("sleeper", move |cx, n| {
            if n == 0 {
                return Ok(Wait::Until(cx.now() + sleep));
            }
            assert!(cx.timed_out());
            at.set(Some((cx.now(), cx.why())));
            Ok(Wait::Done)
        });
        let start = Instant::now();
        world.run();
        assert_eq!(world.script.elapsed(), sleep);
        let (now, why) = woken.get().expect("it was resumed");
        assert_eq!(why, Wait::Until(now), "the deadline is what it was resumed for");
        assert_eq!(world.script.waits(), 1, "one sleep, however long");
        assert!(start.elapsed() < Duration::from_secs(20), "virtual time");
    }
}

#[test]
fn an_instant_that_has_passed_resumes_in_the_next_turn() {
    let mut world = World::new();
    world.spawn("late", |cx, n| match n {
        0 => Ok(Wait::Until(cx.now())),
        1 => Ok(Wait::Until(cx.now().checked_sub(ms(1)).unwrap_or(cx.now()))),
        _ => Ok(Wait::Done),
    });
    world.turns(3);
    assert_eq!(world.trace.take(), ["late: ready", "late: until", "late: until", "late ended: done", "late dropped"]);
    assert_eq!(world.script.elapsed(), ms(0));
}

#[test]
fn sleepers_are_resumed_in_the_order_of_their_deadlines() {
    let mut world = World::new();
    for (name, sleep) in [("third", ms(30)), ("first", ms(10)), ("fourth", ms(30)), ("second", ms(20))] {
        world.spawn(name, move |cx, n| Ok(if n > 0 { Wait::Done } else { Wait::Until(cx.now() + sleep) }));
    }
    world.run();
    let mut lines = world.trace.take();
    lines.retain(|line| line.ends_with("until"));
    assert_eq!(lines[..2], ["first: until", "second: until"]);
    assert_eq!(lines.len(), 4);
    assert_eq!(world.script.elapsed(), ms(30));
    assert_eq!(world.script.waits(), 3, "the two with one deadline wake together");
}

#[test]
fn a_wait_that_fires_in_time_is_not_timed_out_and_its_deadline_is_gone() {
    let mut world = World::new();
    world.spawn("patient", |cx, n| {
        assert!(!cx.timed_out());
        if n == 0 {
            cx.or(Wait::Until(cx.now() + ms(10)));
        }
        Ok(if n == 2 { Wait::Done } else { Wait::Recv(3) })
    });
    world.script.after(ms(9), Happening::Ready(3, Side::Recv));
    world.turns(1);
    world.script.now(Happening::NotReady(3, Side::Recv));
    world.turn_awake();
    // The second wait has no deadline: nothing resumes it at 10 ms, nor ever until it fires.
    world.script.after(ms(1_000), Happening::Ready(3, Side::Recv));
    world.run();
    assert_eq!(
        world.trace.take(),
        ["patient: ready", "patient: recv fd 3", "patient: recv fd 3", "patient ended: done", "patient dropped"]
    );
    assert_eq!(world.script.elapsed(), ms(1_009), "counted from 9 ms");
}

#[test]
fn a_wait_that_does_not_fire_in_time_is_timed_out_and_withdrawn() {
    let mut world = World::new();
    world.spawn("patient", |cx, n| {
        if n > 0 {
            assert!(cx.timed_out());
            return Ok(Wait::Wake);
        }
        cx.or(Wait::Until(cx.now() + ms(10)));
        cx.or(Wait::Send(4));
        Ok(Wait::Recv(3))
    });
    world.script.after(ms(11), Happening::Ready(3, Side::Recv));
    world.script.after(ms(11), Happening::Ready(4, Side::Send));
    world.settle();
    assert_eq!(world.trace.take(), ["patient: ready", "patient: until"]);
    world.turn_awake();
    assert_eq!(world.script.watched(), []);
}

#[test]
fn what_fires_at_the_very_deadline_has_fired() {
    let mut world = World::new();
    world.spawn("patient", |cx, n| {
        assert!(!cx.timed_out());
        cx.or(Wait::Until(cx.now() + ms(10)));
        Ok(if n > 0 { Wait::Done } else { Wait::Recv(3) })
    });
    world.script.after(ms(10), Happening::Ready(3, Side::Recv));
    world.run();
    assert_eq!(world.trace.take()[1], "patient: recv fd 3");
}

#[test]
fn of_several_deadlines_the_soonest_counts_wherever_it_is_said() {
    for soonest in 0..3 {
        let mut world = World::new();
        world.spawn("sleeper", move |cx, n| {
            let at = |index| cx.now() + if index == soonest { ms(10) } else { ms(20) };
            let (first, second, third) = (at(0), at(1), at(2));
            cx.or(Wait::Until(first));
            cx.or(Wait::Until(second));
            Ok(if n > 0 { Wait::Done } else { Wait::Until(third) })
        });
        world.run();
        assert_eq!(world.script.elapsed(), ms(10));
    }
}

#[test]
fn a_deadline_that_moves_with_every_message_is_as_late_as_the_last_one_said() {
    let mut world = World::new();
    let script = world.script.clone();
    world.spawn("idle timeout", move |cx, _| {
        if cx.timed_out() {
            return Ok(Wait::Done);
        }
        script.now(Happening::NotReady(3, Side::Recv));
        cx.or(Wait::Until(cx.now() + ms(100)));
        Ok(Wait::Recv(3))
    });
    // Not one of them comes at the very instant of an earlier deadline.
    for message in 1..=50 {
        world.script.after(ms(message * 7), Happening::Ready(3, Side::Recv));
    }
    world.run();
    assert_eq!(world.script.elapsed(), ms(450));
    // A message is one wake-up; beside them there may be some to find out that a queued deadline was early, ever fewer.
    assert!(world.script.waits() <= 50 + 8, "{} waits", world.script.waits());
}

#[test]
fn a_deadline_that_moves_forward_is_kept() {
    let mut world = World::new();
    world.spawn("task", |cx, n| {
        cx.or(Wait::Until(cx.now() + [ms(1_000), ms(100), ms(10), ms(1)][n.min(3)]));
        Ok(if cx.timed_out() { Wait::Done } else { Wait::Recv(3) })
    });
    for at in [5, 6, 7] {
        world.script.after(ms(at), Happening::Ready(3, Side::Recv));
    }
    for _ in 0..3 {
        world.turns(1);
        world.script.now(Happening::NotReady(3, Side::Recv));
    }
    world.run();
    assert_eq!(world.script.elapsed(), ms(8), "the last one said was 1 ms after 7 ms");
    world.assert_empty();
}

#[test]
fn an_instant_used_twice_resumes_twice_only_if_it_is_waited_for_twice() {
    let mut world = World::new();
    let at = shared(None);
    world.spawn("task", move |cx, n| match n {
        // 20 ms; then 10 ms, which is sooner; then, woken by the descriptor, 20 ms again.
        0 => {
            at.set(Some(cx.now() + ms(20)));
            cx.or(Wait::Until(cx.now() + ms(20)));
            Ok(Wait::Recv(3))
        }
        1 => {
            cx.or(Wait::Until(cx.now() + ms(10)));
            Ok(Wait::Recv(3))
        }
        2 | 3 => Ok(at.get().map_or(Wait::Done, Wait::Until)),
        4 => Ok(Wait::Recv(3)),
        _ => panic!("nothing is left to be resumed for"),
    });
    world.script.after(ms(1), Happening::Ready(3, Side::Recv));
    world.turns(1);
    world.script.now(Happening::NotReady(3, Side::Recv));
    world.settle();
    assert_eq!(
        world.trace.take(),
        ["task: ready", "task: recv fd 3", "task: until", "task: until", "task: until"],
        "at 10 ms, at 20 ms, and at once for an instant that has passed"
    );
    assert_eq!(world.table(), ["task: recv fd 3"]);
}

#[test]
fn a_signal_does_not_shorten_a_sleep() {
    let mut world = World::new();
    world.spawn("sleeper", |cx, n| Ok(if n > 0 { Wait::Done } else { Wait::Until(cx.now() + ms(100)) }));
    for at in [1, 50, 99] {
        world.script.after(ms(at), Happening::Signal);
    }
    world.run();
    assert_eq!(world.script.elapsed(), ms(100));
    assert_eq!(world.script.waits(), 4, "each signal costs one wait");
    assert_eq!(world.trace.take().len(), 4);
}

#[test]
fn a_poll_that_fails_does_not_lose_a_deadline() {
    let mut world = World::new();
    world.spawn("sleeper", |cx, n| Ok(if n > 0 { Wait::Done } else { Wait::Until(cx.now() + ms(20)) }));
    world.script.fail_next_wait(std::io::ErrorKind::OutOfMemory);
    world.turns(1);
    world.trace.take();
    world.turns(1);
    assert_eq!(world.trace.take()[0], "sleeper: until", "the pause alone was longer than its sleep");
}

#[test]
fn the_deadline_of_a_task_that_is_gone_resumes_nobody_and_delays_nobody() {
    let mut world = World::new();
    let gone = world.spawn("gone", |cx, _| Ok(Wait::Until(cx.now() + ms(1_000))));
    world.turn_awake();
    world.scheduler.handle().cancel(gone);
    world.turn_awake();
    // Somebody else has its slot now, and sleeps longer.
    world.spawn("other", |cx, n| Ok(if n > 0 { Wait::Done } else { Wait::Until(cx.now() + ms(2_000)) }));
    world.trace.take();
    world.run();
    assert_eq!(world.trace.take(), ["other: ready", "other: until", "other ended: done", "other dropped"]);
    assert_eq!(world.script.elapsed(), ms(2_000));
}

#[test]
fn a_run_does_not_wait_for_the_deadlines_of_tasks_that_are_gone() {
    let mut world = World::new();
    world.spawn_waits("for ever asleep", [Wait::Wake]);
    let gone = world.spawn("gone", |cx, _| Ok(Wait::Until(cx.now() + ms(1_000))));
    world.turn_awake();
    world.scheduler.handle().cancel(gone);
    world.run();
    assert_eq!(world.script.elapsed(), ms(0), "nothing that is left can ever be resumed");
}

#[test]
fn a_run_does_not_wait_for_deadlines_that_are_no_ones_any_more_and_forgets_none_that_is() {
    let mut world = World::new();
    let task = world.spawn("task", |cx, n| {
        Ok(match n {
            0 => Wait::Until(cx.now() + ms(1_000)),
            2 => Wait::Until(cx.now() + ms(2_000)),
            4 => Wait::Until(cx.now() + ms(5_000)),
            5 => Wait::Until(cx.now() + ms(10)),
            _ => Wait::Wake,
        })
    });
    // Withdrawn: the run ends at once, because nothing that is left can ever be resumed.
    world.turn_awake();
    world.scheduler.handle().wake(task);
    world.run();
    assert_eq!(world.script.elapsed(), ms(0));
    // A later one than the one that was thrown out.
    world.scheduler.handle().wake(task);
    world.run();
    assert_eq!(world.script.elapsed(), ms(2_000));
    // Replaced by a sooner one.
    world.scheduler.handle().wake(task);
    world.turn_awake();
    world.scheduler.handle().wake(task);
    world.run();
    assert_eq!(world.script.elapsed(), ms(2_010));
    let lines = lines_of(&world, "task");
    let expected = ["ready", "wake", "wake", "until", "wake", "wake", "until"];
    assert_eq!(lines, expected.map(|why| format!("task: {why}")));
}

#[test]
fn a_deadline_is_told_from_a_wake_and_from_a_turn() {
    let mut world = World::new();
    let task = world.spawn("task", |cx, n| {
        assert_eq!(cx.timed_out(), n == 1, "resume {n}: {}", cx.why());
        Ok(match n {
            0 | 2 => Wait::Until(cx.now() + ms(10)),
            1 => Wait::Turn,
            _ => Wait::Done,
        })
    });
    world.turns(2);
    world.turn_awake();
    world.scheduler.handle().wake(task);
    world.run();
    assert_eq!(
        world.trace.take(),
        ["task: ready", "task: until", "task: ready", "task: wake", "task ended: done", "task dropped"]
    );
}

#[test]
fn a_deadline_that_was_moved_back_is_kept_when_those_that_nobody_has_any_more_are_thrown_out() {
    let mut world = World::new();
    let patient = world.spawn("patient", |cx, n| {
        Ok(match n {
            0 => Wait::Until(cx.now() + ms(10)),
            1 => Wait::Until(cx.now() + ms(50)),
            _ => Wait::Done,
        })
    });
    // Each of its deadlines is sooner than the one before it, which is then nobody's.
    let restless = world.spawn("restless", |cx, n| Ok(Wait::Until(cx.now() + ms(5_000 - n as u64))));
    world.turn_awake();
    world.scheduler.handle().wake(patient);
    for _ in 0..1_000 {
        world.scheduler.handle().wake(restless);
        world.turn_awake();
    }
    world.scheduler.handle().cancel(restless);
    world.trace.take();
    world.run();
    assert_eq!(world.trace.take()[2..], ["patient: until", "patient ended: done", "patient dropped"]);
    assert_eq!(world.script.elapsed(), ms(50));
}

#[test]
fn what_was_done_before_the_run_does_not_count_as_slept() {
    let mut world = World::new();
    // As a program does that reads its files first, and between two runs.
    for _ in 0..2 {
        world.script.advance(ms(300));
        let start = world.script.elapsed();
        world.spawn("sleeper", |cx, n| Ok(if n == 0 { Wait::Until(cx.now() + ms(200)) } else { Wait::Done }));
        world.scheduler.run();
        assert_eq!(world.script.elapsed(), start + ms(200));
    }
}

#[test]
fn what_was_done_in_the_turn_before_does_not_count_as_slept_by_those_who_were_spawned_in_it() {
    let mut world = World::new();
    let (script, trace) = (world.script.clone(), world.trace.clone());
    world.spawn("parent", move |cx, n| {
        if n == 0 {
            return Ok(Wait::Turn);
        }
        cx.spawn(Scripted::new("child", &trace, |cx, n| {
            Ok(if n == 0 { Wait::Until(cx.now() + ms(100)) } else { Wait::Done })
        }));
        script.advance(ms(200));
        Ok(Wait::Done)
    });
    // Not turn by turn: from its second turn on a run leaves out the poll before new tasks.
    world.scheduler.run();
    assert_eq!(world.script.elapsed(), ms(300));
    assert_eq!(world.script.waits(), 2);
}

#[test]
fn deadlines_of_tasks_that_have_ended_wake_nobody() {
    let mut world = World::new();
    for fd in 0..50 {
        world.spawn("short", move |cx, n| {
            cx.or(Wait::Until(cx.now() + ms(10) * (fd + 1) as u32));
            Ok(if n > 0 { Wait::Done } else { Wait::Recv(fd) })
        });
        world.script.now(Happening::Ready(fd, Side::Recv));
    }
    world.spawn_neighbour();
    let waits = world.script.waits();
    world.settle();
    assert_eq!(world.script.waits(), waits + 1, "nothing is left to wait for but the neighbour's descriptor");
}
