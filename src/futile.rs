//! A descriptor that says it is ready, again and again, and then is not.
//!
//! Readiness is a hint, so a task whose call achieves nothing waits again. If the call can *never* achieve anything while
//! the hint goes on (a firewall that refuses each connection, a kernel short of memory for as long as it lasts, a
//! tracer that makes a call fail), waiting again is a loop that never sleeps. So after a few futile resumes in a row the task
//! pauses between them.

use crate::context::Context;
use crate::task::Wait;
use std::io;
use std::time::Duration;

/// So many futile resumes in a row are taken for bad luck.
pub const FUTILE_RESUMES_MAX: u8 = 8;

/// How long a task pauses after each futile resume from then on.
pub const FUTILE_PAUSE: Duration = Duration::from_millis(100);

/// Counts futile resumes.
#[derive(Debug, Default)]
pub(crate) struct Futile(u8);

impl Futile {
    /// Something was achieved.
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }

    /// Nothing was achieved: what to wait for before trying again. `wait`, as long as it may be bad luck.
    pub(crate) fn wait(&mut self, cx: &Context<'_>, wait: Wait) -> Wait {
        if cx.timed_out() {
            // A deadline promises nothing about the descriptor, so finding it not ready means nothing.
            return wait;
        }
        if self.0 < FUTILE_RESUMES_MAX {
            self.0 += 1;
            return wait;
        }
        Wait::Until(cx.now() + FUTILE_PAUSE)
    }
}

/// Whether a call on a connection failed for now only. The system's lack of buffers passes like the socket's.
pub(crate) fn try_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
