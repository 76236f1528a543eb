//! The echo daemon's parts: its arguments, its journal, and how it is told to end. The protocol is the library's.

pub mod arguments;
pub mod control;
pub mod fleet;
pub mod journal;
pub mod manager;
pub mod worker;

use fdtask::reason;
use std::io;

/// Makes the line that says what the daemon cannot do, and why.
pub fn cannot(what: &str) -> impl FnOnce(io::Error) -> String {
    move |error| {
        let remedy = if error.raw_os_error() == Some(libc::EMFILE) { "; raise the limit with 'ulimit -n'" } else { "" };
        format!("cannot {what}: {}{remedy}", reason(&error))
    }
}
