//! Checks the content of a string, one block at a time.
//!
//! No byte decides a branch here, so that the compiler makes vector instructions of the loops, on every machine. A
//! block that cannot be decided this way is left to other code.
#![expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]

/// How many bytes before a block are examined: no character or escape that ends in the block begins earlier.
pub(super) const LEAD_BYTES: usize = 3;

/// A block of bytes, and the same number of bytes from one, two and three bytes earlier.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, const N: usize> {
    bytes: &'a [u8; N],
    before: &'a [u8; N],
    second_before: &'a [u8; N],
    third_before: &'a [u8; N],
}

impl<'a, const N: usize> Block<'a, N> {
    /// The block at `at`. `None` if there are too few bytes before or after `at`.
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

    /// Whether it has only plain ASCII characters.
    #[inline]
    fn is_plain(self) -> bool {
        let mut is_any_odd = false;
        for &byte in self.bytes {
            // As signed numbers, non-ASCII bytes are less than zero, and so less than 0x20.
            is_any_odd |= (byte == b'"') | (byte == b'\\') | (byte.cast_signed() < 0x20);
        }
        // The block must not begin inside a character or an escape.
        let is_cut = self.before.first().is_none_or(|&before| before >= 0xC0 || before == b'\\')
            || self.second_before.first().is_none_or(|&second_before| second_before >= 0xE0);
        !is_any_odd && !is_cut
    }

    /// Whether it is right, for a block without escaped backslashes and characters of three bytes, also before it.
    #[inline]
    fn has_only_simple_parts(self) -> bool {
        let mut is_any_wrong = false;
        for (&byte, &before) in self.bytes.iter().zip(self.before) {
            // A quote must be escaped, and an escaped byte must be a quote or a letter.
            is_any_wrong |= ((byte == b'"') != (before == b'\\')) & !is_escape_letter(byte);
            is_any_wrong |= is_continuation(byte) != (before >= 0xC0);
            is_any_wrong |= byte & 0xFE == 0xC0;
            // A control character, or the first byte of a character of three or more bytes: adding 0x20 makes 0x00 to
            // 0x1F of 0xE0 to 0xFF.
            is_any_wrong |= byte.wrapping_add(0x20) < 0x40;
        }
        let (Some(&before), Some(&second_before)) = (self.before.first(), self.second_before.first()) else {
            return false;
        };
        let is_long_cut = before >= 0xE0 || second_before >= 0xE0;
        !(is_any_wrong || is_long_cut || (before == b'\\' && second_before == b'\\'))
    }

    /// Whether it is right, for any block that [`Judge::is_inside_string`] can decide.
    #[inline]
    pub(super) fn has_only_parts(self) -> bool {
        let before = self.before.iter().zip(self.second_before).zip(self.third_before);
        let mut is_any_wrong = false;
        for (&byte, ((&before, &second_before), &third_before)) in self.bytes.iter().zip(before) {
            let is_pair_before = (second_before == b'\\') & (third_before != b'\\');
            let is_escaped = (before == b'\\') & !is_pair_before;
            let is_fourth = is_escaped & (second_before == b'\\') & (byte == b'\\');
            // A quote must be escaped, and an escaped byte must be a quote, a backslash or a letter.
            is_any_wrong |=
                ((byte == b'"') != is_escaped) & !((byte == b'\\') | is_escape_letter(byte)) | is_fourth;
            let is_behind_lead = (before >= 0xC0) | (second_before >= 0xE0);
            is_any_wrong |= is_continuation(byte) != is_behind_lead;
            is_any_wrong |= byte & 0xFE == 0xC0;
            // A control character, or the first byte of a character of four bytes: adding 0x10 makes 0x00 to 0x0F of
            // 0xF0 to 0xFF.
            is_any_wrong |= byte.wrapping_add(0x10) < 0x30;
            // An overlong encoding, or a surrogate.
            is_any_wrong |= ((before == 0xE0) & (byte < 0xA0)) | ((before == 0xED) & (byte >= 0xA0));
        }
        !is_any_wrong
    }
}

/// Checks one block after another. The next block is likely to have the same kind of bytes as the last one.
#[derive(Default)]
pub(super) struct Judge {
    kind: ByteKind,
    /// How many blocks are still checked as this kind before a simpler kind is tried again.
    blocks_left: u8,
    /// What `blocks_left` began with. It doubles while the simpler kind fails, so that it is tried less and less
    /// often.
    blocks: u8,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
/// How difficult a block is: each kind includes the one before.
enum ByteKind {
    #[default]
    Plain,
    Simple,
    Intricate,
}

impl Judge {
    const BLOCKS_MAX: u8 = 16;

    /// Whether the block certainly continues the string that it is in, and does not end it. False if that cannot be
    /// decided here.
    ///
    /// It may have ASCII, characters of two and three bytes, and escapes of two bytes, but at most three backslashes
    /// in a row. The first escape or character may begin before the block, and the last may end after it.
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

/// Whether it is one of the usual letters after a backslash. Backslash and quote are not letters.
#[inline]
const fn is_escape_letter(byte: u8) -> bool {
    (byte == b'n') | (byte == b't') | (byte == b'r') | (byte == b'/')
}

#[inline]
const fn is_continuation(byte: u8) -> bool {
    byte.cast_signed() < -0x40
}
