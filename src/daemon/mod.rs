//! The echo daemon's parts: its arguments, its journal, and how it is told to end. The protocol is the library's.

pub mod arguments;
pub mod control;
pub mod journal;

use std::io;

/// The system's reason in its own words, without the number that Rust adds.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
