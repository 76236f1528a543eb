//! A machine that stands still now and then, because it is suspended or others have it: what that does to a call, and to a test
//! of what must happen in real time.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Makes a call until nothing interrupts it. To be stopped and continued is an interruption to whoever waits on a socket that has
/// a time limit (signal(7)), though no handler runs.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// How often a test is begun anew.
const TRIES: usize = 6;

/// How often the machine is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Runs a test that must do something by an instant, and cannot on a machine that stands still: a client that is to speak every
/// tenth of a second is a silent one then. If it fails, and this process has been kept waiting for longer than `longest`
/// meanwhile, that has told nothing, and it is tried again, a few times. On a steady machine it fails at once.
#[track_caller]
pub fn while_steady(longest: Duration, test: impl Fn()) {
    for tried in 1..=TRIES {
        let (outcome, stood_still) = watched(&test);
        match outcome {
            Ok(()) => return,
            Err(panic) if stood_still <= longest || tried == TRIES => resume_unwind(panic),
            Err(_) => eprintln!("tried again: the machine has stood still for {stood_still:?}"),
        }
    }
}

/// How a test ends, and for how long, at most, a thread beside it was late.
fn watched(test: impl Fn()) -> (thread::Result<()>, Duration) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut latest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                thread::sleep(TICK);
                latest = latest.max(begin.elapsed().saturating_sub(TICK));
            }
            latest
        });
        let outcome = catch_unwind(AssertUnwindSafe(test));
        is_over.store(true, Ordering::Relaxed);
        (outcome, watcher.join().expect("it only sleeps"))
    })
}
