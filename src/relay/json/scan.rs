//! The fast part: skips what is surely right in strings, numbers and white space.

use super::NotUtf8;

/// Where [`skip_string`] stops.
pub(super) enum Stop {
    /// At the closing quote.
    Quote(usize),
    /// In front of something that is wrong, or cut off, or too close to the end of the piece to tell.
    Unsure(usize),
}

const BLOCK_BYTES: usize = 32;

/// Skips what a string holds from `at` on.
#[inline]
pub(super) fn skip_string(bytes: &[u8], mut at: usize) -> Stop {
    let Some(last_start) = bytes.len().checked_sub(BLOCK_BYTES) else { return Stop::Unsure(at) };
    while at < bytes.len() {
        // The last blocks overlap, so that there is always a whole one.
        let start = at.min(last_start);
        let Some(block) = bytes.get(start..).and_then(|rest| rest.first_chunk()) else { break };
        let mut special = special_bytes(block) & u32::MAX << (at - start);
        at = loop {
            if special == 0 {
                break start + BLOCK_BYTES;
            }
            let index = special.trailing_zeros() as usize;
            let word = bytes.get(start + index..).and_then(|rest| rest.first_chunk());
            let Some(word) = word.copied().map(u64::from_le_bytes) else {
                let at = start + index;
                return if bytes.get(at) == Some(&b'"') { Stop::Quote(at) } else { Stop::Unsure(at) };
            };
            if word & 0xFF == u64::from(b'"') {
                return Stop::Quote(start + index);
            }
            let Some(next) = unit_bytes(word).map(|bytes| index + bytes) else {
                return Stop::Unsure(start + index);
            };
            if next >= BLOCK_BYTES {
                break start + next;
            }
            special &= u32::MAX << next;
        };
    }
    Stop::Unsure(at)
}

/// The length of the escape or non-ASCII character that `word`, in little-endian order, begins with; `None`
/// if it is neither, or wrong.
#[inline]
fn unit_bytes(word: u64) -> Option<usize> {
    let [first, second, ..] = word.to_le_bytes();
    if first == b'\\' {
        if is_short_escape(second) {
            return Some(2);
        }
        let [_, _, digits @ .., _, _] = word.to_le_bytes();
        return (second == b'u' && digits.iter().all(u8::is_ascii_hexdigit)).then_some(6);
    }
    if word & 0xC0E0 == 0x80C0 {
        // A lead of 0xC0 or 0xC1 would be too long a spelling.
        return (word & 0x1E != 0).then_some(2);
    }
    if word & 0xC0_C0F0 == 0x80_80E0 {
        // Too long a spelling, or a surrogate.
        return (word & 0x200F != 0 && word & 0x200F != 0x200D).then_some(3);
    }
    if word & 0xC0C0_C0F8 == 0x8080_80F0 {
        // The upper bits of the code point: U+10000 to U+10FFFF.
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

/// A bit for each byte that is not an ASCII character as it stands in a string.
#[inline]
fn special_bytes(block: &[u8; BLOCK_BYTES]) -> u32 {
    let (words, _) = block.as_chunks::<8>();
    words.iter().rev().fold(0, |bits, word| {
        let word = u64::from_le_bytes(*word);
        let low = word & LOW_BITS;
        // No sum carries into the next byte; the high bits tell the bytes that are printable and differ.
        let plain = (low + repeat(0x60))
            & ((low ^ repeat(b'"')) + LOW_BITS)
            & ((low ^ repeat(b'\\')) + LOW_BITS)
            & !word;
        let special = !plain & HIGH_BITS;
        bits << 8 | ((special >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    })
}

/// Skips digits from `at` on.
#[inline]
pub(super) fn skip_digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word) ^ repeat(b'0');
        let others = (((word & LOW_BITS) + repeat(0x7F - 9)) | word) & HIGH_BITS;
        if others != 0 {
            return at + (others.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Skips white space from `at` on.
#[inline]
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\n' | b'\r' | b'\t') => at += 1,
            _ => return at,
        }
        while bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) == Some(b"        ") {
            at += 8;
        }
    }
}

/// A character of which the rest is still to come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CutChar {
    bytes: [u8; 4],
    len: usize,
}

impl CutChar {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes one more byte; it is empty again once the character is whole.
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

    /// Takes bytes of any number.
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
