//! Tasks that panic: wherever that is, it ends the task alone, and nobody else's waits or memory. Row 18 of the faults.

mod scripted;

use fdtask::future::{self, JoinError};
use fdtask::poller::Happening;
use fdtask::{Context, End, Observer, Scheduler, Side, Task, TaskId, Wait, task_fn};
use futures_util::FutureExt;
use scripted::{Scripted, Trace, World, ms, shared};
use std::borrow::Cow;
use std::io;
use std::panic::panic_any;

/// Panics again when it is dropped as the value of a panic, and so does what it panics with.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic_any(Grenade);
    }
}

#[test]
fn a_panic_in_resume_ends_that_task_alone_and_what_it_said_is_told() {
    let panics: [(fn(), &str); 4] = [
        (|| panic!("a literal"), "a literal"),
        (|| panic!("formatted: {}", 7), "formatted: 7"),
        (|| panic_any(42), "a value that is no text"),
        (|| panic_any(Grenade), "a value that is no text"),
    ];
    let mut world = World::new();
    world.spawn_neighbour();
    for (panics, message) in panics {
        world.spawn("panics", move |_, _| {
            panics();
            Ok(Wait::Done)
        });
        world.turns(1);
        assert_eq!(
            world.trace.take(),
            ["panics: ready".to_owned(), format!("panics ended: panicked: {message}"), "panics dropped".to_owned()]
        );
    }
    world.assert_neighbour_is_well();
}

#[test]
fn a_panic_in_wait_failed_ends_that_task_alone() {
    let mut world = World::new();
    world.spawn_neighbour();
    let task =
        Scripted::new("panics", &world.trace, |_, _| Ok(Wait::Recv(-1))).on_wait_failed(|_, _| panic!("refused"));
    world.scheduler.spawn(task);
    world.settle();
    assert_eq!(world.trace.take()[2], "panics ended: panicked: refused");
    world.assert_neighbour_is_well();
}

#[test]
fn a_panic_in_drop_is_caught_however_the_task_has_ended() {
    let ends: [fn(&mut Context<'_>) -> io::Result<Wait>; 4] = [
        |_| Ok(Wait::Done),
        |_| Err(io::Error::other("an error")),
        |_| panic!("in resume"),
        |cx| {
            cx.cancel(cx.id());
            Ok(Wait::Recv(3))
        },
    ];
    let explodes: [fn(); 2] = [|| panic!("in drop"), || panic_any(Grenade)];
    for ends in ends {
        for (explodes, message) in explodes.into_iter().zip(["in drop", "a value that is no text"]) {
            let mut world = World::new();
            world.spawn_neighbour();
            let task = Scripted::new("panics", &world.trace, move |cx, _| ends(cx)).on_drop(explodes);
            world.scheduler.spawn(task);
            world.settle();
            let lines = world.trace.take();
            assert_eq!(lines.last(), Some(&format!("drop panicked: {message}")), "{lines:?}");
            world.assert_neighbour_is_well();
        }
    }
}

#[test]
fn everything_else_of_a_task_whose_drop_panics_is_dropped_and_closed() {
    struct Explosive {
        _explodes: OnDrop,
        _closed: OnDrop,
    }
    struct OnDrop(Box<dyn FnMut()>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    impl Task for Explosive {
        fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
            Ok(Wait::Done)
        }
    }
    let mut world = World::new();
    let closed = shared(false);
    let seen = closed.clone();
    world.scheduler.spawn(Explosive {
        _explodes: OnDrop(Box::new(|| panic!("the first field"))),
        _closed: OnDrop(Box::new(move || seen.set(true))),
    });
    world.run();
    assert!(closed.get());
    world.assert_empty();
}

#[test]
fn a_panic_in_drain_ends_that_task_alone() {
    let explodes: [fn() -> bool; 2] = [|| panic!("in drain"), || panic_any(Grenade)];
    for (explodes, message) in explodes.into_iter().zip(["in drain", "a value that is no text"]) {
        let mut world = World::new();
        let waits: [Wait; 3] = [Wait::Recv(3), Wait::Turn, Wait::Wake];
        for wait in waits {
            let task = Scripted::new("panics", &world.trace, move |_, _| Ok(wait)).on_drain(explodes);
            world.scheduler.spawn(task);
        }
        let other = Scripted::new("other", &world.trace, |_, n| Ok(if n == 0 { Wait::Recv(4) } else { Wait::Done }))
            .on_drain(|| true);
        world.scheduler.spawn(other);
        world.turns(1);
        world.trace.take();
        world.scheduler.handle().drain(std::time::Instant::now() + ms(1_000));
        world.run();
        let mut lines = world.trace.take();
        lines.retain(|line| line.contains("ended"));
        let panicked = format!("panics ended: panicked: {message}");
        assert_eq!(lines, [panicked.clone(), panicked.clone(), panicked, "other ended: done".to_owned()]);
        assert_eq!(world.script.elapsed(), ms(0), "the drain is over when the last has ended");
        world.assert_empty();
    }
}

/// A task that cannot say its own name, nor how far it is.
struct Nameless(fn());

impl Task for Nameless {
    fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
        Ok(Wait::Recv(3))
    }

    fn name(&self) -> Cow<'_, str> {
        (self.0)();
        Cow::Borrowed("unreachable")
    }

    fn progress(&self) -> Cow<'_, str> {
        (self.0)();
        Cow::Borrowed("unreachable")
    }
}

#[test]
fn a_panic_in_name_or_progress_harms_nobody_who_asks_for_the_table() {
    let explodes: [fn(); 2] = [|| panic!("in name"), || panic_any(Grenade)];
    for explodes in explodes {
        let mut scheduler = Scheduler::new();
        scheduler.spawn(Nameless(explodes));
        scheduler.spawn(task_fn("well", |_| Ok(Wait::Turn)));
        let names: Vec<String> = scheduler.tasks().into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["?", "well"]);
    }
}

#[test]
fn a_panic_in_the_name_that_an_observer_asks_for_ends_nobody_elses_task() {
    /// Asks every task for its name, as a log does.
    struct Log(Trace);
    impl Observer for Log {
        fn spawned(&mut self, _id: TaskId, _by: Option<TaskId>, task: &dyn Task) {
            self.0.add(format!("spawned {}", task.name()));
        }
        fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, task: &dyn Task, _end: &End) {
            self.0.add(format!("ended {}", task.name()));
        }
    }
    let mut world = World::new();
    world.scheduler.observe(Log(world.trace.clone()));
    world.spawn_neighbour();
    let nameless = world.scheduler.spawn(Nameless(|| panic!("in name")));
    world.spawn("spawner", |cx, _| {
        cx.spawn(Nameless(|| panic_any(Grenade)));
        Ok(Wait::Done)
    });
    world.turns(2);
    world.scheduler.handle().cancel(nameless);
    world.turns(1);
    let lines = world.trace.take();
    assert!(lines.contains(&"ended spawner".to_owned()), "{lines:?}");
    assert!(world.table().contains(&"neighbour: recv fd 99".to_owned()));
    world.fire(99, Side::Recv);
    assert_eq!(world.trace.take(), ["neighbour: recv fd 99"]);
}

#[test]
fn an_observer_that_panics_when_a_task_reports_something_does_not_end_that_task() {
    struct Strict;
    impl Observer for Strict {
        fn reported(&mut self, _id: TaskId, message: &str) {
            panic!("nobody may say {message}");
        }
    }
    let mut world = World::new();
    world.scheduler.observe(Strict);
    let trace = world.trace.clone();
    world.spawn("reporter", move |cx, _| {
        cx.report("anything");
        trace.add("goes on");
        Ok(Wait::Done)
    });
    world.run();
    assert_eq!(world.trace.take(), ["reporter: ready", "goes on", "reporter dropped"]);
}

#[test]
fn an_error_that_panics_when_it_is_dropped_ends_nobody_elses_task() {
    struct Explosive;
    impl std::fmt::Debug for Explosive {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("explosive")
        }
    }
    impl std::fmt::Display for Explosive {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("explosive")
        }
    }
    impl std::error::Error for Explosive {}
    impl Drop for Explosive {
        fn drop(&mut self) {
            panic!("the error panics");
        }
    }
    // The second task panics itself when it is dropped, which is before its error is.
    for task_panics in [false, true] {
        let mut world = World::new();
        world.spawn_neighbour();
        let task = Scripted::new("fails", &world.trace, |_, _| Err(io::Error::other(Explosive)));
        world.scheduler.spawn(task.on_drop(move || assert!(!task_panics, "the task panics")));
        world.settle();
        let mut told = vec!["fails: ready", "fails ended: explosive", "fails dropped"];
        told.extend(task_panics.then_some("drop panicked: the task panics"));
        told.push("drop panicked: the error panics");
        assert_eq!(world.trace.take(), told);
        world.assert_neighbour_is_well();
    }
}

#[test]
fn a_panic_leaves_the_lent_memory_and_the_waits_of_others_as_they_are() {
    let mut world = World::new();
    world.spawn_neighbour();
    for round in 0..100_u8 {
        world.spawn("panics", move |cx, n| {
            cx.scratch().fill(round);
            assert!(n == 0, "the second time");
            cx.or(Wait::Until(cx.now() + ms(1)));
            Ok(Wait::Recv(4))
        });
        world.turns(1);
        world.script.now(Happening::Ready(4, Side::Recv));
        world.turns(2);
        world.script.now(Happening::NotReady(4, Side::Recv));
    }
    let panics = world.trace.take().into_iter().filter(|line| line.contains("panicked")).count();
    assert_eq!(panics, 100);
    world.settle();
    world.assert_neighbour_is_well();
}

#[test]
fn a_promise_is_broken_by_a_panic_if_that_has_dropped_it_and_not_if_the_task_has_it_in_a_field() {
    let mut scheduler = Scheduler::new();
    let (promise, of_a_future) = future::promise::<u32>();
    scheduler.spawn(future::task(async move {
        let _promise = promise;
        panic!("ouch");
    }));
    let (promise, of_a_hand_written_task) = future::promise::<u32>();
    scheduler.spawn(task_fn("hand-written", move |_| {
        let _promise = &promise;
        panic!("ouch");
    }));
    scheduler.run();
    assert_eq!(of_a_future.now_or_never(), Some(Err(JoinError::Panicked)));
    assert_eq!(of_a_hand_written_task.now_or_never(), Some(Err(JoinError::Cancelled)));
}
