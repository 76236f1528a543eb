//! A client and its server, who are connected: what one of them sends is passed on to the other.

use fdtask::net::Stream;
use fdtask::{Context, Task, Wait, channel};
use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// When one end is gone, and the other takes nothing for so long of what that one had said, the rest is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// What moves is looked at in so many steps per timeout, which may so become that much longer, and never shorter.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// A client, and its connection to the target.
pub struct Tunnel {
    name: String,
    client: Rc<Stream>,
    server: Stream,
    up: Flow,
    down: Flow,
    patience: Duration,
    /// None as long as both ways are open.
    look: Option<Look>,
    /// Says by its end that the tunnel has ended.
    _alive: channel::Sender<()>,
}

impl Tunnel {
    /// It is given up when one end will say no more and nothing has moved for as long as `patience`.
    pub fn new(name: String, ends: (Rc<Stream>, Stream), patience: Duration, alive: channel::Sender<()>) -> Tunnel {
        let ((client, server), (up, down)) = (ends, <(Flow, Flow)>::default());
        Tunnel { name, client, server, up, down, patience, look: None, _alive: alive }
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.up.failure.take().or(self.down.failure.take())
    }

    /// Whether nothing has moved for too long, now that one way is over.
    fn has_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let Tunnel { client, server, up, down, .. } = self;
        let is_whole = up.failure.is_none() && down.failure.is_none();
        let (now, patience) = (cx.now(), if is_whole { self.patience } else { STALL_TIMEOUT });
        let look = match self.look.take() {
            Some(look) if now < look.at + patience / LOOKS_PER_TIMEOUT => look,
            // Nobody says that an end has taken something: there is room again only when much of the kernel's queue is free.
            before => {
                let progress = [up.progress(server), down.progress(client)];
                let since = before.filter(|before| before.progress == progress).map_or(now, |before| before.since);
                Look { progress, since, at: now }
            }
        };
        let Look { since, at, .. } = *self.look.insert(look);
        cx.or(Wait::Until(at + patience / LOOKS_PER_TIMEOUT));
        since + patience <= now
    }
}

impl Task for Tunnel {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let Tunnel { client, server, up, down, .. } = self;
        // Both, whatever fired: if both did, only one of them is the reason, and a busy one must not keep the other waiting.
        let waits = (up.advance(client, server, cx.scratch())?, down.advance(server, client, cx.scratch())?);
        let is_one_over = up.is_over() || down.is_over();
        match waits {
            (Wait::Done, Wait::Done) => self.failure().map_or(Ok(Wait::Done), Err),
            // What an end had said before is passed on, and answered if it is not gone, as long as something moves.
            _ if is_one_over && self.has_stalled(cx) => Err(self.failure().unwrap_or(ErrorKind::TimedOut.into())),
            (Wait::Done, wait) | (wait, Wait::Done) => Ok(wait),
            (up, down) => {
                cx.or(up);
                Ok(down)
            }
        }
    }

    fn name(&self) -> Cow<'_, str> {
        self.name.as_str().into()
    }
}

/// What had moved either way when that was looked at, and since when it has been the same.
struct Look {
    progress: [Option<(u64, usize)>; 2],
    since: Instant,
    at: Instant,
}

/// One direction of a tunnel.
#[derive(Default)]
struct Flow {
    /// What has been received and not been sent yet. While there is any, nothing more is received; idle, it has no memory.
    unsent: Vec<u8>,
    received_bytes: u64,
    has_ended: bool,
    /// Why nothing can be sent any more.
    failure: Option<io::Error>,
}

impl Flow {
    /// Moves one buffer's worth, as far as it goes, and says what to wait for. A failure to send is that of this direction alone:
    /// what `to` had said before it reset the connection is still there to be received. So an `Err` is one of receiving.
    fn advance(&mut self, from: &Stream, to: &Stream, buffer: &mut [u8]) -> io::Result<Wait> {
        if self.has_ended {
            return Ok(Wait::Done);
        }
        let mut bytes = &self.unsent[..];
        if bytes.is_empty() {
            match from.recv(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Wait::Recv(from.as_raw_fd())),
                Ok(0) => {
                    self.has_ended = true;
                    // What was connected, and is not any more, has been reset.
                    let reset = |_| ErrorKind::ConnectionReset.into();
                    self.failure = self.failure.take().or(to.shutdown_send().err().map(reset));
                    return Ok(Wait::Done);
                }
                received => bytes = &buffer[..received?],
            }
            self.received_bytes += bytes.len() as u64;
        }
        // Once `to` is gone, the rest is received all the same: until `from` is rid of it, it may take nothing.
        let sent = if self.failure.is_some() { Ok(bytes.len()) } else { to.send(bytes) };
        self.unsent = match sent {
            Ok(sent) => bytes[sent..].to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => bytes.to_vec(),
            Err(error) => {
                self.failure = Some(error);
                Vec::new()
            }
        };
        Ok(if self.unsent.is_empty() { Wait::Recv(from.as_raw_fd()) } else { Wait::Send(to.as_raw_fd()) })
    }

    /// Whether nothing that comes is passed on any more.
    fn is_over(&self) -> bool {
        self.has_ended || self.failure.is_some()
    }

    /// What changes with each byte that moves: how much has been received, and how much of it `to` has not taken yet. None once
    /// `to` is gone.
    fn progress(&self, to: &Stream) -> Option<(u64, usize)> {
        self.failure.is_none().then(|| (self.received_bytes, self.unsent.len() + to.send_queue_bytes()))
    }
}
