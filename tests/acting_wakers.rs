//! Wakers that do something there and then, when they are woken, dropped or cloned: whoever does that to them is in the middle
//! of nothing.

use fdtask::channel::{TryRecvError, channel};
use fdtask::{Notify, Scheduler};
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, RawWaker, RawWakerVTable, Wake, Waker};

thread_local! {
    /// What is done next. A waker may go to another thread, so it cannot hold this itself.
    static ACT: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

fn next_act(what: impl FnOnce() + 'static) {
    ACT.set(Some(Box::new(what)));
}

fn act() {
    if let Some(what) = ACT.take() {
        what();
    }
}

/// Acts when it is woken.
struct WhenWoken;

impl Wake for WhenWoken {
    fn wake(self: Arc<Self>) {
        act();
    }
}

/// Acts when it is dropped.
struct WhenDropped;

impl Wake for WhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for WhenDropped {
    fn drop(&mut self) {
        act();
    }
}

#[test]
fn whoever_is_woken_because_there_is_a_value_or_room_may_take_it_at_once() {
    let scheduler = Scheduler::new();
    let (sender, receiver) = channel(&scheduler.handle(), 1);
    let (sender, receiver, taken) = (Rc::new(sender), Rc::new(receiver), Rc::new(Cell::new(None)));
    let waker = Waker::from(Arc::new(WhenWoken));
    let mut cx = Context::from_waker(&waker);

    let mut waits = pin!(receiver.recv());
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    let (here, place) = (Rc::clone(&receiver), Rc::clone(&taken));
    next_act(move || place.set(here.try_recv().ok()));
    sender.try_send(1).expect("room");
    assert_eq!(taken.take(), Some(1));

    sender.try_send(2).expect("room");
    let mut waits = pin!(sender.send(3));
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    let here = Rc::clone(&sender);
    next_act(move || here.try_send(4).expect("room"));
    assert_eq!(receiver.try_recv(), Ok(2));
    assert_eq!(receiver.try_recv(), Ok(4));
}

#[test]
fn whoever_is_woken_because_the_other_end_of_a_channel_is_gone_may_look_at_once() {
    let scheduler = Scheduler::new();
    let waker = Waker::from(Arc::new(WhenWoken));
    let mut cx = Context::from_waker(&waker);
    let seen = Rc::new(Cell::new(None));

    let (sender, receiver) = channel::<u32>(&scheduler.handle(), 1);
    let receiver = Rc::new(receiver);
    let mut waits = pin!(receiver.recv());
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    let (here, place) = (Rc::clone(&receiver), Rc::clone(&seen));
    next_act(move || place.set(Some(here.try_recv() == Err(TryRecvError::Closed))));
    drop(sender);
    assert_eq!(seen.take(), Some(true));

    let (sender, receiver) = channel(&scheduler.handle(), 1);
    let sender = Rc::new(sender);
    sender.try_send(1).expect("room");
    let mut waits = pin!(sender.send(2));
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    let (here, place) = (Rc::clone(&sender), Rc::clone(&seen));
    next_act(move || place.set(Some(here.is_closed())));
    drop(receiver);
    assert_eq!(seen.take(), Some(true));
}

#[test]
fn a_waker_may_notify_when_its_wait_is_dropped_or_it_has_to_make_room_for_another_waker() {
    for is_replaced in [false, true] {
        let scheduler = Scheduler::new();
        let notify = Notify::new(&scheduler.handle());
        let mut waits = Box::pin(notify.notified());
        let waker = Waker::from(Arc::new(WhenDropped));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let (has_notified, here) = (Rc::new(Cell::new(false)), notify.clone());
        let place = Rc::clone(&has_notified);
        next_act(move || {
            here.notify();
            place.set(true);
        });
        let mut cx = Context::from_waker(Waker::noop());
        if is_replaced {
            assert!(waits.as_mut().poll(&mut cx).is_pending());
            assert!(has_notified.get());
            assert!(waits.as_mut().poll(&mut cx).is_ready());
        }
        drop(waits);
        assert!(has_notified.get());
    }
}

#[test]
fn whoever_is_notified_may_wait_for_the_next_time_and_notify_at_once() {
    let scheduler = Scheduler::new();
    let notify = Notify::new(&scheduler.handle());
    let waker = Waker::from(Arc::new(WhenWoken));
    let mut waits = pin!(notify.notified());
    assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let (is_done, here) = (Rc::new(Cell::new(false)), notify.clone());
    let done = Rc::clone(&is_done);
    next_act(move || {
        let mut next = pin!(here.notified());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(&mut cx).is_pending());
        here.notify();
        done.set(next.as_mut().poll(&mut cx).is_ready());
    });
    notify.notify();
    assert!(is_done.get());
}

#[test]
fn a_notification_by_a_waker_that_is_cloned_to_be_woken_by_it_is_not_lost() {
    // The standard library's own wakers do nothing when they are cloned.
    static WHEN_CLONED: RawWakerVTable = RawWakerVTable::new(
        |_| {
            act();
            RawWaker::new(ptr::null(), &WHEN_CLONED)
        },
        |_| {},
        |_| {},
        |_| {},
    );
    let scheduler = Scheduler::new();
    let notify = Notify::new(&scheduler.handle());
    let mut waits = pin!(notify.notified());
    let here = notify.clone();
    next_act(move || here.notify());
    // SAFETY: it holds nothing, so its functions may be called at any time, from any thread.
    let waker = unsafe { Waker::new(ptr::null(), &WHEN_CLONED) };
    assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}
