//! When the system cannot poll: row 15 of the faults, at the scheduler's layer. It needs a program of its own, because the
//! limit that it lowers is the whole process's.

use fdtask::poller::{FAILURE_PAUSE, Patience, Poll, Poller, Waiters, default_poller};
use fdtask::{Observer, Scheduler, Side, Wait, task_fn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

struct Failures(Rc<Cell<usize>>);

impl Observer for Failures {
    fn poll_failed(&mut self, error: &io::Error) {
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        self.0.set(self.0.get() + 1);
    }
}

/// More descriptors are waited for than poll(2) takes, because somebody has lowered `RLIMIT_NOFILE` under the process.
fn survives_a_lowered_limit(poller: Box<dyn Poller>) {
    let limit = getrlimit(Resource::Nofile);
    let mut scheduler = Scheduler::with_poller(poller);
    let failures = Rc::new(Cell::new(0));
    scheduler.observe(Failures(failures.clone()));
    let mut ends = Vec::new();
    let received = Rc::new(Cell::new(0));
    for _ in 0..60 {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let received = received.clone();
        let mut is_new = true;
        scheduler.spawn(task_fn("reader", move |_| {
            if !std::mem::replace(&mut is_new, false) {
                received.set(received.get() + reader.read(&mut [0; 8])?);
            }
            Ok(Wait::Recv(reader.as_raw_fd()))
        }));
        ends.push(writer);
    }
    let handle = scheduler.handle();
    let mut ticks = 0;
    scheduler.spawn(task_fn("ticker", move |cx| {
        ticks += 1;
        if ticks == 12 {
            handle.stop();
        }
        Ok(Wait::Until(cx.now() + Duration::from_millis(10)))
    }));
    setrlimit(Resource::Nofile, Rlimit { current: Some(20), maximum: limit.maximum }).expect("a limit can be lowered");
    let start = Instant::now();
    scheduler.run();
    let elapsed = start.elapsed();
    setrlimit(Resource::Nofile, limit).expect("and raised again");
    // Twelve ticks, and one pause for each failure: a spin would have failed thousands of times.
    assert!(failures.get() > 0, "poll has not failed: the test is void");
    let pauses = (elapsed.as_millis() / FAILURE_PAUSE.as_millis()) as usize;
    assert!(failures.get() <= pauses, "{} failures in {elapsed:?}", failures.get());
    // Full service, at once: nothing is left to wait for, so this takes one turn or two.
    failures.set(0);
    for end in &mut ends {
        end.write_all(b"x").expect("room");
    }
    let start = Instant::now();
    while received.get() < ends.len() {
        scheduler.turn();
        assert!(start.elapsed() < Duration::from_secs(10), "only {} of {} are served", received.get(), ends.len());
    }
    assert_eq!(failures.get(), 0);
}

/// The limit is one of entries, too, and the poller must not spend one on itself.
fn takes_as_many_as_the_limit_allows(mut poller: Box<dyn Poller>) {
    const LIMIT: u64 = 40;
    let limit = getrlimit(Resource::Nofile);
    for fd in 0..LIMIT as RawFd {
        // Most of them are not open, which poll(2) says of each.
        poller.watch(fd, Side::Recv, false);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum: limit.maximum })
        .expect("a limit can be lowered");
    let mut nobody = Waiters::default();
    let result = poller.wait(Patience::Look, &mut nobody);
    setrlimit(Resource::Nofile, limit).expect("and raised again");
    assert!(result.is_ok(), "{result:?}");
    assert_ne!(nobody.take_unclaimed(), []);
}

#[test]
fn a_poll_that_fails_pauses_is_told_and_serves_everybody_once_the_cause_is_gone() {
    assert!(FAILURE_PAUSE >= Duration::from_millis(10) && FAILURE_PAUSE <= Duration::from_millis(100));
    survives_a_lowered_limit(Box::new(Poll::new()));
    survives_a_lowered_limit(default_poller());
    // Here, because the limit is the whole process's.
    takes_as_many_as_the_limit_allows(Box::new(Poll::new()));
    takes_as_many_as_the_limit_allows(default_poller());
}
