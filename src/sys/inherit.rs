//! Descriptors and variables that the process was started with.

use super::socket::{set_nonblocking_cloexec, set_stream_options, socket_option};
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The first descriptor that a service manager passes (`SD_LISTEN_FDS_START`).
const FIRST_PASSED: RawFd = 3;

/// Takes the listening sockets that the service manager has passed to this process (`LISTEN_FDS`, if `LISTEN_PID` is this
/// process), in order: non-blocking, closed on exec, and with the options of [`set_stream_options`]. What is closed on exec
/// already was not passed, or has been taken before, and is left alone. (The variables stay: to remove them is safe only while
/// there is no other thread. A child has another number than `LISTEN_PID`.)
pub(crate) fn take_passed_listeners() -> io::Result<Vec<OwnedFd>> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<RawFd>().ok());
    if number("LISTEN_PID") != RawFd::try_from(std::process::id()).ok() || env::var_os("LISTEN_FDS").is_none() {
        return Ok(Vec::new());
    }
    // To listen elsewhere, as if nothing had been passed, is not what the service manager wants.
    let count = number("LISTEN_FDS").filter(|count| *count >= 0);
    let count =
        count.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "LISTEN_FDS is no number of descriptors"))?;
    let mut listeners = Vec::new();
    for fd in FIRST_PASSED..FIRST_PASSED.saturating_add(count) {
        listeners.extend(take_passed_listener(fd)?);
    }
    Ok(listeners)
}

fn take_passed_listener(fd: RawFd) -> io::Result<Option<OwnedFd>> {
    let refuse =
        |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd}, passed at start, {what}"));
    // SAFETY: no pointer is passed. A number that is not open is answered with EBADF.
    match unsafe { libc::fcntl(fd, libc::F_GETFD) } {
        -1 => return Err(refuse("is not open")),
        flags if flags & libc::FD_CLOEXEC != 0 => return Ok(None),
        _ => {}
    }
    // SAFETY: it is open, and the service manager's protocol says that it is ours. Nobody in this process has opened it, or it
    // would be closed on exec, and nobody has taken it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if !is_tcp_listener(fd.as_fd()) {
        return Err(refuse("is not a listening TCP socket"));
    }
    set_nonblocking_cloexec(&fd)?;
    set_stream_options(&fd)?;
    Ok(Some(fd))
}

fn is_tcp_listener(fd: BorrowedFd<'_>) -> bool {
    // The BSDs answer with the bit that the option is, not with 1.
    let listens = socket_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).is_ok_and(|value| value != 0);
    // Only TCP has this option, and a Unix socket has not.
    listens && socket_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY).is_ok()
}
