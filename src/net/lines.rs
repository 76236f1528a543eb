//! A stream, line by line.

use super::Stream;
use crate::future::{next_turn, recv_exact, recv_with};
use std::io;

/// How much is received at a time.
const CHUNK_BYTES: usize = 4096;

/// How many lines [`Lines::recv`] returns without a wait in between: a chunk may hold thousands of them, and what is done with
/// one may cost more than to send it.
const LINES_PER_TURN_MAX: u32 = 64;

/// Receives lines, of a bounded length: what a line protocol begins with. A peer that never ends its line costs at most the
/// memory of three lines and 12 KiB. One that sends lines without pause does not keep the other tasks waiting: there is a wait
/// before anything is received, and a bound on how many lines are returned without a wait.
///
/// For a hand-written task there is [`try_recv`](Lines::try_recv), for a future [`recv`](Lines::recv). Both receive ahead, so
/// whatever else is to be received from the stream comes through this, too: [`recv_exact`](Lines::recv_exact),
/// [`take_ahead`](Lines::take_ahead).
///
/// ```
/// use fdtask::net::{Acceptor, Lines, Listener, Stream};
/// use fdtask::{Scheduler, future};
/// use std::{io, time::Duration};
///
/// /// Answers each line with how long it is.
/// async fn measure(client: Stream) -> io::Result<()> {
///     let mut lines = Lines::new(1000);
///     while let Some(line) = lines.recv(&client).await? {
///         let Some(line) = line.strip_suffix(b"\n") else {
///             // What comes next is the rest of this line, so it must not be taken for a line.
///             future::send_all(&client, b"too long, or not ended\n").await?;
///             return future::linger(&client, Duration::from_secs(1)).await;
///         };
///         future::send_all(&client, format!("{} bytes\n", line.len()).as_bytes()).await?;
///     }
///     Ok(())
/// }
///
/// let mut scheduler = Scheduler::new();
/// let listener = Listener::bind("127.0.0.1:0".parse().unwrap())?;
/// scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, |client, _| future::task(measure(client))));
/// # scheduler.handle().stop();
/// scheduler.run();
/// # io::Result::Ok(())
/// ```
///
/// # Lines and drains
/// A server that is to drain has to answer what has been received, here and in the kernel, and then to end the stream. That is
/// the same loop around [`try_recv`](Lines::try_recv). (For an idle timeout, put a [`timeout`](crate::future::timeout) around
/// the `readable`, and say [`send_all_while_taken`](crate::future::send_all_while_taken) instead of `send_all`: a client that
/// does not read is idle, too, and one that reads slowly is not. A client that sends without pause holds up the drain until its
/// deadline, unless there is a bound on what is still answered, such as [`DRAIN_BYTES_MAX`](super::DRAIN_BYTES_MAX).)
/// ```
/// use fdtask::future::{linger, next_turn, readable, send_all};
/// use fdtask::net::{Lines, Stream};
/// use std::{io, time::Duration};
///
/// async fn measure(client: Stream) -> io::Result<()> {
///     let mut lines = Lines::new(1000);
///     loop {
///         match lines.try_recv(&client) {
///             Ok(Some(line)) => send_all(&client, format!("{} bytes\n", line.len()).as_bytes()).await?,
///             Ok(None) => return Ok(()),
///             Err(error) if error.kind() == io::ErrorKind::WouldBlock => match readable(&client).until_drain().await {
///                 Some(ready) => ready?,
///                 None if client.recv_queue_bytes() > 0 => next_turn().await,
///                 None => return linger(&client, Duration::from_secs(1)).await,
///             },
///             Err(error) => return Err(error),
///         }
///     }
/// }
/// ```
///
/// # The lines of a child
/// A child's output comes through this as well if it goes to a socket, of which this side has the other end. It ends when nobody
/// holds the child's end any more: neither the child, nor whoever has it from the child, nor the `Command`, which has to be
/// dropped. (The child can do all with it that it can do with a pipe, but not open it once more by name, such as `/dev/stdout`.)
/// ```
/// use fdtask::net::{Lines, Stream};
/// use fdtask::{Scheduler, future};
/// use std::os::fd::OwnedFd;
/// use std::os::unix::net::UnixStream;
/// use std::process::Command;
///
/// let mut scheduler = Scheduler::new();
/// let (near, far) = UnixStream::pair()?;
/// let output = Stream::new(&scheduler.handle(), near)?;
/// let mut child = Command::new("echo").arg("hello").stdout(OwnedFd::from(far)).spawn()?;
/// scheduler.spawn(future::task(async move {
///     let mut lines = Lines::new(1000);
///     while let Some(line) = lines.recv(&output).await? {
///         assert_eq!(line, b"hello\n");
///     }
///     Ok(())
/// }));
/// scheduler.run();
/// child.wait()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Lines {
    line_bytes_max: usize,
    /// What has been received and not been returned yet.
    bytes: Vec<u8>,
    /// The first so many of these bytes are known to hold no end of a line.
    searched: usize,
    has_ended: bool,
    /// Something has been received since [`try_recv`](Lines::try_recv) last said `WouldBlock`, so it has to say that before it
    /// receives more.
    is_wait_due: bool,
    /// How many lines [`recv`](Lines::recv) has returned since it last waited.
    returned_since_wait: u32,
}

impl Lines {
    /// Lines of at most `line_bytes_max` bytes, of which the `\n` is one.
    ///
    /// # Panics
    /// If `line_bytes_max` is 0.
    pub fn new(line_bytes_max: usize) -> Lines {
        assert!(line_bytes_max > 0, "a line has at least its end");
        Lines {
            line_bytes_max,
            bytes: Vec::new(),
            searched: 0,
            has_ended: false,
            is_wait_due: false,
            returned_since_wait: 0,
        }
    }

    /// The next line, with its end, `\n`; `None` when the stream has ended. Two kinds of lines come without a `\n`: the last one,
    /// if the stream ends in the middle of it, and one that is too long. That comes in pieces: some of the greatest length, and
    /// then what is left, *with* its `\n`, like a line of its own. A peer chooses what that says. So end the connection at the
    /// first piece, or pass over whatever comes up to the next `\n`.
    ///
    /// Call it again until it says `WouldBlock`, in this resume or (after [`Wait::Turn`](crate::Wait::Turn)) in the next: more
    /// lines may have come with this one, and the descriptor does not tell of them. Use the same stream each time.
    ///
    /// It says `WouldBlock` after each 4 KiB, even if more is there, so that a task which then waits lets the others run although
    /// its peer never pauses. But 4 KiB may hold thousands of lines: if one of them is much work, return `Wait::Turn` after each.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): the next line is not complete, or not received yet; wait for
    /// [`Wait::Recv`](crate::Wait::Recv). Others are [`Stream::recv`]'s.
    pub fn try_recv(&mut self, stream: &Stream) -> io::Result<Option<Vec<u8>>> {
        while !self.has_ended {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if std::mem::take(&mut self.is_wait_due) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.receive(stream)?;
        }
        Ok(self.take())
    }

    /// Waits for the next line: what [`try_recv`](Lines::try_recv) returns. If the future is dropped, nothing is lost.
    ///
    /// Of many lines that a peer has sent at once, up to 64 are returned without a wait in between. If one of them is much
    /// work, await [`next_turn`] after each, so that the other tasks run.
    ///
    /// # Errors
    /// Those of [`recv`](crate::future::recv).
    pub async fn recv(&mut self, stream: &Stream) -> io::Result<Option<Vec<u8>>> {
        if self.returned_since_wait >= LINES_PER_TURN_MAX {
            // Before the wait, so that whoever drops this future over and over gets a line all the same.
            self.returned_since_wait = 0;
            next_turn().await;
        }
        while !self.has_ended {
            if let Some(line) = self.take() {
                self.returned_since_wait += 1;
                return Ok(Some(line));
            }
            // Always before something is received: a peer that fills the socket as fast as it is emptied would otherwise keep
            // this resume going for ever.
            recv_with(stream, || self.receive(stream)).await?;
            self.returned_since_wait = 0;
        }
        Ok(self.take())
    }

    /// Receives as much as `buffer` has room for, behind the line that was returned last: what a line has announced. If it is
    /// dropped before it has ended, some of that has been received.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): the stream ended before. Others are those of
    /// [`recv`](crate::future::recv).
    pub async fn recv_exact(&mut self, stream: &Stream, buffer: &mut [u8]) -> io::Result<()> {
        let ahead = self.bytes.len().min(buffer.len());
        let (here, to_come) = buffer.split_at_mut(ahead);
        here.copy_from_slice(&self.bytes[..ahead]);
        self.bytes.drain(..ahead);
        self.searched = 0;
        recv_exact(stream, to_come).await
    }

    /// Takes what has been received behind the line that was returned last, up to `len_max` bytes of it, for whoever goes on
    /// without lines: what has not been received yet comes from [`Stream::recv`] or [`copy`](crate::future::copy). A hand-written
    /// task receives in this way what a line has announced, and a proxy everything that follows its first line.
    pub fn take_ahead(&mut self, len_max: usize) -> Vec<u8> {
        self.cut(self.bytes.len().min(len_max))
    }

    /// Receives what is there, up to a chunk.
    fn receive(&mut self, stream: &Stream) -> io::Result<()> {
        stream.recv_lent(CHUNK_BYTES, |chunk| {
            self.bytes.extend_from_slice(chunk);
            self.has_ended = chunk.is_empty();
            self.is_wait_due = true;
            Ok(())
        })
    }

    /// The first line that is there, if one is.
    fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| self.searched + at + 1);
        let is_cut = self.bytes.len() >= self.line_bytes_max || self.has_ended && !self.bytes.is_empty();
        let Some(end) = end.or(is_cut.then_some(self.bytes.len())) else {
            self.searched = self.bytes.len();
            return None;
        };
        Some(self.cut(end.min(self.line_bytes_max)))
    }

    /// The first `len` of the bytes that are there.
    fn cut(&mut self, len: usize) -> Vec<u8> {
        self.searched = 0;
        let is_all = len == self.bytes.len();
        let mut cut = if is_all { std::mem::take(&mut self.bytes) } else { self.bytes.drain(..len).collect() };
        // Whoever keeps it does not keep the room of all that was received with it.
        cut.shrink_to_fit();
        cut
    }
}
