//! Descriptors and sockets, awaited.

use super::descriptor_wait::DescriptorWait;
use super::list::Want;
use super::time::sleep;
use crate::descriptor::Descriptor;
use crate::handle::Handle;
use crate::net::{Futile, Listener, Pauses, Refusal, Stream, accept_one_more};
use crate::reason::Reason;
use crate::signals::{Signal, Signals};
use crate::task::Side;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

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
    Readiness::new(source.descriptor(), Side::Recv)
}

/// Waits until this can be sent to: the seed's `yield 'send', sock`.
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits for the same. An error of the kind `Other`: it is awaited
/// outside a task of the descriptor's scheduler.
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
    Readiness::new(source.descriptor(), Side::Send)
}

/// Waits until one side of a descriptor is ready. Made by [`readable`] and [`writable`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Readiness<'a>(DescriptorWait<'a>);

impl Future for Readiness<'_> {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.poll(cx, Want::Wait)
    }
}

impl<'a> Readiness<'a> {
    #[inline]
    fn new(descriptor: &'a Descriptor, side: Side) -> Readiness<'a> {
        Readiness(DescriptorWait::new(descriptor.mailbox(), Reason::ready(side, descriptor.as_raw_fd())))
    }

    /// The same, but only until a drain begins (see [`Handle::drain`]), and not at all if one has begun: `None`.
    ///
    /// ```
    /// use fdtask::future::{linger, readable, send_all};
    /// use fdtask::net::Stream;
    /// use std::{io, time::Duration};
    ///
    /// async fn echo(client: Stream) -> io::Result<()> {
    ///     let mut data = [0; 1000];
    ///     // A drain ends this between two messages, and never in the middle of an answer.
    ///     while let Some(ready) = readable(&client).until_drain().await {
    ///         ready?;
    ///         match client.recv(&mut data) {
    ///             Ok(0) => return Ok(()),
    ///             Ok(len) => send_all(&client, &data[..len]).await?,
    ///             Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    ///     // To close with something unread is a reset, which may overtake the last answer.
    ///     linger(&client, Duration::from_secs(1)).await
    /// }
    /// ```
    #[inline]
    pub fn until_drain(self) -> ReadinessUntilDrain<'a> {
        ReadinessUntilDrain(self)
    }
}

/// Waits until one side of a descriptor is ready, or a drain begins. Made by [`Readiness::until_drain`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct ReadinessUntilDrain<'a>(Readiness<'a>);

impl Future for ReadinessUntilDrain<'_> {
    type Output = Option<io::Result<()>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        let ready = &mut self.get_mut().0.0;
        if ready.take_met() {
            return Poll::Ready(Some(Ok(())));
        }
        // The task is resumed when a drain begins, as every task is.
        if ready.is_draining() {
            return Poll::Ready(None);
        }
        ready.ask(cx, Want::UntilDrain).map(Some)
    }
}

/// [`readable`] for a descriptor that the scheduler does not own: standard input, say.
///
/// It is borrowed until the wait is over, and so cannot be closed meanwhile. A wait for a mere number would not notice if that
/// were given to another file.
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits for the same. An error of the kind `Other`: it is awaited by somebody
/// who is not a task of `scheduler`.
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
    ready_fd(scheduler, Side::Recv, fd.as_fd()).await
}

/// [`writable`] for a descriptor that the scheduler does not own: see [`readable_fd`].
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits for the same. An error of the kind `Other`: it is awaited by somebody
/// who is not a task of `scheduler`.
pub async fn writable_fd(scheduler: &Handle, fd: impl AsFd) -> io::Result<()> {
    ready_fd(scheduler, Side::Send, fd.as_fd()).await
}

async fn ready_fd(scheduler: &Handle, side: Side, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut ready = DescriptorWait::new(&scheduler.0, Reason::ready(side, fd.as_raw_fd()));
    poll_fn(|cx| ready.poll(cx, Want::Wait)).await
}

/// Connects to `address`. The system gives up after some minutes; to do so earlier, see [`timeout`](super::timeout).
///
/// # Errors
/// Why the attempt failed: such as that the connection was refused.
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
    writable(&stream).await?;
    stream.connected()?;
    Ok(stream)
}

/// Waits for the next signal, and receives it.
///
/// # Errors
/// What [`Signals::receive`] says.
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
    /// The listener is broken.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let scheduler = self.listener.scheduler();
        let (mut futile, mut pauses) = (Futile::default(), Pauses::default());
        loop {
            readable(&self.listener).await?;
            let error = match accept_one_more(&self.listener) {
                Ok((socket, peer)) => return Ok((Stream::on(&scheduler, socket), peer)),
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
