//! Interruptions and failures: rules 6 and 7 of the contract.

use crate::poller::FAILURE_PAUSE;
use crate::poller::failures::{Failures, INTERRUPTIONS_MAX};
use std::io;
use std::time::{Duration, Instant};

fn interrupted() -> io::Result<usize> {
    Err(io::ErrorKind::Interrupted.into())
}

#[test]
fn an_interruption_is_no_error_no_event_and_no_pause() {
    let mut failures = Failures::default();
    let start = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(failures.judge(interrupted()).expect("an interruption is nothing"), 0);
        assert_eq!(failures.judge(Ok(3)).expect("three have fired"), 3);
    }
    // A pause for each would be 50 s.
    assert!(start.elapsed() < 100 * FAILURE_PAUSE);
}

#[test]
fn interruptions_without_end_are_a_failure() {
    let mut failures = Failures::default();
    for _ in 0..INTERRUPTIONS_MAX {
        assert!(failures.judge(interrupted()).is_ok());
    }
    let start = Instant::now();
    assert!(failures.judge(interrupted()).is_err());
    assert!(start.elapsed() >= FAILURE_PAUSE, "so that whoever tries again does not spin");
}

#[test]
fn interruptions_that_come_one_by_one_are_none() {
    // As often as a profiler's signals do.
    let mut failures = Failures::default();
    for _ in 0..2 * INTERRUPTIONS_MAX {
        assert!(failures.judge(interrupted()).is_ok());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_failure_is_returned_after_a_pause() {
    let mut failures = Failures::default();
    for kind in [io::ErrorKind::OutOfMemory, io::ErrorKind::InvalidInput] {
        let start = Instant::now();
        let error = failures.judge(Err(kind.into())).expect_err("nothing could be learnt");
        assert_eq!(error.kind(), kind);
        assert!(start.elapsed() >= FAILURE_PAUSE);
        assert!(FAILURE_PAUSE >= Duration::from_millis(10) && FAILURE_PAUSE <= Duration::from_millis(100));
    }
    assert_eq!(failures.judge(Ok(1)).expect("it works again"), 1);
}
