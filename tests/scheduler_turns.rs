//! Turns: who is resumed when, in which order, and when a run is over. Rows 11 and 37 of the faults.

mod scripted;

use fdtask::poller::Happening;
use fdtask::{Side, Wait};
use scripted::{Scripted, World, ms, shared};
use std::io;

#[test]
fn an_empty_scheduler_returns_at_once() {
    let mut world = World::new();
    world.run();
    assert!(!world.scheduler.turn());
    world.run();
    assert_eq!(world.script.waits(), 0, "nothing was polled for");
}

#[test]
fn a_turn_resumes_each_ready_task_once_in_the_order_in_which_they_became_ready() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.spawn_waits(name, [Wait::Turn, Wait::Turn]);
    }
    for _ in 0..2 {
        world.scheduler.turn();
        assert_eq!(world.trace.take(), ["a: ready", "b: ready", "c: ready"]);
    }
    assert!(!world.scheduler.turn(), "nothing is left to do");
    assert_eq!(
        world.trace.take(),
        [
            "a: ready",
            "a ended: done",
            "a dropped",
            "b: ready",
            "b ended: done",
            "b dropped",
            "c: ready",
            "c ended: done",
            "c dropped"
        ]
    );
}

#[test]
fn what_is_spawned_or_woken_in_a_turn_runs_in_the_next() {
    let mut world = World::new();
    let sleeper = world.spawn_waits("sleeper", [Wait::Wake]);
    let trace = world.trace.clone();
    world.spawn("parent", move |cx, n| {
        let trace = trace.clone();
        if n == 0 {
            return Ok(Wait::Turn);
        }
        cx.spawn(Scripted::new("child", &trace, |_, _| Ok(Wait::Done)));
        cx.wake(sleeper);
        trace.add("parent returns");
        Ok(Wait::Done)
    });
    world.turns(2);
    assert_eq!(
        world.trace.take(),
        ["sleeper: ready", "parent: ready", "parent: ready", "parent returns", "parent ended: done", "parent dropped"]
    );
    world.turns(1);
    assert_eq!(
        world.trace.take(),
        [
            "child: ready",
            "child ended: done",
            "child dropped",
            "sleeper: wake",
            "sleeper ended: done",
            "sleeper dropped"
        ]
    );
}

#[test]
fn a_task_that_fires_runs_within_one_turn_however_many_successors_another_spawns() {
    // Row 11: a task that spawns its successor each time, for ever.
    fn successor(world_trace: &scripted::Trace, generation: usize) -> impl fdtask::Task + 'static {
        let trace = world_trace.clone();
        Scripted::new("successor", world_trace, move |cx, _| {
            assert!(generation < 500, "the task that waits for the descriptor is starved");
            cx.spawn(successor(&trace, generation + 1));
            Ok(Wait::Done)
        })
    }
    let mut world = World::new();
    let served = shared(false);
    let seen = served.clone();
    world.spawn("io", move |_, n| {
        seen.set(n > 0);
        Ok(if n > 0 { Wait::Done } else { Wait::Recv(7) })
    });
    let trace = world.trace.clone();
    world.scheduler.spawn(successor(&trace, 0));
    world.turns(10);
    world.trace.take();
    world.script.now(Happening::Ready(7, Side::Recv));
    world.turns(2);
    assert!(served.get(), "one turn to see it, and it runs in the next");
    let lines = world.trace.take();
    assert_eq!(lines.iter().filter(|line| *line == "successor: ready").count(), 2, "{lines:?}");
}

#[test]
fn a_deadline_passes_however_busy_the_others_are() {
    let mut world = World::new();
    let script = world.script.clone();
    world.spawn("busy", move |_, _| {
        script.advance(ms(1));
        Ok(Wait::Turn)
    });
    world.spawn("sleeper", |cx, n| Ok(if n > 0 { Wait::Done } else { Wait::Until(cx.now() + ms(5)) }));
    world.turns(7);
    assert_eq!(world.trace.take().iter().filter(|line| *line == "sleeper: until").count(), 1);
}

#[test]
fn the_time_does_not_move_within_a_turn() {
    let mut world = World::new();
    let times = shared([None; 4]);
    for index in 0..2 {
        let (script, times) = (world.script.clone(), times.clone());
        world.spawn("clock", move |cx, n| {
            let mut all = times.get();
            all[n * 2 + index] = Some(cx.now());
            times.set(all);
            script.advance(ms(3));
            Ok(if n == 1 { Wait::Done } else { Wait::Turn })
        });
    }
    world.run();
    let [first, second, third, fourth] = times.get().map(|time| time.expect("each was resumed twice"));
    assert_eq!(first, second);
    assert_eq!(third - first, ms(6));
    assert_eq!(third, fourth);
}

#[test]
fn a_scheduler_with_something_ready_looks_and_does_not_sleep() {
    let mut world = World::new();
    world.spawn_waits("busy", [Wait::Turn; 5]);
    world.spawn("sleeper", |cx, n| Ok(if n > 0 { Wait::Done } else { Wait::Until(cx.now() + ms(1_000)) }));
    world.turns(5);
    assert_eq!(world.script.elapsed(), ms(0), "five turns with something ready took no time");
    world.run();
    assert_eq!(world.script.elapsed(), ms(1_000), "the last one slept until the deadline");
    assert_eq!(world.script.waits(), 6, "one poll a turn, and none after the last task has ended");
}

#[test]
fn a_run_ends_when_nothing_can_ever_be_resumed_again() {
    let mut world = World::new();
    world.spawn_waits("for ever asleep", [Wait::Wake]);
    world.run();
    assert_eq!(world.table(), ["for ever asleep: wake"]);
    // From outside somebody may still wake it.
    let task = world.scheduler.tasks()[0].id;
    world.scheduler.handle().wake(task);
    world.run();
    world.assert_empty();
    assert_eq!(world.trace.take().last().map(String::as_str), Some("for ever asleep dropped"));
}

#[test]
fn a_run_does_not_end_while_somebody_waits_for_a_descriptor_or_a_deadline() {
    let mut world = World::new();
    world.spawn_waits("io", [Wait::Recv(3)]);
    world.script.after(ms(50), Happening::Ready(3, Side::Recv));
    world.spawn("sleeper", |cx, n| Ok(if n > 0 { Wait::Done } else { Wait::Until(cx.now() + ms(80)) }));
    world.run();
    assert_eq!(world.script.elapsed(), ms(80));
    world.assert_empty();
}

#[test]
fn services_do_not_keep_a_run_going() {
    let mut world = World::new();
    let service = |world: &World, name, fd| {
        let script = world.script.clone();
        Scripted::new(name, &world.trace, move |_, _| {
            script.now(Happening::NotReady(fd, Side::Recv));
            Ok(Wait::Recv(fd))
        })
    };
    let (first, second) = (service(&world, "service", 4), service(&world, "second service", 5));
    world.scheduler.spawn_service(first);
    let mut second = Some(second);
    world.spawn("task", move |cx, n| {
        second.take().map(|second| cx.spawn_service(second));
        Ok(if n == 0 { Wait::Until(cx.now() + ms(10)) } else { Wait::Done })
    });
    world.script.after(ms(5), Happening::Ready(4, Side::Recv));
    world.script.after(ms(6), Happening::Ready(5, Side::Recv));
    world.script.after(ms(11), Happening::Ready(5, Side::Recv));
    world.run();
    assert_eq!(world.script.elapsed(), ms(10), "the run ends with the task");
    assert_eq!(world.table(), ["service: recv fd 4", "second service: recv fd 5"], "the services stay as they are");
    assert_eq!(
        world.trace.take(),
        [
            "service: ready",
            "task: ready",
            "second service: ready",
            "service: recv fd 4",
            "second service: recv fd 5",
            "task: until",
            "task ended: done",
            "task dropped"
        ],
        "a service runs like any other task"
    );
    let trace = world.trace.clone();
    drop(world);
    let mut lines = trace.take();
    lines.sort();
    assert_eq!(
        lines,
        ["second service dropped", "second service ended: cancelled", "service dropped", "service ended: cancelled"]
    );
}

#[test]
fn stop_in_a_resume_ends_the_run_before_another_task_is_resumed_and_nothing_is_lost() {
    let mut world = World::new();
    world.spawn_waits("before", [Wait::Turn]);
    world.spawn("stopper", |cx, n| {
        if n == 0 {
            cx.stop();
        }
        Ok(if n == 0 { Wait::Turn } else { Wait::Done })
    });
    world.spawn_waits("after", [Wait::Turn]);
    world.run();
    assert_eq!(world.trace.take(), ["before: ready", "stopper: ready"]);
    assert_eq!(world.script.waits(), 1, "and after it has looked");
    world.run();
    let resumes: Vec<String> = world.trace.take().into_iter().filter(|line| line.contains(": ready")).collect();
    assert_eq!(resumes, ["after: ready", "before: ready", "stopper: ready", "after: ready"]);
    world.assert_empty();
}

#[test]
fn stop_from_outside_ends_the_next_turn_and_only_that() {
    let mut world = World::new();
    world.spawn_waits("task", [Wait::Turn]);
    world.scheduler.handle().stop();
    assert!(!world.scheduler.turn());
    assert_eq!(world.trace.take(), [""; 0], "nobody was resumed");
    world.run();
    assert_eq!(world.trace.take(), ["task: ready", "task: ready", "task ended: done", "task dropped"]);
    world.assert_empty();
}

#[test]
fn stop_loses_no_wake_of_a_descriptor_that_has_fired() {
    let mut world = World::new();
    for (name, fd) in [("a", 3), ("b", 4), ("c", 5)] {
        world.spawn_waits(name, [Wait::Recv(fd)]);
    }
    world.spawn("stopper", |cx, n| {
        if n == 1 {
            cx.stop();
        }
        Ok(if n == 0 { Wait::Recv(2) } else { Wait::Done })
    });
    world.turns(1);
    for fd in 2..=5 {
        world.script.now(Happening::Ready(fd, Side::Recv));
    }
    world.turns(1);
    world.trace.take();
    world.run();
    let stopped = world.trace.take();
    // They fired once each and are resumed once each, before the stop or after it.
    for fd in 2..=5 {
        world.script.now(Happening::NotReady(fd, Side::Recv));
    }
    world.run();
    let mut resumes: Vec<String> =
        stopped.into_iter().chain(world.trace.take()).filter(|line| line.contains(": recv")).collect();
    resumes.sort();
    assert_eq!(resumes, ["a: recv fd 3", "b: recv fd 4", "c: recv fd 5", "stopper: recv fd 2"]);
    world.assert_empty();
}

#[test]
fn who_stops_every_run_keeps_nobody_from_a_descriptor_or_a_deadline() {
    for takes_turns in [true, false] {
        let mut world = World::new();
        world.spawn("receiver", |_, n| Ok(if n < 2 { Wait::Recv(7) } else { Wait::Done }));
        world.spawn("sleeper", |cx, n| Ok(if n == 0 { Wait::Until(cx.now() + ms(1)) } else { Wait::Done }));
        // While one of two has its turn, the other is left for the next.
        for name in ["stopper", "other stopper"] {
            world.spawn(name, |cx, _| {
                cx.stop();
                Ok(Wait::Turn)
            });
        }
        world.script.now(Happening::Ready(7, Side::Recv));
        for _ in 0..10 {
            world.script.advance(ms(1));
            if takes_turns {
                world.scheduler.turn();
            } else {
                world.scheduler.run();
            }
        }
        let lines = world.trace.take();
        for line in ["receiver ended: done", "sleeper ended: done"] {
            assert!(lines.iter().any(|told| told == line), "{lines:?}");
        }
        assert_eq!(world.table(), ["stopper: ready", "other stopper: ready"]);
    }
}

#[test]
fn a_task_that_spawns_and_cancels_its_child_at_once_never_sees_it_run() {
    let mut world = World::new();
    let trace = world.trace.clone();
    world.spawn("parent", move |cx, _| {
        let child = cx.spawn(Scripted::new("child", &trace, |_, _| Err(io::Error::other("it runs"))));
        cx.cancel(child);
        Ok(Wait::Done)
    });
    world.run();
    assert_eq!(
        world.trace.take(),
        ["parent: ready", "parent ended: done", "parent dropped", "child ended: cancelled", "child dropped"]
    );
    world.assert_empty();
}

#[test]
fn a_slot_that_is_used_again_does_not_confuse_two_tasks() {
    let mut world = World::new();
    let first = world.spawn_waits("first", [Wait::Turn]);
    world.run();
    let second = world.spawn_waits("second", [Wait::Wake]);
    assert_ne!(first, second);
    world.turns(1);
    world.trace.take();
    // What is said to the first, which has ended, does not reach the second, which has its slot.
    world.scheduler.handle().wake(first);
    world.scheduler.handle().cancel(first);
    world.run();
    assert_eq!(world.table(), ["second: wake"]);
    assert_eq!(world.trace.take(), [""; 0]);
}

#[test]
fn a_poll_that_fails_is_told_and_tried_again() {
    let mut world = World::new();
    world.spawn_waits("io", [Wait::Recv(3)]);
    for _ in 0..3 {
        world.script.fail_next_wait(io::ErrorKind::OutOfMemory);
    }
    world.script.now(Happening::Ready(3, Side::Recv));
    world.run();
    assert_eq!(
        world.trace.take(),
        [
            "io: ready",
            "poll failed: out of memory",
            "poll failed: out of memory",
            "poll failed: out of memory",
            "io: recv fd 3",
            "io ended: done",
            "io dropped"
        ]
    );
}

#[test]
fn a_turn_that_is_taken_by_hand_begins_with_the_time_at_which_it_does() {
    // What passes between two turns is no part of anybody's deadline.
    let mut world = World::new();
    let start = world.scheduler.handle().now();
    let seen = shared(start);
    let now = seen.clone();
    world.spawn("task", move |cx, _| {
        now.set(cx.now());
        Ok(Wait::Turn)
    });
    for turn in 1..=3 {
        world.script.advance(ms(200));
        world.turns(1);
        assert_eq!(seen.get() - start, ms(200) * turn);
    }
}
