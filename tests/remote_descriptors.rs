//! What other threads say when no descriptor is left. It needs a program of its own, because the limit that it lowers is the
//! whole process's; its tests run one at a time.

#[path = "common/limited.rs"]
mod limited;

use fdtask::{Remote, Scheduler, Wait, task_fn};
use limited::within_limit;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Whose turn it is.
static TURN: Mutex<()> = Mutex::new(());

/// Lowers the limit of descriptors to this while something is done.
fn with_limit(limit: u64, what: impl FnOnce()) {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: before.maximum }).expect("lowered");
    what();
    setrlimit(Resource::Nofile, before).expect("and raised again");
}

/// Cancels every task that there is, services, too.
fn cancel_everybody(scheduler: &mut Scheduler) {
    scheduler.spawn(task_fn("operator", |cx| {
        let others = cx.tasks().into_iter().filter(|task| task.id != cx.id());
        others.for_each(|task| cx.cancel(task.id));
        Ok(Wait::Done)
    }));
    scheduler.run();
}

#[test]
fn a_scheduler_whose_service_was_cancelled_hears_other_threads_although_no_descriptor_is_left() {
    within_limit(|| {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        let lowest_free = File::open("/dev/null").expect("every Unix has it").as_raw_fd() as u64;
        with_limit(lowest_free, || cancel_everybody(&mut scheduler));
        let is_called = Arc::new(AtomicBool::new(false));
        let called = Arc::clone(&is_called);
        let thread = thread::spawn(move || {
            remote.call(move |cx| {
                called.store(true, Ordering::Relaxed);
                cx.stop();
            });
        });
        scheduler.spawn(task_fn("waiter", |cx| Ok(Wait::Until(cx.now() + Duration::from_secs(20)))));
        scheduler.run();
        thread.join().expect("it goes on");
        assert!(is_called.load(Ordering::Relaxed));
    });
}

#[test]
fn a_scheduler_that_could_not_replace_its_service_is_gone_for_other_threads_when_it_is_dropped() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut scheduler = Scheduler::new();
    let remote = scheduler.remote().expect("descriptors");
    // Not even those that the service has had.
    with_limit(0, || cancel_everybody(&mut scheduler));
    let (sender, receiver) = mpsc::channel::<()>();
    remote.call(move |_| drop(sender));
    drop(scheduler);
    assert!(remote.is_closed());
    assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected), "whoever waits for it waits for ever");
}

#[test]
fn what_is_said_while_the_service_is_replaced_is_heard_by_the_next() {
    /// Says something when it is dropped.
    struct LastWords(Remote, Arc<AtomicBool>);

    impl Drop for LastWords {
        fn drop(&mut self) {
            let called = Arc::clone(&self.1);
            self.0.call(move |_| called.store(true, Ordering::Relaxed));
        }
    }

    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut scheduler = Scheduler::new();
    let remote = scheduler.remote().expect("descriptors");
    let is_called = Arc::new(AtomicBool::new(false));
    scheduler.turn();
    let last_words = LastWords(remote, Arc::clone(&is_called));
    scheduler.spawn(task_fn("who is cancelled after the service", move |_| {
        let _held = &last_words;
        Ok(Wait::Wake)
    }));
    let mut has_cancelled = false;
    scheduler.spawn(task_fn("operator", move |cx| {
        if !std::mem::replace(&mut has_cancelled, true) {
            let others = cx.tasks().into_iter().filter(|task| task.id != cx.id());
            others.for_each(|task| cx.cancel(task.id));
        }
        Ok(Wait::Turn)
    }));
    for _ in 0..5 {
        scheduler.turn();
    }
    assert!(is_called.load(Ordering::Relaxed));
}

#[test]
fn all_ways_into_a_scheduler_share_one_service_and_give_back_its_descriptors_when_the_scheduler_is_gone() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lowest_free = || {
        let files = [0; 4].map(|_| File::open("/dev/null").expect("every Unix has it"));
        files.each_ref().map(AsRawFd::as_raw_fd)
    };
    let before = lowest_free();
    let mut scheduler = Scheduler::new();
    let remotes = [scheduler.remote(), scheduler.remote()].map(|remote| remote.expect("descriptors"));
    scheduler.turn();
    assert_eq!(scheduler.tasks().len(), 1);
    drop(scheduler);
    assert_eq!(lowest_free(), before, "somebody may keep a remote for ever");
    assert!(remotes.iter().all(Remote::is_closed));
}
