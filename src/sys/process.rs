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

/// Signals as something that can be received: they are kept from their usual effect, and wait in a descriptor instead.
///
/// Blocking them is what closes the gap between looking and sleeping: a signal that arrives just before `poll` sleeps is
/// in the descriptor, which `poll` then finds ready. They stay blocked when this is dropped, so that a signal that comes
/// while the program is about to end does not change how it ends.
#[cfg(target_os = "linux")]
pub(crate) struct SignalSource(OwnedFd);

#[cfg(target_os = "linux")]
impl SignalSource {
    /// Blocks `signals` in this thread and in those it starts from now on, and receives them.
    pub(crate) fn new(signals: &[libc::c_int]) -> io::Result<SignalSource> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the pointer is to writable room for one `sigset_t`, which the call fills.
        check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
        // SAFETY: `sigemptyset` has just filled it.
        let mut set = unsafe { set.assume_init() };
        for signal in signals {
            // SAFETY: `set` is an initialised signal set, exclusively ours.
            check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
        }
        // SAFETY: `set` is an initialised signal set; the old mask is not asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: `set` is an initialised signal set.
        let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) })?;
        // SAFETY: the kernel has just returned `fd` to us and nobody else knows it.
        Ok(SignalSource(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that has arrived, or an error of the kind `WouldBlock`.
    pub(crate) fn receive(&self) -> io::Result<libc::c_int> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let len = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the pointer is to writable room of `len` bytes.
        check_len(unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), len) })?;
        // SAFETY: a read from a signalfd that succeeds fills whole structures, and there was room for one.
        let info = unsafe { info.assume_init() };
        Ok(info.ssi_signo as libc::c_int)
    }
}

/// Signals as something that can be received, on systems without `signalfd`: the self-pipe.
#[cfg(not(target_os = "linux"))]
pub(crate) struct SignalSource(OwnedFd);

/// The end of the pipe that the signal handler writes to. A handler can reach nothing but a static; this is the one piece
/// of global state in the crate, and exists only where the system has no better way.
#[cfg(not(target_os = "linux"))]
static SIGNAL_PIPE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

#[cfg(not(target_os = "linux"))]
extern "C" fn note_signal(signal: libc::c_int) {
    let byte = signal as u8;
    let fd = SIGNAL_PIPE.load(std::sync::atomic::Ordering::Relaxed);
    // SAFETY: `write` may be called in a signal handler; the pointer is to one live byte. The pipe is non-blocking: if it
    // is full, a byte of this signal or another wakes the reader anyway.
    let _ = unsafe { libc::write(fd, std::ptr::from_ref(&byte).cast(), 1) };
}

#[cfg(not(target_os = "linux"))]
impl SignalSource {
    /// Installs a handler for `signals` that writes each to a pipe, and receives them from it.
    pub(crate) fn new(signals: &[libc::c_int]) -> io::Result<SignalSource> {
        let mut ends: [libc::c_int; 2] = [-1; 2];
        // SAFETY: the pointer is to room for two descriptors.
        check(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
        for end in ends {
            // SAFETY: no pointer is passed.
            check(unsafe { libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK) })?;
            // SAFETY: no pointer is passed.
            check(unsafe { libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        }
        // SAFETY: `pipe` has just returned this end to us; the other one lives as long as the process, like the handler.
        let receiver = unsafe { OwnedFd::from_raw_fd(ends[0]) };
        SIGNAL_PIPE.store(ends[1], std::sync::atomic::Ordering::Relaxed);
        for signal in signals {
            let handler = note_signal as extern "C" fn(libc::c_int);
            // SAFETY: the handler calls nothing but `write`, which is safe in a signal handler.
            if unsafe { libc::signal(*signal, handler as libc::sighandler_t) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(SignalSource(receiver))
    }

    /// The next signal that has arrived, or an error of the kind `WouldBlock`.
    pub(crate) fn receive(&self) -> io::Result<libc::c_int> {
        let mut byte = 0u8;
        // SAFETY: the pointer is to one writable byte.
        check_len(unsafe { libc::read(self.0.as_raw_fd(), std::ptr::from_mut(&mut byte).cast(), 1) })?;
        Ok(libc::c_int::from(byte))
    }
}

impl From<SignalSource> for OwnedFd {
    fn from(source: SignalSource) -> OwnedFd {
        source.0
    }
}

impl std::os::fd::AsFd for SignalSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How many descriptors the process may have open (`RLIMIT_NOFILE`), after raising that to `wanted`, or as near to it as
/// the system lets us.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit`.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
        // SAFETY: the pointer is to a live `rlimit`.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}
