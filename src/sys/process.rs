//! The process's descriptors as numbers: which open file one names, and how many there may be.

use super::check;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use libc::{fstat, stat};
/// On a 32-bit system glibc's `fstat`, without the 64, fails for a file whose length or inode number takes more than 32 bits.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use libc::{fstat64 as fstat, stat64 as stat};

/// Which open file the number `fd` names: its device and its inode number, the same for as long as the number names that file.
/// Each pipe has an inode of its own, and on Linux so has each socket. All eventfds, timerfds and the like share one, and so do
/// TCP sockets on the BSDs and Apple's systems.
pub(crate) fn file_identity(fd: RawFd) -> io::Result<(u64, u64)> {
    let mut status = MaybeUninit::<stat>::uninit();
    // SAFETY: the pointer is to writable room for one `stat`. A number that is not open is answered with EBADF.
    check(unsafe { fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: `fstat` has succeeded, so it has filled the whole structure.
    let status = unsafe { status.assume_init() };
    // The field types differ between systems; the widest of them is 64 bits.
    #[allow(clippy::unnecessary_cast)]
    Ok((status.st_dev as u64, status.st_ino as u64))
}

/// Makes sure that the process may have `wanted` descriptors open, by raising its own limit (`RLIMIT_NOFILE`) as far as the
/// system allows; returns how many it may have then, which can be fewer, or more.
///
/// # Errors
/// What `getrlimit(2)` says. That the limit cannot be raised is no error.
pub fn raise_descriptor_limit(wanted: usize) -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit`.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    // The type is signed on some systems.
    let wanted = libc::rlim_t::try_from(wanted).unwrap_or(libc::rlim_t::MAX);
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
        // SAFETY: the pointer is to a live `rlimit`.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}
