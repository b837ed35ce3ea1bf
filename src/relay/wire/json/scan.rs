//! Fast skipping of what is certainly right in strings, numbers and white space.

use super::NotUtf8;
use super::block::{Block, Judge, LEAD_BYTES};

/// Where [`skip_string`] stops.
pub(super) enum Stop {
    /// At the closing quote.
    Quote(usize),
    /// Before something that is wrong, cut off or not decided, or at the end of the piece.
    Unsure(usize),
}

/// Size of a large block, in bytes.
const BLOCK_BYTES: usize = 64;

/// Size of a small block, in bytes. Used where large blocks fail.
const SMALL_BLOCK_BYTES: usize = 16;

/// Most bytes that are checked word by word, where blocks fail, before blocks are tried again.
const WORDWISE_BYTES_MAX: usize = 16 * BLOCK_BYTES;

/// Skips the content of a string from `at` on. `at` must not be inside a character or an escape.
#[inline]
pub(super) fn skip_string(bytes: &[u8], at: usize) -> Stop {
    let word = word_at(bytes, at);
    let special = special_bytes(word);
    let first = special.trailing_zeros() / 8;
    if special != 0 && word >> (8 * first) & 0xFF == u64::from(b'"') {
        return Stop::Quote(at + first as usize);
    }
    skip_long_string(bytes, at)
}

#[inline(never)]
fn skip_long_string(bytes: &[u8], mut at: usize) -> Stop {
    let mut wordwise_bytes = SMALL_BLOCK_BYTES;
    let mut judge = Judge::default();
    loop {
        let start = at;
        at = skip_blocks::<SMALL_BLOCK_BYTES>(bytes, at, 1, Block::has_only_parts);
        if at > start {
            at = skip_blocks::<BLOCK_BYTES>(bytes, at, usize::MAX, |block| judge.is_inside_string(block));
            at = skip_blocks::<SMALL_BLOCK_BYTES>(bytes, at, 3, Block::has_only_parts);
            wordwise_bytes = SMALL_BLOCK_BYTES;
        } else {
            // Blocks fail here, so they are tried less and less often.
            wordwise_bytes = (2 * wordwise_bytes).min(WORDWISE_BYTES_MAX);
        }
        match skip_words(bytes, at, at + wordwise_bytes) {
            Ok(end) => at = end,
            Err(stop) => return stop,
        }
    }
}

/// Skips up to `blocks_max` blocks that are right. Begins and ends outside of characters and escapes.
#[inline]
fn skip_blocks<'a, const N: usize>(
    bytes: &'a [u8],
    start: usize,
    blocks_max: usize,
    mut is_right: impl FnMut(Block<'a, N>) -> bool,
) -> usize {
    let mut at = start;
    // It would take more work to find out whether a backslash before the first block begins an escape.
    if at == 0 || bytes.get(at - 1) == Some(&b'\\') {
        return at;
    }
    let mut blocks = 0;
    while blocks < blocks_max && Block::new(bytes, at).is_some_and(&mut is_right) {
        at += N;
        blocks += 1;
    }
    if blocks == 0 {
        return at;
    }
    // The last block may end inside a character or an escape: go back to its start.
    match bytes.get(at - LEAD_BYTES..at) {
        Some([b'\\', b'\\', b'\\']) => at - 1,
        Some([_, b'\\', b'\\']) => at,
        Some([_, _, b'\\' | 0xC0..=0xFF]) => at - 1,
        Some([_, 0xE0..=0xFF, _]) => at - 2,
        _ => at,
    }
}

/// Skips the content of a string word by word, up to `end` or a little further.
#[inline]
fn skip_words(bytes: &[u8], mut at: usize, end: usize) -> Result<usize, Stop> {
    while at < end {
        let word = word_at(bytes, at);
        let special = special_bytes(word);
        if special & 0x80 == 0 {
            // 64 zero bits, and so eight bytes, if there is no special byte.
            at += (special.trailing_zeros() / 8) as usize;
            continue;
        }
        let [first, second, ..] = word.to_le_bytes();
        // Each branch has a constant length, so that the processor need not wait for it.
        at += match first {
            b'"' => return Err(Stop::Quote(at)),
            b'\\' if is_short_escape(second) => 2,
            _ => match unit_bytes(word) {
                Some(2) => 2,
                Some(3) => 3,
                Some(bytes) => bytes,
                None => return Err(Stop::Unsure(at)),
            },
        };
    }
    Ok(at)
}

/// The eight bytes from `at` on, the first one lowest. Bytes after the end are zero.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(word) => u64::from_le_bytes(*word),
        None => last_word(bytes, at),
    }
}

#[inline(never)]
fn last_word(bytes: &[u8], at: usize) -> u64 {
    match bytes.last_chunk() {
        // The last eight bytes, shifted so that the byte at `at` is the lowest.
        Some(word) if at < bytes.len() => u64::from_le_bytes(*word) >> (8 * (at + 8 - bytes.len())),
        _ => bytes
            .get(at..)
            .unwrap_or_default()
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// The length of the `\u` escape or non-ASCII character at the start of `word`, whose first byte is the lowest.
/// `None` if it is wrong, or neither.
#[inline]
fn unit_bytes(word: u64) -> Option<usize> {
    let [first, second, ..] = word.to_le_bytes();
    if first == b'\\' {
        let [_, _, digits @ .., _, _] = word.to_le_bytes();
        return (second == b'u' && digits.iter().all(u8::is_ascii_hexdigit)).then_some(6);
    }
    // Two bytes: 110xxxxx 10xxxxxx.
    if word & 0xC0E0 == 0x80C0 {
        // A first byte of 0xC0 or 0xC1 is an overlong encoding.
        return (word & 0x1E != 0).then_some(2);
    }
    // Three bytes: 1110xxxx, and two of 10xxxxxx.
    if word & 0xC0_C0F0 == 0x80_80E0 {
        // An overlong encoding, or a surrogate.
        return (word & 0x200F != 0 && word & 0x200F != 0x200D).then_some(3);
    }
    // Four bytes: 11110xxx, and three of 10xxxxxx.
    if word & 0xC0C0_C0F8 == 0x8080_80F0 {
        // The upper five bits of the code point must be 1 to 16: U+10000 to U+10FFFF.
        let plane = (word & 7) << 2 | word >> 12 & 3;
        return matches!(plane, 1..=16).then_some(4);
    }
    None
}

#[inline]
pub(super) const fn is_short_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
}

const LOW_BITS: u64 = 0x7F7F_7F7F_7F7F_7F7F;
const HIGH_BITS: u64 = !LOW_BITS;

const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Sets the high bit of each byte that is not a plain ASCII character of a string. Exact only up to the first such
/// byte.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    // A byte that is less borrows from the next ones. That can only change bytes after it.
    let control = word.wrapping_sub(repeat(0x20));
    let quote = (word ^ repeat(b'"')).wrapping_sub(repeat(1));
    let backslash = (word ^ repeat(b'\\')).wrapping_sub(repeat(1));
    (word | control | quote | backslash) & HIGH_BITS
}

/// Sets the high bit of each byte that is not a digit.
#[inline]
const fn non_digits(word: u64) -> u64 {
    let word = word ^ repeat(b'0');
    // No sum carries into the next byte: the high bits are masked off first.
    (((word & LOW_BITS) + repeat(0x7F - 9)) | word) & HIGH_BITS
}

/// Skips digits from `at` on.
#[inline]
pub(super) fn skip_digits(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let others = non_digits(word_at(bytes, at));
        at += (others.trailing_zeros() / 8) as usize;
        if others != 0 {
            return at;
        }
    }
}

/// Skips white space from `at` on.
#[inline]
pub(super) fn skip_space(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b' ' | b'\n' | b'\r' | b'\t') => skip_more_space(bytes, at + 1),
        _ => at,
    }
}

fn skip_more_space(bytes: &[u8], mut at: usize) -> usize {
    loop {
        // Indentation is mostly spaces.
        while word_at(bytes, at) == repeat(b' ') {
            at += 8;
        }
        match bytes.get(at) {
            Some(b' ' | b'\n' | b'\r' | b'\t') => at += 1,
            _ => return at,
        }
    }
}

/// The start of a character whose rest has not arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CutChar {
    bytes: [u8; 4],
    len: usize,
}

impl CutChar {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds one byte. Empty again once the character is whole.
    pub(super) fn push(&mut self, byte: u8) -> Result<(), NotUtf8> {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
        match std::str::from_utf8(self.bytes.get(..self.len).unwrap_or_default()) {
            Ok(_) => self.len = 0,
            Err(error) if error.error_len().is_none() => {}
            Err(_) => return Err(NotUtf8),
        }
        Ok(())
    }

    /// Checks any number of bytes: completes the character, and keeps the start of a last one that is cut off.
    pub(super) fn push_all(&mut self, mut bytes: &[u8]) -> Result<(), NotUtf8> {
        while let (false, Some((&byte, rest))) = (self.is_empty(), bytes.split_first()) {
            self.push(byte)?;
            bytes = rest;
        }
        let Err(error) = std::str::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(NotUtf8);
        }
        bytes.get(error.valid_up_to()..).unwrap_or_default().iter().try_for_each(|&byte| self.push(byte))
    }
}
