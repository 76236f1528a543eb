//! Writing to a descriptor that is shared with other programs, such as standard output, without ever sleeping in it.

use super::{POLLOUT, check, poll, poll_entry, send};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::{Mutex, TryLockError};

/// How much is written at a time to a terminal that is shared with others.
const TERMINAL_BYTES: usize = 128;

/// A descriptor to write to that may be shared with other programs, and how to do so without ever sleeping in it.
///
/// Making it non-blocking would be everybody else's surprise: the flag belongs to the *open file description*, and a shell
/// shares its terminal's with every program that it starts.
pub(crate) struct Output {
    file: File,
    kind: OutputKind,
}

enum OutputKind {
    /// A regular file and the like, which never blocks; or a pipe or a terminal that we have opened once more: a description of
    /// our own, and non-blocking.
    Plain,
    /// A socket, which can be told not to wait with each call.
    Socket,
    /// A pipe that cannot be opened once more: it is not permitted, or the system does not do so.
    SharedPipe,
    /// A terminal that cannot be opened once more.
    SharedTerminal,
}

impl Output {
    pub(crate) fn new(fd: OwnedFd) -> Output {
        let file = File::from(fd);
        let shared = match file.metadata().map(|status| status.file_type()) {
            Ok(kind) if kind.is_fifo() => OutputKind::SharedPipe,
            Ok(kind) if kind.is_char_device() => OutputKind::SharedTerminal,
            Ok(kind) if kind.is_socket() => return Output { file, kind: OutputKind::Socket },
            _ => return Output { file, kind: OutputKind::Plain },
        };
        match open_own_description(&file) {
            Some(own) => Output { file: own, kind: OutputKind::Plain },
            None => Output { file, kind: shared },
        }
    }

    /// Writes as much of `bytes` as there is room for, without waiting for more.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.kind {
            OutputKind::Plain => (&self.file).write(bytes),
            OutputKind::Socket => send(self, bytes),
            OutputKind::SharedPipe => self.write_shared(bytes),
            OutputKind::SharedTerminal => self.write_if_room(bytes, terminal_piece),
        }
    }

    /// Linux has a call that never sleeps, for pipes. (Whoever confines programs may not know it, and refuse it with `EPERM`,
    /// which is no pipe's.)
    fn write_shared(&self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            // SAFETY: `part` describes one borrowed slice, which the kernel only reads; -1 is the position that the file
            // has, where it has one.
            let written =
                super::check_len(unsafe { libc::pwritev2(self.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) });
            // The kernel does not know the flag, not for a pipe, or not the call, for which the C library says so.
            match written.as_ref().map_err(io::Error::raw_os_error) {
                Err(Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EPERM)) => {}
                _ => return written,
            }
        }
        self.write_if_room(bytes, |bytes| bytes)
    }

    /// Writes piece by piece, up to the end of a line, so that lines stay whole where there is room for them; asks whether there
    /// is right before each. Another of our threads would take the room in between, so one writes at a time; another program
    /// may. Should one sleep because of that, the others do not wait for it: to them there is no room.
    fn write_if_room(&self, bytes: &[u8], piece: fn(&[u8]) -> &[u8]) -> io::Result<usize> {
        // The terminal is the process's, by whichever descriptor it is written to, so it is here that its threads meet.
        static WRITER: Mutex<()> = Mutex::new(());
        let _writer = match WRITER.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            writer => writer,
        };
        let mut written = 0;
        loop {
            match self.write_piece(piece(&bytes[written..])) {
                Ok(count) if count > 0 => written += count,
                // Whoever writes the rest is told.
                _ if written > 0 => return Ok(written),
                failed => return failed,
            }
            if written == bytes.len() || bytes[written - 1] == b'\n' {
                return Ok(written);
            }
        }
    }

    fn write_piece(&self, piece: &[u8]) -> io::Result<usize> {
        if poll(&mut [poll_entry(self.as_raw_fd(), POLLOUT)], 0)? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        (&self.file).write(piece)
    }
}

impl AsRawFd for Output {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// As much as a terminal that `poll` says has room takes without sleeping. On Linux it may have room for no more than 256 bytes
/// then, which are gone with the first piece, however short; and a control character, which may become several bytes, is a
/// piece by itself.
fn terminal_piece(bytes: &[u8]) -> &[u8] {
    let text = bytes.iter().take(TERMINAL_BYTES).take_while(|byte| !byte.is_ascii_control()).count();
    &bytes[..text.max(1).min(bytes.len())]
}

/// Opens the pipe or terminal behind `file` once more for writing, if the system does that. By that name Apple's systems give
/// us a duplicate, without the flags: it is not our own, and whoever writes to it sleeps.
fn open_own_description(file: &File) -> Option<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/dev/fd/{}", file.as_raw_fd());
    let own = File::options().write(true).custom_flags(flags).open(path).ok()?;
    // SAFETY: no pointer is passed.
    let flags = check(unsafe { libc::fcntl(own.as_raw_fd(), libc::F_GETFL) }).ok()?;
    (flags & libc::O_NONBLOCK != 0).then_some(own)
}
