//! What other threads say when no descriptor is left. It needs a program of its own, because the limit that it lowers is the
//! whole process's.

#[path = "common/limited.rs"]
mod limited;

use fdtask::{Scheduler, Wait, task_fn};
use limited::within_limit;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn a_scheduler_whose_service_was_cancelled_hears_other_threads_although_no_descriptor_is_left() {
    within_limit(|| {
        let mut scheduler = Scheduler::new();
        let remote = scheduler.remote().expect("descriptors");
        let limit = getrlimit(Resource::Nofile);
        let lowest_free = File::open("/dev/null").expect("every Unix has it").as_raw_fd() as u64;
        setrlimit(Resource::Nofile, Rlimit { current: Some(lowest_free), maximum: limit.maximum }).expect("lowered");
        scheduler.spawn(task_fn("operator", |cx| {
            let others = cx.tasks().into_iter().filter(|task| task.id != cx.id());
            others.for_each(|task| cx.cancel(task.id));
            Ok(Wait::Done)
        }));
        scheduler.run();
        setrlimit(Resource::Nofile, limit).expect("and raised again");
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
