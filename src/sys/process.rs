//! What concerns the process and its descriptors rather than sockets: which file a number names, writing to standard
//! output without ever sleeping in it, and how many descriptors there may be.

use super::{POLLOUT, PollEntry, check, check_len, poll};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, TryLockError};

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use libc::{fstat, stat};
/// Without the 64, glibc refuses to tell of a file whose length or number does not fit into 32 bits, on systems that have as many.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use libc::{fstat64 as fstat, stat64 as stat};

/// Which open file the number `fd` names: two different numbers, equal for as long as the descriptor stays the same file.
/// Pipes have a number of their own each, and on Linux sockets, too. All eventfds, timerfds and the like share one, and so do TCP
/// sockets on the BSDs and Apple's systems.
pub(crate) fn file_identity(fd: RawFd) -> io::Result<(u64, u64)> {
    let status = file_status(fd)?;
    // The field types differ between systems; the widest of them is 64 bits.
    #[allow(clippy::unnecessary_cast)]
    Ok((status.st_dev as u64, status.st_ino as u64))
}

fn file_status(fd: RawFd) -> io::Result<stat> {
    let mut status = MaybeUninit::<stat>::uninit();
    // SAFETY: the pointer is to writable room for one `stat`. A number that is not open is answered with EBADF.
    check(unsafe { fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: `fstat` has succeeded, so it has filled the whole structure.
    Ok(unsafe { status.assume_init() })
}

/// How much is written at a time to a terminal that is shared with others.
const TERMINAL_BYTES: usize = 128;

/// A descriptor to write to that may be shared with other programs, and how to do so without ever sleeping in it.
///
/// Making it non-blocking would be everybody else's surprise: the flag belongs to the *open file description*, and a shell
/// shares its terminal's with every program that it starts.
pub(crate) struct Output {
    fd: OwnedFd,
    kind: OutputKind,
}

enum OutputKind {
    /// A pipe or a terminal that we have opened once more: a description of our own, and non-blocking.
    Own,
    /// A socket, which can be told not to wait with each call.
    Socket,
    /// A pipe that cannot be opened once more, for want of permission or of a system that does so.
    SharedPipe,
    /// A terminal of that kind.
    SharedTerminal,
    /// A regular file and the like, which never blocks.
    File,
}

impl Output {
    pub(crate) fn new(fd: OwnedFd) -> Output {
        let kind = file_status(fd.as_raw_fd()).map_or(libc::S_IFREG, |status| status.st_mode & libc::S_IFMT);
        match kind {
            libc::S_IFSOCK => Output { fd, kind: OutputKind::Socket },
            libc::S_IFIFO | libc::S_IFCHR => match open_own_description(fd.as_fd()) {
                Some(own) => Output { fd: own, kind: OutputKind::Own },
                None if kind == libc::S_IFIFO => Output { fd, kind: OutputKind::SharedPipe },
                None => Output { fd, kind: OutputKind::SharedTerminal },
            },
            _ => Output { fd, kind: OutputKind::File },
        }
    }

    /// Writes as much of `bytes` as there is room for, without waiting for more.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.kind {
            OutputKind::Own | OutputKind::File => self.write_now(bytes),
            OutputKind::Socket => {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                // SAFETY: the pointer and the length are those of one borrowed slice, which the kernel only reads.
                check_len(unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
            }
            OutputKind::SharedPipe => self.write_shared(bytes),
            OutputKind::SharedTerminal => self.write_if_room(terminal_piece(bytes)),
        }
    }

    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of one borrowed slice, which the kernel only reads.
        check_len(unsafe { libc::write(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Linux has a call that never sleeps, for pipes.
    fn write_shared(&self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            // SAFETY: `part` describes one borrowed slice, which the kernel only reads; -1 is the position that the file
            // has, where it has one.
            let written =
                check_len(unsafe { libc::pwritev2(self.fd.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) });
            match written {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)) => {}
                written => return written,
            }
        }
        self.write_if_room(bytes)
    }

    /// Asks whether there is room right before writing. Another of our threads would take the room in between, so one writes at
    /// a time; another program may. Should one sleep because of that, the others do not wait for it: to them there is no room.
    fn write_if_room(&self, bytes: &[u8]) -> io::Result<usize> {
        // The terminal is the process's, by whichever descriptor it is written to, so it is here that its threads meet.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = match TURN.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            turn => turn,
        };
        let mut entry = [PollEntry::new(self.fd.as_raw_fd(), POLLOUT)];
        if poll(&mut entry, 0)? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.write_now(bytes)
    }
}

impl AsRawFd for Output {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// As much as a terminal that `poll` says has room takes without sleeping. On Linux it may have room for no more than 256 bytes
/// then, which are gone with the first piece, however short; and a control character, which may become several bytes, is a
/// piece by itself.
fn terminal_piece(bytes: &[u8]) -> &[u8] {
    let text = bytes.iter().take(TERMINAL_BYTES).take_while(|byte| !byte.is_ascii_control()).count();
    &bytes[..text.max(1).min(bytes.len())]
}

/// Opens the pipe or terminal behind `fd` once more for writing, if the system does that. By that name Apple's systems give us a
/// duplicate, without the flags: it is not our own, and whoever writes to it sleeps.
fn open_own_description(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let path = std::ffi::CString::new(format!("/dev/fd/{}", fd.as_raw_fd())).ok()?;
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: `path` is a live C string.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags) }).ok()?;
    // SAFETY: the kernel has just returned `fd` to us and nobody else knows it.
    let own = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: no pointer is passed.
    let flags = check(unsafe { libc::fcntl(own.as_raw_fd(), libc::F_GETFL) }).ok()?;
    (flags & libc::O_NONBLOCK != 0).then_some(own)
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
