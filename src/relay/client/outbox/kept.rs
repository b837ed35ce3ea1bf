//! One item of what is kept for a client that is away, or that has not confirmed it.

use super::{Pool, append_kept, compact};
use crate::relay::limits::RUN_BYTES_MAX;
use crate::relay::transit::{Keeper, Transits};
use crate::relay::wire::frame::server_frame_len;

/// One item: many small messages, or one message in transit. Its memory is charged as cached.
#[derive(Debug)]
pub(super) enum KeptItem {
    /// Small messages.
    Run(KeptRun),
    /// A message in transit.
    Message(Keeper),
}

/// Small messages in one buffer, a whole frame each.
#[derive(Debug)]
pub(super) struct KeptRun {
    bytes: Vec<u8>,
    /// Where the first message that is still kept begins.
    start: usize,
    /// How many messages are still kept.
    messages: u64,
}

impl KeptRun {
    /// Takes over a buffer with this many messages from `start` on.
    pub(super) fn new(bytes: Vec<u8>, start: usize, messages: u64, pool: &mut Pool) -> Self {
        let mut run = Self { bytes, start, messages };
        // It may stay for long. Buffers of the pool are often much larger than their content.
        if run.bytes.capacity() > 2 * (run.bytes.len() - run.start) {
            run.bytes.drain(..std::mem::take(&mut run.start));
            compact(&mut run.bytes, pool);
        }
        pool.transits.memory.charge_cached(0, run.bytes.capacity());
        run
    }

    /// Whether so many more bytes belong into the same buffer.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= RUN_BYTES_MAX
    }

    /// Adds whole frames.
    pub(super) fn append(&mut self, parts: &[&[u8]], messages: u64, transits: &mut Transits) {
        let before = self.bytes.capacity();
        for part in parts {
            append_kept(&mut self.bytes, part);
        }
        self.messages += messages;
        transits.memory.charge_cached(before, self.bytes.capacity());
    }

    /// Removes the first `count` messages; there are more. Returns their bytes.
    fn drop_front(&mut self, count: u64) -> usize {
        debug_assert!(count < self.messages, "something is left");
        let start = self.start;
        for _ in 0..count {
            self.start += server_frame_len(self.bytes.get(self.start..).unwrap_or_default());
        }
        self.messages -= count;
        self.start - start
    }

    pub(super) const fn messages(&self) -> u64 {
        self.messages
    }

    /// The buffer, and where its first message begins. It is no longer charged.
    pub(super) fn into_bytes(self, transits: &mut Transits) -> (Vec<u8>, usize) {
        transits.memory.charge_cached(self.bytes.capacity(), 0);
        (self.bytes, self.start)
    }
}

impl KeptItem {
    /// A run with a copy of whole frames.
    pub(super) fn copy_of(parts: &[&[u8]], messages: u64, transits: &mut Transits) -> Self {
        let mut run = KeptRun { bytes: Vec::new(), start: 0, messages: 0 };
        run.append(parts, messages, transits);
        Self::Run(run)
    }

    /// How many messages it has.
    pub(super) const fn messages(&self) -> u64 {
        match self {
            Self::Run(run) => run.messages,
            Self::Message(_) => 1,
        }
    }

    /// Its bytes, as a [backlog](super::Backlog) counts them.
    pub(super) fn bytes(&self, transits: &Transits) -> usize {
        match self {
            Self::Run(run) => run.bytes.len() - run.start,
            Self::Message(keeper) => noted_bytes(keeper, transits),
        }
    }

    /// Removes the first `count` messages; there are more. Returns their bytes.
    pub(super) fn drop_front(&mut self, count: u64) -> usize {
        match self {
            Self::Run(run) => run.drop_front(count),
            Self::Message(_) => 0,
        }
    }

    /// Frees its memory.
    pub(super) fn discard(self, pool: &mut Pool) {
        match self {
            Self::Run(run) => {
                let (bytes, _) = run.into_bytes(&mut pool.transits);
                pool.give_buffer(bytes);
            }
            Self::Message(keeper) => pool.transits.drop_keeper(keeper),
        }
    }
}

/// The bytes of a message in transit that are counted as accepted.
pub(super) fn noted_bytes(keeper: &Keeper, transits: &Transits) -> usize {
    usize::try_from(transits.get(keeper.key()).noted_bytes()).unwrap_or(usize::MAX)
}

/// The keepers among some items, and the memory of their small messages in bytes, for the check of invariants.
#[cfg(any(test, debug_assertions))]
pub(super) fn memory_of(items: &std::collections::VecDeque<KeptItem>) -> (Vec<&Keeper>, usize) {
    let mut small_bytes = 0;
    let keepers = items.iter().filter_map(|item| match item {
        KeptItem::Message(keeper) => Some(keeper),
        KeptItem::Run(run) => {
            small_bytes += run.bytes.capacity();
            None
        }
    });
    (keepers.collect(), small_bytes)
}
