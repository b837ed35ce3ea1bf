//! The memory budget: accounts for all memory for messages, which `--max-buffered` limits.
//!
//! | part | what it is for | its limit |
//! | --- | --- | --- |
//! | chunks | messages in transit | seven eighths of the budget |
//! | pieces | messages in transit while no chunk is free | a sixteenth, shared among the receivers |
//! | small | waiting small messages, replies, notices and request heads; unfinished frames and checks | a half |
//! | returned | small messages that wait for a client that has come back | shares the part of the chunks |
//! | cached | messages that are written and not confirmed, or whose receiver is away | what all others leave |
//!
//! Cached memory counts as free in every limit, and gives way before a read may need it.
//!
//! Memory is charged when it is used, never when it is announced. No client reserves memory, and there is no queue
//! for it. Instead, each receiver may have only as much waiting as is [still free](Memory::receiver_bytes_max)
//! (dynamic thresholds; Choudhury and Hahne, 1998): a receiver that reads nothing leaves half of the free memory to
//! all others. A client is never stopped by this rule if nothing waits for its receiver, so a client waits only for
//! its own receiver, never for another one.

mod chunks;

pub use chunks::{Chunk, Chunks};

use crate::relay::limits::{
    CHUNK_BYTES, HIGH_WATER_BYTES, LEAST_FREE_BYTES, LEAST_READ_BYTES, OVERFULL_BYTES, PIECE_BYTES_MAX,
    PIECES_SHARE, RECEIVE_BUFFER_BYTES, REPLIES_PER_BYTE_MAX, SHORT_READ_BYTES, SMALL_MESSAGE_BYTES_MAX,
    SMALL_ROOM_BYTES_MIN, SMALL_SHARE,
};

/// The budget of one relay, and its chunks.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    chunks: Chunks,
    /// Bytes of pieces that are not in chunks.
    pieces_bytes: usize,
    /// Bytes of small memory, as the table above defines it.
    small_bytes: usize,
    /// Bytes of small messages that wait for a client that has come back.
    returned_bytes: usize,
    cached: Cached,
}

/// The memory that gives way: of these, `chunks` and `pieces_bytes` are included in the counts of [`Memory`].
#[derive(Clone, Copy, Debug, Default)]
struct Cached {
    chunks: usize,
    pieces_bytes: usize,
    /// Bytes of small messages.
    small_bytes: usize,
}

impl Default for Memory {
    /// A budget without a limit, for hosts that use the protocol without a relay.
    fn default() -> Self {
        Self::new(usize::MAX / 2)
    }
}

impl Memory {
    /// A budget of `bytes_max`, at most 256 TiB: `shrunk` needs its products to fit into 64 bits.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(usize::try_from(1_u64 << 48).unwrap_or(usize::MAX));
        Self {
            bytes_max,
            chunks: Chunks::default(),
            pieces_bytes: 0,
            small_bytes: 0,
            returned_bytes: 0,
            cached: Cached::default(),
        }
    }

    /// Bytes in use, including those that are cached.
    #[must_use]
    pub const fn used_bytes(&self) -> usize {
        let chunk_bytes = self.chunks.used() * CHUNK_BYTES;
        chunk_bytes + self.pieces_bytes + self.small_bytes + self.returned_bytes + self.cached.small_bytes
    }

    /// Bytes in use that do not give way.
    #[must_use]
    pub const fn claimed_bytes(&self) -> usize {
        let Cached { chunks, pieces_bytes, small_bytes } = self.cached;
        self.used_bytes() - (chunks * CHUNK_BYTES + pieces_bytes + small_bytes)
    }

    /// Bytes in chunks that do not give way, and what shares their part of the budget.
    const fn claimed_chunk_bytes(&self) -> usize {
        (self.chunks.used() - self.cached.chunks) * CHUNK_BYTES + self.returned_bytes
    }

    /// The part of the budget for everything but small messages: an eighth is reserved for them, even if all else is
    /// free.
    const fn chunk_share(&self) -> usize {
        self.bytes_max - self.bytes_max / SMALL_SHARE
    }

    /// Bytes that may still be taken. Cached memory gives way, so it counts as free.
    const fn free_bytes(&self) -> usize {
        self.bytes_max.saturating_sub(self.claimed_bytes())
    }

    /// Bytes that chunks may still take.
    fn free_chunk_bytes(&self) -> usize {
        self.chunk_share().saturating_sub(self.claimed_chunk_bytes()).min(self.free_bytes())
    }

    /// Whether something cached must give way before more is read: one read then always finds the memory that the
    /// limits below promise it.
    #[must_use]
    pub const fn is_crowded(&self) -> bool {
        self.used_bytes() > self.chunk_share() && self.used_bytes() > self.claimed_bytes()
    }

    /// Bytes that small memory may still take.
    fn free_small_bytes(&self) -> usize {
        self.small_bytes_max().saturating_sub(self.small_bytes).min(self.free_bytes())
    }

    const fn small_bytes_max(&self) -> usize {
        self.bytes_max / 2
    }

    /// Whether no chunk is free. Messages in transit then use pieces of other memory.
    #[must_use]
    pub fn is_short_of_chunks(&self) -> bool {
        self.free_chunk_bytes() < CHUNK_BYTES
    }

    /// Takes a chunk, if one is free.
    pub fn try_take_chunk(&mut self) -> Option<Chunk> {
        let is_room_taken = self.bytes_max.saturating_sub(self.used_bytes()) < CHUNK_BYTES;
        (!is_room_taken && !self.is_short_of_chunks()).then(|| self.chunks.take())
    }

    /// Returns a chunk.
    pub fn give_chunk(&mut self, chunk: Chunk) {
        self.chunks.give(chunk);
    }

    /// Returns a chunk that was never charged: the receive buffer.
    pub fn exchange_unused(&mut self, chunk: Chunk) {
        self.chunks.give_unused(chunk);
    }

    /// Whether the pool keeps too much unused memory; see [`Chunks::is_too_large`].
    #[must_use]
    pub fn keeps_too_much(&self) -> bool {
        self.chunks.is_too_large()
    }

    /// Records that pieces which took `before` bytes take `after`.
    pub const fn charge_pieces(&mut self, before: usize, after: usize) {
        self.pieces_bytes = self.pieces_bytes + after - before;
    }

    /// Records that small memory which took `before` bytes takes `after`.
    pub const fn charge_small(&mut self, before: u32, after: u32) {
        self.small_bytes = self.small_bytes + after as usize - before as usize;
    }

    /// Records that this many chunks, and bytes of other pieces, are cached from now on, or no longer.
    pub(super) const fn note_cached(&mut self, chunks: usize, pieces_bytes: usize, is_cached: bool) {
        if is_cached {
            self.cached.chunks += chunks;
            self.cached.pieces_bytes += pieces_bytes;
        } else {
            self.cached.chunks -= chunks;
            self.cached.pieces_bytes -= pieces_bytes;
        }
    }

    /// Records that cached small messages which took `before` bytes take `after`.
    pub const fn charge_cached(&mut self, before: usize, after: usize) {
        self.cached.small_bytes = self.cached.small_bytes + after - before;
    }

    /// Records that small messages for a client that has come back, which took `before` bytes, take `after`.
    pub const fn charge_returned(&mut self, before: usize, after: usize) {
        self.returned_bytes = self.returned_bytes + after - before;
    }

    /// How many bytes may wait for one receiver before its sender is not read: the high-water mark, or what is free
    /// if that is less. A receiver with this much waiting leaves as much to the next one.
    #[must_use]
    pub fn receiver_bytes_max(&self) -> usize {
        let free = self.free_chunk_bytes();
        if free >= CHUNK_BYTES {
            return free.min(HIGH_WATER_BYTES);
        }
        self.pieces_per_receiver()
    }

    /// The same limit for a sender that has ended its stream, and is to be read to that end. It is at least
    /// [`receiver_bytes_max`](Self::receiver_bytes_max), and otherwise at most what is free.
    #[must_use]
    pub fn ended_bytes_max(&self) -> usize {
        self.free_chunk_bytes().min(OVERFULL_BYTES).max(self.receiver_bytes_max())
    }

    /// [`receiver_bytes_max`](Self::receiver_bytes_max) while no chunk is free.
    fn pieces_per_receiver(&self) -> usize {
        // All pieces together stay within their part of the budget, because each share shrinks with what is free.
        let share = self.bytes_max / PIECES_SHARE;
        let claimed = self.pieces_bytes - self.cached.pieces_bytes;
        let free = share.saturating_sub(claimed).min(self.free_bytes());
        shrunk(share, free).clamp(LEAST_READ_BYTES, HIGH_WATER_BYTES)
    }

    /// How many bytes of a message must have arrived before its first byte leaves, unless the message is shorter.
    #[must_use]
    pub fn hold_bytes(&self) -> usize {
        self.receiver_bytes_max()
    }

    /// How many bytes of small memory may wait for one client.
    #[must_use]
    pub fn small_queue_bytes_max(&self) -> usize {
        shrunk(self.small_bytes_max(), self.free_small_bytes())
    }

    /// How many bytes of a message are collected as a small message. A longer one becomes a message in transit.
    #[must_use]
    pub fn small_message_bytes_max(&self) -> usize {
        self.small_queue_bytes_max().clamp(LEAST_READ_BYTES, SMALL_MESSAGE_BYTES_MAX)
    }

    /// Whether there is memory to read a client that is between two messages.
    #[must_use]
    pub fn has_small_room(&self) -> bool {
        self.free_small_bytes() >= SMALL_ROOM_BYTES_MIN
    }

    /// Whether there is memory to read a client that is in the middle of a message.
    #[must_use]
    pub const fn has_least_room(&self) -> bool {
        self.free_bytes() >= LEAST_FREE_BYTES
    }

    /// Whether the check of a text may take this many bytes: at most what is still free for small memory.
    #[must_use]
    pub fn may_check_take(&self, bytes: usize) -> bool {
        bytes <= self.free_small_bytes().max(LEAST_FREE_BYTES)
    }

    /// How many bytes to read at once into the receive buffer. Few if memory is short, because their replies may take
    /// many times as much.
    #[must_use]
    pub fn read_bytes_max(&self) -> usize {
        // `SMALL_ROOM_BYTES_MIN` counts on short reads while no chunk is free.
        let most = if self.is_short_of_chunks() { SHORT_READ_BYTES } else { RECEIVE_BUFFER_BYTES };
        // Cached memory counts as free, but has not given way yet.
        let free = self.small_queue_bytes_max().min(self.bytes_max.saturating_sub(self.used_bytes()));
        (free / REPLIES_PER_BYTE_MAX).clamp(LEAST_READ_BYTES, most)
    }

    /// How many bytes to read at once in the middle of a large message if no chunk is free.
    #[must_use]
    pub fn piece_bytes_max(&self) -> usize {
        self.pieces_per_receiver().min(PIECE_BYTES_MAX)
    }
}

/// The share of one receiver or client: nearly eight times the high-water mark if all is free, the mark if half is,
/// and then less, by the cube of the free part. So thousands of clients, rather than a hundred, can wait before none
/// finds any memory.
fn shrunk(bytes_max: usize, free_bytes: usize) -> usize {
    // At most 2⁵⁶ before the division, so that it fits.
    // The free part, in 256ths.
    let free_of_256 = free_bytes as u64 * 256 / bytes_max.max(1) as u64;
    // 8 is the cube of 2: if half is free, the share is the mark.
    let at_most = bytes_max.min(8 * HIGH_WATER_BYTES) as u64;
    // At most `at_most`, which fits into `usize`.
    usize::try_from((at_most * free_of_256.pow(3)) >> 24).unwrap_or(usize::MAX)
}

/// The memory of small messages, for the check of invariants.
#[cfg(any(test, debug_assertions))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmallBytes {
    /// What waits, or is unfinished.
    pub claimed: usize,
    /// What waits for clients that have come back.
    pub returned: usize,
    /// What is kept for clients that are away or have not confirmed it.
    pub cached: usize,
}

#[cfg(any(test, debug_assertions))]
impl Memory {
    /// Checks the counts against the sums that connections and messages give. For tests and debug builds.
    ///
    /// # Panics
    /// If they disagree. `pieces` has the chunks and the bytes of other pieces: all of them, and the cached ones.
    pub fn check_invariants(&self, pieces: [(usize, usize); 2], small: SmallBytes) {
        let [(chunks, pieces_bytes), cached] = pieces;
        assert_eq!(self.chunks.used(), chunks, "chunks in use");
        assert_eq!(self.pieces_bytes, pieces_bytes, "bytes in pieces");
        assert_eq!((self.cached.chunks, self.cached.pieces_bytes), cached, "cached chunks and pieces");
        let expected = SmallBytes {
            claimed: self.small_bytes,
            returned: self.returned_bytes,
            cached: self.cached.small_bytes,
        };
        assert_eq!(expected, small, "small memory of all connections and places");
        // Without what is returned: if its client was replaced, it was small memory before, and may not fit beside
        // them.
        let claimed_chunks = (self.chunks.used() - self.cached.chunks) * CHUNK_BYTES;
        assert!(claimed_chunks <= self.chunk_share(), "chunks leave the reserved share to small messages");
    }
}

#[cfg(test)]
mod tests;
