//! Messages in transit: too long to be copied from the receive buffer to their receiver at once.
//!
//! | a message is | while | after that |
//! | --- | --- | --- |
//! | held | it arrives, and no receiver gets it yet | it is released, or its sender is told why not |
//! | released | each receiver has a [`Cursor`] in its queue; the rest may still arrive | it is whole, or cut short |
//! | whole | its cursors go on to its end | it is gone with the last cursor |
//!
//! A message is in memory once, in pieces, however many receivers it has. A piece is freed once the slowest cursor
//! has passed it. The pieces of a message of up to [`KEPT_BYTES_MAX`] stay until all receivers have it, so that a
//! client that reconnects gets it from its start; but not if memory is short.
//!
//! The sender's connection has the [`TransitKey`] until the message is whole or abandoned. A cursor that is removed
//! from a queue must go to [`Transits::finish`], [`Transits::rewind`] or [`Transits::give_up`].

mod cursor;
mod piece;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use slab::Slab;

use crate::relay::limits::{CHUNK_BYTES, KEPT_BYTES_MAX};
use crate::relay::memory::Memory;
use crate::relay::wire::frame::Opcode;
pub use cursor::Cursor;
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

    /// How many receivers have not got all of it.
    #[must_use]
    pub const fn receivers(&self) -> u16 {
        self.receivers
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

    fn push(&mut self, mut piece: Piece) {
        self.arrived_bytes += piece.len() as u64;
        // No cursor has passed it yet.
        piece.awaited_by = self.receivers;
        self.pieces.push_back(piece);
    }

    /// Whether pieces stay in memory although all cursors have passed them.
    const fn keeps_passed(&self, is_memory_short: bool) -> bool {
        // Once the first piece is freed the message cannot begin again, so the rest is not kept, either.
        !is_memory_short && self.pieces_freed == 0 && self.arrived_bytes <= KEPT_BYTES_MAX as u64
    }

    /// Frees the pieces at the front that all cursors have passed.
    fn free_passed(&mut self, memory: &mut Memory) {
        // A held message has no cursors yet; all of it will be needed.
        if !self.is_released || self.keeps_passed(memory.is_short_of_chunks()) {
            return;
        }
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
    /// No messages yet. `memory` is the budget.
    #[must_use]
    pub const fn new(memory: Memory) -> Self {
        Self { entries: Slab::new(), begun: 0, memory }
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
                    Some(chunk) => transit.push(Piece::of_chunk(chunk, 0, 0)),
                    // No chunk is free: the rest becomes a piece of exactly its size.
                    None => return transit.push(Piece::copy_of(bytes, memory)),
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
        self.parts_mut(key).0.push(Piece::of_chunk(chunk, start, end));
    }

    /// Memory for the next bytes of a message: at most `bytes_max`, possibly less. `None` if no chunk is free.
    pub fn free_mut(&mut self, key: TransitKey, bytes_max: usize) -> Option<&mut [u8]> {
        let (transit, memory) = self.parts_mut(key);
        let is_full = transit.pieces.back_mut().is_none_or(|piece| piece.free_mut().is_empty());
        if is_full {
            transit.push(Piece::of_chunk(memory.try_take_chunk()?, 0, 0));
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
        let (transit, memory) = self.parts_mut(key);
        let news = transit.arrived_bytes - transit.noted_bytes;
        transit.noted_bytes = transit.arrived_bytes;
        // The message may have become too long for its passed pieces to be kept.
        transit.free_passed(memory);
        news
    }

    /// Releases a message to one more receiver. Its cursor begins at the start.
    pub fn release(&mut self, key: TransitKey) -> Cursor {
        let (transit, _) = self.parts_mut(key);
        debug_assert!(transit.pieces_freed == 0, "the message is in memory from its start");
        transit.is_released = true;
        transit.receivers += 1;
        transit.pieces.iter_mut().for_each(|piece| piece.awaited_by += 1);
        Cursor::new(key)
    }

    /// Records that the last byte has arrived, at `micros` modulo 2³², and was checked.
    pub fn end(&mut self, key: TransitKey, micros: u32) {
        let (transit, memory) = self.parts_mut(key);
        transit.whole_at = Some(micros);
        transit.free_passed(memory);
    }

    /// Records that the sender adds nothing more: the message is whole, or will never be. It is removed once it has
    /// no receiver, either.
    pub fn detach_sender(&mut self, key: TransitKey) {
        self.parts_mut(key).0.has_sender = false;
        self.remove_if_done(key);
    }

    /// Moves a cursor back to the start, for another connection. If the start is not in memory any more, gives the
    /// cursor up and returns `None`.
    pub fn rewind(&mut self, cursor: Cursor) -> Option<Cursor> {
        let (transit, _) = self.parts_mut(cursor.key());
        // Pieces are freed from the front, so the start is missing.
        if transit.pieces_freed > 0 {
            self.give_up(cursor);
            return None;
        }
        // The new cursor has to pass the pieces that the old one had released.
        let passed = cursor.pieces_released() as usize;
        transit.pieces.iter_mut().take(passed).for_each(|piece| piece.awaited_by += 1);
        Some(Cursor::new(cursor.key()))
    }

    /// Removes a cursor that has reached the end of its message. Returns when the last byte had arrived.
    pub fn finish(&mut self, cursor: &Cursor) -> u32 {
        let whole_at = self.get(cursor.key()).whole_at;
        debug_assert!(whole_at.is_some(), "only a whole message has an end");
        self.drop_cursor(cursor);
        whole_at.unwrap_or_default()
    }

    /// Removes a cursor whose receiver gets no more of the message.
    #[expect(clippy::needless_pass_by_value, reason = "the cursor must not be used again")]
    pub fn give_up(&mut self, cursor: Cursor) {
        self.drop_cursor(&cursor);
    }

    fn drop_cursor(&mut self, cursor: &Cursor) {
        let (transit, memory) = self.parts_mut(cursor.key());
        transit.receivers -= 1;
        // This cursor no longer waits for the pieces that it has not released.
        let passed = cursor.pieces_released().saturating_sub(transit.pieces_freed) as usize;
        transit.pieces.iter_mut().skip(passed).for_each(|piece| piece.awaited_by -= 1);
        // Without receivers the bytes are of no use, even if the sender still adds some.
        if transit.receivers == 0 {
            transit.free_all(memory);
        } else {
            transit.free_passed(memory);
        }
        self.remove_if_done(cursor.key());
    }

    fn remove_if_done(&mut self, key: TransitKey) {
        let (transit, memory) = self.parts_mut(key);
        if transit.receivers == 0 && !transit.has_sender {
            transit.free_all(memory);
            self.entries.remove(key.index as usize);
        }
    }

    /// Records that a cursor has passed the pieces with the numbers `from..to`.
    fn pass(&mut self, key: TransitKey, from: u32, to: u32) {
        let (transit, memory) = self.parts_mut(key);
        for number in from..to {
            let index = number.checked_sub(transit.pieces_freed).map(|index| index as usize);
            let piece = index.and_then(|index| transit.pieces.get_mut(index));
            debug_assert!(piece.is_some(), "a piece that a cursor has not passed is in memory");
            if let Some(piece) = piece {
                piece.awaited_by -= 1;
            }
        }
        transit.free_passed(memory);
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

#[cfg(any(test, debug_assertions))]
impl Transits {
    /// Checks the counts of each message against its pieces, the cursors in all queues, and the budget. Visits
    /// everything: for tests and debug builds.
    ///
    /// # Panics
    /// If they disagree.
    pub fn check_invariants(&self, cursors: &[&Cursor], senders: usize, small_bytes: usize) {
        let (mut chunks, mut pieces_bytes) = (0, 0);
        for (index, transit) in &self.entries {
            for piece in &transit.pieces {
                let (of_piece, bytes) = piece.charged();
                chunks += of_piece;
                pieces_bytes += bytes;
            }
            let of_it = || cursors.iter().filter(|cursor| cursor.key().index as usize == index);
            assert_eq!(usize::from(transit.receivers), of_it().count(), "each receiver has one cursor");
            for (number, piece) in (transit.pieces_freed..).zip(&transit.pieces) {
                let awaiting = of_it().filter(|cursor| cursor.pieces_released() <= number).count();
                assert_eq!(
                    usize::from(piece.awaited_by),
                    awaiting,
                    "cursors that have not passed piece {number}"
                );
            }
            assert!(transit.receivers > 0 || transit.has_sender, "a message has a receiver or a sender");
            assert!(transit.whole_at.is_none() || !transit.has_sender, "nothing is added to what is whole");
        }
        let with_sender = self.entries.iter().filter(|(_, transit)| transit.has_sender).count();
        assert_eq!(with_sender, senders, "each sender has one message");
        self.memory.check_invariants(chunks, pieces_bytes, small_bytes);
    }

    /// Released messages whose sizes were not recorded yet, and how many bytes of them are counted as accepted.
    #[must_use]
    pub fn unmeasured(&self) -> (u64, u64) {
        let open = self.entries.iter().filter(|(_, transit)| transit.is_released && transit.has_sender);
        open.fold((0, 0), |(messages, bytes), (_, transit)| (messages + 1, bytes + transit.noted_bytes))
    }
}
