//! A number that is awaited as if it were sure to stay open. A program breaks that promise only by unsafe code, or with a number
//! that it was started with; a scripted poller has no files at all.

use std::os::fd::{BorrowedFd, RawFd};

pub fn promised(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: it is only waited for, which does nothing to whatever file has that number, or to none.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
