//! A `Notify` that many wait for, and mostly give up waiting for: what it costs follows those who wait now.

use fdtask::future::{self, sleep, timeout};
use fdtask::{Notify, Scheduler, Wait, task_fn};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Many enough that it would be seen if each left something behind.
const MANY: usize = 1_000;

fn waiting(notify: &Notify) -> String {
    format!("{notify:?}")
}

#[test]
fn tasks_that_end_without_having_been_notified_leave_nothing_behind() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let shutdown = Notify::new(&handle);
    for _ in 0..MANY {
        let notified = shutdown.notified();
        scheduler.spawn(future::task(async move {
            future::race(notified, future::next_turn()).await;
            Ok(())
        }));
    }
    scheduler.run();
    assert_eq!(waiting(&shutdown), "Notify(0 waiting)");
}

#[test]
fn futures_with_wakers_of_their_own_leave_nothing_behind() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let shutdown = Notify::new(&handle);
    let (notify, in_vain) = (shutdown.clone(), Rc::new(Cell::new(0)));
    let count = Rc::clone(&in_vain);
    scheduler.spawn(future::task(async move {
        for _ in 0..MANY {
            let mut each: FuturesUnordered<_> = [notify.notified(), notify.notified()].into_iter().collect();
            let notified = timeout(&handle, Duration::ZERO, each.next()).await;
            count.set(count.get() + usize::from(notified.is_err()));
        }
        Ok(())
    }));
    scheduler.run();
    assert_eq!(in_vain.get(), MANY, "nobody notifies");
    assert_eq!(waiting(&shutdown), "Notify(0 waiting)");
}

#[test]
fn a_combinator_that_polls_only_who_is_woken_hears_of_a_notification_and_of_the_end_of_a_task() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let changed = Notify::new(&handle);
    let heard = Rc::new(Cell::new(0));
    let (notify, count) = (changed.clone(), Rc::clone(&heard));
    scheduler.spawn(task_fn("busy", |_| Ok(Wait::Turn)));
    scheduler.spawn(future::task(async move {
        let ends = future::spawn(&handle, notify.notified());
        let mut each = FuturesUnordered::new();
        each.push(notify.notified().boxed_local());
        each.push(ends.map(|ended| ended.expect("nobody cancels it")).boxed_local());
        while let Some(()) = each.next().await {
            count.set(count.get() + 1);
        }
        Ok(())
    }));
    for _ in 0..3 {
        scheduler.turn();
    }
    assert_eq!(heard.get(), 0);
    changed.notify();
    for _ in 0..6 {
        scheduler.turn();
    }
    assert_eq!(heard.get(), 2);
}

#[test]
fn hand_written_tasks_that_were_cancelled_make_room_for_those_that_come_after_them() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let shutdown = Notify::new(&handle);
    for _ in 0..MANY {
        let notify = shutdown.clone();
        let id = scheduler.spawn(task_fn("guest", move |cx| Ok(notify.wait(cx))));
        scheduler.turn();
        handle.cancel(id);
        scheduler.turn();
    }
    assert_eq!(waiting(&shutdown), "Notify(1 waiting)", "a task that is cancelled cannot say so");
    // The last one, in the same place, is woken all the same.
    let is_woken = Rc::new(Cell::new(false));
    let (notify, woken) = (shutdown.clone(), is_woken.clone());
    scheduler.spawn(task_fn("the last", move |cx| {
        woken.set(cx.why() == Wait::Wake);
        Ok(if woken.get() { Wait::Done } else { notify.wait(cx) })
    }));
    scheduler.spawn(future::task(async move {
        sleep(&handle, Duration::from_millis(1)).await;
        shutdown.notify();
        Ok(())
    }));
    scheduler.run();
    assert!(is_woken.get());
}

#[test]
fn all_who_wait_are_woken_in_the_order_in_which_they_came() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let notify = Notify::new(&handle);
    let order = Rc::new(std::cell::RefCell::new(Vec::new()));
    for number in 0..6 {
        let (notify, order) = (notify.clone(), Rc::clone(&order));
        if number % 2 == 0 {
            scheduler.spawn(future::task(async move {
                notify.notified().await;
                order.borrow_mut().push(number);
                Ok(())
            }));
        } else {
            let mut has_waited = false;
            scheduler.spawn(task_fn("guest", move |cx| {
                if std::mem::replace(&mut has_waited, true) {
                    order.borrow_mut().push(number);
                    return Ok(Wait::Done);
                }
                Ok(notify.wait(cx))
            }));
        }
    }
    scheduler.turn();
    assert_eq!(waiting(&notify), "Notify(6 waiting)");
    notify.notify();
    scheduler.run();
    assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(waiting(&notify), "Notify(0 waiting)");
}

#[test]
fn whoever_waits_after_a_notification_is_woken_although_somebody_had_given_up_before_it() {
    let mut scheduler = Scheduler::new();
    let notify = Notify::new(&scheduler.handle());
    assert_eq!(notify.notified().now_or_never(), None);
    notify.notify();
    let ends = future::spawn(&scheduler.handle(), notify.notified());
    scheduler.turn();
    notify.notify();
    scheduler.run();
    assert!(ends.is_ended());
}
