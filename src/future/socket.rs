//! Descriptors and sockets, awaited.

use super::time::{sleep, timeout};
use super::waits::Request;
use crate::handle::{Descriptor, Handle};
use crate::net::{DESCRIPTORS_RETRY, FUTILE_PAUSE, FUTILE_RESUMES_MAX, Listener, Stream, try_again};
use crate::slots::Reason;
use crate::sys;
use crate::task::Side;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// How much [`copy`] moves at a time.
const COPY_CHUNK_BYTES: usize = 16 * 1024;

/// How much [`recv_more`] receives at a time.
const RECV_MORE_BYTES: usize = 4096;

/// What has a descriptor that the scheduler closes, and so can be awaited: [`readable`].
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

impl Source for Stream {
    #[inline]
    fn descriptor(&self) -> &Descriptor {
        Stream::descriptor(self)
    }
}

/// Waits until this can be received from: the seed's `yield 'recv', sock`.
///
/// It is a hint, as in [`Wait::Recv`](crate::Wait::Recv): try, and wait again if there was nothing.
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits for the same.
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
pub fn readable<S: Source + ?Sized>(source: &S) -> Readable<'_> {
    let descriptor = source.descriptor();
    Readable { descriptor, request: Request::new() }
}

/// Waits until this can be sent to: the seed's `yield 'send', sock`.
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits for the same.
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
pub fn writable<S: Source + ?Sized>(source: &S) -> Writable<'_> {
    let descriptor = source.descriptor();
    Writable { descriptor, request: Request::new() }
}

/// Waits until something can be received from this descriptor. Made by [`readable`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Readable<'a> {
    descriptor: &'a Descriptor,
    request: Request,
}

impl Future for Readable<'_> {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.request
            .poll_ready(this.descriptor.mailbox(), cx, || Reason::ready(Side::Recv, this.descriptor.as_raw_fd()))
    }
}

/// Waits until something can be sent to this descriptor. Made by [`writable`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Writable<'a> {
    descriptor: &'a Descriptor,
    request: Request,
}

impl Future for Writable<'_> {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.request
            .poll_ready(this.descriptor.mailbox(), cx, || Reason::ready(Side::Send, this.descriptor.as_raw_fd()))
    }
}

/// [`readable`] for a descriptor that the scheduler does not own, by its number: standard input, say.
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits for the same, or the number is not open.
///
/// ```no_run
/// use fdtask::{Scheduler, future};
/// use std::{io, os::fd::AsRawFd};
///
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task(async move {
///     future::readable_fd(&handle, io::stdin().as_raw_fd()).await?;
///     println!("somebody has typed a line");
///     Ok(())
/// }));
/// scheduler.run();
/// ```
pub async fn readable_fd(scheduler: &Handle, fd: RawFd) -> io::Result<()> {
    ready_fd(scheduler, Side::Recv, fd).await
}

/// [`writable`] for a descriptor that the scheduler does not own, by its number.
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits for the same, or the number is not open.
pub async fn writable_fd(scheduler: &Handle, fd: RawFd) -> io::Result<()> {
    ready_fd(scheduler, Side::Send, fd).await
}

async fn ready_fd(scheduler: &Handle, side: Side, fd: RawFd) -> io::Result<()> {
    let mut request = Request::new();
    poll_fn(|cx| request.poll_ready(&scheduler.0, cx, || Reason::ready(side, fd))).await
}

/// Counts calls in a row that achieved nothing although the descriptor was ready, and pauses after too many: a hint that
/// is always false must not become a loop that never sleeps.
#[derive(Default)]
pub(crate) struct Futile(u8);

impl Futile {
    pub(crate) async fn pause(&mut self, scheduler: impl FnOnce() -> Handle) {
        if self.0 < FUTILE_RESUMES_MAX {
            self.0 += 1;
        } else {
            sleep(&scheduler(), FUTILE_PAUSE).await;
        }
    }
}

/// Waits until something can be received, and receives it, up to the length of `buffer`; 0 is the end of the stream.
///
/// It always waits first, so a task that receives in a loop lets the others run in between.
///
/// # Errors
/// What ends the connection, such as that the peer has reset it.
pub async fn recv(stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut futile = Futile::default();
    loop {
        readable(stream).await?;
        match stream.recv(buffer) {
            Err(error) if try_again(&error) => futile.pause(|| stream.descriptor().scheduler()).await,
            result => return result,
        }
    }
}

/// Receives as much as `buffer` has room for, and not a byte more. If it is dropped before it has ended, some of that has been
/// received.
///
/// # Errors
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): the stream ended before. Others end the connection, too.
pub async fn recv_exact(stream: &Stream, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match recv(stream, buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            received => buffer = &mut buffer[received..],
        }
    }
    Ok(())
}

/// Waits until something can be received, appends it to `bytes`, and returns how much that was; 0 is the end of the stream. For
/// a protocol in which only what has been received tells how much more is to come. While it waits, it holds no buffer.
///
/// # Errors
/// What ends the connection, such as that the peer has reset it.
pub async fn recv_more(stream: &Stream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut futile = Futile::default();
    loop {
        readable(stream).await?;
        // Not a variable of this function, so no part of the future.
        let mut receive = || {
            let mut chunk = [0; RECV_MORE_BYTES];
            let received = stream.recv(&mut chunk)?;
            bytes.extend_from_slice(&chunk[..received]);
            Ok(received)
        };
        match receive() {
            Err(error) if try_again(&error) => futile.pause(|| stream.descriptor().scheduler()).await,
            result => return result,
        }
    }
}

/// Sends all of `bytes`, and waits for room whenever there is none. If it is dropped before it has ended, some of them
/// have been sent.
///
/// # Errors
/// What ends the connection: a peer that is gone is [`BrokenPipe`](io::ErrorKind::BrokenPipe).
pub async fn send_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    let mut futile = Futile::default();
    loop {
        match stream.send(bytes) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(sent) => {
                bytes = &bytes[sent..];
                futile = Futile::default();
            }
            Err(error) if try_again(&error) => futile.pause(|| stream.descriptor().scheduler()).await,
            Err(error) => return Err(error),
        }
        writable(stream).await?;
    }
}

/// Sends on `to` all that comes from `from`, until that stream ends, and returns how many bytes that was. If `to` has no room,
/// nothing more is received: who does not read slows down whoever sends to it, and costs one chunk of memory. While there is
/// nothing to receive, it costs none.
///
/// The end of the stream is not passed on: `to.shutdown_send()` does that. For two directions at once, give each a task of its
/// own (`examples/socks5.rs`): one that is always busy then does not keep the other waiting.
///
/// # Errors
/// What ends one of the connections.
pub async fn copy(from: &Stream, to: &Stream) -> io::Result<u64> {
    let (mut futile, mut copied) = (Futile::default(), 0);
    loop {
        readable(from).await?;
        match copy_chunk(from, to) {
            Ok((0, _)) => return Ok(copied),
            Ok((received, unsent)) => {
                futile = Futile::default();
                copied += received as u64;
                if !unsent.is_empty() {
                    send_all(to, &unsent).await?;
                }
            }
            Err(error) if try_again(&error) => futile.pause(|| from.descriptor().scheduler()).await,
            Err(error) => return Err(error),
        }
    }
}

/// Moves what is there, and returns how much that was, and the part of it for which there was no room. (A buffer in here is no
/// part of a future.)
fn copy_chunk(from: &Stream, to: &Stream) -> io::Result<(usize, Vec<u8>)> {
    let mut chunk = [0; COPY_CHUNK_BYTES];
    let received = from.recv(&mut chunk)?;
    if received == 0 {
        return Ok((0, Vec::new()));
    }
    let sent = match to.send(&chunk[..received]) {
        Err(error) if try_again(&error) => 0,
        sent => sent?,
    };
    Ok((received, chunk[sent..received].to_vec()))
}

/// Ends a connection without destroying what was last sent on it: says that nothing more will be sent, then receives and
/// drops what still comes, until the peer closes too, for `patience` at most. Drop the stream afterwards.
/// A peer that resets the connection has closed it, too.
///
/// To close a socket with something unread in it, or to which something more is sent, is a reset. It overtakes what was sent
/// before it, so that a peer that is refused, say, loses the very answer that tells it why.
///
/// # Errors
/// A [`WaitError`](crate::WaitError): another task waits to receive from the stream.
pub async fn linger(stream: &Stream, patience: Duration) -> io::Result<()> {
    // What cannot be shut down is closed already, which the first look finds out.
    let _ = stream.shutdown_send();
    let rest = async {
        let mut futile = Futile::default();
        loop {
            readable(stream).await?;
            match stream.recv(&mut [0; 4096]) {
                Ok(1..) => futile = Futile::default(),
                Err(error) if try_again(&error) => futile.pause(|| stream.descriptor().scheduler()).await,
                Ok(0) | Err(_) => return Ok(()),
            }
        }
    };
    timeout(&stream.descriptor().scheduler(), patience, rest).await.unwrap_or(Ok(()))
}

/// Connects to `address`. The system gives up after some minutes; to do so earlier, see [`timeout`].
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
    let stream = Stream::on(scheduler, sys::start_connect(address)?);
    writable(&stream).await?;
    stream.connected()?;
    Ok(stream)
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
    address: SocketAddr,
}

impl Incoming {
    /// The connections to `listener`.
    pub fn new(scheduler: &Handle, listener: Listener) -> Incoming {
        let address = listener.address();
        Incoming { listener: scheduler.adopt(listener), address }
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a connection, and takes it. What a client or the network can do wrong between connecting and being
    /// accepted is passed over; out of descriptors, the clients wait in the kernel's queue until there are some.
    ///
    /// # Errors
    /// The listener is broken.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let scheduler = self.listener.scheduler();
        let mut futile = Futile::default();
        loop {
            readable(&self.listener).await?;
            let error = match sys::accept(self.listener.as_fd()) {
                Ok((socket, peer)) => return Ok((Stream::on(&scheduler, socket), peer)),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    sleep(&scheduler, DESCRIPTORS_RETRY).await;
                }
                Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT) => return Err(error),
                _ => futile.pause(|| scheduler.clone()).await,
            }
        }
    }
}

impl Source for Incoming {
    fn descriptor(&self) -> &Descriptor {
        &self.listener
    }
}
