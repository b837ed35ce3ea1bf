//! Bytes of small messages, between the network and the network.
//!
//! What is there for a turn only stands in the heap, and its memory is used again. What may stay for long stands in
//! pages of its own as soon as it is more than a little: hundreds of clients whose bytes come and go in all sizes
//! would leave the heap full of holes, which no account knows of.

use memmap2::MmapMut;

use super::limits::{HEAP_BUFFER_BYTES_MAX, PAGE_BYTES};

/// Bytes in one piece.
#[derive(Debug)]
pub struct Buffer(Memory);

#[derive(Debug)]
enum Memory {
    Heap(Vec<u8>),
    /// And how many of its bytes are filled.
    Pages(MmapMut, usize),
}

impl Default for Buffer {
    fn default() -> Self {
        Self(Memory::Heap(Vec::new()))
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Memory::Heap(bytes))
    }
}

impl Buffer {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Pages(pages, len) => pages.get(..*len).unwrap_or_default(),
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match &self.0 {
            Memory::Heap(bytes) => bytes.len(),
            Memory::Pages(_, len) => *len,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match &self.0 {
            Memory::Heap(bytes) => bytes.capacity(),
            Memory::Pages(pages, _) => pages.len(),
        }
    }

    /// The heap's memory, to be written to, if the bytes stand there.
    pub const fn heap_mut(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.0 {
            Memory::Heap(bytes) => Some(bytes),
            Memory::Pages(..) => None,
        }
    }

    /// Appends bytes that will be gone by the end of the turn, as a rule.
    pub fn append(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Memory::Heap(before) => before.extend_from_slice(bytes),
            Memory::Pages(..) => self.append_kept(bytes),
        }
    }

    /// Appends bytes that may stay for long.
    pub fn append_kept(&mut self, bytes: &[u8]) {
        self.reserve_kept(bytes.len());
        match &mut self.0 {
            Memory::Heap(before) => before.extend_from_slice(bytes),
            Memory::Pages(pages, len) => {
                let end = *len + bytes.len();
                if let Some(free) = pages.get_mut(*len..end) {
                    free.copy_from_slice(bytes);
                    *len = end;
                }
            }
        }
    }

    /// Makes room for `more` bytes that may stay for long.
    pub fn reserve_kept(&mut self, more: usize) {
        let wanted = self.len() + more;
        if wanted <= self.capacity() {
            return;
        }
        if let Memory::Heap(before) = &mut self.0
            && wanted <= HEAP_BUFFER_BYTES_MAX
        {
            before.reserve_exact(more.max(before.len() / 2));
            return;
        }
        // A quarter more than there is, so that each byte is moved a few times at most.
        let bytes = wanted.max(self.len() + self.len() / 4).next_multiple_of(PAGE_BYTES);
        let before = self.as_slice();
        self.0 = if let Ok(mut pages) = MmapMut::map_anon(bytes) {
            if let Some(front) = pages.get_mut(..before.len()) {
                front.copy_from_slice(before);
            }
            Memory::Pages(pages, before.len())
        } else {
            // The system gives no pages: it may still have a heap.
            let mut heap = Vec::with_capacity(bytes);
            heap.extend_from_slice(before);
            Memory::Heap(heap)
        };
    }

    /// The same bytes in memory that little more than they fill; what they stood in, if it was the heap's.
    pub fn compact(&mut self) -> Vec<u8> {
        let mut compact = Self::default();
        compact.append_kept(self.as_slice());
        std::mem::replace(self, compact).into_spare()
    }

    /// Forgets the first `count` bytes.
    pub fn drain_front(&mut self, count: usize) {
        match &mut self.0 {
            Memory::Heap(bytes) => drop(bytes.drain(..count.min(bytes.len()))),
            Memory::Pages(pages, len) => {
                let count = count.min(*len);
                pages.copy_within(count..*len, 0);
                *len -= count;
            }
        }
    }

    /// The heap's memory that it stood in, to be used again; empty if it was none.
    #[must_use]
    pub fn into_spare(self) -> Vec<u8> {
        match self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Pages(..) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_wherever_they_stand_and_however_they_come_and_go() {
        for step in [1, 100, 2047, 2048, 2049, 20_000] {
            let mut buffer = Buffer::default();
            let mut expected = Vec::new();
            for round in 0..30_u8 {
                let bytes = vec![round; step];
                let append = if round % 2 == 0 { Buffer::append_kept } else { Buffer::append };
                append(&mut buffer, &bytes);
                expected.extend(bytes);
                if round % 7 == 6 {
                    buffer.drain_front(step * 2);
                    expected.drain(..step * 2);
                }
                if round % 11 == 10 {
                    drop(buffer.compact());
                }
                assert!(buffer.as_slice() == expected, "{step} bytes, round {round}");
                assert!(buffer.capacity() >= buffer.len());
            }
        }
    }

    #[test]
    fn what_is_kept_stands_in_pages_of_its_own_once_it_is_more_than_a_little_and_takes_little_more() {
        let mut buffer = Buffer::default();
        for _ in 0..300 {
            buffer.append_kept(&[7; 1000]);
            let is_little = buffer.len() <= HEAP_BUFFER_BYTES_MAX;
            assert_eq!(buffer.heap_mut().is_some(), is_little, "{}", buffer.len());
            let spare = buffer.capacity() - buffer.len();
            assert!(spare <= (buffer.len() / 4).max(1000) + PAGE_BYTES, "{}", buffer.len());
        }
        assert!(buffer.into_spare().is_empty());
    }
}
