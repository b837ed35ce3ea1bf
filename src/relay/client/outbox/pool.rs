//! What outboxes are made of, between two uses.

use super::{ArrivalGroup, Outbox};
use crate::relay::limits::{QUEUE_CAPACITY_KEPT, SPARE_BUFFERS_BYTES_MAX, SPARE_OUTBOXES_MAX};
use crate::relay::transit::Transits;

/// Buffers and outboxes between two uses, so that small messages need no allocation each.
#[derive(Debug, Default)]
pub struct Pool {
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) buffers_bytes: usize,
    #[expect(clippy::vec_box, reason = "connections hold boxes, and get them back as they are")]
    pub(super) outboxes: Vec<Box<Outbox>>,
    /// Messages in transit, and the account of all memory.
    pub transits: Transits,
    /// Messages that streams have taken in full since this was last emptied, as far as it was
    /// [noted](Outbox::note_arrivals) when they came.
    pub delivered: Vec<ArrivalGroup>,
}

impl Pool {
    /// Nothing to use again, and this for messages in transit.
    #[must_use]
    pub fn new(transits: Transits) -> Self {
        Self { transits, ..Self::default() }
    }

    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.buffers_bytes -= buffer.capacity();
        buffer
    }

    pub(super) fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        // A buffer without room is none, and would not count.
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

    /// Takes back an outbox that has run empty.
    pub fn give_outbox(&mut self, mut outbox: Box<Outbox>) {
        debug_assert!(outbox.is_empty());
        if self.outboxes.len() < SPARE_OUTBOXES_MAX {
            outbox.queue.shrink_to(QUEUE_CAPACITY_KEPT);
            outbox.is_cut_short = false;
            self.outboxes.push(outbox);
        }
    }
}
