//! A stream, line by line.

use super::{Stream, try_again};
use crate::future::{Futile, readable};
use std::io;

/// How much is received at a time.
const CHUNK_BYTES: usize = 4096;

/// Receives lines, of a bounded length: what a line protocol begins with. A peer that never ends its line costs no more
/// memory than one line.
///
/// For a hand-written task there is [`try_recv`](Lines::try_recv), for a future [`recv`](Lines::recv).
///
/// ```
/// use fdtask::net::{Acceptor, Lines, Listener, Stream};
/// use fdtask::{Scheduler, future};
/// use std::io;
///
/// /// Answers each line with how long it is.
/// async fn measure(client: Stream) -> io::Result<()> {
///     let mut lines = Lines::new(1000);
///     while let Some(line) = lines.recv(&client).await? {
///         let answer = match line.strip_suffix(b"\n") {
///             Some(line) => format!("{} bytes\n", line.len()),
///             None => "too long, or not ended\n".to_owned(),
///         };
///         future::send_all(&client, answer.as_bytes()).await?;
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
#[derive(Debug)]
pub struct Lines {
    line_bytes_max: usize,
    /// What has been received and not been returned yet.
    bytes: Vec<u8>,
    /// So many of these bytes are known to hold no end of a line.
    searched: usize,
    has_ended: bool,
}

impl Lines {
    /// Lines of at most so many bytes, with their end.
    ///
    /// # Panics
    /// If a line may have no byte at all.
    pub fn new(line_bytes_max: usize) -> Lines {
        assert!(line_bytes_max > 0, "a line has at least its end");
        Lines { line_bytes_max, bytes: Vec::new(), searched: 0, has_ended: false }
    }

    /// The next line, with its end, `\n`; `None` when the stream has ended. Two kinds of lines come without that end: the last
    /// one, if nobody has ended it, and one that is too long, which comes in pieces of the greatest length.
    ///
    /// Call it again until it says `WouldBlock`, in this resume or (after [`Wait::Turn`](crate::Wait::Turn)) in the next: more
    /// lines may have come with this one, and the descriptor does not tell of them. Use the same stream each time.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): the next line is not complete; wait for
    /// [`Wait::Recv`](crate::Wait::Recv). Others are [`Stream::recv`]'s.
    pub fn try_recv(&mut self, stream: &Stream) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.has_ended {
                return Ok(None);
            }
            let mut chunk = [0; CHUNK_BYTES];
            let received = stream.recv(&mut chunk)?;
            self.bytes.extend_from_slice(&chunk[..received]);
            self.has_ended = received == 0;
        }
    }

    /// Waits for the next line: what [`try_recv`](Lines::try_recv) returns. If the future is dropped, nothing is lost.
    ///
    /// A peer that sends many lines at once has many of them returned without a wait in between. To let the other tasks
    /// run, await [`next_turn`](crate::future::next_turn) after each.
    ///
    /// # Errors
    /// What ends the connection, such as that the peer has reset it.
    pub async fn recv(&mut self, stream: &Stream) -> io::Result<Option<Vec<u8>>> {
        let mut futile = Futile::default();
        loop {
            let known = self.bytes.len();
            match self.try_recv(stream) {
                Err(error) if !try_again(&error) => return Err(error),
                Ok(line) => return Ok(line),
                Err(_) if self.bytes.len() > known => futile = Futile::default(),
                Err(_) => futile.pause(|| stream.descriptor().scheduler()).await,
            }
            readable(stream).await?;
        }
    }

    /// The first line that is there, if one is.
    fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| self.searched + at + 1);
        let is_cut = self.bytes.len() >= self.line_bytes_max || self.has_ended && !self.bytes.is_empty();
        let Some(end) = end.or(is_cut.then_some(self.bytes.len())) else {
            self.searched = self.bytes.len();
            return None;
        };
        self.searched = 0;
        let rest = self.bytes.split_off(end.min(self.line_bytes_max));
        Some(std::mem::replace(&mut self.bytes, rest))
    }
}
