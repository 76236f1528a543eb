//! Whether there is memory for what a client is about to need.
//!
//! A server takes memory in many small steps: for a task, for a line of its log, for a table that doubles. Rust ends the process
//! when one of them fails. On Linux that is rare, because the system promises more memory than it has; but it happens under
//! `ulimit -v`, with `vm.overcommit_memory` set to 2, and where addresses have 32 bits. So before a client gets something, one
//! piece of memory is asked for that is larger than all that, and given back at once. If there is none, the client waits in the
//! kernel's queue, as without a descriptor.

use crate::descriptor::Descriptor;
use crate::sys;
use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// What is asked for before a connection is accepted: more than it takes beside the tables, and than the log and everybody else
/// who does not ask may take meanwhile.
const SPARE_BYTES: usize = 256 * 1024;

/// More than all the tables of a scheduler take for a descriptor and its task. They may all double for the same connection.
const TABLES_BYTES_PER_DESCRIPTOR: usize = 256;

/// Accepts a connection, if there is memory for it; without, this fails like `accept` itself, with `ENOMEM`.
pub(crate) fn accept(listener: &Descriptor) -> io::Result<(OwnedFd, SocketAddr)> {
    // A power of two, so that while clients come the piece grows seldom: the allocator has a piece of the same size ready.
    let descriptors = listener.mailbox().owned.borrow().reach().next_power_of_two();
    ensure_memory(SPARE_BYTES + descriptors * TABLES_BYTES_PER_DESCRIPTOR)?;
    sys::accept(listener.as_fd())
}

/// Fails with `ENOMEM` unless there are so many bytes.
pub(crate) fn ensure_memory(bytes: usize) -> io::Result<()> {
    let mut piece = Vec::<u8>::new();
    let outcome = piece.try_reserve_exact(bytes);
    // Or the compiler would not ask for what nobody uses.
    black_box(&piece);
    outcome.map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))
}
