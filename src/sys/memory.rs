//! Whether the system has memory to give.

use std::io;
use std::ptr;

/// Memory that nobody else is to have until this is dropped. None of it is used.
pub(crate) struct Held {
    piece: *mut libc::c_void,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: it is what `hold_memory` has mapped, all of it, and nobody else knows of it.
        unsafe { libc::munmap(self.piece, self.bytes) };
    }
}

/// Fails with `ENOMEM` unless the process could get so many bytes now, and holds them. They are mapped. (To allocate and free
/// them would do as well, but glibc takes a large block that is freed for a sign that more like it will come, and keeps all
/// blocks up to that size in its heap from then on, where a table that grows leaves holes.)
pub(crate) fn hold_memory(bytes: usize) -> io::Result<Held> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: a mapping of no file at an address that the system chooses replaces none, and nobody reads or writes it.
    let piece = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
    if piece == libc::MAP_FAILED {
        return Err(io::Error::from_raw_os_error(libc::ENOMEM));
    }
    Ok(Held { piece, bytes })
}

/// [`hold_memory`], given back at once.
pub(crate) fn ensure_memory(bytes: usize) -> io::Result<()> {
    hold_memory(bytes).map(drop)
}
