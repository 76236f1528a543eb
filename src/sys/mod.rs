//! All unsafe code, and almost every system call; knows nothing above it.
//!
//! Each function is the thinnest safe wrapper that its callers need: it takes a borrowed descriptor where it acts on one, and
//! turns `-1` into the `errno` it stands for. Numbers (`RawFd`) appear where the kernel itself defines what happens for a number
//! that names nothing, and where the service manager hands them over.

#![allow(unsafe_code)]

mod bell;
mod inherit;
mod memory;
mod output;
mod poll;
mod prefetch;
mod process;
mod signal;
mod socket;

#[cfg(target_os = "linux")]
mod epoll;

pub(crate) use bell::{bell, ring, silence};
#[cfg(target_os = "linux")]
pub(crate) use epoll::{Epoll, epoll_event};
pub(crate) use inherit::take_passed_listeners;
pub(crate) use memory::{Held, ensure_memory, hold_memory};
pub(crate) use output::Output;
pub(crate) use poll::{POLLIN, POLLNVAL, POLLOUT, poll, poll_entry, pollfd};
pub(crate) use prefetch::prefetch;
pub(crate) use process::file_identity;
pub use process::raise_descriptor_limit;
pub(crate) use signal::{receive_signal, signal_source, unblock_in};
pub(crate) use socket::{
    accept, check_socket, connect_error, is_queue_empty, listen, recv, recv_queue_bytes, send, send_queue_bytes,
    set_nonblocking, share_address, shutdown_send, start_connect,
};

use std::io;

/// Turns the `-1` of a system call into the error that `errno` names.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// [`check`] for the calls that return a number of bytes.
#[inline]
fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
