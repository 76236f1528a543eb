//! A descriptor that the scheduler closes, so that no wait for it is left when its number is used again.

use crate::handle::{Handle, Mailbox};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

/// An open descriptor that is closed by way of the scheduler.
///
/// Dropping it does not close it there and then. The scheduler closes it once the running task has returned, or when its next
/// turn begins if none runs, after giving an error to whoever still waits on it, and taking it out of the poller. (A scheduler
/// that is gone has nothing left to do: then it is closed at once.) So a number is never reused while an old wait for it is
/// still filed, which is where event loops lose wake-ups. And because the scheduler knows how long the descriptor lives, the
/// poller may park it when it is idle; a descriptor that is only waited on by number is never parked.
///
/// The types of the standard library want a descriptor of their own to act on, which can be a duplicate:
/// ```
/// use fdtask::{Scheduler, future};
/// use std::net::UdpSocket;
///
/// let mut scheduler = Scheduler::new();
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// socket.set_nonblocking(true)?;
/// # let address = socket.local_addr()?;
/// let descriptor = scheduler.adopt(socket.try_clone()?);
/// scheduler.spawn(future::task(async move {
///     future::readable(&descriptor).await?;
///     let (len, peer) = socket.recv_from(&mut [0; 1500])?; // `WouldBlock`: wait again.
///     println!("{len} bytes from {peer}");
///     Ok(())
/// }));
/// # UdpSocket::bind("127.0.0.1:0")?.send_to(b"hello", address)?;
/// scheduler.run();
/// # std::io::Result::Ok(())
/// ```
#[must_use = "dropping it closes the descriptor"]
pub struct Descriptor {
    /// `None` only while it is being dropped.
    fd: Option<OwnedFd>,
    pub(crate) mailbox: Rc<Mailbox>,
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd, mailbox: Rc<Mailbox>) -> Descriptor {
        let number = fd.as_raw_fd();
        mailbox.owned.borrow_mut().insert(number);
        mailbox.post(|mailbox| mailbox.adopted.put(number));
        Descriptor { fd: Some(fd), mailbox }
    }

    /// A way to talk to the scheduler that closes this descriptor.
    pub fn scheduler(&self) -> Handle {
        Handle(Rc::clone(&self.mailbox))
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Descriptor").field(&self.as_raw_fd()).finish()
    }
}

impl AsFd for Descriptor {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("a descriptor is open until it is dropped").as_fd()
    }
}

impl AsRawFd for Descriptor {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        // Not by way of `as_fd`: -1 is how the kernel writes that there is none, and how `None` is stored, so nothing is
        // compared here.
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // A scheduler that is gone has no wait to withdraw, and takes no mail: then the descriptor is closed right here.
        if let Some(fd) = self.fd.take() {
            self.mailbox.post(|mailbox| mailbox.closing.put(fd));
        }
    }
}

/// A set of descriptor numbers: dense, because they are small integers.
#[derive(Default)]
pub(crate) struct FdSet(Vec<bool>);

impl FdSet {
    pub(crate) fn insert(&mut self, fd: RawFd) {
        let index = fd as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, false);
        }
        self.0[index] = true;
    }

    pub(crate) fn remove(&mut self, fd: RawFd) {
        if let Some(member) = self.0.get_mut(fd as usize) {
            *member = false;
        }
    }

    /// One more than the largest number that has ever been in the set.
    pub(crate) fn reach(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, fd: RawFd) -> bool {
        self.0.get(fd as usize).is_some_and(|member| *member)
    }
}
