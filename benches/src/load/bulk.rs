//! A stream that never pauses through one connection, in both directions.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::message::{PREFIX, mix};
use super::window::Window;
use super::{SILENCE_MAX, connect};

/// A prime, so that no other power-of-two length in the way can hide a shift of the stream.
const PATTERN_BYTES: usize = 1_048_573;
const IO_BYTES: usize = 64 * 1024;
/// A server receives so much at a time at most, so no answer carries more.
const ANSWER_BYTES_MAX: usize = 1000;
/// Receives a turn, so that sending has its turn too.
const RECEIVES_PER_TURN_MAX: usize = 16;
const UNIT_BYTES: u64 = 1000;

/// What the client sends, over and over.
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// Pseudo-random, but without a `G`: so a `G` can only begin a prefix, and the answers can be told apart.
    pub fn new() -> Self {
        let bytes = (0..PATTERN_BYTES as u64).map(|at| (mix(at) % 255) as u8);
        Pattern(bytes.map(|byte| if byte >= PREFIX[0] { byte + 1 } else { byte }).collect())
    }

    /// As much as there is in one piece from `position` of the endless stream on, at most `most` bytes.
    pub fn at(&self, position: u64, most: usize) -> &[u8] {
        let from = (position % PATTERN_BYTES as u64) as usize;
        &self.0[from..PATTERN_BYTES.min(from + most)]
    }
}

/// Takes the answers apart and compares what they carry with what was sent.
pub struct Verifier {
    /// How much of the stream has come back.
    pub carried: u64,
    /// How much of the prefix has been seen; all of it while an answer's payload arrives.
    prefix: usize,
    /// How much this answer has carried.
    answer: usize,
}

impl Verifier {
    /// Before the first answer.
    pub fn new() -> Self {
        Verifier { carried: 0, prefix: 0, answer: 0 }
    }

    /// Takes what arrived of a stream of which `sent` bytes were sent.
    pub fn take(&mut self, mut piece: &[u8], pattern: &Pattern, sent: u64) -> Result<()> {
        while let Some(&first) = piece.first() {
            if self.prefix < PREFIX.len() {
                if first != PREFIX[self.prefix] {
                    bail!("at byte {} of the stream: {first:#04x} within a prefix", self.carried);
                }
                self.prefix += 1;
                piece = &piece[1..];
            } else if first == PREFIX[0] {
                if self.answer == 0 {
                    bail!("at byte {} of the stream: an answer to nothing", self.carried);
                }
                (self.prefix, self.answer) = (0, 0);
            } else {
                piece = self.payload(piece, pattern)?;
            }
        }
        if self.carried > sent {
            bail!("{} bytes came back of {sent} that were sent", self.carried);
        }
        Ok(())
    }

    fn payload<'a>(&mut self, piece: &'a [u8], pattern: &Pattern) -> Result<&'a [u8]> {
        let most = piece.len().min(ANSWER_BYTES_MAX - self.answer);
        let mut expected = pattern.at(self.carried, most);
        if expected.is_empty() {
            bail!("at byte {} of the stream: an answer carries more than {ANSWER_BYTES_MAX} bytes", self.carried);
        }
        // The pattern has no `G`, so where it matches there is no prefix; only a short answer makes us look for one.
        if piece[..expected.len()] != *expected {
            let length = piece[..expected.len()].iter().position(|&byte| byte == PREFIX[0]);
            expected = &expected[..length.unwrap_or(expected.len())];
        }
        let (piece, rest) = piece.split_at(expected.len());
        if piece != expected {
            bail!("wrong bytes somewhere after byte {} of the stream", self.carried);
        }
        self.carried += piece.len() as u64;
        self.answer += piece.len();
        Ok(rest)
    }
}

/// Runs until the window is over; returns the connection, still open.
pub fn run(server: SocketAddr, window: &mut Window) -> Result<TcpStream> {
    let pattern = Pattern::new();
    let mut verifier = Verifier::new();
    let mut buffer = vec![0; IO_BYTES];
    let mut stream = TcpStream::from_std(connect::open(server, 1)?.remove(0));
    let mut poll = Poll::new()?;
    poll.registry().register(&mut stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
    let mut events = Events::with_capacity(8);
    let (mut sent, mut counted) = (0, 0);
    while !window.turn(Instant::now())? {
        let all = receive(&mut stream, &mut buffer, &mut verifier, &pattern, sent)?;
        let full = send(&mut stream, &pattern, &mut sent)?;
        let units = verifier.carried / UNIT_BYTES;
        window.add(units - counted);
        counted = units;
        if all && full {
            poll.poll(&mut events, Some(SILENCE_MAX))?;
            if events.is_empty() {
                bail!("the stream stands still: {sent} bytes sent, {} came back", verifier.carried);
            }
        }
    }
    Ok(stream)
}

/// True when there was nothing more to receive.
fn receive(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    verifier: &mut Verifier,
    pattern: &Pattern,
    sent: u64,
) -> Result<bool> {
    for _ in 0..RECEIVES_PER_TURN_MAX {
        match stream.read(buffer) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(received) => verifier.take(&buffer[..received], pattern, sent)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error).context("receive"),
        }
    }
    Ok(false)
}

/// True when no more could be sent.
fn send(stream: &mut TcpStream, pattern: &Pattern, sent: &mut u64) -> Result<bool> {
    match stream.write(pattern.at(*sent, IO_BYTES)) {
        Ok(bytes) => *sent += bytes as u64,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
        Err(error) => return Err(error).context("send"),
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(pattern: &Pattern, lengths: &[usize]) -> Vec<u8> {
        let mut position = 0;
        let mut bytes = Vec::new();
        for &length in lengths {
            bytes.extend_from_slice(PREFIX);
            bytes.extend_from_slice(pattern.at(position, length));
            position += length as u64;
        }
        bytes
    }

    #[test]
    fn answers_of_any_length_in_any_pieces_are_right() {
        let pattern = Pattern::new();
        let bytes = answers(&pattern, &[1, 1000, 999, 1000, 3]);
        for piece in [1, 2, 3, 7, 1000, 5000] {
            let mut verifier = Verifier::new();
            for part in bytes.chunks(piece) {
                verifier.take(part, &pattern, 3003).unwrap();
            }
            assert_eq!(verifier.carried, 3003);
        }
    }

    #[test]
    fn a_lost_a_doubled_and_a_changed_byte_are_noticed() {
        let pattern = Pattern::new();
        let right = answers(&pattern, &[1000, 1000]);
        let mut lost = right.clone();
        lost.remove(500);
        let mut doubled = right.clone();
        doubled.insert(500, right[500]);
        let mut changed = right.clone();
        changed[1500] ^= 1;
        for wrong in [lost, doubled, changed] {
            assert!(Verifier::new().take(&wrong, &pattern, 2000).is_err());
        }
        assert!(Verifier::new().take(&answers(&pattern, &[1001]), &pattern, 2000).is_err());
        assert!(Verifier::new().take(&right, &pattern, 1999).is_err());
    }
}
