//! Tells an interrupted call, which is nothing, from one that failed, which is paused for: the contract's points 6 and 7.
//!
//! A signal interrupts a call now and then. Interruptions without end are a failure: something interrupts every call, and to
//! try again at once, over and over, would be a loop that never sleeps.

use super::FAILURE_PAUSE;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// More calls in a row than this that were interrupted, each soon after the one before, are taken for a failure: even a
/// profiler's signals come only a thousand times a second.
pub(super) const INTERRUPTIONS_MAX: u32 = 32;

/// How soon after another an interruption must come to count as one in a row.
const INTERRUPTION_GAP: Duration = Duration::from_micros(800);

/// See the module's text.
#[derive(Default)]
pub(super) struct Failures {
    /// How many calls in a row were interrupted, and when the last of them was.
    interruptions: u32,
    last: Option<Instant>,
}

impl Failures {
    /// What `result` means: an interruption is no event; any other failure is returned after [`FAILURE_PAUSE`].
    #[inline]
    pub(super) fn judge(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Ok(count) => {
                self.interruptions = 0;
                Ok(count)
            }
            Err(error) => self.judge_error(error),
        }
    }

    #[cold]
    fn judge_error(&mut self, error: io::Error) -> io::Result<usize> {
        if error.kind() == io::ErrorKind::Interrupted {
            let before = self.last.replace(Instant::now());
            let is_soon = before.is_some_and(|before| before.elapsed() <= INTERRUPTION_GAP);
            self.interruptions = if is_soon { self.interruptions + 1 } else { 1 };
            if self.interruptions <= INTERRUPTIONS_MAX {
                return Ok(0);
            }
        }
        thread::sleep(FAILURE_PAUSE);
        Err(error)
    }
}
