//! Turns that are taken by hand, runs that are stopped, and polls that are left out: nobody is the worse for any of them.

mod scripted;

use fdtask::poller::Happening;
use fdtask::{Side, Wait, task_fn};
use scripted::{World, ms};

#[test]
fn a_turn_that_is_taken_by_hand_ends_with_a_poll_though_only_new_tasks_are_ready() {
    let mut world = World::new();
    for turn in 1..=4 {
        world.scheduler.spawn(task_fn("parent", |cx| {
            cx.spawn(task_fn("child", |_| Ok(Wait::Done)));
            Ok(Wait::Done)
        }));
        world.turns(1);
        assert_eq!(world.script.waits(), turn);
    }
}

#[test]
fn who_is_woken_between_two_turns_is_resumed_in_the_next_each_time_and_whatever_it_waits_for() {
    for wait in [Wait::Recv(3), Wait::Until(std::time::Instant::now() + ms(1_000_000)), Wait::Wake] {
        let mut world = World::new();
        let task = world.spawn("task", move |_, _| Ok(wait));
        world.scheduler.spawn(task_fn("busy, so that nobody sleeps", |_| Ok(Wait::Turn)));
        world.turns(1);
        world.trace.take();
        for _ in 0..4 {
            world.scheduler.handle().wake(task);
            world.turns(1);
            assert_eq!(scripted::lines_of(&world, "task"), ["task: wake"], "{wait}");
        }
    }
}

#[test]
fn what_is_closed_while_its_task_is_ready_and_cannot_have_its_turn_is_not_watched_for_ever() {
    let mut world = World::new();
    for (name, stops_at) in [("stopper", 1), ("other stopper", 1)] {
        world.spawn(name, move |cx, n| {
            (n == stops_at).then(|| cx.stop());
            Ok(Wait::Turn)
        });
    }
    world.spawn("task", |_, n| Ok(if n == 0 { Wait::Recv(3) } else { Wait::Done }));
    world.script.now(Happening::Ready(3, Side::Recv));
    world.turns(1);
    // Each of these turns ends with the first task of it. The poll of the second finds that the number is not open.
    world.turns(1);
    world.script.now(Happening::Closed(3));
    world.turns(1);
    assert_eq!(world.table()[2], "task: ready");
    world.turns(1);
    assert_eq!(world.script.watched(), []);
}

#[test]
fn what_has_fired_is_not_timed_out_because_a_new_task_runs_before_the_poller_is_asked() {
    let mut world = World::new();
    world.spawn("patient", |cx, n| {
        cx.or(Wait::Until(cx.now() + ms(10)));
        Ok(if n > 0 { Wait::Done } else { Wait::Recv(3) })
    });
    let (script, handle) = (world.script.clone(), world.scheduler.handle());
    world.spawn("parent", move |_, n| {
        if n == 0 {
            // The first turn of a run always ends with a poll.
            return Ok(Wait::Turn);
        }
        script.advance(ms(11));
        script.now(Happening::Ready(3, Side::Recv));
        handle.spawn(task_fn("child", |_| Ok(Wait::Done)));
        Ok(Wait::Done)
    });
    world.scheduler.run();
    assert_eq!(scripted::lines_of(&world, "patient: "), ["patient: ready", "patient: recv fd 3"]);
}
