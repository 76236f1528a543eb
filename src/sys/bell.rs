//! A bell: a descriptor that can be received from once it has been rung.

use super::check_len;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What is written and read: a counter takes 8 bytes at a time, and a pipe takes so few as a whole.
const RING: [u8; 8] = 1_u64.to_ne_bytes();

/// Makes a bell: the end that is rung, and the one that hears it. Both are non-blocking, and closed on exec.
///
/// Both are the same counter (`eventfd`). To ring a counter takes no memory, so it cannot fail for want of memory, as writing
/// into a socket or a pipe can.
#[cfg(target_os = "linux")]
pub(crate) fn bell() -> io::Result<(OwnedFd, OwnedFd)> {
    use std::os::fd::FromRawFd;
    // SAFETY: no pointer is passed; the call only makes a descriptor.
    let fd = super::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel has just returned `fd` to us and nobody else knows it.
    let bell = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((bell.try_clone()?, bell))
}

/// Makes a bell, on systems without counters: a pipe.
#[cfg(not(target_os = "linux"))]
pub(crate) fn bell() -> io::Result<(OwnedFd, OwnedFd)> {
    let (hears, rings) = io::pipe()?;
    let (rings, hears) = (OwnedFd::from(rings), OwnedFd::from(hears));
    super::set_nonblocking(&rings)?;
    super::set_nonblocking(&hears)?;
    Ok((rings, hears))
}

/// Rings the bell.
pub(crate) fn ring(bell: &OwnedFd) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one live array, which the kernel only reads.
    check_len(unsafe { libc::write(bell.as_raw_fd(), RING.as_ptr().cast(), RING.len()) }).map(drop)
}

/// Silences the bell until it is rung again.
pub(crate) fn silence(bell: impl AsFd) -> io::Result<()> {
    let mut rung = [0; RING.len()];
    // SAFETY: the pointer and the length are those of one exclusively borrowed array.
    check_len(unsafe { libc::read(bell.as_fd().as_raw_fd(), rung.as_mut_ptr().cast(), rung.len()) }).map(drop)
}
