//! Frames that overtake the queue.

use super::Pool;
use crate::relay::buffer::Buffer;
use crate::relay::limits::SMALL_MESSAGE_BYTES_MAX;

/// Whole frames in one piece of memory, the first of which may be under way.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) bytes: Buffer,
    taken: usize,
}

impl Lane {
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.as_slice().get(self.taken..).unwrap_or_default()
    }

    /// Adds frames. What a blocked client leaves waiting may wait long, and so may what is more than a few: it
    /// takes no spare buffer, however large.
    pub(super) fn append(
        &mut self,
        pool: &mut Pool,
        is_blocked: bool,
        write_frames: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.bytes.capacity() == 0 && !is_blocked {
            self.bytes = pool.take_buffer().into();
        }
        let may_stay = is_blocked || self.bytes.len() > SMALL_MESSAGE_BYTES_MAX;
        if let Some(bytes) = self.bytes.heap_mut().filter(|_| !may_stay) {
            write_frames(bytes);
        } else {
            let mut frames = pool.take_buffer();
            write_frames(&mut frames);
            self.bytes.append_kept(&frames);
            pool.give_buffer(frames);
        }
    }

    /// Forgets what the socket took of at most `taken` bytes; returns how many of them these were.
    pub(super) fn advance(&mut self, taken: usize, pool: &mut Pool) -> usize {
        if self.bytes.is_empty() {
            return 0;
        }
        let taken = taken.min(self.waiting().len());
        self.taken += taken;
        if self.taken == self.bytes.len() {
            self.taken = 0;
            pool.give_buffer(std::mem::take(&mut self.bytes).into_spare());
        } else if self.taken > self.bytes.len() / 2 {
            self.bytes.drain_front(self.taken);
            self.taken = 0;
        }
        taken
    }
}

impl From<Buffer> for Lane {
    fn from(bytes: Buffer) -> Self {
        Self { bytes, taken: 0 }
    }
}
