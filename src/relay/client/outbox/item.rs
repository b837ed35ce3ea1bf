//! The items in the queue of an outbox, and the slices that a vectored write is given.

use std::io::IoSlice;

use crate::relay::limits::WRITE_SLICES_MAX;
use crate::relay::transit::{Cursor, Transits};
use crate::relay::wire::frame::server_frame_len;

/// One item of the queue.
#[derive(Debug)]
pub(super) enum Item {
    /// Small messages.
    Run(Run),
    /// A message in transit.
    InTransit(Cursor),
    /// One frame of the relay itself: a notice about the peer, or the close frame.
    RelayFrame(RelayFrame),
}

/// Small application messages in one buffer, a whole frame each.
///
/// `kept_start` ≤ `unwritten_start` ≤ `frame_start` ≤ `taken` ≤ length of `bytes`.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) bytes: Vec<u8>,
    /// Where the first frame begins that is kept nowhere else. Without confirmations, that is `unwritten_start`.
    pub(super) kept_start: usize,
    /// How many frames begin at `kept_start` or after it.
    pub(super) messages: u64,
    /// It waits for a client that has come back, and is charged as such.
    pub(super) is_returned: bool,
    /// Bytes that the stream has taken.
    pub(super) taken: usize,
    /// Where the first frame begins that the stream has not completely taken.
    pub(super) frame_start: usize,
    /// Where the first frame begins that the stream has not flushed.
    pub(super) unwritten_start: usize,
    /// How many frames there are between `unwritten_start` and `frame_start`.
    pub(super) unflushed_messages: u64,
}

/// One frame of the relay itself.
#[derive(Debug)]
pub(super) struct RelayFrame {
    pub(super) bytes: Vec<u8>,
    /// Bytes that the stream has taken.
    pub(super) taken: usize,
}

impl Item {
    /// Bytes that can be written now. Of a message in transit, this is what is left of the planned fragment.
    pub(super) fn writable_bytes(&self) -> usize {
        match self {
            Self::Run(run) => run.bytes.len() - run.taken,
            Self::InTransit(cursor) => cursor.planned_bytes(),
            Self::RelayFrame(frame) => frame.bytes.len() - frame.taken,
        }
    }

    /// Whether the item ends with what [can be written](Self::writable_bytes), so that the next item may follow.
    pub(super) fn is_ending(&self) -> bool {
        match self {
            Self::Run(_) | Self::RelayFrame(_) => true,
            Self::InTransit(cursor) => cursor.is_ending(),
        }
    }

    /// Bytes left of the frame of which the stream has taken a part; 0 if there is none.
    pub(super) fn begun_bytes(&self) -> usize {
        match self {
            Self::Run(run) if run.taken > run.frame_start => {
                let frame = run.bytes.get(run.frame_start..).unwrap_or_default();
                run.frame_start + server_frame_len(frame) - run.taken
            }
            Self::RelayFrame(frame) if frame.taken > 0 => frame.bytes.len() - frame.taken,
            Self::Run(_) | Self::RelayFrame(_) => 0,
            Self::InTransit(cursor) => cursor.begun_bytes(),
        }
    }

    /// Memory in bytes, without that of a message in transit or for a client that has come back.
    pub(super) fn small_bytes(&self) -> usize {
        match self {
            Self::Run(run) if !run.is_returned => run.bytes.capacity(),
            Self::RelayFrame(frame) => frame.bytes.capacity(),
            Self::Run(_) | Self::InTransit(_) => 0,
        }
    }

    /// Adds what can be written to `slices`, without the first `skip` bytes, and at most `bytes_max` bytes.
    pub(super) fn gather<'a>(
        &'a self,
        transits: &'a Transits,
        skip: usize,
        bytes_max: usize,
        slices: &mut Slices<'a>,
    ) {
        let part = |bytes: &'a [u8], taken: usize| {
            let bytes = bytes.get(taken + skip..).unwrap_or_default();
            bytes.get(..bytes_max).unwrap_or(bytes)
        };
        match self {
            Self::Run(run) => slices.push(part(&run.bytes, run.taken)),
            Self::RelayFrame(frame) => slices.push(part(&frame.bytes, frame.taken)),
            Self::InTransit(cursor) => {
                // A fragment is a header and parts of several chunks, each in a slice of its own.
                let mut left = bytes_max;
                cursor.gather(transits.get(cursor.key()), skip, |bytes| {
                    let bytes = bytes.get(..left).unwrap_or(bytes);
                    left -= bytes.len();
                    slices.push(bytes);
                    left == 0 || slices.is_full()
                });
            }
        }
    }
}

impl Run {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            kept_start: 0,
            messages: 0,
            is_returned: false,
            taken: 0,
            frame_start: 0,
            unwritten_start: 0,
            unflushed_messages: 0,
        }
    }

    /// Messages that were kept, from `start` on.
    pub(super) const fn of_kept(bytes: Vec<u8>, start: usize, messages: u64, is_returned: bool) -> Self {
        let (kept_start, taken, frame_start, unwritten_start) = (start, start, start, start);
        Self {
            bytes,
            kept_start,
            messages,
            is_returned,
            taken,
            frame_start,
            unwritten_start,
            unflushed_messages: 0,
        }
    }

    /// Moves on by `taken` bytes. Returns how many messages are completely taken with them.
    pub(super) fn advance(&mut self, taken: usize) -> u64 {
        self.taken += taken;
        let mut completed = 0;
        while self.frame_start < self.taken {
            let frame = self.bytes.get(self.frame_start..).unwrap_or_default();
            let frame_end = self.frame_start + server_frame_len(frame);
            // A frame of which only a part is taken counts later, when its last byte is.
            if frame_end > self.taken {
                break;
            }
            self.frame_start = frame_end;
            completed += 1;
        }
        self.unflushed_messages += completed;
        completed
    }

    /// Records that the stream has flushed what it took. Returns how many messages are written with that, and their
    /// bytes.
    pub(super) const fn note_flushed(&mut self) -> (u64, usize) {
        let bytes = self.frame_start - self.unwritten_start;
        self.unwritten_start = self.frame_start;
        (std::mem::replace(&mut self.unflushed_messages, 0), bytes)
    }

    /// Moves `kept_start` behind the messages that the stream has flushed. Returns their frames, and how many they are.
    pub(super) fn pass_flushed(&mut self) -> (&[u8], u64) {
        let flushed = self.kept_start..self.unwritten_start;
        self.kept_start = self.unwritten_start;
        let frames = self.bytes.get(flushed).unwrap_or_default();
        let (mut at, mut messages) = (0, 0);
        while let Some(frame) = frames.get(at..).filter(|frame| !frame.is_empty()) {
            at += server_frame_len(frame);
            messages += 1;
        }
        self.messages -= messages;
        (frames, messages)
    }

    /// Ends the charge for a client that has come back. Returns the buffer.
    pub(super) fn into_bytes(self, transits: &mut Transits) -> Vec<u8> {
        if self.is_returned {
            transits.memory.charge_returned(self.bytes.capacity(), 0);
        }
        self.bytes
    }
}

/// The slices for one vectored write.
pub(super) struct Slices<'a> {
    parts: [IoSlice<'a>; WRITE_SLICES_MAX],
    len: usize,
    /// Once this is 0, nothing more is added. The last slice may exceed it.
    bytes_left: usize,
}

impl<'a> Slices<'a> {
    /// Takes slices until they have `bytes` bytes; the last one may exceed that.
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
