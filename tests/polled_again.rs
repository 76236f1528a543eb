//! What has yielded its value and is polled again says so, and does not sleep for ever; and so does what cannot be waited for.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{self, FutureTask, JoinHandle};
use fdtask::{Context, Descriptor, End, Handle, Observer, Scheduler, Task, TaskId, Wait, task_fn};
use futures::{pair, turns};
use futures_util::FutureExt;
use limited::within_limit;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
fn a_deadline_or_a_drain_that_no_task_of_the_scheduler_awaits_is_not_over_early() {
    let scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let (sleeps, drains) = (future::sleep(&handle, futures::LONG), future::draining(&handle));
    assert!(catch_unwind(AssertUnwindSafe(|| sleeps.now_or_never())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| drains.now_or_never())).is_err());
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

/// Polls a future once, and hands it to somebody else when it is resumed again.
struct Gives<F>(Option<FutureTask<F>>, Rc<Cell<Option<FutureTask<F>>>>, bool);

impl<F: Future<Output = io::Result<()>> + 'static> Task for Gives<F> {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        if let (Some(future), false) = (&mut self.0, self.2) {
            self.2 = true;
            return future.resume(cx).map(|_| Wait::Turn);
        }
        self.1.set(self.0.take());
        Ok(Wait::Done)
    }
}

/// Waits for a descriptor of its own, and when that has fired, goes on with the future.
struct Takes<F>(Rc<Cell<Option<FutureTask<F>>>>, Option<FutureTask<F>>, Descriptor);

impl<F: Future<Output = io::Result<()>> + 'static> Task for Takes<F> {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        if cx.why() != Wait::Turn && self.1.is_none() {
            self.1 = self.0.take();
        }
        match &mut self.1 {
            Some(future) => future.resume(cx),
            None => Ok(Wait::Recv(self.2.as_raw_fd())),
        }
    }
}

#[test]
fn what_fired_for_the_task_that_takes_over_a_future_is_not_taken_for_what_that_has_waited_for() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let ((silent, mut speaks), (own, mut wakes)) = (pair(&scheduler), pair(&scheduler));
        let (between, has_heard) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(false)));
        let heard = Rc::clone(&has_heard);
        let future = future::task(async move {
            future::readable(&silent).await?;
            heard.set(true);
            Ok(())
        });
        scheduler.spawn(Gives(Some(future), Rc::clone(&between), false));
        scheduler.spawn(Takes(between, None, own));
        scheduler.turn();
        wakes.write_all(b"!").expect("room");
        turns(&mut scheduler);
        assert!(!has_heard.get(), "nothing has come for it");
        speaks.write_all(b"!").expect("room");
        scheduler.run();
        assert!(has_heard.get());
    });
}
