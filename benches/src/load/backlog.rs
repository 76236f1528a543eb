//! As fast as the server goes by itself: it is stopped while its sockets are filled, and the client sleeps while it answers. So
//! the client costs nothing, and on two cores the rate shows what a second worker adds.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::bulk::{Pattern, Verifier};
use super::message::PREFIX;
use super::window::Window;
use super::{SILENCE_MAX, connect, target};
use crate::sys;

/// A server receives so much at a time at most; with more than that waiting, just so much.
const CHUNK_BYTES: usize = 1000;
/// How often the client looks whether all has been answered: it looks at a single connection.
const LOOK: Duration = Duration::from_micros(500);

struct Link {
    stream: TcpStream,
    verifier: Verifier,
    sent: u64,
}

/// Fills `chunks` chunks into each of `count` connections, and has them answered, over and over until the window is over; returns
/// the connections, still open.
pub fn run(server: SocketAddr, count: usize, chunks: usize, window: &mut Window) -> Result<Vec<TcpStream>> {
    let pattern = Pattern::new();
    let link = |stream| Link { stream, verifier: Verifier::new(), sent: 0 };
    let mut links: Vec<Link> = connect::open(server, count)?.into_iter().map(link).collect();
    let mut buffer = vec![0; chunks * (PREFIX.len() + CHUNK_BYTES)];
    let pid = window.pid();
    loop {
        sys::stop(pid)?;
        target::await_stopped(pid, SILENCE_MAX)?;
        for link in &mut links {
            fill(link, &pattern, chunks * CHUNK_BYTES).context("the sockets do not hold a backlog")?;
        }
        let piece = window.begin_piece()?;
        sys::go_on(pid)?;
        for link in &mut links {
            await_bytes(&link.stream, &mut buffer)?;
        }
        let is_over = window.end_piece(piece, (count * chunks) as u64)?;
        for link in &mut links {
            link.stream.read_exact(&mut buffer)?;
            link.verifier.take(&buffer, &pattern, link.sent)?;
            ensure!(
                link.verifier.carried == link.sent,
                "answers in pieces: a server receives 1,000 bytes if they are there"
            );
        }
        if is_over {
            return Ok(links.into_iter().map(|link| link.stream).collect());
        }
    }
}

fn fill(link: &mut Link, pattern: &Pattern, bytes: usize) -> Result<()> {
    let end = link.sent + bytes as u64;
    while link.sent < end {
        let piece = pattern.at(link.sent, (end - link.sent) as usize);
        link.stream.write_all(piece)?;
        link.sent += piece.len() as u64;
    }
    Ok(())
}

/// Sleeps until `buffer` could be filled with what has been received.
fn await_bytes(stream: &TcpStream, buffer: &mut [u8]) -> Result<()> {
    let begin = Instant::now();
    loop {
        match stream.peek(buffer) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(received) if received == buffer.len() => return Ok(()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error).context("receive"),
            _ if begin.elapsed() > SILENCE_MAX => bail!("the server has not answered all that it was sent"),
            _ => sleep(LOOK),
        }
    }
}
