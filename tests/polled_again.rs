//! What has yielded its value and is polled again says so, and does not sleep for ever.

#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{self, JoinHandle};
use fdtask::{End, Handle, Observer, Scheduler, Task, TaskId, Wait, task_fn};
use limited::within_limit;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::mpsc;

/// Awaits `future` twice in a task, and returns how that ends: what the panic of the second time said.
fn polled_twice<F: Future + Unpin + 'static>(make: impl FnOnce(&Handle) -> F) -> String {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let mut twice = make(&handle);
    let (said, hears) = mpsc::channel();
    scheduler.observe(Told(said));
    scheduler.spawn(future::task(async move {
        (&mut twice).await;
        (&mut twice).await;
        Ok(())
    }));
    scheduler.run();
    hears.try_recv().expect("the task has panicked")
}

struct Told(mpsc::Sender<String>);

impl Observer for Told {
    fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, _task: &dyn Task, end: &End) {
        if let End::Panicked(message) = end {
            self.0.send(message.clone()).expect("the test listens");
        }
    }
}

#[test]
fn a_join_handle_that_is_polled_again_panics_and_does_not_sleep_for_ever() {
    within_limit(|| {
        let said = polled_twice(|handle| future::spawn(handle, async { 42 }));
        assert!(said.contains("polled again"), "{said}");
    });
}

#[test]
fn a_promised_value_that_is_polled_again_panics_and_does_not_sleep_for_ever() {
    within_limit(|| {
        let (promise, promised) = future::promise();
        promise.keep(42);
        let said = polled_twice(|_| promised);
        assert!(said.contains("polled again"), "{said}");
    });
}

#[test]
fn a_join_handle_that_has_yielded_still_says_that_the_task_has_ended() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let mut joined = future::spawn(&scheduler.handle(), async { 42 });
        let seen = Rc::new(RefCell::new(Vec::new()));
        let looks = Rc::clone(&seen);
        scheduler.spawn(future::task(async move {
            looks.borrow_mut().push(joined.is_ended());
            (&mut joined).await?;
            looks.borrow_mut().push(joined.is_ended());
            Ok(())
        }));
        scheduler.run();
        assert_eq!(*seen.borrow(), [false, true]);
    });
}

#[test]
fn who_waits_for_a_task_that_has_ended_already_is_resumed() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let mut joined = Some(future::spawn(&scheduler.handle(), async { 42 }));
        let has_joined = Rc::new(Cell::new(false));
        let (joins, mut resumes) = (Rc::clone(&has_joined), 0);
        // Lets the task end, waits for its end without having looked, and looks when it is resumed for that.
        scheduler.spawn(task_fn("who looks late", move |cx| {
            resumes += 1;
            match (resumes, joined.take()) {
                (1, task) => {
                    joined = task;
                    Ok(Wait::Turn)
                }
                (2, Some(task)) => {
                    let wait = task.wait(cx);
                    joined = Some(task);
                    Ok(wait)
                }
                (_, task) => {
                    joins.set(matches!(task.map(JoinHandle::try_join), Some(Ok(Ok(42)))));
                    Ok(Wait::Done)
                }
            }
        }));
        scheduler.run();
        assert!(has_joined.get(), "it sleeps for ever");
    });
}
