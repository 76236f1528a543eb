//! Behaviour before speed: a server that loses bytes, or that keeps what it should close, is not measured at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::bulk::{Pattern, Verifier};
use super::{SILENCE_MAX, connect};

/// A small receive buffer, so that the server's sends become short soon.
const RECV_BUFFER_BYTES: usize = 16 * 1024;
/// The sockets on the way hold a few MB at most, so a server that takes all of this keeps what it cannot send in memory.
const SENT_BYTES_MAX: u64 = 64 << 20;
/// A send that does not go on for this long will not.
const BLOCKED_FOR: Duration = Duration::from_millis(300);

/// Sends without receiving until nothing more can be sent, ends the sending side, then receives everything, to the end.
pub fn run(server: SocketAddr) -> Result<()> {
    let socket = connect::bound(0)?;
    socket.set_recv_buffer_size(RECV_BUFFER_BYTES)?;
    socket.connect(&server.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(BLOCKED_FOR))?;
    let pattern = Pattern::new();
    let sent = send_until_blocked(&mut stream, &pattern)?;
    stream.shutdown(Shutdown::Write)?;
    let carried = receive_to_the_end(&mut stream, &pattern, sent)?;
    if carried != sent {
        bail!("the server closed the connection when {carried} of {sent} bytes had come back");
    }
    Ok(())
}

fn send_until_blocked(stream: &mut TcpStream, pattern: &Pattern) -> Result<u64> {
    let mut sent = 0;
    loop {
        match stream.write(pattern.at(sent, 64 * 1024)) {
            Ok(bytes) => sent += bytes as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(sent),
            Err(error) => return Err(error).context("send"),
        }
        if sent > SENT_BYTES_MAX {
            bail!("the server took {sent} bytes of a client that receives nothing: it has no back-pressure");
        }
    }
}

fn receive_to_the_end(stream: &mut TcpStream, pattern: &Pattern, sent: u64) -> Result<u64> {
    let mut verifier = Verifier::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(verifier.carried),
            Ok(received) => verifier.take(&buffer[..received], pattern, sent)?,
            Err(error) => {
                let carried = verifier.carried;
                return Err(error).with_context(|| format!("{carried} of {sent} bytes had come back, and no end"));
            }
        }
    }
}
