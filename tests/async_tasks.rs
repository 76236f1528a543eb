//! Tasks that are futures, among hand-written ones: joined, cancelled, drained, dropped.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{self, JoinError, JoinHandle, readable, sleep, task};
use fdtask::{Descriptor, End, Observer, Scheduler, Task, TaskId, Wait, task_fn};
use futures::{LONG, is_closed, pair, run, turns};
use limited::within_limit;
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

type Trace = Rc<RefCell<Vec<String>>>;

/// Notes how each task ends.
struct Ends(Trace);

impl Observer for Ends {
    fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, task: &dyn Task, end: &End) {
        let end = match end {
            End::Failed(error) => format!("failed: {error}"),
            other => format!("{other:?}"),
        };
        self.0.borrow_mut().push(format!("{} {end}", task.name()));
    }
}

#[test]
fn hand_written_tasks_and_futures_take_turns_in_one_deque() {
    within_limit(|| {
        let trace = Trace::default();
        let mut scheduler = Scheduler::new();
        let note = |name: &'static str| {
            let trace = Rc::clone(&trace);
            move |step: u32| trace.borrow_mut().push(format!("{name}{step}"))
        };
        let by_future = |note: Box<dyn Fn(u32)>| {
            task(async move {
                for step in 0..3 {
                    note(step);
                    future::next_turn().await;
                }
                Ok(())
            })
        };
        scheduler.spawn(by_future(Box::new(note("a"))));
        let (by_hand, mut step) = (note("b"), 0);
        scheduler.spawn(task_fn("b", move |_| {
            by_hand(step);
            step += 1;
            Ok(if step < 3 { Wait::Turn } else { Wait::Done })
        }));
        scheduler.spawn(by_future(Box::new(note("c"))));
        scheduler.run();
        assert_eq!(trace.borrow().join(" "), "a0 b0 c0 a1 b1 c1 a2 b2 c2");
    });
}

#[test]
fn an_error_a_panic_and_an_end_are_each_told_and_end_one_task_alone() {
    within_limit(|| {
        let trace = Trace::default();
        let mut scheduler = Scheduler::new();
        scheduler.observe(Ends(Rc::clone(&trace)));
        scheduler.spawn(task(async { Err(io::Error::other("no luck")) }).named("one"));
        scheduler.spawn(task(async { panic!("ouch") }).named("two"));
        scheduler.spawn(
            task(async {
                future::next_turn().await;
                Ok(())
            })
            .named("three"),
        );
        scheduler.run();
        assert_eq!(*trace.borrow(), ["one failed: no luck", "two Panicked(\"ouch\")", "three Done"]);
    });
}

async fn waits_by_name(socket: Descriptor) -> io::Result<()> {
    readable(&socket).await
}

#[test]
fn the_task_table_shows_the_name_of_the_async_fn_and_what_it_waits_for() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (socket, _far) = pair(&scheduler);
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        scheduler.spawn(task(waits_by_name(socket)));
        scheduler.spawn(task_fn("stop", |cx| {
            cx.stop();
            Ok(Wait::Done)
        }));
        scheduler.run();
        let tasks = scheduler.tasks();
        assert_eq!(
            (tasks[0].name.as_str(), tasks[0].state.as_str()),
            ("waits_by_name", format!("recv fd {fd}").as_str())
        );
    });
}

#[test]
fn dropping_a_scheduler_drops_every_future_and_closes_every_descriptor() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let ((waiting, far_of_waiting), (unpolled, far_of_unpolled), (joined, far_of_joined)) =
            (pair(&scheduler), pair(&scheduler), pair(&scheduler));
        let parent_handle = handle.clone();
        scheduler.spawn(task(async move {
            let child = future::spawn(&parent_handle, async move { readable(&joined).await });
            let timer = sleep(&parent_handle, LONG);
            let _ = futures_util::future::join3(readable(&waiting), timer, child).await;
            Ok(())
        }));
        turns(&mut scheduler);
        let never_polled = task(async move { readable(&unpolled).await });
        scheduler.spawn(never_polled);
        drop(scheduler);
        for far in [far_of_waiting, far_of_unpolled, far_of_joined] {
            assert!(is_closed(&far));
        }
        // What is still held talks to nobody, and a task for nobody is dropped.
        let dropped = Rc::new(());
        let held = Rc::clone(&dropped);
        handle.spawn(task(async move {
            drop(held);
            Ok(())
        }));
        assert_eq!(Rc::strong_count(&dropped), 1);
    });
}

#[test]
fn a_second_future_that_waits_for_the_same_side_is_refused_and_the_first_goes_on() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let (socket, mut far) = pair(&scheduler);
        let socket = Rc::new(socket);
        let outcomes = Rc::new(RefCell::new(Vec::new()));
        for name in ["first", "second"] {
            let (socket, outcomes) = (Rc::clone(&socket), Rc::clone(&outcomes));
            scheduler.spawn(task(async move {
                let kind = readable(&socket).await.map_err(|error| error.kind());
                outcomes.borrow_mut().push((name, kind));
                Ok(())
            }));
        }
        turns(&mut scheduler);
        assert_eq!(*outcomes.borrow(), [("second", Err(io::ErrorKind::ResourceBusy))]);
        far.write_all(b"!").expect("room");
        scheduler.run();
        assert_eq!(outcomes.borrow()[1], ("first", Ok(())));
    });
}

#[test]
fn a_joined_task_gives_its_value_its_panic_or_its_cancellation() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let results = Rc::new(RefCell::new(Vec::new()));
        let place = Rc::clone(&results);
        scheduler.spawn(task(async move {
            let value = future::spawn(&handle, async { 7 });
            let panicked = future::spawn(&handle, async { panic!("ouch") });
            let cancelled = future::spawn(&handle, std::future::pending::<i32>());
            future::next_turn().await;
            cancelled.cancel();
            let unstarted = future::spawn(&handle, async { 8 });
            unstarted.cancel();
            *place.borrow_mut() = vec![value.await, panicked.await, cancelled.await, unstarted.await];
            Ok(())
        }));
        scheduler.run();
        let expected = [Ok(7), Err(JoinError::Panicked), Err(JoinError::Cancelled), Err(JoinError::Cancelled)];
        assert_eq!(*results.borrow(), expected);
    });
}

#[test]
fn a_task_that_is_dropped_with_its_scheduler_is_cancelled_even_if_that_is_because_of_a_panic() {
    let kept = Cell::new(None);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let mut scheduler = Scheduler::new();
        kept.set(Some(future::spawn(&scheduler.handle(), std::future::pending::<()>())));
        turns(&mut scheduler);
        panic!("of whoever has made the scheduler");
    }));
    assert!(unwound.is_err());
    let task = kept.take().expect("it was kept");
    assert_eq!(task.try_join().expect("it has ended"), Err(JoinError::Cancelled));
}

#[test]
fn a_task_for_a_scheduler_that_is_gone_was_cancelled_and_whoever_awaits_it_does_not_sleep_for_ever() {
    within_limit(|| {
        let gone = Scheduler::new().handle();
        let joined = run(&mut Scheduler::new(), async move { future::spawn(&gone, async { 7 }).await });
        assert_eq!(joined, Err(JoinError::Cancelled));
    });
}

#[test]
fn a_promise_that_is_dropped_without_a_panic_was_cancelled() {
    within_limit(|| {
        let (promise, promised) = future::promise::<()>();
        drop(promise);
        assert_eq!(run(&mut Scheduler::new(), promised), Err(JoinError::Cancelled));
    });
}

#[test]
fn dropping_a_join_handle_cancels_the_task_and_detaching_does_not() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let ((kept, mut far_of_kept), (cancelled, far_of_cancelled)) = (pair(&scheduler), pair(&scheduler));
        let done = Rc::new(Cell::new(false));
        let is_done = Rc::clone(&done);
        scheduler.spawn(task(async move {
            let join = future::spawn(&handle, async move { readable(&cancelled).await });
            future::spawn(&handle, async move { is_done.set(readable(&kept).await.is_ok()) }).detach();
            future::next_turn().await;
            drop(join);
            Ok(())
        }));
        turns(&mut scheduler);
        assert!(is_closed(&far_of_cancelled));
        far_of_kept.write_all(b"!").expect("room");
        scheduler.run();
        assert!(done.get());
    });
}

#[test]
fn a_task_that_is_given_up_before_it_has_run_is_gone_with_all_that_it_owns_before_anybody_waits_for_the_same() {
    within_limit(|| {
        for turns_between in 0..3 {
            let mut scheduler = Scheduler::new();
            let (handle, (near, mut far)) = (scheduler.handle(), pair(&scheduler));
            let (near, received) = (Rc::new(near), Rc::new(Cell::new(false)));
            let has_received = Rc::clone(&received);
            scheduler.spawn(task(async move {
                let same = Rc::clone(&near);
                let reading = future::spawn(&handle, async move { readable(&same).await });
                for _ in 0..3 {
                    future::next_turn().await;
                }
                let supervising = future::spawn(&handle, reading);
                for _ in 0..turns_between {
                    future::next_turn().await;
                }
                drop(supervising);
                far.write_all(b"!").expect("room");
                readable(&near).await?;
                has_received.set(true);
                Ok(())
            }));
            scheduler.run();
            assert!(received.get(), "after {turns_between} turns somebody else still waits");
        }
    });
}

#[test]
fn a_hand_written_task_joins_a_future() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        let delay = sleep(&handle, Duration::from_millis(5));
        let mut join = Some(future::spawn(&handle, async move {
            delay.await;
            9
        }));
        let result = Rc::new(Cell::new(None));
        let place = Rc::clone(&result);
        let mut resumes = 0;
        scheduler.spawn(task_fn("joiner", move |cx| {
            resumes += 1;
            match join.take().map(JoinHandle::try_join) {
                Some(Ok(outcome)) => place.set(Some((outcome, resumes))),
                Some(Err(not_yet)) => return Ok(join.insert(not_yet).wait(cx)),
                None => {}
            }
            Ok(Wait::Done)
        }));
        scheduler.run();
        assert_eq!(result.get(), Some((Ok(9), 2)), "it sleeps until the other has ended");
    });
}

#[test]
fn a_drain_is_heard_by_those_who_wait_for_it_and_ends_the_others_at_its_deadline() {
    within_limit(|| {
        let trace = Trace::default();
        let mut scheduler = Scheduler::new();
        scheduler.observe(Ends(Rc::clone(&trace)));
        let handle = scheduler.handle();
        let (socket, _far) = pair(&scheduler);
        let listening = handle.clone();
        scheduler.spawn(
            task(async move {
                futures_util::future::select(readable(&socket), future::draining(&listening)).await;
                Ok(())
            })
            .named("listens"),
        );
        let (silent, _far_of_silent) = pair(&scheduler);
        scheduler.spawn(task(async move { readable(&silent).await }).named("does not"));
        let until = Instant::now() + Duration::from_millis(30);
        scheduler.spawn(task_fn("drainer", move |cx| {
            cx.drain(until);
            Ok(Wait::Done)
        }));
        scheduler.run();
        assert!(Instant::now() >= until);
        assert_eq!(*trace.borrow(), ["drainer Done", "listens Done", "does not Cancelled"]);
    });
}

#[test]
fn tasks_that_use_nothing_foreign_need_no_descriptor_of_their_own() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        scheduler.spawn(task(async move {
            let child_handle = handle.clone();
            let child = future::spawn(&handle, async move { sleep(&child_handle, Duration::from_millis(1)).await });
            child.await?;
            Ok(())
        }));
        scheduler.run();
        assert!(scheduler.tasks().is_empty(), "no service was needed");
    });
}

#[test]
fn the_table_knows_which_future_has_spawned_a_task() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let parent = scheduler.spawn(task(async move {
        handle.spawn(task_fn("child", |_| Ok(Wait::Done)));
        future::spawn(&handle, async {}).await?;
        Ok(())
    }));
    scheduler.turn();
    let by: Vec<_> = scheduler.tasks().into_iter().map(|task| task.spawned_by).collect();
    assert_eq!(by, [None, Some(parent), Some(parent)]);
}
