//! The memory of messages in transit: one pool of chunks of one size.

use bytes::BytesMut;

use crate::relay::limits::{CHUNK_BYTES, REGION_CHUNKS, SPARE_CHUNKS_MAX};

/// [`CHUNK_BYTES`] of memory. Its content is whatever its last owner left in it.
///
/// It goes back to the pool with [`Chunks::give`]; one that is dropped instead stays on the account.
#[derive(Debug)]
pub struct Chunk {
    bytes: BytesMut,
    /// The region that it was cut from.
    region: Option<usize>,
}

impl Chunk {
    /// A chunk that belongs to no region, and is freed where a pool would keep it.
    #[must_use]
    pub fn standalone() -> Self {
        Self { bytes: BytesMut::zeroed(CHUNK_BYTES), region: None }
    }

    /// Its memory.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Its memory, to be written to.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// All chunks of one relay.
///
/// Chunks are cut from regions of [`REGION_CHUNKS`]. A region is one allocation, so large that the C library maps
/// it by itself: what is never touched takes no memory, and all of it is the system's again as soon as the region is
/// dropped. Chunks come from the first region that has one, so that later regions run empty.
#[derive(Debug, Default)]
pub struct Chunks {
    regions: Vec<Region>,
    /// No region before this one has a chunk to give.
    first_to_ask: usize,
    used: usize,
}

#[derive(Debug, Default)]
struct Region {
    /// What no chunk has been cut from yet.
    rest: BytesMut,
    /// Chunks that came back; the last one is used again first, for it may still be in the cache.
    spare: Vec<Chunk>,
    /// Chunks that have not come back.
    taken: usize,
}

impl Region {
    const BYTES: usize = REGION_CHUNKS * CHUNK_BYTES;

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

    /// Takes a chunk. How many may be taken is for the caller to decide.
    pub fn take(&mut self) -> Chunk {
        while self.regions.get(self.first_to_ask).is_some_and(Region::is_empty) {
            self.first_to_ask += 1;
        }
        if self.first_to_ask == self.regions.len() {
            self.regions.push(Region::default());
        }
        self.used += 1;
        let index = self.first_to_ask;
        self.regions.get_mut(index).map_or_else(Chunk::standalone, |region| region.take(index))
    }

    /// Takes a chunk back.
    pub fn give(&mut self, chunk: Chunk) {
        debug_assert!(self.used > 0, "a chunk is given back once");
        self.used -= 1;
        self.give_unused(chunk);
    }

    /// Takes back a chunk that took the place of another one which was given back before.
    pub(super) fn give_unused(&mut self, chunk: Chunk) {
        let Some(index) = chunk.region else { return };
        let Some(region) = self.regions.get_mut(index) else { return };
        region.taken -= 1;
        region.spare.push(chunk);
        self.first_to_ask = self.first_to_ask.min(index);
        if region.taken == 0 && region.spare.len() > SPARE_CHUNKS_MAX {
            *region = Region::default();
        }
    }

    /// Whether no message uses a chunk, and yet more memory is kept than may be.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.used == 0 && self.regions.iter().any(|region| region.spare.len() > SPARE_CHUNKS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_used_again_and_the_last_one_first() {
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
    fn chunks_come_from_the_first_region_that_has_one() {
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
    fn region_that_runs_empty_is_freed_if_much_of_it_was_used() {
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
    fn standalone_chunk_is_accounted_for_and_not_kept() {
        let mut chunks = Chunks::default();
        let of_region = chunks.take();
        chunks.give(Chunk::standalone());
        assert_eq!((chunks.used(), chunks.regions[0].spare.len()), (0, 0));
        drop(of_region);
    }
}
