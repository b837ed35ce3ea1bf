//! A lane: frames that overtake the queue.

use std::collections::VecDeque;

use super::{Pool, append_kept, compact};
use crate::relay::limits::{RUN_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};

/// Whole frames, except that the stream may have taken a part of the first one.
///
/// They are in several runs. Each has at most [`RUN_BYTES_MAX`] bytes, unless the frames of one call are longer. A
/// single buffer would be copied as a whole each time it grows, and need twice its memory meanwhile.
#[derive(Debug, Default)]
pub(super) struct Lane {
    runs: VecDeque<Vec<u8>>,
    /// Bytes of the first run that the stream has taken.
    front_taken: usize,
    /// Bytes that the stream has not taken.
    len: usize,
    /// Memory of all runs in bytes.
    capacity: usize,
}

impl Lane {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the stream has not taken.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Memory in bytes.
    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// What the stream has not taken, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        // Applies to the first run only.
        let mut skip = self.front_taken;
        self.runs.iter().map(move |run| run.get(std::mem::take(&mut skip)..).unwrap_or_default())
    }

    /// Adds frames.
    ///
    /// If the client is blocked or many frames wait already, these may wait for long. They are then copied into tightly
    /// sized memory, and do not hold one of the pool's large buffers.
    pub(super) fn append(
        &mut self,
        pool: &mut Pool,
        is_blocked: bool,
        write_frames: impl FnOnce(&mut Vec<u8>),
    ) {
        let may_stay = is_blocked || self.len > SMALL_MESSAGE_BYTES_MAX;
        if self.runs.is_empty() && !may_stay {
            let buffer = pool.take_buffer();
            self.capacity += buffer.capacity();
            self.runs.push_back(buffer);
        }
        if let Some(run) = self.runs.back_mut().filter(|_| !may_stay) {
            let (len, capacity) = (run.len(), run.capacity());
            write_frames(run);
            self.len += run.len() - len;
            self.capacity += run.capacity() - capacity;
        } else {
            // Written to a spare buffer first: only then is the length known to size the memory.
            let mut frames = pool.take_buffer();
            write_frames(&mut frames);
            self.append_kept(&frames);
            pool.give_buffer(frames);
        }
    }

    /// Adds bytes that may stay for long.
    pub(super) fn append_kept(&mut self, bytes: &[u8]) {
        let fits = |run: &Vec<u8>| run.len() + bytes.len() <= RUN_BYTES_MAX;
        if !self.runs.back().is_some_and(fits) {
            self.runs.push_back(Vec::new());
        }
        if let Some(run) = self.runs.back_mut() {
            let capacity = run.capacity();
            append_kept(run, bytes);
            self.len += bytes.len();
            self.capacity += run.capacity() - capacity;
        }
    }

    /// Removes the first `taken` bytes, or all if there are fewer. Returns how many were removed.
    pub(super) fn advance(&mut self, taken: usize, pool: &mut Pool) -> usize {
        let taken = taken.min(self.len);
        self.len -= taken;
        self.front_taken += taken;
        while self.runs.front().is_some_and(|run| run.len() <= self.front_taken) {
            let Some(run) = self.runs.pop_front() else {
                debug_assert!(false, "the first run was found above");
                break;
            };
            self.front_taken -= run.len();
            self.capacity -= run.capacity();
            pool.give_buffer(run);
        }
        taken
    }

    /// Moves what waits into memory of its size.
    pub(super) fn compact(&mut self, pool: &mut Pool) {
        for run in &mut self.runs {
            self.capacity -= run.capacity();
            compact(run, pool);
            self.capacity += run.capacity();
        }
    }
}
