//! Which containers a value is in, at one bit each.

/// What a value can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Array,
    Object,
}

const LEVELS_PER_WORD: usize = 64;

/// The open containers; the innermost ones, up to 64, take no heap.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    depth: usize,
    /// The levels of the word that the depth is in, innermost in the lowest bit; a one is an object.
    innermost: u64,
    /// The full words of the levels further out.
    outer: Vec<u64>,
}

/// Words that the memory for outer levels grows by at least.
const WORDS_STEP: usize = 8;

impl Nesting {
    #[inline]
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    /// The innermost container, if there is one.
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
                // Doubling would take up to a quarter of the text's length rather than an eighth.
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
            self.innermost = self.outer.pop().unwrap_or_default();
        }
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        self.outer.capacity() * size_of::<u64>()
    }
}
