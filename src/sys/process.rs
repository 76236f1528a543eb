//! What concerns the process and its descriptors rather than sockets: which file a number names, writing to standard
//! output without ever sleeping in it, and signals as something that can be received.

use super::{check, check_len};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which open file the number `fd` names: two different numbers, equal for as long as the descriptor stays the same file.
/// Sockets and pipes have a number of their own each; all eventfds, timerfds and the like share one.
pub(crate) fn file_identity(fd: RawFd) -> io::Result<(u64, u64)> {
    let status = file_status(fd)?;
    // The field types differ between systems; the widest of them is 64 bits.
    #[allow(clippy::unnecessary_cast)]
    Ok((status.st_dev as u64, status.st_ino as u64))
}

fn file_status(fd: RawFd) -> io::Result<libc::stat> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the pointer is to writable room for one `stat`. A number that is not open is answered with EBADF.
    check(unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: `fstat` has succeeded, so it has filled the whole structure.
    Ok(unsafe { status.assume_init() })
}

/// Opens the file behind `fd` once more for writing, as an open file description of our own, so that making it
/// non-blocking is nobody else's surprise: the flag belongs to the description, and a shell shares its terminal's with
/// every program that it starts.
///
/// `None` where that is not possible, or not sensible: a regular file never blocks (and has its position in the shared
/// description), and a socket cannot be opened by its path.
pub(crate) fn open_own_description(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = file_status(fd.as_raw_fd()).ok()?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFIFO && kind != libc::S_IFCHR {
        return None;
    }
    let path = std::ffi::CString::new(format!("/dev/fd/{}", fd.as_raw_fd())).ok()?;
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: `path` is a live C string.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags) }).ok()?;
    // SAFETY: the kernel has just returned `fd` to us and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Writes as much of `bytes` as there is room for. A socket is never waited for, whatever its flags are.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one borrowed slice, which the kernel only reads.
    let sent = check_len(unsafe {
        libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    });
    match sent {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {}
        sent => return sent,
    }
    // SAFETY: as above.
    check_len(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// How many descriptors the process may have open (`RLIMIT_NOFILE`), after raising that to `wanted`, or as near to it as
/// the system lets us.
pub(crate) fn raise_descriptor_limit(wanted: usize) -> io::Result<usize> {
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
