//! What can be said to a scheduler while it runs: wake and cancel; from the task itself, from another, from outside.

#[path = "common/limited.rs"]
mod limited;
mod scripted;

use fdtask::poller::Happening;
use fdtask::{Observer, Side, TaskId, Wait};
use limited::within_limit;
use scripted::{Scripted, Trace, World, lines_of, ms, shared};
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// A task that does something once, when it is woken, to the task in the cell.
fn speaker(
    world: &mut World,
    says: impl Fn(&mut fdtask::Context<'_>, TaskId) + 'static,
) -> (TaskId, Rc<Cell<Option<TaskId>>>) {
    let to = shared(None);
    let listener = to.clone();
    let id = world.spawn("speaker", move |cx, n| {
        if n > 0 {
            says(cx, listener.get().expect("the test has said to whom"));
        }
        Ok(Wait::Wake)
    });
    (id, to)
}

#[test]
fn a_wake_resumes_a_task_whatever_it_waits_for_and_withdraws_that() {
    within_limit(|| {
        let waits: [fn(&mut fdtask::Context<'_>) -> Wait; 5] = [
            |_| Wait::Wake,
            |_| Wait::Recv(3),
            |_| Wait::Send(3),
            |cx| Wait::Until(cx.now() + ms(10)),
            |cx| {
                cx.or(Wait::Send(4));
                cx.or(Wait::Until(cx.now() + ms(10)));
                Wait::Recv(3)
            },
        ];
        for waits in waits {
            let mut world = World::new();
            let sleeper = world.spawn("sleeper", move |cx, n| {
                if n == 0 {
                    return Ok(waits(cx));
                }
                assert!(!cx.timed_out());
                Ok(Wait::Wake)
            });
            let (speaker, to) = speaker(&mut world, |cx, to| cx.wake(to));
            to.set(Some(sleeper));
            // Keeps the turns from sleeping.
            world.spawn_waits("busy", [Wait::Turn; 4]);
            world.turns(1);
            world.scheduler.handle().wake(speaker);
            world.turns(3);
            assert_eq!(lines_of(&world, "sleeper"), ["sleeper: ready", "sleeper: wake"]);
            world.settle();
            assert_eq!(world.trace.take().iter().filter(|line| line.starts_with("sleeper")).count(), 0);
            world.turn_awake();
            assert_eq!(world.script.watched(), []);
        }
    });
}

#[test]
fn a_task_that_is_woken_in_every_turn_hears_of_what_it_waits_for_and_one_that_always_fires_is_woken() {
    within_limit(|| {
        let waits: [fn(&mut fdtask::Context<'_>) -> Wait; 5] = [
            |_| Wait::Recv(3),
            |cx| {
                cx.or(Wait::Send(3));
                Wait::Recv(4)
            },
            |cx| {
                cx.or(Wait::Recv(3));
                Wait::Wake
            },
            |cx| Wait::Until(cx.now()),
            |cx| {
                cx.or(Wait::Until(cx.now()));
                Wait::Wake
            },
        ];
        for waits in waits {
            let mut world = World::new();
            let (woken, fired) = (shared(0), shared(0));
            let (by_wake, by_wait) = (woken.clone(), fired.clone());
            let sleeper = world.spawn("sleeper", move |cx, n| {
                let count = if cx.why() == Wait::Wake { &by_wake } else { &by_wait };
                count.set(count.get() + usize::from(n > 0));
                Ok(waits(cx))
            });
            // Behind the sleeper in each turn, because a deadline that has passed is looked at last.
            world.spawn("waker", move |cx, _| {
                cx.wake(sleeper);
                Ok(Wait::Until(cx.now()))
            });
            world.turns(10);
            for side in [Side::Recv, Side::Send] {
                world.script.now(Happening::Ready(3, side));
            }
            world.turns(20);
            assert!(woken.get() >= 10, "woken {} times", woken.get());
            assert!(fired.get() >= 5, "it has fired {} times", fired.get());
        }
    });
}

#[test]
fn a_task_that_is_ready_anyway_is_resumed_once_however_often_it_is_woken() {
    within_limit(|| {
        let mut world = World::new();
        let task = world.spawn_waits("task", [Wait::Turn, Wait::Wake]);
        for _ in 0..3 {
            world.scheduler.handle().wake(task);
        }
        world.turns(1);
        for _ in 0..3 {
            world.scheduler.handle().wake(task);
        }
        world.settle();
        assert_eq!(lines_of(&world, "task"), ["task: ready", "task: ready"]);
        for _ in 0..3 {
            world.scheduler.handle().wake(task);
        }
        world.settle();
        assert_eq!(lines_of(&world, "task"), ["task: wake", "task ended: done", "task dropped"]);
    });
}

#[test]
fn a_task_that_wakes_itself_is_resumed_in_the_next_turn() {
    within_limit(|| {
        let mut world = World::new();
        world.spawn("task", |cx, n| {
            cx.wake(cx.id());
            Ok(if n < 3 { Wait::Recv(3) } else { Wait::Done })
        });
        world.run();
        assert_eq!(
            world.trace.take(),
            ["task: ready", "task: wake", "task: wake", "task: wake", "task ended: done", "task dropped"]
        );
        assert_eq!(world.script.elapsed(), ms(0));
        world.assert_empty();
    });
}

#[test]
fn a_wake_that_is_said_while_the_other_is_ready_or_gone_is_not_kept_for_later() {
    within_limit(|| {
        let mut world = World::new();
        let task = world.spawn_waits("task", [Wait::Recv(3), Wait::Wake]);
        world.turns(1);
        world.script.now(Happening::Ready(3, Side::Recv));
        world.turns(1);
        // It is ready because it fired; the wake finds it so.
        world.scheduler.handle().wake(task);
        world.settle();
        assert_eq!(world.trace.take(), ["task: ready", "task: recv fd 3"]);
        world.scheduler.handle().cancel(task);
        world.scheduler.handle().wake(task);
        world.settle();
        assert_eq!(world.trace.take(), ["task ended: cancelled", "task dropped"]);
    });
}

#[test]
fn a_cancelled_task_is_withdrawn_and_dropped_wherever_it_is() {
    within_limit(|| {
        let places: [fn(&mut fdtask::Context<'_>) -> Wait; 6] = [
            |_| Wait::Turn,
            |_| Wait::Wake,
            |_| Wait::Recv(3),
            |_| Wait::Send(3),
            |cx| Wait::Until(cx.now() + ms(10)),
            |cx| {
                cx.or(Wait::Until(cx.now() + ms(10)));
                cx.or(Wait::Send(4));
                Wait::Recv(3)
            },
        ];
        for place in places {
            for from_another in [false, true] {
                let mut world = World::new();
                let (speaker, to) = speaker(&mut world, |cx, to| {
                    cx.cancel(to);
                    cx.cancel(to);
                });
                let victim = world.spawn("victim", move |cx, _| Ok(place(cx)));
                world.spawn_waits("busy", [Wait::Turn; 4]);
                to.set(Some(victim));
                world.turns(1);
                world.trace.take();
                if from_another {
                    world.scheduler.handle().wake(speaker);
                } else {
                    world.scheduler.handle().cancel(victim);
                }
                world.turns(2);
                let mut lines = lines_of(&world, "victim");
                // A task that is always ready may come before the speaker in the deque.
                lines.retain(|line| line != "victim: ready");
                assert_eq!(lines, ["victim ended: cancelled", "victim dropped"]);
                world.settle();
                assert_eq!(world.table(), ["speaker: wake"]);
                assert_eq!(lines_of(&world, "victim"), [""; 0]);
                world.turn_awake();
                assert_eq!(world.script.watched(), []);
            }
        }
    });
}

#[test]
fn a_task_that_fired_and_is_cancelled_before_its_turn_is_not_resumed() {
    within_limit(|| {
        let mut world = World::new();
        // Both have fired; whoever is the first in the deque cancels the other.
        let ids = [shared(None), shared(None)];
        for (index, name, fd) in [(0, "one", 3), (1, "two", 4)] {
            let other = ids[1 - index].clone();
            let id = world.spawn(name, move |cx, n| {
                other.get().filter(|_| n > 0).into_iter().for_each(|other| cx.cancel(other));
                Ok(Wait::Recv(fd))
            });
            ids[index].set(Some(id));
        }
        world.turns(1);
        world.trace.take();
        world.script.now(Happening::Ready(3, Side::Recv));
        world.script.now(Happening::Ready(4, Side::Recv));
        world.turns(2);
        let lines = world.trace.take();
        let (first, second, fd) = if lines[0].starts_with("one") { ("one", "two", 3) } else { ("two", "one", 4) };
        assert_eq!(
            lines,
            [format!("{first}: recv fd {fd}"), format!("{second} ended: cancelled"), format!("{second} dropped")]
        );
        assert_eq!(world.script.watched(), [(fd, Side::Recv)]);
    });
}

#[test]
fn a_task_that_cancels_itself_ends_whatever_it_returns() {
    within_limit(|| {
        let returns: [fn() -> io::Result<Wait>; 4] =
            [|| Ok(Wait::Recv(3)), || Ok(Wait::Turn), || Ok(Wait::Wake), || Ok(Wait::Recv(-1))];
        for returns in returns {
            let mut world = World::new();
            world.spawn("task", move |cx, _| {
                cx.cancel(cx.id());
                returns()
            });
            world.run();
            assert_eq!(world.trace.take(), ["task: ready", "task ended: cancelled", "task dropped"]);
            world.assert_empty();
        }
        // Unless it has ended already by what it returned: it ends once.
        let mut world = World::new();
        world.spawn("done", |cx, _| {
            cx.cancel(cx.id());
            Ok(Wait::Done)
        });
        world.run();
        assert_eq!(world.trace.take(), ["done: ready", "done ended: done", "done dropped"]);
    });
}

#[test]
fn a_task_that_is_cancelled_while_it_is_dropped_or_cancels_others_then_ends_once() {
    within_limit(|| {
        let mut world = World::new();
        let handle = world.scheduler.handle();
        let ids = Rc::new(Cell::new([None; 3]));
        let mut spawned = [None; 3];
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            let (handle, ids) = (handle.clone(), ids.clone());
            // Each cancels all three when it is dropped.
            let task = Scripted::new(name, &world.trace, |_, _| Ok(Wait::Wake))
                .on_drop(move || ids.get().into_iter().flatten().for_each(|id| handle.cancel(id)));
            spawned[index] = Some(world.scheduler.spawn(task));
        }
        ids.set(spawned);
        world.turns(1);
        world.trace.take();
        spawned[1].into_iter().for_each(|id| handle.cancel(id));
        world.run();
        assert_eq!(
            world.trace.take(),
            ["b ended: cancelled", "b dropped", "a ended: cancelled", "a dropped", "c ended: cancelled", "c dropped"]
        );
        world.assert_empty();
    });
}

#[test]
fn what_a_cancelled_task_owned_is_closed_before_anybody_else_is_resumed() {
    within_limit(|| {
        let mut world = World::new();
        let (reader, writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("a pipe can be non-blocking");
        let descriptor = world.scheduler.adopt(writer);
        let victim = world.spawn("victim", move |_, _| {
            let _owned = &descriptor;
            Ok(Wait::Wake)
        });
        world.spawn("canceller", move |cx, _| {
            cx.cancel(victim);
            Ok(Wait::Done)
        });
        let end_of_stream = shared(false);
        let seen = end_of_stream.clone();
        world.spawn("next", move |_, _| {
            seen.set((&reader).read(&mut [0]).is_ok_and(|received| received == 0));
            Ok(Wait::Done)
        });
        world.run();
        assert!(end_of_stream.get());
        world.assert_empty();
    });
}

#[test]
fn a_task_that_is_spawned_on_a_scheduler_that_is_gone_is_dropped_there_and_then() {
    let world = World::new();
    let handle = world.scheduler.handle();
    let trace = world.trace.clone();
    drop(world);
    // It may hold the way to the scheduler, which must not keep it.
    let own = handle.clone();
    handle.spawn(Scripted::new("task", &trace, |_, _| Ok(Wait::Done)).on_drop(move || drop(own.clone())));
    handle.spawn_service(Scripted::new("service", &trace, |_, _| Ok(Wait::Done)));
    assert_eq!(trace.take(), ["task dropped", "service dropped"]);
}

#[test]
fn an_observer_that_traces_is_told_of_every_resume_and_every_wait_and_no_other_is() {
    struct Tracing(bool, Trace);

    impl Observer for Tracing {
        fn is_tracing(&self) -> bool {
            self.0
        }

        fn resumed(&mut self, id: TaskId, why: Wait) {
            self.1.add(format!("{id} resumed: {why}"));
        }

        fn waiting(&mut self, id: TaskId, wait: Wait) {
            self.1.add(format!("{id} waits: {wait}"));
        }
    }

    for is_tracing in [true, false] {
        let mut world = World::new();
        let trace = Trace::default();
        world.scheduler.observe(Tracing(is_tracing, trace.clone()));
        let id = world.spawn_waits("task", [Wait::Recv(7), Wait::Recv(7), Wait::Recv(7), Wait::Send(7)]);
        world.turns(1);
        world.fire(7, Side::Recv);
        world.fire(7, Side::Recv);
        world.fire(7, Side::Recv);
        let one = |why: &str, wait: &str| [format!("{id} resumed: {why}"), format!("{id} waits: {wait}")];
        let told = [
            one("ready", "recv fd 7"),
            one("recv fd 7", "recv fd 7"),
            one("recv fd 7", "recv fd 7"),
            one("recv fd 7", "send fd 7"),
        ];
        let told = if is_tracing { told.concat() } else { Vec::new() };
        assert_eq!(trace.take(), told, "is tracing: {is_tracing}");
    }
}
