//! The messages: each of them is unlike any other, so that a reply that was lost, doubled or crossed cannot look right.

use anyhow::{Result, bail};

/// What a server puts before the message it answers with.
pub const PREFIX: &[u8; 4] = b"GOT:";
/// How long a message is.
pub const MESSAGE_BYTES: usize = 64;
/// How long its answer is.
pub const REPLY_BYTES: usize = PREFIX.len() + MESSAGE_BYTES;

/// Message number `sequence` on connection `id`, behind the prefix that its answer will have.
pub fn reply_to(id: u32, sequence: u64) -> [u8; REPLY_BYTES] {
    let mut bytes = [0; REPLY_BYTES];
    let (prefix, message) = bytes.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    let words = message.chunks_exact_mut(8);
    let mut word = (u64::from(id) << 40) ^ sequence;
    for chunk in words {
        chunk.copy_from_slice(&word.to_le_bytes());
        // Every further word follows from the first, which is the connection and the number themselves.
        word = mix(word);
    }
    bytes
}

/// The message itself, within what [`reply_to`] made.
pub fn message(reply: &[u8; REPLY_BYTES]) -> &[u8] {
    &reply[PREFIX.len()..]
}

/// The finalizer of splitmix64: different words stay different.
pub fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// A reply that arrives, perhaps in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arriving {
    bytes: usize,
}

impl Arriving {
    /// Takes what arrived; true when the reply to message `sequence` on connection `id` is whole.
    pub fn take(&mut self, piece: &[u8], id: u32, sequence: u64) -> Result<bool> {
        let expected = reply_to(id, sequence);
        let end = self.bytes + piece.len();
        if end > REPLY_BYTES {
            bail!("connection {id}, message {sequence}: {end} bytes arrived for a reply of {REPLY_BYTES}");
        }
        if piece != &expected[self.bytes..end] {
            bail!(
                "connection {id}, message {sequence}: wrong bytes from {} on:\n  expected {:02x?}\n  received {:02x?}",
                self.bytes,
                &expected[self.bytes..end],
                piece
            );
        }
        self.bytes = end % REPLY_BYTES;
        Ok(self.bytes == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_may_arrive_in_pieces() {
        let reply = reply_to(7, 9);
        let mut arriving = Arriving::default();
        assert!(!arriving.take(&reply[..3], 7, 9).unwrap());
        assert!(!arriving.take(&reply[3..60], 7, 9).unwrap());
        assert!(arriving.take(&reply[60..], 7, 9).unwrap());
        assert!(arriving.take(&reply_to(7, 10), 7, 10).unwrap());
    }

    #[test]
    fn a_crossed_a_late_and_a_doubled_reply_are_noticed() {
        let right = reply_to(7, 9);
        assert!(Arriving::default().take(&reply_to(8, 9), 7, 9).is_err());
        assert!(Arriving::default().take(&reply_to(7, 8), 7, 9).is_err());
        let mut doubled = right.to_vec();
        doubled.extend_from_slice(&right);
        assert!(Arriving::default().take(&doubled, 7, 9).is_err());
    }
}
