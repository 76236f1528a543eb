//! What a protocol does with a stream, awaited: receive, send, copy, and close without a reset.

use super::socket::{Source, readable, writable};
use super::time::{TimedOut, timeout};
use crate::handle::LENT_BYTES;
use crate::net::{Futile, Stream, try_again};
use std::io;
use std::mem;
use std::pin::pin;
use std::time::Duration;

/// How much [`recv_more`] receives at a time.
const RECV_MORE_BYTES: usize = 4096;

/// How many times in its patience [`send_all_while_taken`] looks whether the peer has taken something.
const LOOKS_PER_PATIENCE: u32 = 4;

/// Waits until something can be received, and receives it with `receive`; again, if that fails for now.
///
/// The buffer of a closure is no part of the future, and so of no connection's memory.
#[expect(clippy::manual_async_fn, reason = "the future of an `async fn` holds each argument twice")]
pub(crate) fn recv_with<T>(
    stream: &Stream,
    mut receive: impl FnMut() -> io::Result<T>,
) -> impl Future<Output = io::Result<T>> {
    async move {
        let mut futile = Futile::default();
        loop {
            readable(stream).await?;
            match receive() {
                Err(error) if try_again(&error) => futile.pause(stream).await,
                result => return result,
            }
        }
    }
}

/// Waits until something can be received, and receives it, up to the length of `buffer`; 0 is the end of the stream (or `buffer`
/// is empty).
///
/// It always waits first, so a task that receives in a loop lets the others run in between.
///
/// # Errors
/// What ends the connection, such as that the peer has reset it. Others are those of [`readable`].
pub fn recv(stream: &Stream, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
    recv_with(stream, || stream.recv(buffer))
}

/// Receives as much as `buffer` has room for, and not a byte more. If it is dropped before it has ended, some of that has been
/// received.
///
/// # Errors
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): the stream ended before. Others are those of [`recv`].
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
/// It receives 4 KiB at most. Whoever moves much, and cannot [`copy`], awaits [`readable`], and then receives in a function that
/// is not `async` and returns what came: a buffer that lives across an `await` is part of each connection's memory.
///
/// # Errors
/// Those of [`recv`].
pub async fn recv_more(stream: &Stream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let receive = || {
        stream.recv_lent(RECV_MORE_BYTES, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(chunk.len())
        })
    };
    recv_with(stream, receive).await
}

/// Sends all of `bytes`, and waits for room whenever there is none, for ever if the peer does not read: see
/// [`send_all_while_taken`]. If it is dropped before it has ended, some of them have been sent.
///
/// # Errors
/// What ends the connection: a peer that is gone is [`BrokenPipe`](io::ErrorKind::BrokenPipe), or
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset). Others are those of [`writable`].
pub fn send_all(stream: &Stream, bytes: &[u8]) -> impl Future<Output = io::Result<()>> {
    send_all_with(stream, bytes, || writable(stream))
}

/// [`send_all`], where `room` waits for room.
async fn send_all_with<F>(stream: &Stream, mut bytes: &[u8], room: impl Fn() -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    let mut futile = Futile::default();
    loop {
        match stream.send(bytes) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(sent) => {
                bytes = &bytes[sent..];
                futile.reset();
            }
            Err(error) if try_again(&error) => futile.pause(stream).await,
            Err(error) => return Err(error),
        }
        room().await?;
    }
}

/// [`send_all`] for as long as the peer takes something: gives up when it has taken nothing for `patience`, or up to a quarter
/// more. If it is dropped before it has ended, some of `bytes` have been sent.
///
/// A [`timeout`] around [`send_all`] is no such thing. It cuts off a peer that reads all the time, but slowly: the kernel's queue
/// is megabytes long, and has no room before a good part of it is free, so nothing can be sent for seconds. This looks at
/// [`Stream::send_queue_bytes`] meanwhile. (On a system that cannot tell, it waits for `patience` until there is room.)
///
/// # Errors
/// [`TimedOut`](io::ErrorKind::TimedOut): the peer takes nothing. Others are those of [`send_all`].
///
/// ```
/// use fdtask::future::{recv, send_all_while_taken, timeout};
/// use fdtask::{Handle, net::Stream};
/// use std::{io, time::Duration};
///
/// const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
///
/// async fn echo(scheduler: Handle, client: Stream) -> io::Result<()> {
///     let mut data = [0; 1000];
///     loop {
///         match timeout(&scheduler, IDLE_TIMEOUT, recv(&client, &mut data)).await?? {
///             0 => return Ok(()),
///             len => send_all_while_taken(&client, &data[..len], IDLE_TIMEOUT).await?,
///         }
///     }
/// }
/// ```
pub fn send_all_while_taken(stream: &Stream, bytes: &[u8], patience: Duration) -> impl Future<Output = io::Result<()>> {
    send_all_with(stream, bytes, move || writable_while_taken(stream, patience))
}

/// Waits for room. Nobody sends meanwhile, so the queue can only become shorter, and does so when the peer takes something.
async fn writable_while_taken(stream: &Stream, patience: Duration) -> io::Result<()> {
    let scheduler = stream.descriptor().scheduler();
    let mut room = pin!(writable(stream));
    let (mut queued, mut looks) = (stream.send_queue_bytes(), 0);
    while looks < LOOKS_PER_PATIENCE {
        if let Ok(room) = timeout(&scheduler, patience / LOOKS_PER_PATIENCE, room.as_mut()).await {
            return room;
        }
        let before = mem::replace(&mut queued, stream.send_queue_bytes());
        looks = if queued < before { 0 } else { looks + 1 };
    }
    Err(TimedOut.into())
}

/// Sends on `to` all that comes from `from`, until that stream ends, and returns how many bytes that was. If `to` has no room,
/// nothing more is received: a slow reader slows down the sender, and costs one chunk of memory. While there is nothing to
/// receive, none is held. While there is no room, nobody sees that `from` has been reset, unless it is asked
/// ([`Stream::connected`]).
///
/// The end of the stream is not passed on: `to.shutdown_send()` does that. For two directions at once, give each a task of its
/// own (`examples/socks5`): one that is always busy then does not keep the other waiting. Await both at once, and let an error
/// of one end the other, too: it may wait for ever for what nobody will send.
///
/// # Errors
/// What ends one of the connections. If that is `to`, which has been reset, what it had said before can still be received; then
/// `to.shutdown_send()` fails, too. Others are those of [`readable`], for `from`, and of [`writable`], for `to`.
pub async fn copy(from: &Stream, to: &Stream) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        let (received, unsent) = recv_with(from, || from.recv_lent(LENT_BYTES, |chunk| send_on(to, chunk))).await?;
        if received == 0 {
            return Ok(copied);
        }
        copied += received as u64;
        if !unsent.is_empty() {
            send_all(to, &unsent).await?;
        }
    }
}

/// Sends what was received as far as there is room, and returns how much it is, and the part for which there was none.
fn send_on(to: &Stream, chunk: &[u8]) -> io::Result<(usize, Vec<u8>)> {
    if chunk.is_empty() {
        return Ok((0, Vec::new()));
    }
    let sent = match to.send(chunk) {
        Err(error) if try_again(&error) => 0,
        sent => sent?,
    };
    Ok((chunk.len(), chunk[sent..].to_vec()))
}

/// Ends a connection without destroying what was last sent on it: says that nothing more will be sent, then receives and
/// drops what still comes, until the peer closes too, for `patience` at most. Drop the stream afterwards.
/// A peer that resets the connection has closed it, too.
///
/// To close a socket with something unread in it, or to which something more is sent, is a reset. It overtakes what was sent
/// before it, so that a peer that is refused, say, loses the very answer that tells it why.
///
/// # Errors
/// Those of [`readable`].
pub async fn linger(stream: &Stream, patience: Duration) -> io::Result<()> {
    // What cannot be shut down is closed already, which the first look finds out.
    let _ = stream.shutdown_send();
    let rest = async move {
        let receive = || match stream.recv_lent(LENT_BYTES, |chunk| Ok(chunk.len())) {
            Err(error) if !try_again(&error) => Ok(0),
            result => result,
        };
        while recv_with(stream, receive).await? > 0 {}
        Ok(())
    };
    timeout(&stream.descriptor().scheduler(), patience, rest).await.unwrap_or(Ok(()))
}
