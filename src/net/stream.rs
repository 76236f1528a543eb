//! A connected socket.

use super::limit::Permit;
use crate::descriptor::Descriptor;
use crate::future::Source;
use crate::handle::Handle;
use crate::sys;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A connected stream socket, non-blocking, closed by way of the scheduler (see [`Descriptor`]).
///
/// One that comes from a [`Listener`](super::Listener), or [connects](Stream::connect), has `TCP_NODELAY` set (an answer
/// is not held back for the acknowledgement of the one before it), `SO_KEEPALIVE` (a peer that has vanished is noticed, if late)
/// and `SO_OOBINLINE` (an urgent byte stays in the stream). Other options, and the addresses of its ends, are reached by way of a
/// duplicate. Drop that soon: the connection is closed with the last of the two.
/// ```
/// use fdtask::net::Stream;
/// use std::{io, net::TcpStream, os::fd::AsFd};
///
/// fn describe(stream: &Stream) -> io::Result<String> {
///     let socket = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
///     Ok(format!("{} to {}", socket.local_addr()?, socket.peer_addr()?))
/// }
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let scheduler = fdtask::Scheduler::new();
/// # let stream = Stream::new(&scheduler.handle(), TcpStream::connect(server.local_addr()?)?)?;
/// # assert!(describe(&stream)?.ends_with(&format!(" to {}", server.local_addr()?)));
/// # io::Result::Ok(())
/// ```
pub struct Stream {
    descriptor: Descriptor,
    /// Its place in a limit. It stands behind the descriptor, so that it is dropped after it.
    permit: Option<Permit>,
}

impl Stream {
    /// Makes a stream of a connected socket, and makes that non-blocking: a call that sleeps would keep every task of the
    /// scheduler waiting. Whoever shares the open socket, by a clone of it, finds it non-blocking, too.
    ///
    /// # Errors
    /// It is not a socket, or cannot be made non-blocking. The descriptor is closed. (A pipe or a terminal is not received from
    /// with `recv(2)`: [adopt](Handle::adopt) it, wait for it, and read it as a [`File`](std::fs::File), once each time that it
    /// is ready.)
    ///
    /// ```
    /// use fdtask::net::Stream;
    /// use fdtask::{Scheduler, future};
    /// use std::{io, os::unix::net::UnixStream};
    ///
    /// let (near, far) = UnixStream::pair()?;
    /// let mut scheduler = Scheduler::new();
    /// let near = Stream::new(&scheduler.handle(), near)?;
    /// scheduler.spawn(future::task(async move { future::send_all(&near, b"hello").await }));
    /// scheduler.run();
    /// assert_eq!(io::read_to_string(far)?, "hello");
    /// # io::Result::Ok(())
    /// ```
    pub fn new(scheduler: &Handle, socket: impl Into<OwnedFd>) -> io::Result<Stream> {
        let socket = socket.into();
        sys::check_socket(socket.as_fd())?;
        sys::set_nonblocking(&socket)?;
        Ok(Stream::on(scheduler, socket, None))
    }

    /// A stream of a socket that is non-blocking already.
    pub(crate) fn on(scheduler: &Handle, socket: OwnedFd, permit: Option<Permit>) -> Stream {
        Stream { descriptor: scheduler.adopt(socket), permit }
    }

    /// Starts to connect to `address`. Wait for [`Wait::Send`](crate::Wait::Send) on the stream, preferably with a
    /// deadline, then ask [`connected`](Stream::connected).
    ///
    /// # Errors
    /// What `socket(2)` and `connect(2)` say at once.
    pub fn connect(scheduler: &Handle, address: SocketAddr) -> io::Result<Stream> {
        Ok(Stream::on(scheduler, sys::start_connect(address)?, None))
    }

    /// How the attempt to connect has ended. Ask when the stream can be sent to. A failure is told only the first time.
    ///
    /// Later, this says of any connection whether it has failed meanwhile, such as by a reset. Whoever waits for the stream finds
    /// that out without asking; but who has nothing to send, and no room for what is to be received, waits for something else.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): it has not ended; wait again until the stream can be sent to. (Later: there is
    /// no connection any more, because both sides have said the end, or its failure has been told.) Others say why it failed:
    /// such as that the connection was refused. A socket that has connected to itself is refused, too: that happens now and then
    /// if one tries again and again to connect to a port of this machine on which nobody listens.
    pub fn connected(&self) -> io::Result<()> {
        sys::connect_error(self.as_fd())
    }

    /// Receives what is there, up to the length of `buffer`; 0 is the end of the stream (or `buffer` is empty).
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): nothing is there; wait for it. `ENOBUFS` and `ENOMEM`: the system is short of
    /// memory; try again later. Others end the connection. [`try_again`](super::try_again) tells them apart.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        sys::recv(self, buffer)
    }

    /// Receives up to `len_max` bytes into memory that the scheduler lends, for `take` to make something of.
    pub(crate) fn recv_lent<T>(&self, len_max: usize, take: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        self.descriptor.mailbox.lend(|memory| {
            let received = self.recv(&mut memory[..len_max])?;
            take(&memory[..received])
        })
    }

    /// Sends as much of `bytes` as there is room for, and returns how much that was.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): there is no room; wait for it. `ENOBUFS` and `ENOMEM`: the system is short of
    /// memory; try again later. Others end the connection; a peer that is gone is [`BrokenPipe`](io::ErrorKind::BrokenPipe) or
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset), never a signal. [`try_again`](super::try_again) tells them apart.
    #[inline]
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        sys::send(self, bytes)
    }

    /// Says that nothing more will be sent: the peer receives what is in flight, and then the end of the stream. Before it is
    /// dropped, receive until the end of the peer's side, with a deadline: to close it with something unread is a reset, which
    /// may destroy what was sent last. In a future, [`linger`](crate::future::linger) does so.
    ///
    /// # Errors
    /// What `shutdown(2)` says: most likely [`NotConnected`](io::ErrorKind::NotConnected), because the peer has reset the
    /// connection. Then there is nothing left to end; what it had said before can still be received.
    pub fn shutdown_send(&self) -> io::Result<()> {
        sys::shutdown_send(self.as_fd())
    }

    /// How many bytes the kernel has received that nobody has read yet.
    pub fn recv_queue_bytes(&self) -> usize {
        sys::recv_queue_bytes(self.as_fd())
    }

    /// How many sent bytes the peer has not acknowledged yet; 0 on systems that cannot tell. (Of a Unix socket Linux tells how
    /// much memory they take, which is more.)
    ///
    /// That this falls is the only sign that a slow peer takes something: the stream can be sent to again only when much of the
    /// queue, which is megabytes long, is free. Look at it before a peer is let go for taking nothing.
    pub fn send_queue_bytes(&self) -> usize {
        sys::send_queue_bytes(self.as_fd())
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.descriptor).finish()
    }
}

impl Drop for Stream {
    #[inline]
    fn drop(&mut self) {
        // Its place is given back when it has been closed: not before, or whoever is waiting for it could open one connection too
        // many. If the scheduler is gone, the descriptor is closed as it is dropped, which comes before the permit.
        let mailbox = &self.descriptor.mailbox;
        if !mailbox.orphaned.get()
            && let Some(permit) = self.permit.take()
        {
            mailbox.do_after_closing(move || drop(permit));
        }
    }
}

impl Source for Stream {
    #[inline]
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

impl AsFd for Stream {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Stream {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}
