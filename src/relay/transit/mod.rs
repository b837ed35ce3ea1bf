//! Messages in transit: too long to be copied from the receive buffer to their receiver at once.
//!
//! | a message is | while | after that |
//! | --- | --- | --- |
//! | held | it arrives, and no receiver gets it yet | it is released, or its sender is told why not |
//! | released | each receiver has a [`Cursor`] in its queue; the rest may still arrive | it is whole, or cut short |
//! | whole | its cursors go on to its end | it is gone with the last cursor and the last keeper |
//!
//! A message is in memory once, in pieces, however many receivers it has. A receiver that is away, or has not
//! confirmed the message, has a [`Keeper`] instead of a cursor. A piece that no cursor is still to pass is *cached*:
//! it stays so that the message can begin again for a client that reconnects, and gives way when memory is needed.
//!
//! If the relay keeps nothing for clients that come back, a passed piece is freed at once. Only those of a message of
//! up to [`KEPT_BYTES_MAX`] stay until all receivers have it, for a client that is replaced; but not if memory is
//! short.
//!
//! The sender's connection has the [`TransitKey`] until the message is whole or abandoned. A cursor that is removed
//! from a queue must go to [`Transits::park`] or [`Transits::give_up`]; a keeper to [`Transits::resume`] or
//! [`Transits::drop_keeper`].

mod cursor;
#[cfg(any(test, debug_assertions))]
mod invariants;
mod keeper;
mod piece;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use slab::Slab;

use crate::relay::limits::{CHUNK_BYTES, KEPT_BYTES_MAX};
use crate::relay::memory::Memory;
use crate::relay::wire::frame::Opcode;
pub use cursor::Cursor;
pub use keeper::Keeper;
use piece::Piece;

/// Identifies a message in transit until it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransitKey {
    index: u32,
    /// Distinguishes it from other messages that had the same index.
    serial: u32,
}

/// All messages in transit, and the memory budget of the relay.
#[derive(Debug, Default)]
pub struct Transits {
    entries: Slab<Transit>,
    /// How many messages have begun, wrapping: the last serial.
    begun: u32,
    /// Written messages are kept until they are confirmed.
    keeps_written: bool,
    /// The budget of the relay.
    pub memory: Memory,
}

/// One message in transit.
#[derive(Debug)]
pub struct Transit {
    serial: u32,
    opcode: Opcode,
    pieces: VecDeque<Piece>,
    /// How many pieces were freed; they came before those in `pieces`.
    pieces_freed: u32,
    arrived_bytes: u64,
    /// The bytes of these that [`Transits::take_news`] has returned.
    noted_bytes: u64,
    /// The number of its cursors.
    receivers: u16,
    /// The number of its keepers.
    keepers: u16,
    is_released: bool,
    /// When its last byte arrived, in microseconds modulo 2³².
    whole_at: Option<u32>,
    /// Whether the sender's connection still has the key.
    has_sender: bool,
}

impl Transit {
    /// Whether the message is released.
    #[must_use]
    pub const fn is_released(&self) -> bool {
        self.is_released
    }

    /// Whether a receiver is still to get it, now or when it comes back.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.receivers > 0 || self.keepers > 0
    }

    /// Whether a receiver that is connected has not got all of it.
    #[must_use]
    pub const fn has_receivers(&self) -> bool {
        self.receivers > 0
    }

    /// Bytes of the message that have arrived.
    #[must_use]
    pub const fn arrived_bytes(&self) -> u64 {
        self.arrived_bytes
    }

    /// The bytes of these that are counted as accepted.
    #[must_use]
    pub const fn noted_bytes(&self) -> u64 {
        self.noted_bytes
    }

    /// When its last byte arrived, in microseconds modulo 2³². `None` while more is expected.
    #[must_use]
    pub const fn whole_at(&self) -> Option<u32> {
        self.whole_at
    }

    /// Whether the sender may still add to it.
    #[must_use]
    pub const fn has_sender(&self) -> bool {
        self.has_sender
    }

    /// The bytes in memory, in order.
    pub fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Piece::bytes)
    }

    /// The piece with this number. Numbers count all pieces that the message ever had.
    fn piece(&self, number: u32) -> Option<&Piece> {
        self.pieces.get(number.checked_sub(self.pieces_freed)? as usize)
    }

    fn push(&mut self, mut piece: Piece, memory: &mut Memory) {
        self.arrived_bytes += piece.len() as u64;
        // No cursor has passed it yet.
        piece.awaited_by = self.receivers;
        // Without cursors, a released message is only kept.
        piece.set_cached(self.is_released && self.receivers == 0, memory);
        self.pieces.push_back(piece);
    }

    /// Adds a cursor, which awaits every piece.
    fn add_cursor(&mut self, memory: &mut Memory) {
        self.receivers += 1;
        for piece in &mut self.pieces {
            piece.awaited_by += 1;
            piece.set_cached(false, memory);
        }
    }

    /// Whether pieces stay in memory although all cursors have passed them.
    const fn keeps_passed(&self, keeps_written: bool, is_memory_short: bool) -> bool {
        // Once the first piece is freed the message cannot begin again, so the rest is not kept, either.
        let is_short = self.arrived_bytes <= KEPT_BYTES_MAX as u64 && !is_memory_short;
        self.pieces_freed == 0 && (keeps_written || self.keepers > 0 || is_short)
    }

    /// Frees the pieces at the front that all cursors have passed, unless they are kept.
    fn settle_passed(&mut self, keeps_written: bool, memory: &mut Memory) {
        // A held message has no cursors yet; all of it will be needed.
        if self.is_released && !self.keeps_passed(keeps_written, memory.is_short_of_chunks()) {
            self.free_passed(memory);
        }
    }

    /// Frees the pieces at the front that all cursors have passed.
    fn free_passed(&mut self, memory: &mut Memory) {
        while let Some(first) = self.pieces.front()
            && first.awaited_by == 0
            // The last piece may still grow, unless it is full or the message is whole.
            && (self.pieces.len() > 1 || first.is_full() || self.whole_at.is_some())
            && let Some(piece) = self.pieces.pop_front()
        {
            self.pieces_freed += 1;
            piece.give_back(memory);
        }
    }

    fn free_all(&mut self, memory: &mut Memory) {
        self.pieces_freed += u32::try_from(self.pieces.len()).unwrap_or(u32::MAX);
        self.pieces.drain(..).for_each(|piece| piece.give_back(memory));
    }
}

impl Transits {
    /// No messages yet. `memory` is the budget. `keeps_written` says that written messages are kept until they are
    /// confirmed, as far as memory allows.
    #[must_use]
    pub const fn new(memory: Memory, keeps_written: bool) -> Self {
        Self { entries: Slab::new(), begun: 0, keeps_written, memory }
    }

    /// Begins a message, of which no byte has arrived.
    #[expect(clippy::cast_possible_truncation, reason = "each has at least a byte in memory")]
    pub fn begin(&mut self, opcode: Opcode) -> TransitKey {
        self.begun = self.begun.wrapping_add(1);
        let serial = self.begun;
        let index = self.entries.insert(Transit {
            serial,
            opcode,
            pieces: VecDeque::new(),
            pieces_freed: 0,
            arrived_bytes: 0,
            noted_bytes: 0,
            receivers: 0,
            keepers: 0,
            is_released: false,
            whole_at: None,
            has_sender: true,
        }) as u32;
        TransitKey { index, serial }
    }

    /// The message with this key.
    ///
    /// # Panics
    /// If the message is gone. Its user must know that; continuing could deliver another session's bytes.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "a key is kept no longer than its message")]
    pub fn get(&self, key: TransitKey) -> &Transit {
        let transit = &self.entries[key.index as usize];
        assert_eq!(transit.serial, key.serial, "a key is kept no longer than its message");
        transit
    }

    #[expect(clippy::indexing_slicing, reason = "a key is kept no longer than its message")]
    fn parts_mut(&mut self, key: TransitKey) -> (&mut Transit, &mut Memory) {
        let transit = &mut self.entries[key.index as usize];
        assert_eq!(transit.serial, key.serial, "a key is kept no longer than its message");
        (transit, &mut self.memory)
    }

    /// Whether written messages are kept until they are confirmed.
    #[must_use]
    pub const fn keeps_written(&self) -> bool {
        self.keeps_written
    }

    /// The number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends a copy of `bytes` to a message: in chunks, or in a piece of its own size if no chunk is free.
    pub fn append(&mut self, key: TransitKey, mut bytes: &[u8]) {
        let (transit, memory) = self.parts_mut(key);
        while !bytes.is_empty() {
            // First fill the last piece, then take chunks.
            let free = transit.pieces.back_mut().map_or(&mut [][..], Piece::free_mut);
            let count = free.len().min(bytes.len());
            let Some((now, later)) = bytes.split_at_checked(count).filter(|_| count > 0) else {
                match memory.try_take_chunk() {
                    Some(chunk) => transit.push(Piece::of_chunk(chunk, 0, 0), memory),
                    // No chunk is free: the rest becomes a piece of exactly its size.
                    None => return transit.push(Piece::copy_of(bytes, memory), memory),
                }
                continue;
            };
            if let Some(free) = free.get_mut(..count) {
                free.copy_from_slice(now);
            }
            transit.grow_last(count);
            bytes = later;
        }
    }

    /// Appends a chunk. Its bytes from `start` to `end` are the next ones of the message. The chunk is already
    /// charged.
    pub fn append_chunk(
        &mut self,
        key: TransitKey,
        chunk: crate::relay::memory::Chunk,
        start: usize,
        end: usize,
    ) {
        debug_assert!(start < end && end <= CHUNK_BYTES, "the range has bytes, and is in the chunk");
        let (transit, memory) = self.parts_mut(key);
        transit.push(Piece::of_chunk(chunk, start, end), memory);
    }

    /// Memory for the next bytes of a message: at most `bytes_max`, possibly less. `None` if no chunk is free.
    pub fn free_mut(&mut self, key: TransitKey, bytes_max: usize) -> Option<&mut [u8]> {
        let (transit, memory) = self.parts_mut(key);
        let is_full = transit.pieces.back_mut().is_none_or(|piece| piece.free_mut().is_empty());
        if is_full {
            transit.push(Piece::of_chunk(memory.try_take_chunk()?, 0, 0), memory);
        }
        let free = transit.pieces.back_mut().map(Piece::free_mut)?;
        let bytes = free.len().min(bytes_max);
        free.get_mut(..bytes)
    }

    /// Returns memory that [`free_mut`](Self::free_mut) has taken, if nothing was read into it.
    pub fn give_back_free(&mut self, key: TransitKey) {
        let (transit, memory) = self.parts_mut(key);
        // An empty piece can only be one that `free_mut` has added.
        if transit.pieces.back().is_some_and(|piece| piece.len() == 0)
            && let Some(piece) = transit.pieces.pop_back()
        {
            piece.give_back(memory);
        }
    }

    /// The first `count` bytes of [`free_mut`](Self::free_mut), which were read. The caller unmasks and checks them,
    /// and then calls [`extend`](Self::extend).
    pub fn read_mut(&mut self, key: TransitKey, count: usize) -> &mut [u8] {
        let (transit, _) = self.parts_mut(key);
        let free = transit.pieces.back_mut().map_or(&mut [][..], Piece::free_mut);
        free.get_mut(..count).unwrap_or_default()
    }

    /// Makes the first `count` bytes of [`free_mut`](Self::free_mut) a part of the message.
    pub fn extend(&mut self, key: TransitKey, count: usize) {
        self.parts_mut(key).0.grow_last(count);
    }

    /// How many bytes have arrived since the last call. From now on they are counted as accepted.
    pub fn take_news(&mut self, key: TransitKey) -> u64 {
        let keeps_written = self.keeps_written;
        let (transit, memory) = self.parts_mut(key);
        let news = transit.arrived_bytes - transit.noted_bytes;
        transit.noted_bytes = transit.arrived_bytes;
        // The message may have become too long for its passed pieces to be kept.
        transit.settle_passed(keeps_written, memory);
        news
    }

    /// Releases a message to one more receiver. Its cursor begins at the start.
    pub fn release(&mut self, key: TransitKey) -> Cursor {
        let (transit, memory) = self.parts_mut(key);
        debug_assert!(transit.pieces_freed == 0, "the message is in memory from its start");
        transit.is_released = true;
        transit.add_cursor(memory);
        Cursor::new(key)
    }

    /// Records that the last byte has arrived, at `micros` modulo 2³², and was checked.
    pub fn end(&mut self, key: TransitKey, micros: u32) {
        let keeps_written = self.keeps_written;
        let (transit, memory) = self.parts_mut(key);
        transit.whole_at = Some(micros);
        transit.settle_passed(keeps_written, memory);
    }

    /// Records that the sender adds nothing more: the message is whole, or will never be. It is removed once it has
    /// no receiver, either.
    pub fn detach_sender(&mut self, key: TransitKey) {
        self.parts_mut(key).0.has_sender = false;
        self.remove_if_done(key);
    }

    /// Removes a cursor whose receiver gets no more of the message.
    #[expect(clippy::needless_pass_by_value, reason = "the cursor must not be used again")]
    pub fn give_up(&mut self, cursor: Cursor) {
        self.drop_cursor(&cursor);
    }

    fn drop_cursor(&mut self, cursor: &Cursor) {
        let keeps_written = self.keeps_written;
        let (transit, memory) = self.parts_mut(cursor.key());
        transit.receivers -= 1;
        // This cursor no longer waits for the pieces that it has not released.
        let passed = cursor.pieces_released().saturating_sub(transit.pieces_freed) as usize;
        let is_kept = keeps_written || transit.keepers > 0;
        for piece in transit.pieces.iter_mut().skip(passed) {
            piece.awaited_by -= 1;
            piece.set_cached(is_kept && piece.awaited_by == 0, memory);
        }
        // Without receivers the bytes are of no use, even if the sender still adds some.
        if transit.is_wanted() {
            transit.settle_passed(keeps_written, memory);
        } else {
            transit.free_all(memory);
        }
        self.remove_if_done(cursor.key());
    }

    fn remove_if_done(&mut self, key: TransitKey) {
        let (transit, memory) = self.parts_mut(key);
        if !transit.is_wanted() && !transit.has_sender {
            transit.free_all(memory);
            self.entries.remove(key.index as usize);
        }
    }

    /// Records that a cursor has passed the pieces with the numbers `from..to`.
    fn pass(&mut self, key: TransitKey, from: u32, to: u32) {
        let keeps_written = self.keeps_written;
        let (transit, memory) = self.parts_mut(key);
        for number in from..to {
            let index = number.checked_sub(transit.pieces_freed).map(|index| index as usize);
            let piece = index.and_then(|index| transit.pieces.get_mut(index));
            debug_assert!(piece.is_some(), "a piece that a cursor has not passed is in memory");
            if let Some(piece) = piece {
                piece.awaited_by -= 1;
                piece.set_cached(keeps_written && piece.awaited_by == 0, memory);
            }
        }
        transit.settle_passed(keeps_written, memory);
    }
}

impl Transit {
    fn grow_last(&mut self, count: usize) {
        debug_assert!(!self.pieces.is_empty(), "`free_mut` has added a piece");
        if let Some(piece) = self.pieces.back_mut() {
            piece.extend(count);
            self.arrived_bytes += count as u64;
        }
    }
}
