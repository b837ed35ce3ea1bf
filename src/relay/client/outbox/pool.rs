//! Buffers and outboxes that are used again.

use super::{ArrivalGroup, Outbox};
use crate::relay::limits::{QUEUE_CAPACITY_KEPT, SPARE_BUFFERS_BYTES_MAX, SPARE_OUTBOXES_MAX};
use crate::relay::transit::Transits;

/// Spare buffers and outboxes, so that a small message needs no allocation.
#[derive(Debug, Default)]
pub struct Pool {
    pub(super) buffers: Vec<Vec<u8>>,
    /// Capacity of all spare buffers, at most [`SPARE_BUFFERS_BYTES_MAX`].
    pub(super) buffers_bytes: usize,
    #[expect(clippy::vec_box, reason = "connections hold boxes, and get them back as they are")]
    pub(super) outboxes: Vec<Box<Outbox>>,
    /// Bytes of the last run that was written in full. A new buffer begins with as much memory, because the next run is
    /// usually about as long, and growing would copy it several times.
    pub(super) last_run_bytes: usize,
    /// Messages in transit, and the account of all memory.
    pub transits: Transits,
    /// Messages that were first written since the caller last emptied this, if their arrival was
    /// [recorded](Outbox::note_arrivals).
    pub delivered: Vec<ArrivalGroup>,
    /// Scratch memory for times of arrival.
    pub(super) written: Vec<ArrivalGroup>,
    /// Messages that were written since the caller last reset this, and are not kept although they should be, because
    /// memory was short. They count as delivered.
    pub unkept: u64,
    /// Messages that were confirmed since the caller last emptied this, in the same form.
    pub confirmed: Vec<ArrivalGroup>,
}

impl Pool {
    /// A pool without spare buffers, with these messages in transit.
    #[must_use]
    pub fn new(transits: Transits) -> Self {
        Self { transits, ..Self::default() }
    }

    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.buffers_bytes -= buffer.capacity();
        buffer
    }

    /// A buffer for a run of small messages.
    pub(super) fn take_run_buffer(&mut self) -> Vec<u8> {
        if self.buffers.is_empty() {
            return Vec::with_capacity(self.last_run_bytes);
        }
        self.take_buffer()
    }

    pub(super) fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        // A buffer without memory saves no allocation, and any number of them would pass the limit on bytes.
        let is_kept =
            buffer.capacity() > 0 && self.buffers_bytes + buffer.capacity() <= SPARE_BUFFERS_BYTES_MAX;
        if is_kept {
            buffer.clear();
            self.buffers_bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }

    /// An empty outbox.
    #[must_use]
    pub fn take_outbox(&mut self) -> Box<Outbox> {
        self.outboxes.pop().unwrap_or_default()
    }

    /// Takes back an empty outbox, and resets the state that an empty one can still have.
    pub fn give_outbox(&mut self, mut outbox: Box<Outbox>) {
        debug_assert!(outbox.is_empty());
        if self.outboxes.len() < SPARE_OUTBOXES_MAX {
            outbox.queue.shrink_to(QUEUE_CAPACITY_KEPT);
            outbox.is_cut_short = false;
            self.outboxes.push(outbox);
        }
    }
}
