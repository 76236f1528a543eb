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

/// Runs until the window is over; returns the connections that live then.
pub fn run(server: SocketAddr, in_flight: usize, window: &mut Window) -> Result<Vec<Life>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(in_flight);
    let mut ordinals = 0..CONNECTIONS_MAX;
    let mut begin = |poll: &Poll, slot| -> Result<Life> {
        begin(server, poll, slot, ordinals.next().context("far too many connections")?)
    };
    let mut lives = (0..in_flight).map(|slot| begin(&poll, slot)).collect::<Result<Vec<_>>>()?;
    while !window.turn(Instant::now())? {
        match poll.poll(&mut events, Some(SILENCE_MAX)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        if events.is_empty() {
            bail!("replies are lost: nothing has arrived for {SILENCE_MAX:?}, {in_flight} connections wait");
        }
        for event in &events {
            let slot = event.token().0;
            if receive(&mut lives[slot])? {
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
