//! What the queue of an outbox is made of, and how it is given to a vectored write.

use std::io::IoSlice;

use crate::relay::buffer::Buffer;
use crate::relay::frame::{Opcode, ServerHeader, server_frame_len};
use crate::relay::limits::{FRAGMENT_BYTES_MAX, WRITE_SLICES_MAX};
use crate::relay::payload::Payload;

#[derive(Debug)]
pub(super) enum Item {
    Run(Run),
    Large(Box<Large>),
    /// One frame of the relay's own: a notice about the peer, or the close.
    Own(Vec<u8>),
}

/// Small application messages, one whole frame each.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) bytes: Buffer,
    /// Where the first frame begins that the stream has not taken in full.
    pub(super) frame_start: usize,
    /// Where the first one begins that is not written in full.
    pub(super) unwritten_start: usize,
}

/// One application message in fragments of [`FRAGMENT_BYTES_MAX`], the last one shorter.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) payload: Payload,
    first: ServerHeader,
    middle: ServerHeader,
    last: ServerHeader,
}

impl Item {
    /// Length in bytes of all its frames, headers included.
    pub(super) fn wire_len(&self) -> usize {
        match self {
            Self::Run(run) => run.bytes.len(),
            Self::Large(large) => large.wire_len(),
            Self::Own(frame) => frame.len(),
        }
    }

    /// Bytes of memory, those left out that are room from the budget.
    pub(super) fn small_bytes(&self) -> usize {
        match self {
            Self::Run(run) => run.bytes.capacity(),
            Self::Own(frame) => frame.capacity(),
            Self::Large(_) => 0,
        }
    }

    /// Start and end of the frame in which the byte at `position` stands; at a boundary, of the
    /// frame that begins there.
    pub(super) fn frame_at(&self, position: usize) -> (usize, usize) {
        match self {
            Self::Run(run) => {
                let frame = run.bytes.as_slice().get(run.frame_start..).unwrap_or_default();
                (run.frame_start, run.frame_start + server_frame_len(frame))
            }
            Self::Large(large) => large.frame_at(position),
            Self::Own(frame) => (0, frame.len()),
        }
    }

    /// Adds the bytes from `from` to `to` to what is written next, as far as there is room.
    pub(super) fn gather<'a>(&'a self, from: usize, to: usize, slices: &mut Slices<'a>) {
        match self {
            Self::Run(Run { bytes, .. }) => slices.push(bytes.as_slice().get(from..to).unwrap_or_default()),
            Self::Own(bytes) => slices.push(bytes.get(from..to).unwrap_or_default()),
            Self::Large(large) => large.gather(from, to, slices),
        }
    }

    /// Notes that everything before `position` was taken; returns how many messages that completes.
    pub(super) fn advance_to(&mut self, position: usize) -> u64 {
        match self {
            Self::Run(run) => run.advance_to(position),
            Self::Large(large) => u64::from(position == large.wire_len()),
            Self::Own(_) => 0,
        }
    }
}

impl Run {
    /// Drops what is written; the rest is as if no stream had begun on it.
    pub(super) fn rewind(&mut self) {
        self.bytes.drain_front(self.unwritten_start);
        self.frame_start = 0;
        self.unwritten_start = 0;
    }

    pub(super) fn advance_to(&mut self, position: usize) -> u64 {
        let mut completed = 0;
        let bytes = self.bytes.as_slice();
        while self.frame_start < position {
            let frame = bytes.get(self.frame_start..).unwrap_or_default();
            let frame_end = self.frame_start + server_frame_len(frame);
            if frame_end > position {
                break;
            }
            self.frame_start = frame_end;
            completed += 1;
        }
        completed
    }
}

impl Large {
    /// Length in bytes of every frame but the last.
    const FULL_FRAME_BYTES: usize = ServerHeader::len_for(FRAGMENT_BYTES_MAX) + FRAGMENT_BYTES_MAX;

    pub(super) fn new(opcode: Opcode, payload: Payload) -> Self {
        let frames_before_last = (payload.len() - 1) / FRAGMENT_BYTES_MAX;
        let last_bytes = payload.len() - frames_before_last * FRAGMENT_BYTES_MAX;
        let last_opcode = if frames_before_last == 0 { opcode } else { Opcode::Continuation };
        Self {
            payload,
            first: ServerHeader::new(opcode, false, FRAGMENT_BYTES_MAX),
            middle: ServerHeader::new(Opcode::Continuation, false, FRAGMENT_BYTES_MAX),
            last: ServerHeader::new(last_opcode, true, last_bytes),
        }
    }

    fn frames_before_last(&self) -> usize {
        (self.payload.len() - 1) / FRAGMENT_BYTES_MAX
    }

    pub(super) fn wire_len(&self) -> usize {
        let headers = self.frames_before_last() * ServerHeader::len_for(FRAGMENT_BYTES_MAX);
        headers + self.last.as_bytes().len() + self.payload.len()
    }

    pub(super) fn frame_at(&self, position: usize) -> (usize, usize) {
        let start = position / Self::FULL_FRAME_BYTES * Self::FULL_FRAME_BYTES;
        (start, (start + Self::FULL_FRAME_BYTES).min(self.wire_len()))
    }

    pub(super) fn gather<'a>(&'a self, from: usize, to: usize, slices: &mut Slices<'a>) {
        let mut position = from;
        while position < to && !slices.is_full() {
            let (frame_start, frame_end) = self.frame_at(position);
            let index = frame_start / Self::FULL_FRAME_BYTES;
            let header = match index {
                index if index == self.frames_before_last() => &self.last,
                0 => &self.first,
                _ => &self.middle,
            };
            let header = header.as_bytes();
            let payload = self.payload.fragment(index * FRAGMENT_BYTES_MAX);
            let skip = position - frame_start;
            slices.push(header.get(skip..).unwrap_or_default());
            slices.push(payload.get(skip.saturating_sub(header.len())..).unwrap_or_default());
            position = frame_end;
        }
    }
}

/// What one system call is given.
pub(super) struct Slices<'a> {
    parts: [IoSlice<'a>; WRITE_SLICES_MAX],
    len: usize,
    /// No more is added once this is used up; the last slice may exceed it.
    bytes_left: usize,
}

impl<'a> Slices<'a> {
    /// Room for `bytes`, the last slice excepted.
    pub(super) fn within(bytes: usize) -> Self {
        Self { parts: [IoSlice::new(&[]); WRITE_SLICES_MAX], len: 0, bytes_left: bytes }
    }

    pub(super) fn push(&mut self, bytes: &'a [u8]) {
        if bytes.is_empty() || self.is_full() {
            return;
        }
        if let Some(slice) = self.parts.get_mut(self.len) {
            *slice = IoSlice::new(bytes);
            self.len += 1;
            self.bytes_left = self.bytes_left.saturating_sub(bytes.len());
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len == WRITE_SLICES_MAX || self.bytes_left == 0
    }

    pub(super) fn as_slice(&self) -> &[IoSlice<'a>] {
        self.parts.get(..self.len).unwrap_or_default()
    }
}
