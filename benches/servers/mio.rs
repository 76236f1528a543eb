//! The echo server on mio: a hand-written, edge-triggered loop.

mod common;

use std::io::{self, ErrorKind, Read, Write};

use common::{PREFIX, RECV_BYTES_MAX, REPLY_BYTES_MAX};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

const EVENTS_PER_POLL_MAX: usize = 1024;
/// Connections take their token from the slab, which never gets this far.
const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    /// What a short send left over. It is empty, and has no memory, as long as every send is whole.
    left: Vec<u8>,
    /// Whether the connection is registered for sending too.
    watches_send: bool,
}

enum After {
    Wait,
    Close,
}

fn main() -> io::Result<()> {
    let mut listener = TcpListener::from_std(common::listen("mio")?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS_PER_POLL_MAX);
    let mut connections = Slab::new();
    let mut reply = common::reply_buffer();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &mut connections, poll.registry())?;
                continue;
            }
            let key = event.token().0;
            let ended = event.is_read_closed() || event.is_error();
            let Some(connection) = connections.get_mut(key) else { continue };
            match connection.serve(ended, &mut reply, poll.registry(), event.token()) {
                Ok(After::Wait) => {}
                // Closing the descriptor is enough: the kernel drops the registration with it.
                Ok(After::Close) | Err(_) => drop(connections.remove(key)),
            }
        }
    }
}

fn accept(listener: &TcpListener, connections: &mut Slab<Connection>, registry: &Registry) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let entry = connections.vacant_entry();
        registry.register(&mut stream, Token(entry.key()), Interest::READABLE)?;
        entry.insert(Connection { stream, left: Vec::new(), watches_send: false });
    }
}

impl Connection {
    /// Goes as far as it can. An edge is reported once, so this may stop only where the kernel will report a new one: at a
    /// receive or a send that found nothing, or at a receive that got less than it asked for and no end was reported.
    fn serve(
        &mut self,
        ended: bool,
        reply: &mut [u8; REPLY_BYTES_MAX],
        registry: &Registry,
        token: Token,
    ) -> io::Result<After> {
        loop {
            if !self.flush()? {
                return self.watch_send(registry, token);
            }
            let received = match self.stream.read(&mut reply[PREFIX.len()..]) {
                Ok(0) => return Ok(After::Close),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(After::Wait),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.send(&reply[..PREFIX.len() + received])?;
            if received < RECV_BYTES_MAX && self.left.is_empty() && !ended {
                return Ok(After::Wait);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match self.stream.write(bytes) {
            Ok(sent) => sent,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        self.left.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what is left over; true when nothing is.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.left.is_empty() {
            match self.stream.write(&self.left) {
                Ok(sent) => drop(self.left.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Adds the sending side to the registration, once: edges cost nothing while they do not happen.
    fn watch_send(&mut self, registry: &Registry, token: Token) -> io::Result<After> {
        if !self.watches_send {
            registry.reregister(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.watches_send = true;
        }
        Ok(After::Wait)
    }
}
