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

    /// Whether it holds nothing but ASCII characters as they stand.
    #[inline]
    fn is_plain(self) -> bool {
        let mut is_any_odd = false;
        for &byte in self.bytes {
            // As signed numbers, non-ASCII bytes are less than zero.
            is_any_odd |= (byte == b'"') | (byte == b'\\') | (byte.cast_signed() < 0x20);
        }
        let is_cut = self.before.first().is_none_or(|&before| before >= 0xC0 || before == b'\\')
            || self.second_before.first().is_none_or(|&second_before| second_before >= 0xE0);
        !is_any_odd && !is_cut
    }

    /// For a block without escaped backslashes and characters of three bytes, even in front.
    #[inline]
    fn has_only_simple_parts(self) -> bool {
        let mut is_any_wrong = false;
        for (&byte, &before) in self.bytes.iter().zip(self.before) {
            // A quote must be escaped, and what is escaped must be one or a letter.
            is_any_wrong |= ((byte == b'"') != (before == b'\\')) & !is_escape_letter(byte);
            is_any_wrong |= is_continuation(byte) != (before >= 0xC0);
            is_any_wrong |= byte & 0xFE == 0xC0;
            // A control character or the first byte of a character of three or more: 0xE0 to 0xFF turn to 0x00 to 0x1F.
            is_any_wrong |= byte.wrapping_add(0x20) < 0x40;
        }
        let (Some(&before), Some(&second_before)) = (self.before.first(), self.second_before.first()) else {
            return false;
        };
        let is_long_cut = before >= 0xE0 || second_before >= 0xE0;
        !(is_any_wrong || is_long_cut || (before == b'\\' && second_before == b'\\'))
    }

    /// For any of those that [`Judge::is_inside_string`] knows.
    #[inline]
    pub(super) fn has_only_parts(self) -> bool {
        let before = self.before.iter().zip(self.second_before).zip(self.third_before);
        let mut is_any_wrong = false;
        for (&byte, ((&before, &second_before), &third_before)) in self.bytes.iter().zip(before) {
            let is_pair_before = (second_before == b'\\') & (third_before != b'\\');
            let is_escaped = (before == b'\\') & !is_pair_before;
            let is_fourth = is_escaped & (second_before == b'\\') & (byte == b'\\');
            // A quote must be escaped, and what is escaped must be one, a backslash or a letter.
            is_any_wrong |=
                ((byte == b'"') != is_escaped) & !((byte == b'\\') | is_escape_letter(byte)) | is_fourth;
            let is_behind_lead = (before >= 0xC0) | (second_before >= 0xE0);
            is_any_wrong |= is_continuation(byte) != is_behind_lead;
            is_any_wrong |= byte & 0xFE == 0xC0;
            // A control character, or the first byte of a character of four: 0xF0 to 0xFF turn to 0x00 to 0x0F.
            is_any_wrong |= byte.wrapping_add(0x10) < 0x30;
            // Too long a spelling, or a surrogate.
            is_any_wrong |= ((before == 0xE0) & (byte < 0xA0)) | ((before == 0xED) & (byte >= 0xA0));
        }
        !is_any_wrong
    }
}

/// Judges one block after another. What the last one held the next one is likely to hold.
#[derive(Default)]
pub(super) struct Judge {
    kind: ByteKind,
    /// How many blocks are taken for this kind before a simpler one is tried again.
    blocks_left: u8,
    /// How many they were the last time. Where trying is of no use, it is done less and less often.
    blocks: u8,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ByteKind {
    #[default]
    Plain,
    Simple,
    Intricate,
}

impl Judge {
    const BLOCKS_MAX: u8 = 16;

    /// Whether the block surely goes on with the string that it is in, and does not end it.
    ///
    /// It may hold ASCII, characters of two and three bytes, and escapes of two bytes, but no more than
    /// three backslashes in a row. The first of these may begin in front of the block, and the last may end
    /// behind it.
    #[inline]
    pub(super) fn is_inside_string<const N: usize>(&mut self, block: Block<'_, N>) -> bool {
        match self.blocks_left.checked_sub(1) {
            Some(left) => self.blocks_left = left,
            None if self.kind == ByteKind::Intricate => {
                (self.kind, self.blocks_left) = (ByteKind::Simple, 0);
            }
            None => self.kind = ByteKind::Plain,
        }
        if self.kind == ByteKind::Plain {
            if block.is_plain() {
                self.blocks = 1;
                return true;
            }
            self.take_for(ByteKind::Simple);
        }
        if self.kind == ByteKind::Simple {
            if block.has_only_simple_parts() {
                return true;
            }
            self.take_for(ByteKind::Intricate);
        }
        block.has_only_parts()
    }

    #[inline]
    fn take_for(&mut self, kind: ByteKind) {
        self.blocks = (2 * self.blocks).clamp(1, Self::BLOCKS_MAX);
        (self.kind, self.blocks_left) = (kind, self.blocks);
    }
}

/// Whether it is a usual one of those that stand behind a backslash, other than that and the quote.
#[inline]
const fn is_escape_letter(byte: u8) -> bool {
    (byte == b'n') | (byte == b't') | (byte == b'r') | (byte == b'/')
}

#[inline]
const fn is_continuation(byte: u8) -> bool {
    byte.cast_signed() < -0x40
}
