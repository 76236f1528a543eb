//! How tasks end: by value, by error, by being cancelled, with the scheduler; and that nobody else ends with them, and
//! everybody is told. Row 18 of the faults.

mod scripted;

use fdtask::{Context, End, Handle, Observer, Scheduler, Task, TaskId, Wait, task_fn};
use scripted::{Scripted, Trace, World, ms};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

#[test]
fn a_task_that_is_done_and_one_that_fails_end_alone() {
    let mut world = World::new();
    world.spawn_neighbour();
    world.spawn_waits("done", []);
    world.spawn("fails", |_, _| Err(io::Error::other("its own error")));
    world.settle();
    assert_eq!(
        world.trace.take(),
        [
            "done: ready",
            "done ended: done",
            "done dropped",
            "fails: ready",
            "fails ended: its own error",
            "fails dropped"
        ]
    );
    world.assert_neighbour_is_well();
}

#[test]
fn a_task_is_told_to_the_observer_while_it_is_whole_and_before_it_is_dropped() {
    struct Order(Trace);
    impl Observer for Order {
        fn spawned(&mut self, id: TaskId, by: Option<TaskId>, task: &dyn Task) {
            self.0.add(format!("{id} spawned by {by:?}: {}", task.name()));
        }
        fn is_tracing(&self) -> bool {
            true
        }
        fn resumed(&mut self, id: TaskId, why: Wait) {
            self.0.add(format!("{id} resumed: {why}"));
        }
        fn waiting(&mut self, id: TaskId, wait: Wait) {
            self.0.add(format!("{id} waits: {wait}"));
        }
        fn reported(&mut self, id: TaskId, message: &str) {
            self.0.add(format!("{id} says {message}"));
        }
        fn ended(&mut self, id: TaskId, by: Option<TaskId>, task: &dyn Task, end: &End) {
            self.0.add(format!("{id} by {by:?} ended: {} {end:?}", task.name()));
        }
    }
    let mut world = World::new();
    world.scheduler.observe(Order(world.trace.clone()));
    let trace = world.trace.clone();
    let mut child = Some(Scripted::new("child", &trace, |_, _| Ok(Wait::Done)));
    world.spawn("parent", move |cx, n| {
        cx.report("something");
        child.take().map(|child| cx.spawn(child));
        Ok(if n == 0 { Wait::Turn } else { Wait::Done })
    });
    world.run();
    assert_eq!(
        world.trace.take(),
        [
            "1 spawned by None: parent",
            "1 resumed: ready",
            "parent: ready",
            "1 says something",
            "2 spawned by Some(TaskId(1)): child",
            "1 waits: ready",
            "2 resumed: ready",
            "child: ready",
            "2 by Some(TaskId(1)) ended: child Done",
            "child dropped",
            "1 resumed: ready",
            "parent: ready",
            "1 says something",
            "1 by None ended: parent Done",
            "parent dropped",
        ]
    );
}

#[test]
fn an_observer_may_wake_and_cancel() {
    struct Avenger(Handle, Rc<RefCell<Vec<TaskId>>>);
    impl Observer for Avenger {
        fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, _task: &dyn Task, end: &End) {
            if matches!(end, End::Panicked(_)) {
                self.0.wake(self.1.borrow()[0]);
                self.0.cancel(self.1.borrow()[1]);
            }
        }
    }
    let mut world = World::new();
    let tasks = Rc::new(RefCell::new(Vec::new()));
    world.scheduler.observe(Avenger(world.scheduler.handle(), tasks.clone()));
    let sleeper = world.spawn_waits("sleeper", [Wait::Wake]);
    let victim = world.spawn_waits("victim", [Wait::Recv(4)]);
    tasks.borrow_mut().extend([sleeper, victim]);
    world.turns(1);
    world.spawn("panics", |_, _| panic!("now"));
    world.run();
    assert_eq!(
        world.trace.take(),
        [
            "sleeper: ready",
            "victim: ready",
            "panics: ready",
            "panics dropped",
            "victim dropped",
            "sleeper: wake",
            "sleeper dropped"
        ]
    );
    world.assert_empty();
}

#[test]
fn an_observer_may_stop_the_run_for_whatever_ends_badly_before_another_task_is_resumed() {
    struct FailsFast(Handle);
    impl Observer for FailsFast {
        fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, _task: &dyn Task, end: &End) {
            if matches!(end, End::Failed(_) | End::Panicked(_)) {
                self.0.stop();
            }
        }
    }
    let ends: [fn() -> io::Result<Wait>; 2] = [|| Err(io::Error::other("no")), || panic!("no")];
    for ends in ends {
        let mut world = World::new();
        world.scheduler.observe(FailsFast(world.scheduler.handle()));
        world.spawn("bad", move |_, _| ends());
        world.spawn_waits("first", [Wait::Turn]);
        world.spawn_waits("second", [Wait::Turn]);
        world.run();
        assert_eq!(world.trace.take(), ["bad: ready", "bad dropped"]);
        // They have their turn in the next run.
        world.run();
        assert_eq!(world.trace.take()[..2], ["first: ready", "second: ready"]);
        world.assert_empty();
    }
}

#[test]
fn a_scheduler_that_is_dropped_drops_every_task_wherever_it_is() {
    let mut world = World::new();
    world.spawn_waits("receives", [Wait::Recv(3)]);
    world.spawn("sleeps", |cx, _| Ok(Wait::Until(cx.now() + ms(5))));
    world.spawn_waits("asleep", [Wait::Wake]);
    world.turns(1);
    world.trace.take();
    world.spawn_waits("new", [Wait::Turn]);
    let panics = Scripted::new("panics", &world.trace, |_, _| Ok(Wait::Done)).on_drop(|| panic!("in drop"));
    world.scheduler.spawn(panics);
    let trace = world.trace.clone();
    drop(world);
    let mut lines = trace.take();
    lines.retain(|line| line.ends_with(" dropped"));
    assert_eq!(lines, ["receives dropped", "sleeps dropped", "asleep dropped", "new dropped", "panics dropped"]);
}

/// Has a successor, however it ends, for as long as that may run.
struct Immortal(Handle, Rc<Cell<u32>>);

impl Task for Immortal {
    fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
        Err(io::Error::other("mortal"))
    }
}

impl Drop for Immortal {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        if !self.0.is_closed() {
            self.0.spawn(Immortal(self.0.clone(), Rc::clone(&self.1)));
        }
    }
}

#[test]
fn a_task_that_spawns_its_successor_when_it_is_dropped_ends_with_the_scheduler() {
    let mut scheduler = Scheduler::new();
    let (handle, drops) = (scheduler.handle(), Rc::new(Cell::new(0)));
    scheduler.spawn(Immortal(handle.clone(), Rc::clone(&drops)));
    for lives in 1..=3 {
        scheduler.turn();
        assert_eq!((drops.get(), handle.is_closed()), (lives, false));
    }
    drop(scheduler);
    assert_eq!(drops.get(), 4, "the last has none");
    drop(Immortal(handle, Rc::clone(&drops)));
    assert_eq!(drops.get(), 5, "nor has one that comes later");
}

#[test]
fn what_is_said_to_a_scheduler_that_is_gone_has_no_effect() {
    let mut world = World::new();
    let handle = world.scheduler.handle();
    let task = world.spawn_waits("task", [Wait::Wake]);
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let descriptor = world.scheduler.adopt(reader);
    drop(world);
    handle.wake(task);
    handle.cancel(task);
    handle.stop();
    handle.drain(std::time::Instant::now());
    // A descriptor that outlives the scheduler is closed when it is dropped, there and then.
    drop(descriptor);
    let error = io::Write::write(&mut writer, b"x").expect_err("nobody reads any more");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_deadline_that_nobody_has_any_more_keeps_no_scheduler_running() {
    let mut world = World::new();
    let sleeper = world.spawn("sleeper", |cx, n| {
        if n == 0 {
            cx.or(Wait::Until(cx.now() + ms(10_000)));
        }
        Ok(Wait::Wake)
    });
    world.spawn("waker", move |cx, n| {
        if n == 0 {
            return Ok(Wait::Turn);
        }
        cx.wake(sleeper);
        Ok(Wait::Done)
    });
    world.run();
    assert_eq!(world.table(), ["sleeper: wake"], "nobody can wake it any more");
    assert!(world.script.elapsed() == ms(0) && !world.script.is_asleep(), "and nobody sleeps for it");
}

#[test]
fn a_task_that_is_spawned_by_a_handle_when_nobody_runs_any_more_ends_with_the_scheduler_like_the_others() {
    let World { scheduler, trace, .. } = World::new();
    scheduler.handle().spawn(task_fn("late", |_| Ok(Wait::Done)));
    drop(scheduler);
    assert_eq!(trace.take(), ["late ended: cancelled"]);
}

#[test]
fn a_task_that_was_spawned_by_a_handle_just_before_is_cancelled_with_all_the_others() {
    let mut world = World::new();
    let by_handle = task_fn("by handle", |_| Ok(Wait::Wake));
    world.scheduler.handle().spawn(by_handle);
    world.scheduler.cancel_all();
    assert_eq!(world.trace.take(), ["by handle ended: cancelled"]);
    assert_eq!(world.table(), [""; 0]);
}

#[test]
fn a_task_in_the_place_of_one_that_has_ended_has_nothing_of_that_one() {
    let mut scheduler = Scheduler::new();
    scheduler.spawn(task_fn("parent", |cx| {
        cx.spawn(task_fn("child", |_| Ok(Wait::Done)));
        Ok(Wait::Done)
    }));
    scheduler.run();
    let reasons = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..2 {
        let reasons = Rc::clone(&reasons);
        scheduler.spawn(task_fn("successor", move |cx| {
            reasons.borrow_mut().push(cx.why());
            Ok(Wait::Turn)
        }));
    }
    scheduler.turn();
    let by: Vec<_> = scheduler.tasks().into_iter().map(|task| (task.spawned_by, task.resumes)).collect();
    assert_eq!(by, [(None, 1), (None, 1)]);
    assert_eq!(*reasons.borrow(), [Wait::Turn, Wait::Turn]);
}
