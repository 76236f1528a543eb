//! Connections to the server, from many source addresses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use super::SILENCE_MAX;
use super::message::{Arriving, REPLY_BYTES, message, reply_to};
use crate::sys;

/// Connections are spread over 127.0.1.1 and so many addresses after it. The ephemeral ports of one address would be used up,
/// and a client on the server's own address could take the port that the next server is to have.
const SOURCE_ADDRESSES: u32 = 200;

/// How many connections are opened before each of them must have had a reply: far below the backlog of any server.
const OPENED_AT_ONCE: usize = 64;

/// A socket that is bound to the source address of connection number `ordinal`, not yet connected.
pub fn bound(ordinal: u32) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("no more descriptors?")?;
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + ordinal % SOURCE_ADDRESSES);
    sys::bind_address_only(socket.as_fd())?;
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    Ok(socket)
}

/// Opens `count` connections and has one message answered on each: the server has accepted them all, and has served them all,
/// the idle ones too. They do not block any more. The next message's number is 1.
pub fn open(server: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut streams: Vec<TcpStream> = Vec::with_capacity(count);
    while streams.len() < count {
        let first = streams.len();
        for id in first..count.min(first + OPENED_AT_ONCE) {
            let socket = bound(id as u32)?;
            // All are closed at once, after the measurement: with resets, which leave no TIME_WAIT to the next server.
            socket.set_linger(Some(Duration::ZERO))?;
            socket.connect(&server.into()).with_context(|| format!("connection {id} of {count}"))?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(SILENCE_MAX))?;
            stream.write_all(message(&reply_to(id as u32, 0)))?;
            streams.push(stream);
        }
        for (id, stream) in streams.iter_mut().enumerate().skip(first) {
            await_reply(stream, id as u32).with_context(|| format!("connection {id} of {count}"))?;
            stream.set_nonblocking(true)?;
        }
    }
    Ok(streams)
}

fn await_reply(stream: &mut TcpStream, id: u32) -> Result<()> {
    let mut arriving = Arriving::default();
    let mut buffer = [0; REPLY_BYTES];
    loop {
        let received = stream.read(&mut buffer).context("no reply to the first message")?;
        if received == 0 {
            anyhow::bail!("closed before the first message was answered");
        }
        if arriving.take(&buffer[..received], id, 0)? {
            return Ok(());
        }
    }
}
