//! The payload of one large message, in memory of its own.
//!
//! The memory is mapped for this payload alone, rather than taken from the heap: it costs nothing before
//! bytes arrive in it, needs no zeroing, and is the system's again the moment the message is gone,
//! whatever was allocated meanwhile. The room that it takes in the [budget](super::budget) lives and
//! goes with it.

use std::io;

use memmap2::MmapMut;

use super::budget::{Room, room_of_frame};
use super::limits::{BLOCK_BYTES, FRAGMENT_BYTES_MAX, SPARE_BLOCK_BYTES, SPARE_BLOCKS_MAX};

/// A message that comes in one frame has one block. Of one that comes in fragments, whose length nobody
/// announces, every block but the last has [`BLOCK_BYTES`].
#[derive(Debug)]
pub struct Payload {
    blocks: Vec<MmapMut>,
    len: usize,
    room: Room,
}

/// Blocks between two uses, so that messages just over the small ones need no system call each.
#[derive(Debug, Default)]
pub struct SpareBlocks(Vec<MmapMut>);

impl Payload {
    /// Memory for a message that comes in one frame; `room` is [`room_of_frame`] of its length.
    pub fn for_frame(room: Room, spare: &mut SpareBlocks) -> io::Result<Self> {
        let block = if room.bytes() == SPARE_BLOCK_BYTES { spare.0.pop() } else { None };
        let block = block.map_or_else(|| MmapMut::map_anon(room.bytes()), Ok)?;
        Ok(Self { blocks: vec![block], len: 0, room })
    }

    /// No memory yet, for a message that comes in fragments; see [`grow`](Self::grow).
    #[must_use]
    pub const fn for_fragments() -> Self {
        Self { blocks: Vec::new(), len: 0, room: Room::unlimited(0) }
    }

    /// Adds memory to a message in fragments: its rooms together are
    /// [`room_of_fragments`](super::budget::room_of_fragments) of its length.
    pub fn grow(&mut self, room: Room) -> io::Result<()> {
        self.room.add(room);
        while self.capacity() < self.room.bytes() {
            let bytes = BLOCK_BYTES.min(self.room.bytes() - self.capacity());
            self.blocks.push(MmapMut::map_anon(bytes)?);
        }
        Ok(())
    }

    /// Bytes there is memory for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let last = self.blocks.last().map_or(0, |block| block.len());
        self.blocks.len().saturating_sub(1) * BLOCK_BYTES + last
    }

    /// Length in bytes of what has arrived.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has arrived.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The block in which the byte at `position` stands, and where in it.
    fn place(&self, position: usize) -> (usize, usize) {
        if self.blocks.len() == 1 { (0, position) } else { (position / BLOCK_BYTES, position % BLOCK_BYTES) }
    }

    /// Memory for the next bytes, at most `bytes_max` of them and possibly fewer; empty if there is none left.
    pub fn free_mut(&mut self, bytes_max: usize) -> &mut [u8] {
        let (block, start) = self.place(self.len);
        let free = self.blocks.get_mut(block).and_then(|block| block.get_mut(start..)).unwrap_or_default();
        let bytes = free.len().min(bytes_max);
        free.get_mut(..bytes).unwrap_or_default()
    }

    /// Takes the first `bytes` of [`free_mut`](Self::free_mut) as arrived.
    pub fn advance(&mut self, bytes: usize) {
        debug_assert!(self.len + bytes <= self.capacity(), "there was memory for them");
        self.len += bytes;
    }

    /// Copies as much of `bytes` as there is memory for, which is all if room was made for it.
    pub fn append(&mut self, mut bytes: &[u8]) {
        loop {
            let free = self.free_mut(bytes.len());
            let Some((now, later)) = bytes.split_at_checked(free.len()).filter(|(now, _)| !now.is_empty())
            else {
                debug_assert!(bytes.is_empty(), "there was memory for them");
                return;
            };
            free.copy_from_slice(now);
            self.advance(now.len());
            bytes = later;
        }
    }

    /// The fragment that begins at `start`, a multiple of [`FRAGMENT_BYTES_MAX`]: as long as that, or the last.
    #[must_use]
    pub fn fragment(&self, start: usize) -> &[u8] {
        let end = self.len.min(start + FRAGMENT_BYTES_MAX);
        let (block, from) = self.place(start);
        let block = self.blocks.get(block);
        block.and_then(|block| block.get(from..from + end.saturating_sub(start))).unwrap_or_default()
    }

    /// All of it, in order.
    pub fn fragments(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len).step_by(FRAGMENT_BYTES_MAX).map(|start| self.fragment(start))
    }

    /// The same payload in no more memory than it needs, if it is one that a block is much too large for.
    #[must_use]
    pub fn fit(mut self) -> Self {
        let room = room_of_frame(self.len);
        if let [block] = self.blocks.as_slice()
            && room <= block.len() / 2
            && let Some(bytes) = block.get(..self.len)
            && let Ok(mut fitting) = MmapMut::map_anon(room)
            && let Some(to) = fitting.get_mut(..self.len)
        {
            to.copy_from_slice(bytes);
            self.blocks = vec![fitting];
            self.room.shrink_to(room);
        }
        self
    }

    /// Gives memory back, some of it to `spare`.
    pub fn give_back(mut self, spare: &mut SpareBlocks) {
        if let [block] = self.blocks.as_slice()
            && block.len() == SPARE_BLOCK_BYTES
            && spare.0.len() < SPARE_BLOCKS_MAX
        {
            spare.0.append(&mut self.blocks);
        }
    }

    /// A payload that holds `bytes`, outside of any budget.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut payload =
            Self::for_frame(Room::unlimited(room_of_frame(bytes.len())), &mut SpareBlocks::default())?;
        payload.append(bytes);
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::room_of_fragments;
    use super::*;

    fn numbered(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn joined(payload: &Payload) -> Vec<u8> {
        payload.fragments().collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_frame_has_exactly_its_room_in_pages() {
        for (bytes, room) in [(1, 65_536), (65_536, 65_536), (65_537, 69_632), (50_000_000, 50_003_968)] {
            assert_eq!(room_of_frame(bytes), room);
            let mut payload = Payload::for_frame(Room::unlimited(room), &mut SpareBlocks::default()).unwrap();
            assert_eq!(payload.capacity(), room);
            let content = numbered(bytes);
            payload.append(&content);
            assert!(joined(&payload) == content, "{bytes}");
        }
    }

    #[test]
    fn fragments_take_whole_blocks_as_they_come_and_never_more_than_the_longest_message() {
        let bytes_max = 2 * BLOCK_BYTES + 5_000;
        let content = numbered(bytes_max);
        let mut payload = Payload::for_fragments();
        let mut rooms = Vec::new();
        for piece in content.chunks(70_001) {
            let room = room_of_fragments(payload.len() + piece.len(), bytes_max);
            if room > payload.capacity() {
                payload.grow(Room::unlimited(room - payload.capacity())).unwrap();
            }
            rooms.push(payload.capacity());
            payload.append(piece);
        }
        rooms.dedup();
        assert_eq!(rooms, [BLOCK_BYTES, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 8_192]);
        assert!(joined(&payload) == content);
    }

    #[test]
    fn bytes_that_are_read_in_place_stand_where_copied_ones_would() {
        let mut payload = Payload::for_fragments();
        payload.grow(Room::unlimited(2 * BLOCK_BYTES)).unwrap();
        let content = numbered(2 * BLOCK_BYTES);
        let mut rest = content.as_slice();
        while !rest.is_empty() {
            let free = payload.free_mut(100_000);
            let (now, later) = rest.split_at(free.len());
            free.copy_from_slice(now);
            payload.advance(now.len());
            rest = later;
        }
        assert!(payload.free_mut(1).is_empty());
        assert!(joined(&payload) == content);
    }

    #[test]
    fn a_message_in_fragments_that_turns_out_short_takes_little_more_than_its_bytes() {
        for (bytes, room) in [(1, 65_536), (16_385, 65_536), (131_072, 131_072), (131_073, BLOCK_BYTES)] {
            let mut payload = Payload::for_fragments();
            payload.grow(Room::unlimited(BLOCK_BYTES)).unwrap();
            let content = numbered(bytes);
            payload.append(&content);
            let payload = payload.fit();
            assert_eq!((payload.capacity(), payload.room.bytes()), (room, room), "{bytes}");
            assert!(joined(&payload) == content, "{bytes}");
        }
    }

    #[test]
    fn blocks_of_the_spare_size_are_used_again_and_no_more_than_allowed_are_kept() {
        let mut spare = SpareBlocks::default();
        let payload = || Payload::copy_of(&vec![7; 20_000]).unwrap();
        for _ in 0..SPARE_BLOCKS_MAX + 3 {
            payload().give_back(&mut spare);
        }
        assert_eq!(spare.0.len(), SPARE_BLOCKS_MAX);
        let again = Payload::for_frame(Room::unlimited(SPARE_BLOCK_BYTES), &mut spare).unwrap();
        assert_eq!((spare.0.len(), again.len()), (SPARE_BLOCKS_MAX - 1, 0));
        Payload::copy_of(&vec![7; 70_000]).unwrap().give_back(&mut spare);
        assert_eq!(spare.0.len(), SPARE_BLOCKS_MAX - 1);
    }
}
