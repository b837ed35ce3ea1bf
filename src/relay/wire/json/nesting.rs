//! The open containers, one bit for each.

/// A container of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Array,
    Object,
}

const LEVELS_PER_WORD: usize = 64;

/// The open containers. The innermost ones, up to 64, need no heap memory.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    depth: usize,
    /// The innermost levels, up to a multiple of 64 from the outside. The lowest bit is the innermost one; a set bit
    /// is an object.
    innermost: u64,
    /// The levels outside of these, in full words.
    outer: Vec<u64>,
}

/// Fewest words by which the memory for outer levels grows.
const WORDS_STEP: usize = 8;

impl Nesting {
    #[inline]
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    /// The innermost open container, if there is one.
    #[inline]
    pub(super) const fn innermost(&self) -> Option<Container> {
        match (self.depth, self.innermost & 1) {
            (0, _) => None,
            (_, 0) => Some(Container::Array),
            (_, _) => Some(Container::Object),
        }
    }

    #[inline]
    pub(super) fn open(&mut self, container: Container) {
        if self.depth.is_multiple_of(LEVELS_PER_WORD) && self.depth > 0 {
            if self.outer.len() == self.outer.capacity() {
                // Doubling could take a quarter of the text's length; this takes an eighth.
                self.outer.reserve_exact(self.outer.len() / 16 + WORDS_STEP);
            }
            self.outer.push(self.innermost);
        }
        self.depth += 1;
        self.innermost = self.innermost << 1 | u64::from(container == Container::Object);
    }

    #[inline]
    pub(super) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.innermost >>= 1;
        if self.depth.is_multiple_of(LEVELS_PER_WORD) && self.depth > 0 {
            // The word is used up: its bits have been shifted out.
            self.innermost = self.outer.pop().unwrap_or_default();
        }
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        self.outer.capacity() * size_of::<u64>()
    }
}
