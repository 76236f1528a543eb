//! Send, await the whole reply, send the next: on the same connection, or on a random one that has nothing outstanding.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::message::{Arriving, message, mix, reply_to};
use super::window::Window;
use super::{SILENCE_MAX, connect};

const EVENTS_PER_POLL_MAX: usize = 1024;

/// Larger than a reply, so that one that is too long is seen, and so that a receive which did not fill it has taken all.
const RECV_BYTES: usize = 256;

/// Where the next message goes when a reply is whole.
pub enum Next {
    /// To the connection that has just been answered.
    Same,
    /// To a random one that has nothing outstanding.
    Random(u64),
}

impl Next {
    /// The same sequence of connections for every server.
    pub fn random() -> Self {
        Next::Random(1)
    }
}

struct Link {
    stream: TcpStream,
    /// The number of the message that is outstanding, or was the last.
    sequence: u64,
    /// Since when a message is outstanding.
    sent: Option<Instant>,
    arriving: Arriving,
}

/// The connections, and what waits for them.
pub struct Echo {
    poll: Poll,
    links: Vec<Link>,
}

impl Echo {
    /// Opens `count` connections.
    pub fn open(server: SocketAddr, count: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut links = Vec::with_capacity(count);
        for (id, stream) in connect::open(server, count)?.into_iter().enumerate() {
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(id), Interest::READABLE)?;
            links.push(Link { stream, sequence: 0, sent: None, arriving: Arriving::default() });
        }
        Ok(Echo { poll, links })
    }

    /// Keeps `outstanding` messages travelling until the window is over, and then awaits the replies that are owed: one that was
    /// lost while all others came would not be noticed otherwise.
    pub fn run(&mut self, mut next: Next, outstanding: usize, window: &mut Window) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL_MAX);
        let mut now = Instant::now();
        for id in 0..outstanding {
            let id = self.choose(&mut next, id);
            self.send(id, now)?;
        }
        let mut owed = outstanding;
        while owed > 0 {
            let over = window.turn(now)?;
            match self.poll.poll(&mut events, Some(SILENCE_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if events.is_empty() {
                bail!("replies are lost: nothing has arrived for {SILENCE_MAX:?}, {owed} messages are outstanding");
            }
            for event in &events {
                let id = event.token().0;
                let Some(sent) = self.receive(id).with_context(|| format!("connection {id}"))? else { continue };
                // One reading of the clock ends this round trip and begins the next.
                now = Instant::now();
                if over {
                    owed -= 1;
                    continue;
                }
                window.record(now - sent);
                let id = self.choose(&mut next, id);
                self.send(id, now)?;
            }
        }
        Ok(())
    }

    fn choose(&self, next: &mut Next, same: usize) -> usize {
        let Next::Random(state) = next else { return same };
        loop {
            *state += 1;
            let id = (mix(*state) % self.links.len() as u64) as usize;
            if self.links[id].sent.is_none() {
                return id;
            }
        }
    }

    fn send(&mut self, id: usize, now: Instant) -> Result<()> {
        let link = &mut self.links[id];
        link.sequence += 1;
        let bytes = reply_to(id as u32, link.sequence);
        let sent = link.stream.write(message(&bytes)).with_context(|| format!("connection {id}: send"))?;
        // Nothing else is in the socket's buffer, so there is room for so little.
        if sent != message(&bytes).len() {
            bail!("connection {id}: a short send of {sent} bytes into an empty socket buffer");
        }
        link.sent = Some(now);
        Ok(())
    }

    /// Takes what arrived. Returns when the message was sent if its reply is whole now.
    fn receive(&mut self, id: usize) -> Result<Option<Instant>> {
        let link = &mut self.links[id];
        let mut buffer = [0; RECV_BYTES];
        loop {
            let received = match link.stream.read(&mut buffer) {
                Ok(0) => bail!("the server has closed it"),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("receive"),
            };
            if link.sent.is_none() {
                bail!("{received} bytes arrived that nobody asked for: {:02x?}", &buffer[..received]);
            }
            // A receive that did not fill the buffer took all there was, so the edge will come again for what follows.
            let whole = link.arriving.take(&buffer[..received], id as u32, link.sequence)?;
            return Ok(if whole { link.sent.take() } else { None });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::super::message::{MESSAGE_BYTES, PREFIX};
    use super::*;

    #[test]
    fn a_reply_that_is_owed_when_the_window_is_over_is_verified_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut first, mut second) = (listener.accept().unwrap().0, listener.accept().unwrap().0);
            let mut message = [0; MESSAGE_BYTES];
            let mut answer = |stream: &mut std::net::TcpStream| -> std::io::Result<()> {
                stream.read_exact(&mut message)?;
                stream.write_all(&[&PREFIX[..], &message[..]].concat())
            };
            answer(&mut first).unwrap();
            // The client is done when it asks no more.
            second.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            while answer(&mut second).is_ok() {}
            first.write_all(b"wrong").unwrap();
            // Until the client has gone.
            let _ = first.read_to_end(&mut Vec::new());
        });
        let mut window = Window::new(std::process::id(), Duration::ZERO, Duration::from_millis(50)).unwrap();
        let mut echo = Echo::open(address, 2).unwrap();
        let error = echo.run(Next::Same, 2, &mut window).unwrap_err();
        assert!(format!("{error:#}").contains("wrong bytes"), "{error:#}");
        drop(echo);
        server.join().unwrap();
    }
}
