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
    move |error| format!("cannot {what}: {}", reason(&error))
}
