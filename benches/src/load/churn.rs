//! Connect, one message, close: a few dozen such connections live at any time.
//!
//! The client closes first, as clients do, so the server sees the end of the stream, and each connection would leave a
//! TIME_WAIT behind: tens of thousands a second, up to the kernel's limit, after which a close becomes cheaper; and each costs
//! the server's core a timer a minute later, in the time of another server. `TCP_LINGER2 = -1` avoids all of that: when the
//! server's FIN arrives, the client's side is gone and answers with a reset. What the server's program sees and does is the
//! same as ever.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::message::{Arriving, message, reply_to};
use super::window::Window;
use super::{SILENCE_MAX, connect};
use crate::sys;

const RECV_BYTES: usize = 256;

/// No run makes more connections than this, whatever its time.
const CONNECTIONS_MAX: u32 = 5_000_000;

/// A connection that has its message outstanding.
pub struct Life {
    stream: TcpStream,
    ordinal: u32,
    born: Instant,
    arriving: Arriving,
}

/// Runs until the window is over and the replies that are owed then have come; returns the last connections.
pub fn run(server: SocketAddr, in_flight: usize, window: &mut Window) -> Result<Vec<Life>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(in_flight);
    let mut ordinals = 0..CONNECTIONS_MAX;
    let mut begin = |poll: &Poll, slot| -> Result<Life> {
        begin(server, poll, slot, ordinals.next().context("far too many connections")?)
    };
    let mut lives = (0..in_flight).map(|slot| begin(&poll, slot)).collect::<Result<Vec<_>>>()?;
    let mut owed = in_flight;
    while owed > 0 {
        let over = window.turn(Instant::now())?;
        match poll.poll(&mut events, Some(SILENCE_MAX)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        if events.is_empty() {
            bail!("replies are lost: nothing has arrived for {SILENCE_MAX:?}, {owed} connections wait");
        }
        for event in &events {
            let slot = event.token().0;
            if !receive(&mut lives[slot])? {
                continue;
            }
            if over {
                owed -= 1;
            } else {
                window.record(lives[slot].born.elapsed());
                // The old connection is closed here: its place is taken.
                lives[slot] = begin(&poll, slot)?;
            }
        }
    }
    Ok(lives)
}

fn begin(server: SocketAddr, poll: &Poll, slot: usize, ordinal: u32) -> Result<Life> {
    let born = Instant::now();
    let socket = connect::bound(ordinal)?;
    sys::skip_time_wait(socket.as_fd())?;
    // On loopback a connect is complete when it returns, so there is nothing to gain from not blocking.
    socket.connect(&server.into()).with_context(|| format!("connection {ordinal}"))?;
    socket.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(StdStream::from(socket));
    poll.registry().register(&mut stream, Token(slot), Interest::READABLE)?;
    let bytes = reply_to(ordinal, 0);
    let sent = stream.write(message(&bytes)).with_context(|| format!("connection {ordinal}: send"))?;
    if sent != message(&bytes).len() {
        bail!("connection {ordinal}: a short send of {sent} bytes into an empty socket buffer");
    }
    Ok(Life { stream, ordinal, born, arriving: Arriving::default() })
}

/// Takes what arrived; true when the reply is whole.
fn receive(life: &mut Life) -> Result<bool> {
    let mut buffer = [0; RECV_BYTES];
    match life.stream.read(&mut buffer) {
        Ok(0) => bail!("connection {}: closed before the message was answered", life.ordinal),
        Ok(received) => life.arriving.take(&buffer[..received], life.ordinal, 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("connection {}: receive", life.ordinal)),
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
            let mut first = listener.accept().unwrap().0;
            // The client is done when it connects no more.
            socket2::SockRef::from(&listener).set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            while let Ok((mut other, _)) = listener.accept() {
                let mut message = [0; MESSAGE_BYTES];
                other.read_exact(&mut message).unwrap();
                other.write_all(&[&PREFIX[..], &message[..]].concat()).unwrap();
            }
            first.write_all(b"wrong").unwrap();
            // Until the client has gone.
            let _ = first.read_to_end(&mut Vec::new());
        });
        let mut window = Window::new(std::process::id(), Duration::ZERO, Duration::from_millis(50)).unwrap();
        let error = run(address, 2, &mut window).err().unwrap();
        assert!(format!("{error:#}").contains("wrong bytes"), "{error:#}");
        server.join().unwrap();
    }
}
