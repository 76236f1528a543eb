//! Who is told what happens. The library itself prints nothing; logs, traces and counters are observers.

use crate::task::{End, Task, TaskId, Wait};
use std::io;

/// Is told what happens to tasks. Every method does nothing by default.
///
/// An observer runs in the middle of the scheduler's work: it should note what it is told and return. It may use a
/// [`Handle`](crate::Handle) to wake a task that does something about it. If it panics while it is told something, that is
/// caught, and ends nobody.
#[expect(unused_variables, reason = "an observer overrides what it wants to hear")]
pub trait Observer {
    /// A task has been spawned, by the task `by` or, without one, from outside (see
    /// [`TaskInfo::spawned_by`](crate::TaskInfo::spawned_by)). It runs in the next turn.
    fn spawned(&mut self, id: TaskId, by: Option<TaskId>, task: &dyn Task) {}

    /// Whether `resumed` and `waiting` are to be called, which happens for every message. Asked once.
    fn is_tracing(&self) -> bool {
        false
    }

    /// A task is about to be resumed, because of this wait. Only if the observer [is tracing](Observer::is_tracing).
    fn resumed(&mut self, id: TaskId, why: Wait) {}

    /// A task has been resumed and waits again. Only if the observer [is tracing](Observer::is_tracing).
    fn waiting(&mut self, id: TaskId, wait: Wait) {}

    /// A task has something to say to whoever operates the program: see [`Context::report`](crate::Context::report).
    fn reported(&mut self, id: TaskId, message: &str) {}

    /// A task has ended, and is about to be dropped.
    fn ended(&mut self, id: TaskId, by: Option<TaskId>, task: &dyn Task, end: &End) {}

    /// A task, or the error that it ended with, has panicked while it was dropped; everything else of it has been dropped.
    fn drop_panicked(&mut self, id: TaskId, message: &str) {}

    /// The system could not poll. The scheduler tries again, after a pause; this is said each time that it fails. Who waits for
    /// [`Signals`](crate::Signals) is then resumed as if one had come, and messages by a [`Remote`](crate::Remote) are received,
    /// so that these are heard all the same.
    fn poll_failed(&mut self, error: &io::Error) {}
}

/// The system's reason in its own words, for a person: the text of `error` without the ` (os error 104)` that Rust adds to its
/// end.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.find(')').is_some_and(|end| end + 1 == number.len()) => words.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_loses_the_number_at_its_end_and_nothing_else() {
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        let words = reason(&error);
        assert!(!words.is_empty() && !words.contains("os error"), "{words}");
        let wrapped = io::Error::other(format!("cannot open 'x': {error}; it was there (yesterday)"));
        assert_eq!(reason(&wrapped), wrapped.to_string());
        assert_eq!(reason(&io::Error::other(format!("cannot open 'x': {error}"))), format!("cannot open 'x': {words}"));
    }
}
