//! What is sent, and what the echo protocol makes of it.

/// What every answer begins with.
pub const PREFIX: &[u8] = b"GOT:";

/// How many bytes an answer carries behind its prefix at most.
pub const CHUNK_BYTES_MAX: usize = 1000;

/// `len` bytes among which each of the 256 values occurs (if there are so many) and the prefix does not. Another `seed`
/// gives other bytes, so that those of one client are not taken for those of another.
pub fn payload(len: usize, seed: u64) -> Vec<u8> {
    // A xorshift generator: the same bytes every time, without a period that could hide a swapped chunk.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let byte = (state >> 32) as u8;
        // Without a colon behind a T the prefix cannot occur.
        let would_end_prefix = byte == b':' && bytes.last() == Some(&b'T');
        bytes.push(if would_end_prefix { b';' } else { byte });
    }
    bytes
}

/// What a stream of answers carries, without the prefixes. The prefix must not occur in what was sent: then every
/// occurrence is a true one, because no end of it is a beginning of it.
///
/// # Panics
/// When the stream is not a sequence of answers of 1 to [`CHUNK_BYTES_MAX`] bytes each.
#[track_caller]
pub fn payload_of(answers: &[u8]) -> Vec<u8> {
    let mut carried = Vec::with_capacity(answers.len());
    let mut rest = answers;
    while !rest.is_empty() {
        let at = answers.len() - rest.len();
        rest = rest.strip_prefix(PREFIX).unwrap_or_else(|| panic!("no GOT: at byte {at} of {}", answers.len()));
        let len = rest.windows(PREFIX.len()).position(|window| window == PREFIX).unwrap_or(rest.len());
        assert!((1..=CHUNK_BYTES_MAX).contains(&len), "an answer at byte {at} carries {len} bytes");
        carried.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
    }
    carried
}

/// The answers to `sent` if the server receives it in full chunks.
pub fn answers_to(sent: &[u8]) -> Vec<u8> {
    sent.chunks(CHUNK_BYTES_MAX).flat_map(|chunk| [PREFIX, chunk].concat()).collect()
}
