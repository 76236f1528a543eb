//! One direction of a tunnel: what one end sends is passed on to the other.

use fdtask::net::{Futile, Stream, try_again};
use fdtask::{Context, Wait};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

#[derive(Default)]
pub struct Flow {
    /// What has been received and not been sent yet. While there is any, nothing more is received; idle, it has no memory.
    pub unsent: Vec<u8>,
    received_bytes: u64,
    has_ended: bool,
    futile: Futile,
    /// Why nothing can be sent any more.
    pub failure: Option<io::Error>,
}

impl Flow {
    /// Moves one buffer's worth, as far as it goes, and says what to wait for. A failure to send is that of this direction alone:
    /// what `to` had said before it reset the connection is still there to be received. So an `Err` is one of receiving.
    pub fn advance(&mut self, from: &Stream, to: &Stream, cx: &mut Context<'_>) -> io::Result<Wait> {
        if self.has_ended {
            return Ok(Wait::Done);
        }
        let mut bytes = &self.unsent[..];
        if bytes.is_empty() {
            let buffer = cx.scratch();
            match from.recv(buffer) {
                Err(error) if try_again(&error) => return Ok(self.again(cx, &error, Wait::Recv(from.as_raw_fd()))),
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
            Err(error) if try_again(&error) => {
                self.unsent = bytes.to_vec();
                return Ok(self.again(cx, &error, Wait::Send(to.as_raw_fd())));
            }
            Err(error) => {
                self.failure = Some(error);
                Vec::new()
            }
        };
        self.futile.reset();
        Ok(if self.unsent.is_empty() { Wait::Recv(from.as_raw_fd()) } else { Wait::Send(to.as_raw_fd()) })
    }

    /// What to wait for after a call that has failed for now. If it is only that the end was not ready, that may be because the
    /// other direction was. Whatever else it is may last, while the end is ready all the time, and is paused for.
    fn again(&mut self, cx: &Context<'_>, error: &io::Error, wait: Wait) -> Wait {
        let is_no_news = error.kind() == ErrorKind::WouldBlock && cx.why() != wait;
        if is_no_news { wait } else { self.futile.wait(cx, wait) }
    }

    /// Finds out whether `to` has reset the connection, which is seen otherwise only when something is sent to it.
    pub fn look_at(&mut self, to: &Stream) {
        // One that has said the end, and been told it, is not connected any more, and has not failed.
        let reset = || to.connected().err().filter(|error| error.kind() != ErrorKind::WouldBlock);
        self.failure = self.failure.take().or_else(reset);
    }

    /// Whether nothing that comes is passed on any more.
    pub fn is_over(&self) -> bool {
        self.has_ended || self.failure.is_some()
    }

    /// What changes with each byte that moves: how much has been received, and how much of it `to` has not taken yet. None once
    /// `to` is gone.
    pub fn progress(&self, to: &Stream) -> Option<(u64, usize)> {
        self.failure.is_none().then(|| (self.received_bytes, self.unsent.len() + to.send_queue_bytes()))
    }
}
