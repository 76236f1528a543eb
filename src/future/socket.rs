//! Descriptors and sockets, awaited.

use super::readiness::Readiness;
use super::time::sleep;
use crate::descriptor::Descriptor;
use crate::handle::Handle;
use crate::net::{Futile, Listener, Pauses, Refusal, Stream, accept_one_more};
use crate::signals::{Signal, Signals};
use crate::task::Side;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

/// What has a descriptor that the scheduler closes, and so can be awaited: [`readable`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no descriptor that a scheduler closes",
    label = "this cannot be awaited",
    note = "a socket becomes a stream by `fdtask::net::Stream::new(&handle, socket)`, any other descriptor by `handle.adopt(fd)`",
    note = "a descriptor that stays your own is awaited by `fdtask::future::readable_fd(&handle, &fd)`, `writable_fd`"
)]
pub trait Source {
    /// The descriptor.
    fn descriptor(&self) -> &Descriptor;
}

impl Source for Descriptor {
    #[inline]
    fn descriptor(&self) -> &Descriptor {
        self
    }
}

impl<S: Source + ?Sized> Source for Rc<S> {
    #[inline]
    fn descriptor(&self) -> &Descriptor {
        (**self).descriptor()
    }
}

/// Waits until this can be received from: the seed's `yield 'recv', sock`.
///
/// It is a hint, as in [`Wait::Recv`](crate::Wait::Recv): try, and wait again if there was nothing.
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits for the same. An error of the kind `Other`: it is awaited
/// outside a task of the descriptor's scheduler.
///
/// ```
/// use fdtask::future::{self, readable};
/// use std::{io, os::unix::net::UnixStream};
///
/// let (near, far) = UnixStream::pair()?;
/// let mut scheduler = fdtask::Scheduler::new();
/// let near = scheduler.adopt(near);
/// scheduler.spawn(future::task(async move {
///     readable(&near).await?; // The other end is closed, so this is the end of the stream.
///     Ok(())
/// }));
/// drop(far);
/// scheduler.run();
/// # io::Result::Ok(())
/// ```
#[inline]
pub fn readable<S: Source + ?Sized>(source: &S) -> Readiness<'_> {
    ready(source.descriptor(), Side::Recv)
}

/// Waits until this can be sent to: the seed's `yield 'send', sock`.
///
/// # Errors
/// Those of [`readable`].
///
/// ```
/// use fdtask::future::{self, writable};
/// use std::{io, os::unix::net::UnixStream};
///
/// let (near, _far) = UnixStream::pair()?;
/// let mut scheduler = fdtask::Scheduler::new();
/// let near = scheduler.adopt(near);
/// scheduler.spawn(future::task(async move { writable(&near).await }));
/// scheduler.run();
/// # io::Result::Ok(())
/// ```
#[inline]
pub fn writable<S: Source + ?Sized>(source: &S) -> Readiness<'_> {
    ready(source.descriptor(), Side::Send)
}

#[inline]
fn ready(descriptor: &Descriptor, side: Side) -> Readiness<'_> {
    Readiness::new(&descriptor.mailbox, side, descriptor.as_raw_fd())
}

/// [`readable`] for a descriptor that the scheduler does not own: standard input, say.
///
/// It is borrowed until the wait is over, and so cannot be closed meanwhile. A wait for a mere number would not notice if that
/// were given to another file.
///
/// # Errors
/// Those of [`readable`].
///
/// ```no_run
/// use fdtask::{Scheduler, future};
/// use std::io;
///
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task(async move {
///     future::readable_fd(&handle, io::stdin()).await?;
///     println!("somebody has typed a line");
///     Ok(())
/// }));
/// scheduler.run();
/// ```
pub async fn readable_fd(scheduler: &Handle, fd: impl AsFd) -> io::Result<()> {
    Readiness::new(&scheduler.0, Side::Recv, fd.as_fd().as_raw_fd()).await
}

/// [`writable`] for a descriptor that the scheduler does not own: see [`readable_fd`].
///
/// # Errors
/// Those of [`readable`].
pub async fn writable_fd(scheduler: &Handle, fd: impl AsFd) -> io::Result<()> {
    Readiness::new(&scheduler.0, Side::Send, fd.as_fd().as_raw_fd()).await
}

/// Connects to `address`. The system gives up after some minutes; to do so earlier, see [`timeout`](super::timeout). An attempt
/// may fail without a wait: whoever tries until it succeeds has to [`sleep`] in between, or no other task runs.
///
/// # Errors
/// Why the attempt failed: such as that the connection was refused. Others are those of [`writable`].
///
/// ```
/// use fdtask::{Scheduler, future};
/// use std::{io, net::TcpListener, time::Duration};
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let address = server.local_addr()?;
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task(async move {
///     let connecting = future::connect(&handle, address);
///     let stream = future::timeout(&handle, Duration::from_secs(20), connecting).await??;
///     future::send_all(&stream, b"hello").await
/// }));
/// scheduler.run();
/// # io::Result::Ok(())
/// ```
pub async fn connect(scheduler: &Handle, address: SocketAddr) -> io::Result<Stream> {
    let stream = Stream::connect(scheduler, address)?;
    let mut futile = Futile::default();
    loop {
        writable(&stream).await?;
        match stream.connected() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => futile.pause(&stream).await,
            outcome => return outcome.map(|()| stream),
        }
    }
}

/// Waits for the next signal, and receives it.
///
/// # Errors
/// What [`Signals::receive`] says. Others are those of [`readable`].
///
/// ```no_run
/// use fdtask::{Scheduler, Signal, Signals, future};
/// use std::{io, time::Duration};
///
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// let signals = Signals::new(&handle, &[Signal::Interrupt, Signal::Terminate])?;
/// // A service, so that the program ends with the last of its other tasks.
/// scheduler.spawn_service(future::task(async move {
///     future::next_signal(&signals).await?;
///     handle.drain(handle.now() + Duration::from_secs(10));
///     future::next_signal(&signals).await?;
///     handle.stop();
///     Ok(())
/// }));
/// scheduler.run();
/// # io::Result::Ok(())
/// ```
pub async fn next_signal(signals: &Signals) -> io::Result<Signal> {
    loop {
        // Several may have come at once.
        if let Some(signal) = signals.receive()? {
            return Ok(signal);
        }
        readable(signals).await?;
    }
}

/// A listener whose connections are awaited one by one. Where each connection becomes a task, as in most servers, an
/// [`Acceptor`](crate::net::Acceptor) does it already: its handler may return [`task`](super::task)`(async { … })`.
///
/// ```
/// use fdtask::net::Listener;
/// use fdtask::{Scheduler, future};
/// use std::{io, net::TcpStream};
///
/// let listener = Listener::bind("127.0.0.1:0".parse().unwrap())?;
/// let client = TcpStream::connect(listener.address())?;
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// let incoming = future::Incoming::new(&handle, listener);
/// scheduler.spawn(future::task(async move {
///     let (stream, peer) = incoming.accept().await?;
///     handle.spawn(future::task(async move { future::send_all(&stream, b"hello").await }).named(format!("greet {peer}")));
///     Ok(())
/// }));
/// scheduler.run();
/// # drop(client);
/// # io::Result::Ok(())
/// ```
pub struct Incoming {
    listener: Descriptor,
}

impl Incoming {
    /// The connections to `listener`.
    pub fn new(scheduler: &Handle, listener: Listener) -> Incoming {
        Incoming { listener: scheduler.adopt(listener) }
    }

    /// Waits for a connection, and takes it. What a client or the network can do wrong between connecting and being
    /// accepted is passed over; out of descriptors, the clients wait in the kernel's queue until there are some.
    ///
    /// # Errors
    /// The listener is broken. Others are those of [`readable`].
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let scheduler = self.listener.scheduler();
        let (mut futile, mut pauses) = (Futile::default(), Pauses::default());
        loop {
            readable(&self.listener).await?;
            let error = match accept_one_more(&self.listener) {
                Ok((socket, peer)) => return Ok((Stream::on(&scheduler, socket, None), peer)),
                Err(error) => error,
            };
            match Refusal::of(&error) {
                Refusal::Broken => return Err(error),
                Refusal::Shortage => sleep(&scheduler, pauses.next()).await,
                Refusal::Passing => futile.pause(&self.listener).await,
            }
        }
    }
}

impl Source for Incoming {
    fn descriptor(&self) -> &Descriptor {
        &self.listener
    }
}
