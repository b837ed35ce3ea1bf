//! The account of all memory for messages: `--max-buffered`.
//!
//! | part | what it is | how much it may be |
//! | --- | --- | --- |
//! | chunks | messages in transit | seven eighths |
//! | pieces | messages in transit while chunks are short | a sixteenth |
//! | small | small messages, replies, notices and request heads that wait; frames and checks half done | a half |
//!
//! Memory is charged once it is used, never for what was announced. Nobody reserves any, and nobody waits in line for
//! it. Instead each receiver may have only so much waiting as is [still free](Memory::receiver_bytes_max) (dynamic
//! threshold; Choudhury and Hahne, 1998): one that does not read leaves half of what is free to all others. A client
//! whose receiver has nothing waiting is never stopped by it, so that whoever waits, waits for its own receiver alone.

mod chunks;

pub use chunks::{Chunk, Chunks};

use crate::relay::limits::{
    CHUNK_BYTES, HIGH_WATER_BYTES, LEAST_FREE_BYTES, LEAST_READ_BYTES, OVERFULL_BYTES, PIECE_BYTES_MAX,
    PIECES_SHARE, RECEIVE_BUFFER_BYTES, REPLIES_PER_BYTE_MAX, SHORT_READ_BYTES, SMALL_MESSAGE_BYTES_MAX,
    SMALL_ROOM_BYTES_MIN, SMALL_SHARE,
};

/// The account of one relay, and the chunks on it.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    chunks: Chunks,
    pieces_bytes: usize,
    small_bytes: usize,
}

impl Default for Memory {
    /// Memory without a limit, for hosts that speak the protocol without a relay.
    fn default() -> Self {
        Self::new(usize::MAX / 2)
    }
}

impl Memory {
    /// An account of `bytes_max`, or of 256 TiB, which is more than machines have: shares are worked out in 64 bits.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(usize::try_from(1_u64 << 48).unwrap_or(usize::MAX));
        Self { bytes_max, chunks: Chunks::default(), pieces_bytes: 0, small_bytes: 0 }
    }

    /// Bytes on the account.
    #[must_use]
    pub const fn used_bytes(&self) -> usize {
        self.chunk_bytes() + self.pieces_bytes + self.small_bytes
    }

    const fn chunk_bytes(&self) -> usize {
        self.chunks.used() * CHUNK_BYTES
    }

    const fn free_bytes(&self) -> usize {
        self.bytes_max.saturating_sub(self.used_bytes())
    }

    /// What chunks may still take.
    fn free_chunk_bytes(&self) -> usize {
        let of_share = (self.bytes_max - self.bytes_max / SMALL_SHARE).saturating_sub(self.chunk_bytes());
        of_share.min(self.free_bytes())
    }

    /// What small memory may still take.
    fn free_small_bytes(&self) -> usize {
        self.small_bytes_max().saturating_sub(self.small_bytes).min(self.free_bytes())
    }

    const fn small_bytes_max(&self) -> usize {
        self.bytes_max / 2
    }

    /// Whether there is no chunk to be had: messages in transit then go on in small pieces.
    #[must_use]
    pub fn is_short_of_chunks(&self) -> bool {
        self.free_chunk_bytes() < CHUNK_BYTES
    }

    /// Takes a chunk if there is one.
    pub fn try_take_chunk(&mut self) -> Option<Chunk> {
        (!self.is_short_of_chunks()).then(|| self.chunks.take())
    }

    /// Takes a chunk back.
    pub fn give_chunk(&mut self, chunk: Chunk) {
        self.chunks.give(chunk);
    }

    /// Takes back a chunk that is not on the account: the receive buffer.
    pub fn exchange_unused(&mut self, chunk: Chunk) {
        self.chunks.give_unused(chunk);
    }

    /// Whether chunks keep memory that nobody uses; see [`Chunks::is_too_large`].
    #[must_use]
    pub fn keeps_too_much(&self) -> bool {
        self.chunks.is_too_large()
    }

    /// Notes that pieces of messages which took `before` bytes take `after`.
    pub const fn charge_pieces(&mut self, before: usize, after: usize) {
        self.pieces_bytes = self.pieces_bytes + after - before;
    }

    /// Notes that small memory which took `before` bytes takes `after`.
    pub const fn charge_small(&mut self, before: u32, after: u32) {
        self.small_bytes = self.small_bytes + after as usize - before as usize;
    }

    /// How many bytes may wait for one receiver before nobody is read who sends to it: the high-water mark, or less
    /// where less is free. A receiver that has this much waiting leaves as much to the next one.
    #[must_use]
    pub fn receiver_bytes_max(&self) -> usize {
        let free = self.free_chunk_bytes();
        if free >= CHUNK_BYTES {
            return free.min(HIGH_WATER_BYTES);
        }
        self.pieces_per_receiver()
    }

    /// How many bytes may wait for one receiver before its sender, which has ended its stream, is not even read to that
    /// end. No less than else, and no more than is still free.
    #[must_use]
    pub fn ended_bytes_max(&self) -> usize {
        self.free_chunk_bytes().min(OVERFULL_BYTES).max(self.receiver_bytes_max())
    }

    /// [`receiver_bytes_max`](Self::receiver_bytes_max) while there are no chunks.
    fn pieces_per_receiver(&self) -> usize {
        let share = self.bytes_max / PIECES_SHARE;
        let free = share.saturating_sub(self.pieces_bytes).min(self.free_bytes());
        shrunk(share, free).clamp(LEAST_READ_BYTES, HIGH_WATER_BYTES)
    }

    /// How many bytes of a message are held back before its first byte leaves, unless the message is shorter.
    #[must_use]
    pub fn hold_bytes(&self) -> usize {
        self.receiver_bytes_max()
    }

    /// How many bytes of small memory may be taken by what waits for one client.
    #[must_use]
    pub fn small_queue_bytes_max(&self) -> usize {
        shrunk(self.small_bytes_max(), self.free_small_bytes())
    }

    /// How long a message may become, in bytes, and still be kept until all of it has arrived, rather than become a
    /// message in transit.
    #[must_use]
    pub fn small_message_bytes_max(&self) -> usize {
        self.small_queue_bytes_max().clamp(LEAST_READ_BYTES, SMALL_MESSAGE_BYTES_MAX)
    }

    /// Whether a client may be read that is between two messages.
    #[must_use]
    pub fn has_small_room(&self) -> bool {
        self.free_small_bytes() >= SMALL_ROOM_BYTES_MIN
    }

    /// Whether a client may be read that is in the middle of one.
    #[must_use]
    pub const fn has_least_room(&self) -> bool {
        self.free_bytes() >= LEAST_FREE_BYTES
    }

    /// Whether the check of a text may take so many bytes: half of what is left to small memory.
    #[must_use]
    pub fn may_check_take(&self, bytes: usize) -> bool {
        bytes <= self.free_small_bytes().max(LEAST_FREE_BYTES)
    }

    /// How many bytes to read at once into the receive buffer: few if memory is short, for they may bring many times
    /// as much in replies.
    #[must_use]
    pub fn read_bytes_max(&self) -> usize {
        let most = if self.is_short_of_chunks() { SHORT_READ_BYTES } else { RECEIVE_BUFFER_BYTES };
        (self.small_queue_bytes_max() / REPLIES_PER_BYTE_MAX).clamp(LEAST_READ_BYTES, most)
    }

    /// How many bytes to read at once in the middle of a large message for which there is no chunk.
    #[must_use]
    pub fn piece_bytes_max(&self) -> usize {
        self.pieces_per_receiver().min(PIECE_BYTES_MAX)
    }
}

/// What is left to each: nearly eight times the high-water mark while all is free, the mark while half is, and then
/// less, by the cube of what is left. So it takes thousands of clients, rather than a hundred, until nobody finds any.
fn shrunk(bytes_max: usize, free_bytes: usize) -> usize {
    // 2⁵⁶ at most.
    let free_of_256 = free_bytes as u64 * 256 / bytes_max.max(1) as u64;
    // 8 is the cube of 2: at half of the room it is the mark.
    let at_most = bytes_max.min(8 * HIGH_WATER_BYTES) as u64;
    // No more than `at_most`, which was no more than fits.
    usize::try_from((at_most * free_of_256.pow(3)) >> 24).unwrap_or(usize::MAX)
}

#[cfg(any(test, debug_assertions))]
impl Memory {
    /// Checks the account against what connections and messages know of themselves. For tests and debug builds.
    ///
    /// # Panics
    /// If they disagree.
    pub fn check_invariants(&self, chunks: usize, pieces_bytes: usize, small_bytes: usize) {
        assert_eq!(self.chunks.used(), chunks, "chunks in use");
        assert_eq!(self.pieces_bytes, pieces_bytes, "bytes in pieces");
        assert_eq!(self.small_bytes, small_bytes, "what connections were charged for");
        let chunk_share = self.bytes_max - self.bytes_max / SMALL_SHARE;
        assert!(self.chunk_bytes() <= chunk_share, "chunks leave the small messages their share");
    }
}

#[cfg(test)]
mod tests;
