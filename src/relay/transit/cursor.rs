//! A cursor: how far one receiver has got in a message in transit, and in which fragments it gets the message.

use super::{Transit, TransitKey, Transits};
use crate::relay::limits::FRAGMENT_BYTES_MAX;
use crate::relay::wire::frame::{Opcode, ServerHeader};

/// The position of one receiver in a message.
///
/// [`plan`](Self::plan) makes the next fragment of what has arrived. [`gather`](Self::gather) hands out the part of
/// it that the stream has not taken. [`advance`](Self::advance) moves on by what the stream has taken.
/// [`release`](Self::release) frees what the cursor has passed. A fragment no longer changes once the stream has a
/// byte of it.
#[derive(Debug)]
pub struct Cursor {
    key: TransitKey,
    /// Number of the piece that it is in: how many it has passed, counting all pieces that the message ever had.
    pieces_passed: u32,
    /// How many of these it has released. The others may hold bytes that the stream has not flushed.
    /// flushed.
    pieces_released: u32,
    /// Bytes of its current piece that it has passed.
    offset: usize,
    /// Bytes of the message that the stream has taken.
    taken_bytes: u64,
    /// The bytes of these that are released.
    released_bytes: u64,
    fragment: Option<Fragment>,
    /// The stream has taken something of the message.
    is_begun: bool,
    /// The stream has taken all of the message.
    is_done: bool,
}

#[derive(Debug)]
struct Fragment {
    header: ServerHeader,
    header_taken: usize,
    /// Bytes of its payload that the stream has not taken.
    payload_left: usize,
    is_final: bool,
}

impl Fragment {
    fn header_left(&self) -> &[u8] {
        self.header.as_bytes().get(self.header_taken..).unwrap_or_default()
    }

    fn left(&self) -> usize {
        self.header_left().len() + self.payload_left
    }
}

impl Cursor {
    pub(super) const fn new(key: TransitKey) -> Self {
        Self {
            key,
            pieces_passed: 0,
            pieces_released: 0,
            offset: 0,
            taken_bytes: 0,
            released_bytes: 0,
            fragment: None,
            is_begun: false,
            is_done: false,
        }
    }

    /// The key of its message.
    #[must_use]
    pub const fn key(&self) -> TransitKey {
        self.key
    }

    pub(super) const fn pieces_released(&self) -> u32 {
        self.pieces_released
    }

    /// Whether the stream has taken something of the message.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether the stream has taken all of the message.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Bytes of the message that have arrived and that the stream has not taken.
    #[must_use]
    pub fn waiting_bytes(&self, transit: &Transit) -> usize {
        let bytes = transit.arrived_bytes() - self.taken_bytes;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Bytes that are counted as accepted and not released, see [`Transit::noted_bytes`].
    #[must_use]
    pub fn unwritten_bytes(&self, transit: &Transit) -> usize {
        usize::try_from(transit.noted_bytes() - self.released_bytes).unwrap_or(usize::MAX)
    }

    /// Bytes that the stream has taken but not flushed.
    #[must_use]
    pub fn unflushed_bytes(&self) -> usize {
        usize::try_from(self.taken_bytes - self.released_bytes).unwrap_or(usize::MAX)
    }

    /// Bytes that are left of a fragment of which the stream has taken some, including its header. 0 if there is
    /// none.
    #[must_use]
    pub fn begun_bytes(&self) -> usize {
        self.fragment.as_ref().filter(|fragment| fragment.header_taken > 0).map_or(0, Fragment::left)
    }

    /// Bytes that are left of the planned fragment, including its header. 0 if there is none.
    #[must_use]
    pub fn planned_bytes(&self) -> usize {
        self.fragment.as_ref().map_or(0, Fragment::left)
    }

    /// Whether the planned fragment is the last one of the message.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.fragment.as_ref().is_some_and(|fragment| fragment.is_final)
    }

    /// Plans the next fragment from all that has arrived, up to [`FRAGMENT_BYTES_MAX`]. Does nothing if the stream
    /// has already taken a part of the planned one.
    pub fn plan(&mut self, transit: &Transit) {
        // The length of a fragment cannot change once its header has left.
        if self.begun_bytes() > 0 || self.is_done {
            return;
        }
        let available = self.waiting_bytes(transit);
        let payload_bytes = available.min(FRAGMENT_BYTES_MAX);
        let is_final = transit.whole_at().is_some() && payload_bytes == available;
        // The final fragment may be empty: the last byte may have left before the message was known to be whole.
        self.fragment = (payload_bytes > 0 || is_final).then(|| {
            // Only the first fragment of a message has its opcode (RFC 6455, section 5.4).
            let opcode = if self.is_begun { Opcode::Continuation } else { transit.opcode };
            let header = ServerHeader::new(opcode, is_final, payload_bytes);
            Fragment { header, header_taken: 0, payload_left: payload_bytes, is_final }
        });
    }

    /// Passes what is left of the planned fragment, without its first `skip` bytes, to `push` in order, until `push`
    /// returns true: it has no room for more.
    pub fn gather<'a>(
        &'a self,
        transit: &'a Transit,
        mut skip: usize,
        mut push: impl FnMut(&'a [u8]) -> bool,
    ) {
        let Some(fragment) = &self.fragment else { return };
        let header = fragment.header_left();
        let of_header = skip.min(header.len());
        skip -= of_header;
        if push(header.get(of_header..).unwrap_or_default()) {
            return;
        }
        let mut left = fragment.payload_left - skip;
        // From here on counted from the start of the current piece.
        let mut skip = skip + self.offset;
        // Numbers count freed pieces, too; indices do not.
        for piece in transit.pieces.range((self.pieces_passed - transit.pieces_freed) as usize..) {
            if left == 0 {
                return;
            }
            // `skip` may cover whole pieces.
            let of_piece = skip.min(piece.len());
            skip -= of_piece;
            let bytes = piece.bytes().get(of_piece..).unwrap_or_default();
            let bytes = bytes.get(..left).unwrap_or(bytes);
            left -= bytes.len();
            if push(bytes) {
                return;
            }
        }
        debug_assert!(left == 0, "a fragment is planned only from bytes in memory");
    }

    /// Moves on by at most `taken` bytes of the planned fragment. Returns how many of `taken` these were, and how
    /// many of them are payload of the message.
    pub fn advance(&mut self, transit: &Transit, taken: usize) -> (usize, usize) {
        let Some(fragment) = &mut self.fragment else { return (0, 0) };
        let of_header = taken.min(fragment.header_left().len());
        fragment.header_taken += of_header;
        let of_payload = (taken - of_header).min(fragment.payload_left);
        fragment.payload_left -= of_payload;
        self.is_begun |= of_header > 0;
        // The whole fragment is taken. If it was final, so is the message.
        if fragment.left() == 0 {
            self.is_done = fragment.is_final;
            self.fragment = None;
        }
        self.taken_bytes += of_payload as u64;
        self.move_on(transit, of_payload);
        (of_header + of_payload, of_payload)
    }

    fn move_on(&mut self, transit: &Transit, bytes: usize) {
        self.offset += bytes;
        // The last piece is passed only if it can no longer grow.
        while let Some(piece) = transit.piece(self.pieces_passed)
            && self.offset >= piece.len()
            && (piece.is_full()
                || transit.piece(self.pieces_passed + 1).is_some()
                || transit.whole_at().is_some())
        {
            self.offset -= piece.len();
            self.pieces_passed += 1;
        }
    }

    /// Frees what the stream has taken and flushed, if no other cursor still needs it.
    pub fn release(&mut self, transits: &mut Transits) {
        self.released_bytes = self.taken_bytes;
        let from = std::mem::replace(&mut self.pieces_released, self.pieces_passed);
        if self.pieces_passed > from {
            transits.pass(self.key, from, self.pieces_passed);
        }
    }
}
