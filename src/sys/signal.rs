//! Signals as something that can be received.

use super::{check, check_len};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
#[cfg(not(target_os = "linux"))]
use std::sync::atomic::{AtomicI32, Ordering};

// The calling thread's `errno`, by the name that each system has for it.
#[cfg(any(target_os = "netbsd", target_os = "openbsd"))]
use libc::__errno as errno_place;
#[cfg(target_os = "dragonfly")]
use libc::__errno_location as errno_place;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use libc::__error as errno_place;

/// A descriptor in which `signals` wait, in this thread and in those that it starts from now on, instead of having their
/// usual effect.
///
/// Blocking them is what closes the gap between looking and sleeping: a signal that arrives just before `poll` sleeps is
/// in the descriptor, which `poll` then finds ready. They stay blocked when it is closed, so that a signal that comes while
/// the program is about to end does not change how it ends.
#[cfg(target_os = "linux")]
pub(crate) fn signal_source(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let set = signal_set(signals)?;
    change_mask(libc::SIG_BLOCK, &set)?;
    if signals.contains(&libc::SIGCHLD) {
        heed_children()?;
    }
    // SAFETY: `set` is an initialised signal set.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) })?;
    // SAFETY: the kernel has just returned `fd` to us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Any other signal that is ignored arrives all the same while it is blocked. But if `SIGCHLD` is ignored, which a program may
/// have inherited, the kernel sends none, and keeps no exit status either.
#[cfg(target_os = "linux")]
fn heed_children() -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: no new action is passed, and the pointer is to writable room for the old one, which the call fills.
    check(unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), action.as_mut_ptr()) })?;
    // SAFETY: `sigaction` has just filled it.
    if unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN {
        // SAFETY: the usual effect is no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }
    Ok(())
}

/// Has `command` unblock `signals` in the process that it makes. That inherits what is blocked here, such as by
/// [`signal_source`] on Linux, and passes it on to the program that it runs.
pub(crate) fn unblock_in(command: &mut Command, signals: &[libc::c_int]) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let set = signal_set(signals)?;
    // SAFETY: in the new process it makes one system call, and touches nothing but its own copy of the set.
    unsafe { command.pre_exec(move || change_mask(libc::SIG_UNBLOCK, &set)) };
    Ok(())
}

fn signal_set(signals: &[libc::c_int]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is to writable room for one `sigset_t`, which the call fills.
    check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
    // SAFETY: `sigemptyset` has just filled it.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: `set` is an initialised signal set, exclusively ours.
        check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
    }
    Ok(set)
}

/// Blocks or unblocks the signals of `set` in this thread.
fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is an initialised signal set; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The next signal that has arrived in a [`signal_source`], or an error of the kind `WouldBlock`.
#[cfg(target_os = "linux")]
pub(crate) fn receive_signal(source: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let len = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the pointer is to writable room of `len` bytes.
    let count = check_len(unsafe { libc::read(source.as_raw_fd(), info.as_mut_ptr().cast(), len) })?;
    if count != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the read has filled the whole structure.
    let info = unsafe { info.assume_init() };
    Ok(info.ssi_signo as libc::c_int)
}

/// For each signal the end of the pipe that the handler writes to. A handler can reach nothing but a static, and this one exists
/// only where the system has no better way.
#[cfg(not(target_os = "linux"))]
static SIGNAL_PIPES: [AtomicI32; 32] = [const { AtomicI32::new(-1) }; 32];

#[cfg(not(target_os = "linux"))]
extern "C" fn note_signal(signal: libc::c_int) {
    let byte = signal as u8;
    let fd = SIGNAL_PIPES[signal as usize].load(Ordering::Relaxed);
    // SAFETY: no argument is passed, and it may be called in a signal handler.
    let errno = unsafe { errno_place() };
    // Whoever is interrupted here may be about to look why a call of their own has failed.
    // SAFETY: it is the calling thread's own `int`, which lives as long as the thread.
    let before = unsafe { errno.read() };
    // SAFETY: `write` may be called in a signal handler; the pointer is to one live byte. The pipe is non-blocking: if it is
    // full, a byte of this signal or another wakes the reader anyway.
    let _ = unsafe { libc::write(fd, std::ptr::from_ref(&byte).cast(), 1) };
    // SAFETY: as above; nothing else refers to it.
    unsafe { errno.write(before) };
}

/// A descriptor in which `signals` wait, on systems without `signalfd`: the self-pipe.
#[cfg(not(target_os = "linux"))]
pub(crate) fn signal_source(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    use std::os::fd::IntoRawFd;
    // Here a bell is a pipe. The end that is rung lives as long as the process, like the handler.
    let (sender, receiver) = super::bell()?;
    let sender = sender.into_raw_fd();
    for signal in signals {
        SIGNAL_PIPES[*signal as usize].store(sender, Ordering::Relaxed);
        let handler = note_signal as extern "C" fn(libc::c_int);
        // SAFETY: the handler calls nothing but `write`, which is safe in a signal handler, and leaves `errno` as it was.
        if unsafe { libc::signal(*signal, handler as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(receiver)
}

/// The next signal that has arrived in a [`signal_source`], or an error of the kind `WouldBlock`.
#[cfg(not(target_os = "linux"))]
pub(crate) fn receive_signal(source: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut byte = 0u8;
    // SAFETY: the pointer is to one writable byte.
    check_len(unsafe { libc::read(source.as_raw_fd(), std::ptr::from_mut(&mut byte).cast(), 1) })?;
    Ok(libc::c_int::from(byte))
}
