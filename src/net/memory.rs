//! How much memory must be left before a client gets any.
//!
//! A server takes memory in many small steps: for a task, for a line of its log, for a table that doubles. Rust ends the process
//! when one of them fails. On Linux that is rare, because the system promises more memory than it has; but it happens under
//! `ulimit -v`, with `vm.overcommit_memory` set to 2, and where addresses have 32 bits. So whoever is about to give a client
//! something asks first whether there is more than all that together. If there is not, a client that wants to connect waits in
//! the kernel's queue, as without a descriptor.

use crate::descriptor::Descriptor;
use crate::sys;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// What must be left for a connection to be accepted: more than it takes beside the tables, and than everybody else may take
/// without asking meanwhile.
const SPARE_BYTES: usize = 256 * 1024;

/// More than all the tables of a scheduler take for a descriptor and its task. They may all double for the same connection.
const TABLES_BYTES_PER_DESCRIPTOR: usize = 256;

/// Accepts a connection, if there is memory for one more than there have been; without, this fails like `accept` itself, with
/// `ENOMEM`.
pub(crate) fn accept_one_more(listener: &Descriptor) -> io::Result<(OwnedFd, SocketAddr)> {
    let descriptors = listener.mailbox.owned.borrow().reach();
    sys::ensure_memory(SPARE_BYTES + descriptors * TABLES_BYTES_PER_DESCRIPTOR)?;
    sys::accept(listener.as_fd())
}
