//! A limit for tests that would hang, and take the whole run with them, where they should fail: those in which a lost wake-up
//! leaves a scheduler asleep.

use std::panic;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Longer than any test takes, on a machine that is busy with other things, too, and than it waits for anything.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs a test in a thread of its own. If it has not ended within the limit it fails, and the thread is left behind.
#[track_caller]
pub fn within_limit(test: impl FnOnce() + Send + 'static) {
    let (end, ended) = mpsc::channel();
    let named = thread::Builder::new().name(thread::current().name().unwrap_or("test").to_owned());
    let running = named.spawn(move || {
        test();
        // Nobody listens any more if the limit is over.
        let _ = end.send(());
    });
    let running = running.expect("a thread can be started");
    if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LIMIT) {
        panic!("it has not ended within {LIMIT:?}: a wake-up was lost, or nobody sleeps any more");
    }
    if let Err(panic) = running.join() {
        panic::resume_unwind(panic);
    }
}
