//! All unsafe code: cores, limits, signals, stopping a process, CPU time, two socket options. It knows nothing above it.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether somebody asked this process to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// From now on SIGINT, SIGTERM and SIGHUP only make [`interrupted`] true, so that the children can be ended by their handles.
pub fn note_interrupts() {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The cores this process may run on.
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: all zeroes is an empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is as large as the size says, and 0 is this thread.
    if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) } < 0 {
        return Vec::new();
    }
    // SAFETY: every number asked for is below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

fn core_set(cores: &[usize]) -> libc::cpu_set_t {
    // SAFETY: all zeroes is an empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &core in cores.iter().filter(|&&core| core < libc::CPU_SETSIZE as usize) {
        // SAFETY: `core` is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    set
}

/// Makes `command` run on `cores` (anywhere if there are none), in a process group of its own, so that [`end_group`] ends what it
/// has started, too; and makes the kernel end it should this process die in a way that leaves no time to do so, SIGKILL above
/// all.
pub fn contain(command: &mut Command, cores: &[usize]) {
    let set = (!cores.is_empty()).then(|| core_set(cores));
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: the closure makes system calls and nothing else: no allocation and no lock between fork and exec.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // The parent may have died before the kernel was told to watch it.
            if libc::getppid() as u32 != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match &set {
                Some(set) => check(libc::sched_setaffinity(0, mem::size_of_val(set), set)),
                None => Ok(()),
            }
        });
    }
}

/// Ends a [contained](contain) child with all that it has started: the server of a wrapper such as `sh -c`, a build's compilers.
pub fn end_group(pid: u32) {
    // SAFETY: no pointer is passed. That nobody is left in the group is no error.
    unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
}

/// Stops a process, until [`go_on`] is called.
pub fn stop(pid: u32) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::kill(pid as libc::pid_t, libc::SIGSTOP) })
}

/// Lets a process go on that was [stopped](stop).
pub fn go_on(pid: u32) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::kill(pid as libc::pid_t, libc::SIGCONT) })
}

/// The CPU time of a process in nanoseconds: what the scheduler itself counts with, of all threads, those that have ended, too.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: `clock` is a valid clock to write to.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to.
    check(unsafe { libc::clock_gettime(clock, &mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Raises the soft limit on descriptors to the hard one and returns it. Children inherit it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit to write to.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit to read from.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}

fn set_option(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is an int of `size` bytes and lives until the call returns.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), size) })
}

/// Lets bind choose no port: connect will, knowing both ends, and can then use one that is taken towards another address.
pub fn bind_address_only(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Lets a close that our side began end without TIME_WAIT: see `load::churn`.
pub fn skip_time_wait(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_LINGER2, -1)
}
