//! Pieces of a message in transit.

use crate::relay::limits::CHUNK_BYTES;
use crate::relay::memory::{Chunk, Memory};

/// Some consecutive bytes of one message.
#[derive(Debug)]
pub(super) struct Piece {
    store: PieceMemory,
    /// Where the bytes begin in the memory; they go to `end`.
    start: usize,
    end: usize,
    /// How many cursors have not passed it. At zero it is freed or cached.
    pub(super) awaited_by: u16,
    /// It is in memory only so that the message can begin again, and gives way when memory is needed.
    is_cached: bool,
}

#[derive(Debug)]
enum PieceMemory {
    Chunk(Chunk),
    /// Memory of exactly the piece's size, used if no chunk was free.
    Small(Box<[u8]>),
}

impl Piece {
    /// A piece in a chunk: the bytes from `start` to `end`.
    pub(super) const fn of_chunk(chunk: Chunk, start: usize, end: usize) -> Self {
        Self { store: PieceMemory::Chunk(chunk), start, end, awaited_by: 0, is_cached: false }
    }

    /// A copy of `bytes` in memory of its own.
    pub(super) fn copy_of(bytes: &[u8], memory: &mut Memory) -> Self {
        memory.charge_pieces(0, bytes.len());
        let store = PieceMemory::Small(bytes.into());
        Self { store, start: 0, end: bytes.len(), awaited_by: 0, is_cached: false }
    }

    pub(super) const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it cannot grow.
    pub(super) const fn is_full(&self) -> bool {
        match &self.store {
            PieceMemory::Chunk(_) => self.end == CHUNK_BYTES,
            PieceMemory::Small(_) => true,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        let memory = match &self.store {
            PieceMemory::Chunk(chunk) => chunk.as_slice(),
            PieceMemory::Small(bytes) => bytes,
        };
        memory.get(self.start..self.end).unwrap_or_default()
    }

    /// The free memory after its bytes.
    pub(super) fn free_mut(&mut self) -> &mut [u8] {
        match &mut self.store {
            PieceMemory::Chunk(chunk) => chunk.as_mut_slice().get_mut(self.end..).unwrap_or_default(),
            // Its memory has exactly the size of its bytes.
            PieceMemory::Small(_) => &mut [],
        }
    }

    /// Adds the first `count` bytes of [`free_mut`](Self::free_mut) to the piece.
    pub(super) const fn extend(&mut self, count: usize) {
        self.end += count;
    }

    /// Records whether it is cached.
    pub(super) fn set_cached(&mut self, is_cached: bool, memory: &mut Memory) {
        if self.is_cached != is_cached {
            self.is_cached = is_cached;
            let (chunks, bytes) = self.charged();
            memory.note_cached(chunks, bytes, is_cached);
        }
    }

    /// Returns its memory to the budget.
    pub(super) fn give_back(mut self, memory: &mut Memory) {
        self.set_cached(false, memory);
        match self.store {
            PieceMemory::Chunk(chunk) => memory.give_chunk(chunk),
            PieceMemory::Small(bytes) => memory.charge_pieces(bytes.len(), 0),
        }
    }

    /// What it is charged for: the number of chunks, and the bytes outside of chunks.
    pub(super) const fn charged(&self) -> (usize, usize) {
        match &self.store {
            PieceMemory::Chunk(_) => (1, 0),
            PieceMemory::Small(bytes) => (0, bytes.len()),
        }
    }

    /// Whether it is cached.
    #[cfg(any(test, debug_assertions))]
    pub(super) const fn is_cached(&self) -> bool {
        self.is_cached
    }
}
