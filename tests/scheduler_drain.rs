//! Draining: every task is told once, finishes what it has begun, and is let go at the deadline.

mod scripted;

use fdtask::poller::Happening;
use fdtask::{End, Handle, Observer, Side, Task, TaskId, Wait};
use scripted::{Scripted, Trace, World, lines_of, ms, shared, waits_in_turn};

#[test]
fn a_drain_tells_each_task_once_and_resumes_those_who_want_it_once() {
    let mut world = World::new();
    let waits: [(&str, Wait); 4] =
        [("receiver", Wait::Recv(3)), ("sender", Wait::Send(3)), ("asleep", Wait::Wake), ("busy", Wait::Turn)];
    for (name, wait) in waits {
        let task = Scripted::new(name, &world.trace, move |cx, _| {
            Ok(if cx.is_draining() && name != "busy" { Wait::Done } else { wait })
        });
        world.scheduler.spawn(task.on_drain(|| true));
    }
    world.turns(1);
    world.trace.take();
    let by = std::time::Instant::now() + ms(100_000);
    world.spawn("drainer", move |cx, n| {
        cx.drain(by);
        cx.drain(by);
        Ok(if n == 0 { Wait::Turn } else { Wait::Done })
    });
    world.turns(1);
    let mut lines = world.trace.take();
    lines.retain(|line| line.ends_with("drains"));
    assert_eq!(lines, ["receiver drains", "sender drains", "asleep drains", "busy drains", "drainer drains"]);
    world.turns(1);
    let mut lines = world.trace.take();
    assert!(!lines.iter().any(|line| line.ends_with("drains")), "somebody is told twice: {lines:?}");
    lines.retain(|line| line.contains(": ") && !line.contains("ended"));
    lines.sort();
    assert_eq!(lines, ["asleep: ready", "busy: ready", "drainer: ready", "receiver: ready", "sender: ready"]);
    world.turns(3);
    assert_eq!(world.table(), ["busy: ready"]);
    assert!(world.trace.take().iter().all(|line| !line.ends_with("drains")), "nobody is told twice");
    world.turn_awake();
    assert_eq!(world.script.watched(), []);
}

#[test]
fn a_task_that_says_no_to_a_drain_stays_in_its_wait_until_the_deadline_ends_it() {
    let mut world = World::new();
    let now = shared(None);
    let seen = now.clone();
    world.spawn("clock", move |cx, _| {
        seen.set(Some(cx.now()));
        Ok(Wait::Done)
    });
    world.spawn_waits("stubborn", [Wait::Recv(3), Wait::Recv(3), Wait::Recv(3)]);
    world.turns(1);
    world.trace.take();
    world.scheduler.handle().drain(now.get().expect("the clock ran") + ms(50));
    // It still serves what it waits for.
    world.script.after(ms(20), Happening::Ready(3, Side::Recv));
    world.script.after(ms(20), Happening::Signal);
    let script = world.script.clone();
    world.spawn("drains the descriptor", move |cx, n| {
        script.now(Happening::NotReady(3, Side::Recv));
        Ok(if n > 0 { Wait::Done } else { Wait::Until(cx.now() + ms(20)) })
    });
    world.run();
    assert_eq!(world.script.elapsed(), ms(50));
    let lines = lines_of(&world, "stubborn");
    assert_eq!(lines, ["stubborn drains", "stubborn: recv fd 3", "stubborn ended: cancelled", "stubborn dropped"]);
    world.assert_empty();
}

#[test]
fn a_drain_ends_a_run_as_soon_as_the_last_task_has_ended() {
    let mut world = World::new();
    let task =
        Scripted::new("quick", &world.trace, |cx, _| Ok(if cx.is_draining() { Wait::Done } else { Wait::Recv(3) }));
    world.scheduler.spawn(task.on_drain(|| true));
    let trace = world.trace.clone();
    world.scheduler.spawn_service(waits_in_turn("service", &trace, std::iter::repeat(Wait::Recv(4))));
    world.turns(1);
    world.scheduler.handle().drain(std::time::Instant::now() + ms(1_000_000));
    world.run();
    assert_eq!(world.script.elapsed(), ms(0));
    assert_eq!(world.table(), ["service: recv fd 4"]);
}

#[test]
fn services_have_a_turn_in_a_drain_that_the_last_task_begins_as_it_ends() {
    type Drains = fn(&Handle);
    let drains: Drains = |scheduler| scheduler.drain(std::time::Instant::now() + ms(1_000_000));
    // In its resume, and when it is dropped.
    for (says, is_dropped) in [(drains, |_: &Handle| ()), (|_: &Handle| (), drains)] as [(Drains, Drains); 2] {
        for is_obedient in [true, false] {
            let mut world = World::new();
            let service = Scripted::new("service", &world.trace, |cx, _| {
                Ok(if cx.is_draining() { Wait::Wake } else { Wait::Recv(4) })
            });
            world.scheduler.spawn_service(service.on_drain(move || is_obedient));
            let handle = world.scheduler.handle();
            let last = Scripted::new("last", &world.trace, move |cx, n| {
                if n == 0 {
                    return Ok(Wait::Turn);
                }
                says(&cx.handle());
                Ok(Wait::Done)
            });
            world.scheduler.spawn(last.on_drop(move || is_dropped(&handle)));
            world.run();
            let heard: &[&str] = if is_obedient { &["service drains", "service: ready"] } else { &["service drains"] };
            assert_eq!(lines_of(&world, "service")[1..], *heard);
            let waits = if is_obedient { "service: wake" } else { "service: recv fd 4" };
            assert_eq!(world.table(), [waits]);
            assert_eq!(world.script.elapsed(), ms(0), "nobody waits for the deadline");
            // And then the drain is over.
            world.spawn("next", |cx, _| {
                assert!(!cx.is_draining());
                Ok(Wait::Done)
            });
            world.run();
            assert_eq!(lines_of(&world, "next ended"), ["next ended: done"]);
        }
    }
}

#[test]
fn a_service_that_is_always_ready_keeps_neither_a_run_nor_a_drain_going() {
    for drains in [false, true] {
        let mut world = World::new();
        // It ends some time, so that this fails and does not go on for ever.
        let service = Scripted::new("service", &world.trace, |_, n| Ok(if n < 100 { Wait::Turn } else { Wait::Done }));
        world.scheduler.spawn_service(service);
        world.spawn("task", |_, _| Ok(Wait::Done));
        if drains {
            world.scheduler.handle().drain(std::time::Instant::now() + ms(1_000_000));
        }
        world.run();
        assert_eq!(world.table(), ["service: ready"]);
    }
}

#[test]
fn what_a_service_spawns_in_the_turn_that_it_has_in_a_drain_is_waited_for() {
    let mut world = World::new();
    let trace = world.trace.clone();
    let service = Scripted::new("service", &world.trace, move |cx, _| {
        if cx.is_draining() {
            cx.spawn(waits_in_turn("goodbye", &trace, [Wait::Until(cx.now() + ms(20))]));
        }
        Ok(Wait::Wake)
    });
    world.scheduler.spawn_service(service.on_drain(|| true));
    world.spawn("last", |cx, _| {
        cx.drain(cx.now() + ms(1_000));
        Ok(Wait::Done)
    });
    world.run();
    assert_eq!(lines_of(&world, "goodbye ended"), ["goodbye ended: done"]);
    assert_eq!(world.script.elapsed(), ms(20));
}

#[test]
fn saying_drain_again_can_only_make_its_deadline_earlier() {
    for (first, second, ends) in [(100, 30, 30), (30, 100, 30)] {
        let mut world = World::new();
        world.spawn("stubborn", move |cx, n| {
            // The second time it says it in a later turn.
            if n == 0 {
                cx.drain(cx.now() + ms(first));
                cx.drain(cx.now() + ms(200));
                return Ok(Wait::Turn);
            }
            if n == 1 {
                cx.drain(cx.now() + ms(second));
            }
            Ok(Wait::Recv(3))
        });
        world.run();
        assert_eq!(world.script.elapsed(), ms(ends));
        world.assert_empty();
    }
}

#[test]
fn a_drain_deadline_ends_tasks_that_never_stop_being_ready() {
    let mut world = World::new();
    let script = world.script.clone();
    world.spawn("busy", move |_, n| {
        assert!(n < 100, "the drain never ends");
        script.advance(ms(1));
        Ok(Wait::Turn)
    });
    world.spawn("drainer", |cx, _| {
        cx.drain(cx.now() + ms(10));
        Ok(Wait::Done)
    });
    world.run();
    let lines = lines_of(&world, "busy ended");
    assert_eq!(lines, ["busy ended: cancelled"]);
    world.assert_empty();
}

#[test]
fn who_is_spawned_during_a_drain_can_see_it_and_is_ended_with_the_others() {
    let mut world = World::new();
    let trace = world.trace.clone();
    world.spawn("parent", move |cx, n| {
        let trace = trace.clone();
        if n == 0 {
            cx.drain(cx.now() + ms(10));
            assert!(cx.is_draining(), "from the moment that it is said");
            return Ok(Wait::Turn);
        }
        cx.spawn(Scripted::new("child", &trace, |cx, _| {
            assert!(cx.is_draining());
            Ok(Wait::Recv(3))
        }));
        Ok(Wait::Done)
    });
    world.run();
    assert_eq!(lines_of(&world, "child"), ["child: ready", "child ended: cancelled", "child dropped"]);
    assert_eq!(world.script.elapsed(), ms(10));
}

#[test]
fn after_a_drain_a_scheduler_can_be_used_again() {
    for is_obedient in [true, false] {
        let mut world = World::new();
        let task =
            Scripted::new("task", &world.trace, |cx, _| Ok(if cx.is_draining() { Wait::Done } else { Wait::Recv(3) }));
        world.scheduler.spawn(task.on_drain(move || is_obedient));
        world.turns(1);
        world.scheduler.handle().drain(std::time::Instant::now() + ms(50));
        world.run();
        assert_eq!(world.table(), [""; 0]);
        // The next run is not part of that drain.
        let draining = shared(None);
        let seen = draining.clone();
        world.spawn("next", move |cx, n| {
            seen.set(Some(cx.is_draining()));
            Ok(if n == 0 { Wait::Until(cx.now() + ms(500_000)) } else { Wait::Done })
        });
        world.trace.take();
        world.run();
        assert_eq!(draining.get(), Some(false), "the drain is over: {is_obedient}");
        assert_eq!(world.trace.take()[1], "next: until");
    }
}

#[test]
fn what_a_task_says_while_it_is_told_of_a_drain_takes_effect_before_anybody_sleeps() {
    let mut world = World::new();
    let asleep = world.spawn_waits("asleep", [Wait::Wake]);
    let doomed = world.spawn_waits("doomed", [Wait::Wake]);
    let handle = world.scheduler.handle();
    let teller = Scripted::new("teller", &world.trace, |_, _| Ok(Wait::Recv(3)));
    world.scheduler.spawn(teller.on_drain(move || {
        handle.wake(asleep);
        handle.cancel(doomed);
        false
    }));
    world.turns(1);
    world.trace.take();
    world.scheduler.handle().drain(std::time::Instant::now() + ms(100_000));
    // One turn: nobody is ready when it begins, and nothing will ever fire.
    world.turns(1);
    let mut lines = world.trace.take();
    lines.retain(|line| !line.ends_with("drains"));
    assert_eq!(lines[..3], ["doomed ended: cancelled", "doomed dropped", "asleep: wake"]);
}

#[test]
fn what_an_observer_says_when_a_task_ends_takes_effect_before_anybody_sleeps() {
    struct Successor(Handle, Trace);

    impl Observer for Successor {
        fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, task: &dyn Task, _end: &End) {
            if task.name() == "first" {
                self.0.spawn(waits_in_turn("second", &self.1, [Wait::Wake]));
            }
        }
    }

    let mut world = World::new();
    world.scheduler.observe(Successor(world.scheduler.handle(), world.trace.clone()));
    let first = world.spawn_waits("first", [Wait::Recv(3)]);
    world.spawn_waits("other", [Wait::Recv(4)]);
    world.turns(1);
    world.trace.take();
    world.scheduler.handle().cancel(first);
    world.turns(1);
    assert_eq!(world.trace.take(), ["first dropped", "second: ready"]);
}

#[test]
fn what_is_spawned_when_the_deadline_of_a_drain_ends_somebody_does_not_keep_it_going() {
    let mut world = World::new();
    let (handle, trace) = (world.scheduler.handle(), world.trace.clone());
    let worker = Scripted::new("worker", &world.trace, |_, _| Ok(Wait::Recv(3)));
    world.scheduler.spawn(worker.on_drop(move || {
        handle.spawn(waits_in_turn("successor", &trace, std::iter::repeat(Wait::Recv(4))));
    }));
    world.spawn("drainer", |cx, _| {
        cx.drain(cx.now() + ms(10));
        Ok(Wait::Done)
    });
    world.run();
    assert_eq!(world.script.elapsed(), ms(10));
    assert_eq!(world.table(), ["successor: recv fd 4"]);
}

#[test]
fn what_is_spawned_when_a_drain_ends_those_who_could_wait_for_nothing_else_has_its_turn() {
    let mut world = World::new();
    let (handle, trace) = (world.scheduler.handle(), world.trace.clone());
    let asleep = Scripted::new("asleep", &world.trace, |_, _| Ok(Wait::Wake));
    world.scheduler.spawn(asleep.on_drop(move || handle.spawn(waits_in_turn("goodbye", &trace, []))));
    world.turns(1);
    world.trace.take();
    world.scheduler.handle().drain(std::time::Instant::now() + ms(100_000));
    world.run();
    assert_eq!(
        world.trace.take(),
        [
            "asleep drains",
            "asleep ended: cancelled",
            "asleep dropped",
            "goodbye: ready",
            "goodbye ended: done",
            "goodbye dropped"
        ]
    );
    assert_eq!(world.script.elapsed(), ms(0), "nobody waits for the deadline");
    world.assert_empty();
}

#[test]
fn a_stop_that_is_said_when_a_drain_ends_is_of_no_effect_on_the_next_run() {
    // A drain that nobody can wait for, and one whose deadline comes.
    for (wait, time) in [(Wait::Wake, 100_000), (Wait::Recv(3), 10)] {
        let mut world = World::new();
        let handle = world.scheduler.handle();
        let worker = Scripted::new("worker", &world.trace, move |_, _| Ok(wait));
        world.scheduler.spawn(worker.on_drop(move || handle.stop()));
        world.scheduler.handle().drain(std::time::Instant::now() + ms(time));
        world.run();
        world.trace.take();
        world.spawn_waits("next", [Wait::Turn, Wait::Turn]);
        world.run();
        assert_eq!(world.trace.take()[..2], ["next: ready", "next: ready"]);
        world.assert_empty();
    }
}

#[test]
fn who_is_told_of_a_drain_whose_time_is_over_has_a_turn_though_the_first_that_comes_is_stopped() {
    let mut world = World::new();
    world.spawn("stopper", |cx, n| {
        match n {
            1 => cx.drain(cx.now()),
            2 => cx.stop(),
            _ => {}
        }
        Ok(Wait::Turn)
    });
    let told = Scripted::new("told", &world.trace, |_, n| Ok(if n == 0 { Wait::Wake } else { Wait::Done }));
    world.scheduler.spawn(told.on_drain(|| true));
    for _ in ["until the stop", "until all have ended"] {
        world.run();
    }
    let lines = lines_of(&world, "told");
    assert_eq!(lines, ["told: ready", "told drains", "told: ready", "told ended: done", "told dropped"]);
    world.assert_empty();
}
