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

/// A client, and its connection to the target.
pub struct Tunnel {
    name: String,
    client: Rc<Stream>,
    server: Stream,
    up: Flow,
    down: Flow,
    /// Says by its end that the tunnel has ended.
    _alive: channel::Sender<()>,
}

impl Tunnel {
    pub fn new(name: String, client: Rc<Stream>, server: Stream, alive: channel::Sender<()>) -> Tunnel {
        Tunnel { name, client, server, up: Flow::default(), down: Flow::default(), _alive: alive }
    }
}

impl Task for Tunnel {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let Tunnel { client, server, up, down, .. } = self;
        // Both, whatever fired: if both did, only one of them is the reason, and a busy one must not keep the other waiting.
        let waits = (up.advance(client, server, cx.scratch())?, down.advance(server, client, cx.scratch())?);
        // What one end had said that is gone is passed on, as long as the other takes it.
        let has_stalled = up.failure.is_some() && down.has_stalled(server, client, cx)
            || down.failure.is_some() && up.has_stalled(client, server, cx);
        match waits {
            _ if has_stalled || waits == (Wait::Done, Wait::Done) => {
                up.failure.take().or(down.failure.take()).map_or(Ok(Wait::Done), Err)
            }
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

/// One direction of a tunnel.
#[derive(Default)]
struct Flow {
    /// What has been received and not been sent yet. While there is any, nothing more is received; idle, it has no memory.
    unsent: Vec<u8>,
    has_ended: bool,
    /// Why nothing can be sent any more.
    failure: Option<io::Error>,
    /// When the end is gone that it comes from: how much is left of it, and until when that has to become less.
    left: Option<(usize, Instant)>,
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

    /// Whether `to` has taken nothing for too long, now that `from` is gone and there will be no more.
    fn has_stalled(&mut self, from: &Stream, to: &Stream, cx: &mut Context<'_>) -> bool {
        // Nobody says that `to` has taken something: there is room again only when much of the kernel's queue is free.
        let left = from.recv_queue_bytes() + self.unsent.len() + to.send_queue_bytes();
        let deadline = match self.left {
            Some((before, deadline)) if left >= before => deadline,
            _ => self.left.insert((left, cx.now() + STALL_TIMEOUT)).1,
        };
        cx.or(Wait::Until(deadline));
        deadline <= cx.now()
    }
}
