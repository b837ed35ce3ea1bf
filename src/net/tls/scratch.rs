//! Buffers that all connections share, one at a time, so that an idle connection needs none.

use std::io::{IoSlice, IoSliceMut};

use crate::relay::limits::RECEIVE_BUFFER_BYTES;

/// The longest record, including its header and what a cipher may add (RFC 5246, section 6.2.3).
pub(super) const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + RECORD_PLAIN_BYTES_MAX + 2048;
/// A record's header: type, version and length.
pub(super) const RECORD_HEADER_BYTES: usize = 5;
/// Plain bytes that one record may carry (RFC 8446, section 5.1).
pub(super) const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;
/// Plain bytes that one write encrypts. It bounds what a connection keeps if its socket takes nothing.
pub(super) const OUTGOING_PLAIN_BYTES_MAX: usize = 2 * RECORD_PLAIN_BYTES_MAX;

/// The buffers of the connection that reads or writes now.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Received bytes, not decrypted yet.
    pub(super) incoming: Box<[u8]>,
    /// Several slices joined, to be encrypted as one.
    plain: Vec<u8>,
    /// Encrypted bytes.
    pub(super) outgoing: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            // As much as the core reads at once, and the kept beginning of a record before it.
            incoming: vec![0; RECEIVE_BUFFER_BYTES + RECORD_BYTES_MAX].into_boxed_slice(),
            plain: Vec::with_capacity(OUTGOING_PLAIN_BYTES_MAX),
            // Room for the headers and tags of the records as well.
            outgoing: vec![0; OUTGOING_PLAIN_BYTES_MAX + RECORD_BYTES_MAX],
        }
    }
}

impl Scratch {
    /// The first [`OUTGOING_PLAIN_BYTES_MAX`] bytes of `slices` as one slice, and the buffer for their encrypted form.
    pub(super) fn join<'a>(&'a mut self, slices: &'a [IoSlice<'_>]) -> (&'a [u8], &'a mut Vec<u8>) {
        // One slice needs no copy.
        if let [one] = slices {
            let bytes = one.len().min(OUTGOING_PLAIN_BYTES_MAX);
            return (one.get(..bytes).unwrap_or_default(), &mut self.outgoing);
        }
        self.plain.clear();
        for slice in slices {
            let room = OUTGOING_PLAIN_BYTES_MAX - self.plain.len();
            self.plain.extend_from_slice(slice.get(..room).unwrap_or(slice));
            if self.plain.len() == OUTGOING_PLAIN_BYTES_MAX {
                break;
            }
        }
        (&self.plain, &mut self.outgoing)
    }
}

/// The buffers of a reader, and how far they are filled.
pub(super) struct Destination<'a, 'b> {
    buffers: &'a mut [IoSliceMut<'b>],
    filled_bytes: usize,
    room_bytes: usize,
}

impl<'a, 'b> Destination<'a, 'b> {
    pub(super) fn new(buffers: &'a mut [IoSliceMut<'b>]) -> Self {
        let room_bytes = buffers.iter().map(|buffer| buffer.len()).sum();
        Self { buffers, filled_bytes: 0, room_bytes }
    }

    pub(super) const fn filled_bytes(&self) -> usize {
        self.filled_bytes
    }

    /// Bytes that the buffers still have room for.
    pub(super) const fn room_bytes(&self) -> usize {
        self.room_bytes
    }

    /// Copies as many of `bytes` as fit, and returns the rest.
    pub(super) fn fill<'c>(&mut self, mut bytes: &'c [u8]) -> &'c [u8] {
        // Filled bytes that lie in this and later buffers.
        let mut before = self.filled_bytes;
        for buffer in &mut *self.buffers {
            let Some(free) = buffer.get_mut(before..) else {
                before -= buffer.len();
                continue;
            };
            before = 0;
            let count = free.len().min(bytes.len());
            if let (Some(free), Some((taken, rest))) = (free.get_mut(..count), bytes.split_at_checked(count))
            {
                free.copy_from_slice(taken);
                bytes = rest;
            }
            self.filled_bytes += count;
            self.room_bytes -= count;
        }
        bytes
    }
}
