//! The seed's `echo_handler(client, address)`: answers `GOT:` and what it received.

use super::{Futile, Idle, Stream, try_again};
use crate::context::Context;
use crate::sys;
use crate::task::{Task, Wait};
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How much is received, and answered, at a time. The seed's `recv(1000)`.
pub const RECV_CHUNK_BYTES: usize = 1000;

/// How many chunks one resume receives and answers, at most, of a client that sends whole ones: a stream, and not a message at a
/// time. With one, a stream would pay for a turn and a poll with each; with many, those who ask small things would wait for those
/// who stream. So it is fewer when more than eight tasks share the turn.
pub const CHUNKS_PER_RESUME_MAX: usize = 8;

/// How many chunks one turn receives and answers when several stream. If there are more tasks in the turn than that, each has
/// one, like all who do not stream.
const CHUNKS_PER_TURN: usize = 64;

/// What each answer begins with.
pub const ECHO_PREFIX: &[u8] = b"GOT:";

/// How much more than what was received when the drain began is answered before the connection is let go: a client that is
/// in the middle of asking gets its answer, one that never pauses does not hold up the drain.
pub const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// How long a client that has connected and not asked anything yet may take to do so once a drain has begun. It could not
/// know, and its request may be on its way. (Whoever has had an answer learns from the end of the stream that there will be
/// no more: the race of every protocol that keeps connections.)
pub const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// An answer that did not go out whole is kept only if so much memory is left. It is less than a new connection asks for, so
/// that those who are connected are served before others.
const UNSENT_SPARE_BYTES: usize = 64 * 1024;

/// An echo connection.
///
/// It does one thing per resume: it sends what is left of an answer, or it receives one chunk and sends the answer to it, or,
/// of a stream, some chunks one after the other. While it waits to receive it owns no buffer; an answer that did not fit into
/// the socket at once is kept, and nothing more is received until it is gone. So what a client sends and does not read back
/// stays in the kernel and slows down that client alone.
pub struct Echo {
    stream: Stream,
    peer: SocketAddr,
    phase: Phase,
    /// How much more of what is received is answered, once a drain has begun.
    drain_budget_bytes: u32,
    /// What there is to take care of beside the next chunk; nothing, almost always.
    beside: Option<Box<Beside>>,
    futile: Futile,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Has received nothing yet.
    New,
    /// Receives and answers until the client ends the stream.
    Serving,
    /// A drain has begun, and nothing has been received yet.
    DrainingNew,
    /// Nothing was there to be received then, either: gives the client [`DRAIN_GRACE`] to ask what it has connected for.
    Grace,
    /// A drain has begun: answers what has been received, up to a budget, then ends the stream itself.
    Draining,
    /// Has ended the stream, and reads until the client does the same. To close earlier would make the kernel reset the
    /// connection if the client still sends, and so destroy the answers that are on their way to it.
    Lingering,
}

#[derive(Default)]
struct Beside {
    /// The answer that did not go out whole, and how much of it has gone. Empty if there is none.
    unsent: Box<[u8]>,
    sent: usize,
    idle: Option<Idle>,
}

impl Echo {
    /// Serves `stream`, whose other end is `peer`.
    pub fn new(stream: Stream, peer: SocketAddr) -> Echo {
        Echo { stream, peer, phase: Phase::New, drain_budget_bytes: 0, beside: None, futile: Futile::default() }
    }

    /// Lets the connection go when nothing has moved for this long, in either direction: neither did a byte come, nor
    /// did the client take one of what was sent to it (which [not every system](Stream::send_queue_bytes) can tell). It may take
    /// up to a sixteenth longer; while something is on its way to the client, up to a quarter.
    #[must_use]
    pub fn with_idle_timeout(self, timeout: Option<Duration>) -> Echo {
        let beside = timeout.map(|timeout| Box::new(Beside { idle: Some(Idle::new(timeout)), ..Beside::default() }));
        Echo { beside, ..self }
    }

    /// Receives a chunk and sends the answer to it, as far as it goes.
    #[expect(clippy::inline_always, reason = "measured: this is what almost every resume comes to")]
    #[inline(always)]
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let received = match self.receive_chunk(cx) {
            Ok(0) => return Ok(Wait::Done),
            Ok(received) if received >= RECV_CHUNK_BYTES => return self.answer_stream(cx),
            Ok(received) => received,
            Err(error) => return self.nothing_received(cx, error),
        };
        match self.answer(cx, received) {
            Ok(sent) if sent == ECHO_PREFIX.len() + received && self.is_plain() => {
                self.futile.reset();
                Ok(Wait::Recv(self.stream.as_raw_fd()))
            }
            result => self.answered(cx, received, result),
        }
    }

    /// A whole chunk has been received. That is a part of a stream, and more of it is there, most likely: answers it, and goes on
    /// with what follows, up to [`CHUNKS_PER_RESUME_MAX`], so that a stream does not pay for a turn with each.
    #[cold]
    fn answer_stream(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let mut received = RECV_CHUNK_BYTES;
        let mut left = (CHUNKS_PER_TURN / cx.core.waiters.ready.turn_len()).clamp(1, CHUNKS_PER_RESUME_MAX);
        loop {
            let result = self.answer(cx, received);
            let wait = self.answered(cx, received, result)?;
            left -= 1;
            if received < RECV_CHUNK_BYTES || left == 0 || !matches!(wait, Wait::Recv(_)) {
                return Ok(wait);
            }
            received = match self.receive_chunk(cx) {
                Ok(0) => return Ok(Wait::Done),
                Ok(received) => received,
                Err(error) => return self.nothing_received(cx, error),
            };
        }
    }

    /// Receives up to a chunk, behind the room for the prefix.
    #[inline]
    fn receive_chunk(&self, cx: &mut Context<'_>) -> io::Result<usize> {
        self.stream.recv(&mut cx.scratch()[ECHO_PREFIX.len()..][..RECV_CHUNK_BYTES])
    }

    /// Sends the answer to what has been received; returns how much of it has gone.
    #[inline]
    fn answer(&self, cx: &mut Context<'_>, received: usize) -> io::Result<usize> {
        let answer = &mut cx.scratch()[..ECHO_PREFIX.len() + received];
        answer[..ECHO_PREFIX.len()].copy_from_slice(ECHO_PREFIX);
        self.stream.send(answer)
    }

    /// The answer to so many bytes has been sent as far as `result` says.
    #[cold]
    fn answered(&mut self, cx: &mut Context<'_>, received: usize, result: io::Result<usize>) -> io::Result<Wait> {
        let len = ECHO_PREFIX.len() + received;
        let sent = match result {
            Ok(sent) => sent,
            Err(error) if try_again(&error) => 0,
            Err(error) => return Err(error),
        };
        if sent < len {
            sys::ensure_memory(UNSENT_SPARE_BYTES)?;
            let beside = self.beside.get_or_insert_default();
            beside.unsent = cx.scratch()[sent..len].into();
        }
        self.phase = match self.phase {
            Phase::New => Phase::Serving,
            Phase::DrainingNew | Phase::Grace => Phase::Draining,
            phase => phase,
        };
        self.drain_budget_bytes = self.drain_budget_bytes.saturating_sub(received as u32);
        Ok(self.progress(cx))
    }

    /// What is to be done when there is something to take care of beside the next chunk.
    #[cold]
    #[inline(never)]
    fn resume_otherwise(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        if cx.timed_out()
            && let Some(idle) = self.beside.as_mut().and_then(|beside| beside.idle.as_mut())
            && idle.has_expired(cx.clock(), &self.stream)
            // While the system cannot poll, nobody says when something has come, so this looks for itself.
            && (self.has_unsent() || self.stream.recv_queue_bytes() == 0)
        {
            return Ok(Wait::Done);
        }
        if cx.is_draining() {
            self.begin_to_drain();
        }
        match self.phase {
            _ if self.has_unsent() => self.send_rest(cx),
            Phase::Lingering => Ok(self.linger(cx)),
            Phase::Draining if self.drain_budget_bytes == 0 => self.end_stream(cx),
            // A new connection, too, receives before it has waited: most of the time the request is there already.
            Phase::New | Phase::Serving | Phase::DrainingNew | Phase::Grace | Phase::Draining => self.receive(cx),
        }
    }

    /// Whether there is nothing to take care of but the next chunk, as almost always.
    fn is_plain(&self) -> bool {
        matches!(self.phase, Phase::Serving) && self.beside.is_none()
    }

    fn has_unsent(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| !beside.unsent.is_empty())
    }

    /// Sends what is left of an answer, as far as it goes.
    fn send_rest(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let Some(beside) = &mut self.beside else { return self.receive(cx) };
        match self.stream.send(&beside.unsent[beside.sent..]) {
            Ok(sent) => beside.sent += sent,
            Err(error) if try_again(&error) => return Ok(self.again(cx, Wait::Send(self.stream.as_raw_fd()))),
            Err(error) => return Err(error),
        }
        if beside.sent == beside.unsent.len() {
            // A connection that waits for its client owns no buffer.
            self.beside = beside.idle.take().map(|idle| Box::new(Beside { idle: Some(idle), ..Beside::default() }));
        }
        Ok(self.progress(cx))
    }

    /// Reads and forgets what the client still sends, until it ends the stream, too.
    fn linger(&mut self, cx: &mut Context<'_>) -> Wait {
        match self.stream.recv(cx.scratch()) {
            Ok(received) if received > 0 => self.progress(cx),
            Err(error) if try_again(&error) => self.again(cx, Wait::Recv(self.stream.as_raw_fd())),
            Ok(_) | Err(_) => Wait::Done,
        }
    }

    /// Nothing was received: a false alarm, a drain that has come to the last of what was received, or an error.
    #[cold]
    fn nothing_received(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Result<Wait> {
        if !try_again(&error) {
            return Err(error);
        }
        let wait = match self.phase {
            Phase::New | Phase::Serving | Phase::Lingering => Wait::Recv(self.stream.as_raw_fd()),
            // The error says nothing about what was received: what is there is going to be received at another time.
            _ if error.kind() != io::ErrorKind::WouldBlock || self.stream.recv_queue_bytes() > 0 => Wait::Turn,
            // A deadline that has passed may be the idle timeout's, unless the grace has begun.
            Phase::Draining => return self.end_stream(cx),
            Phase::Grace if cx.timed_out() => return self.end_stream(cx),
            Phase::DrainingNew | Phase::Grace => {
                self.phase = Phase::Grace;
                cx.or(Wait::Until(cx.now() + DRAIN_GRACE));
                return Ok(Wait::Recv(self.stream.as_raw_fd()));
            }
        };
        Ok(self.again(cx, wait))
    }

    fn end_stream(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.stream.shutdown_send()?;
        self.phase = Phase::Lingering;
        Ok(self.linger(cx))
    }

    /// Nothing has moved: waits once more, or pauses.
    fn again(&mut self, cx: &mut Context<'_>, wait: Wait) -> Wait {
        let wait = self.futile.wait(cx, wait);
        self.with_deadline(cx, wait)
    }

    /// Something has moved: what to wait for next.
    fn progress(&mut self, cx: &mut Context<'_>) -> Wait {
        self.futile.reset();
        if let Some(idle) = self.beside.as_mut().and_then(|beside| beside.idle.as_mut()) {
            idle.progress(cx.clock());
        }
        let fd = self.stream.as_raw_fd();
        let wait = match self.phase {
            _ if self.has_unsent() => Wait::Send(fd),
            // Only trying shows that nothing is left to receive; the poller would say nothing then.
            Phase::DrainingNew | Phase::Grace | Phase::Draining => Wait::Turn,
            Phase::New | Phase::Serving | Phase::Lingering => Wait::Recv(fd),
        };
        self.with_deadline(cx, wait)
    }

    #[inline]
    fn with_deadline(&mut self, cx: &mut Context<'_>, wait: Wait) -> Wait {
        if let Some(idle) = self.beside.as_mut().and_then(|beside| beside.idle.as_mut()) {
            cx.or_until(idle.deadline(cx.clock()));
        }
        wait
    }

    fn begin_to_drain(&mut self) {
        self.phase = match self.phase {
            Phase::New => Phase::DrainingNew,
            Phase::Serving => Phase::Draining,
            Phase::DrainingNew | Phase::Grace | Phase::Draining | Phase::Lingering => return,
        };
        let received = self.stream.recv_queue_bytes() + DRAIN_BYTES_MAX;
        self.drain_budget_bytes = u32::try_from(received).unwrap_or(u32::MAX);
    }
}

impl Task for Echo {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        // This is `is_plain`, in an order that saves two instructions a message.
        match (&self.beside, self.phase) {
            (None, Phase::Serving) => self.receive(cx),
            _ => self.resume_otherwise(cx),
        }
    }

    fn drain(&mut self) -> bool {
        self.begin_to_drain();
        true
    }

    fn name(&self) -> Cow<'_, str> {
        format!("echo {}", self.peer).into()
    }

    fn progress(&self) -> Cow<'_, str> {
        match &self.beside {
            Some(beside) if self.has_unsent() => format!("{} of {} sent", beside.sent, beside.unsent.len()).into(),
            _ => "".into(),
        }
    }
}
