//! The memory of messages in transit: a pool of chunks, all of one size.

use bytes::BytesMut;

use crate::relay::limits::{CHUNK_BYTES, REGION_CHUNKS, SPARE_CHUNKS_MAX};

/// [`CHUNK_BYTES`] of memory. It still contains what its last user wrote into it.
///
/// Return it to the pool with [`Chunks::give`]. A chunk that is dropped instead stays counted as used.
#[derive(Debug)]
pub struct Chunk {
    bytes: BytesMut,
    /// The index of the region that it was cut from.
    region: Option<usize>,
}

impl Chunk {
    /// A chunk outside all regions. It is freed when it is given back.
    #[must_use]
    pub fn standalone() -> Self {
        Self { bytes: BytesMut::zeroed(CHUNK_BYTES), region: None }
    }

    /// Its memory.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Its memory, to write to.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// All chunks of one relay.
///
/// Chunks are cut from regions of [`REGION_CHUNKS`]. A region is one allocation, so large that the C library maps it
/// separately: untouched parts take no memory, and the system gets all of it back when the region is dropped. A chunk
/// is taken from the first region that has one, so that later regions become empty.
#[derive(Debug, Default)]
pub struct Chunks {
    regions: Vec<Region>,
    /// All regions before this index have no chunk left.
    first_to_ask: usize,
    used: usize,
}

#[derive(Debug, Default)]
struct Region {
    /// The part from which no chunk has been cut yet.
    rest: BytesMut,
    /// Chunks that were given back. The last one is used again first, because it may still be in the cache.
    spare: Vec<Chunk>,
    /// Chunks that were taken and have not been given back.
    taken: usize,
}

impl Region {
    const BYTES: usize = REGION_CHUNKS * CHUNK_BYTES;

    /// Whether no chunk is left. A region that was never used is not empty: it allocates when its first chunk is
    /// taken.
    fn is_empty(&self) -> bool {
        self.spare.is_empty() && self.rest.is_empty() && self.taken > 0
    }

    fn take(&mut self, index: usize) -> Chunk {
        self.taken += 1;
        if let Some(chunk) = self.spare.pop() {
            return chunk;
        }
        if self.rest.is_empty() {
            self.rest = BytesMut::zeroed(Self::BYTES);
        }
        Chunk { bytes: self.rest.split_to(CHUNK_BYTES), region: Some(index) }
    }
}

impl Chunks {
    /// Chunks that were taken and have not been given back.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Takes a chunk. Never fails: the caller enforces the limit.
    pub fn take(&mut self) -> Chunk {
        while self.regions.get(self.first_to_ask).is_some_and(Region::is_empty) {
            self.first_to_ask += 1;
        }
        // A region allocates when its first chunk is taken.
        if self.first_to_ask == self.regions.len() {
            self.regions.push(Region::default());
        }
        self.used += 1;
        let index = self.first_to_ask;
        // The region exists: the fallback is never used.
        self.regions.get_mut(index).map_or_else(Chunk::standalone, |region| region.take(index))
    }

    /// Returns a chunk.
    pub fn give(&mut self, chunk: Chunk) {
        debug_assert!(self.used > 0, "a chunk is given back once");
        self.used -= 1;
        self.give_unused(chunk);
    }

    /// Returns a chunk that does not count as used, because it was exchanged for one that was given back before.
    pub(super) fn give_unused(&mut self, chunk: Chunk) {
        let Some(index) = chunk.region else { return };
        let Some(region) = self.regions.get_mut(index) else { return };
        region.taken -= 1;
        region.spare.push(chunk);
        // This region has a chunk again.
        self.first_to_ask = self.first_to_ask.min(index);
        // Dropping the region returns its memory to the system; a small one is kept for the next message.
        if region.taken == 0 && region.spare.len() > SPARE_CHUNKS_MAX {
            *region = Region::default();
        }
    }

    /// Whether no message uses a chunk, but a region keeps more than [`SPARE_CHUNKS_MAX`].
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.used == 0 && self.regions.iter().any(|region| region.spare.len() > SPARE_CHUNKS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_reused_the_last_one_first() {
        let mut chunks = Chunks::default();
        let (mut first, mut second) = (chunks.take(), chunks.take());
        first.as_mut_slice()[0] = 1;
        second.as_mut_slice()[CHUNK_BYTES - 1] = 2;
        assert_eq!(chunks.used(), 2);
        chunks.give(first);
        chunks.give(second);
        assert_eq!((chunks.take().as_slice()[CHUNK_BYTES - 1], chunks.take().as_slice()[0]), (2, 1));
    }

    #[test]
    fn a_chunk_is_taken_from_the_first_region_that_has_one() {
        let mut chunks = Chunks::default();
        let mut taken: Vec<Chunk> = (0..=2 * REGION_CHUNKS).map(|_| chunks.take()).collect();
        assert_eq!(chunks.regions.len(), 3);
        let of_second = taken.remove(REGION_CHUNKS);
        let of_first = taken.remove(0);
        assert_eq!((of_first.region, of_second.region), (Some(0), Some(1)));
        chunks.give(of_second);
        chunks.give(of_first);
        assert_eq!([0; 3].map(|_| chunks.take().region), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_region_without_used_chunks_is_freed_if_much_of_it_was_touched() {
        for (count, is_kept) in [(SPARE_CHUNKS_MAX, true), (SPARE_CHUNKS_MAX + 1, false)] {
            let mut chunks = Chunks::default();
            let taken: Vec<Chunk> = (0..count).map(|_| chunks.take()).collect();
            for chunk in taken {
                chunks.give(chunk);
            }
            assert_eq!(!chunks.regions[0].spare.is_empty(), is_kept, "{count}");
            assert_eq!((chunks.used(), chunks.take().as_slice().len()), (0, CHUNK_BYTES));
        }
    }

    #[test]
    fn a_standalone_chunk_counts_as_used_and_is_not_kept() {
        let mut chunks = Chunks::default();
        let of_region = chunks.take();
        chunks.give(Chunk::standalone());
        assert_eq!((chunks.used(), chunks.regions[0].spare.len()), (0, 0));
        drop(of_region);
    }
}
