//! Judges what a string holds a block at a time.
//!
//! No byte decides on a branch here, so the compiler makes vector instructions of the loops, whichever the
//! machine has. What these cannot tell at once they leave to others.
#![expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]

/// How far a block is looked at from in front: nothing that ends in it begins earlier.
pub(super) const LEAD_BYTES: usize = 3;

/// Bytes to be judged at once, and as many from one, two and three bytes further in front.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, const N: usize> {
    bytes: &'a [u8; N],
    before: &'a [u8; N],
    second_before: &'a [u8; N],
    third_before: &'a [u8; N],
}

impl<'a, const N: usize> Block<'a, N> {
    /// The block at `at`, unless too little is in front of it or behind.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Option<Self> {
        let window = bytes.get(at.checked_sub(LEAD_BYTES)?..)?.get(..LEAD_BYTES + N)?;
        Some(Self {
            bytes: window.get(3..)?.first_chunk()?,
            before: window.get(2..)?.first_chunk()?,
            second_before: window.get(1..)?.first_chunk()?,
            third_before: window.first_chunk()?,
        })
    }

    /// Whether the block surely goes on with the string that it is in, and does not end it.
    ///
    /// It may hold ASCII, characters of two and three bytes, and escapes of two bytes, but no more than
    /// three backslashes in a row. The first of these may begin in front of the block, and the last may end
    /// behind it.
    #[inline]
    pub(super) fn is_inside_string(self) -> bool {
        let (mut is_any_odd, mut is_any_intricate) = (false, false);
        for (&byte, &before) in self.bytes.iter().zip(self.before) {
            let is_backslash = byte == b'\\';
            // As signed numbers, non-ASCII bytes are less than zero.
            is_any_odd |= (byte == b'"') | is_backslash | (byte.cast_signed() < 0x20);
            is_any_intricate |= (byte >= 0xE0) | (is_backslash & (before == b'\\'));
        }
        let (Some(&before), Some(&second_before)) = (self.before.first(), self.second_before.first()) else {
            return false;
        };
        let is_long_char_cut = before >= 0xE0 || second_before >= 0xE0;
        if is_any_intricate || is_long_char_cut || (before == b'\\' && second_before == b'\\') {
            self.has_only_parts()
        } else if is_any_odd || before >= 0xC0 || before == b'\\' {
            self.has_only_simple_parts()
        } else {
            true
        }
    }

    /// For a block without escaped backslashes and characters of three bytes, even in front.
    #[inline]
    fn has_only_simple_parts(self) -> bool {
        let mut is_any_wrong = false;
        for (&byte, &before) in self.bytes.iter().zip(self.before) {
            let (is_escaped, is_behind_lead) = (before == b'\\', before >= 0xC0);
            is_any_wrong |= is_wrong_ascii(byte, is_escaped) | (is_continuation(byte) != is_behind_lead);
            is_any_wrong |= byte & 0xFE == 0xC0;
        }
        !is_any_wrong
    }

    #[inline]
    pub(super) fn has_only_parts(self) -> bool {
        let before = self.before.iter().zip(self.second_before).zip(self.third_before);
        let mut is_any_wrong = false;
        for (&byte, ((&before, &second_before), &third_before)) in self.bytes.iter().zip(before) {
            let is_pair_before = (second_before == b'\\') & (third_before != b'\\');
            let is_escaped = (before == b'\\') & !is_pair_before;
            let is_fourth = is_escaped & (second_before == b'\\') & (byte == b'\\');
            is_any_wrong |= is_wrong_ascii(byte, is_escaped) | is_fourth;
            let is_behind_lead = (before >= 0xC0) | (second_before >= 0xE0);
            is_any_wrong |= is_continuation(byte) != is_behind_lead;
            is_any_wrong |= (byte & 0xFE == 0xC0) | (byte >= 0xF0);
            // Too long a spelling, or a surrogate.
            is_any_wrong |= ((before == 0xE0) & (byte < 0xA0)) | ((before == 0xED) & (byte >= 0xA0));
        }
        !is_any_wrong
    }
}

/// An escaped backslash is right here.
#[inline]
const fn is_wrong_ascii(byte: u8, is_escaped: bool) -> bool {
    let (is_quote, is_backslash) = (byte == b'"', byte == b'\\');
    let is_letter = (byte == b'n') | (byte == b't') | (byte == b'r') | (byte == b'/');
    (is_escaped & !(is_quote | is_backslash | is_letter)) | (is_quote & !is_escaped) | (byte < 0x20)
}

#[inline]
const fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}
