//! Frames that overtake the queue.

use std::collections::VecDeque;

use super::{Pool, append_kept, compact};
use crate::relay::limits::{RUN_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};

/// Whole frames, the first of which may be under way, in runs of at most [`RUN_BYTES_MAX`] or one call's frames:
/// in one piece they would stand twice in memory whenever it grows.
#[derive(Debug, Default)]
pub(super) struct Lane {
    runs: VecDeque<Vec<u8>>,
    /// Bytes of the first run that the socket has taken.
    front_taken: usize,
    /// Bytes that it has not taken.
    len: usize,
    /// Bytes of memory.
    capacity: usize,
}

impl Lane {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the socket has not taken.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory.
    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// What the socket has not taken, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.front_taken;
        self.runs.iter().map(move |run| run.get(std::mem::take(&mut skip)..).unwrap_or_default())
    }

    /// Adds frames. What a blocked client leaves waiting may wait long, and so may what is more than a few: it
    /// takes no spare buffer, however large.
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

    /// Forgets what the socket took of at most `taken` bytes; returns how many of them these were.
    pub(super) fn advance(&mut self, taken: usize, pool: &mut Pool) -> usize {
        let taken = taken.min(self.len);
        self.len -= taken;
        self.front_taken += taken;
        while self.runs.front().is_some_and(|run| run.len() <= self.front_taken) {
            let Some(run) = self.runs.pop_front() else { break };
            self.front_taken -= run.len();
            self.capacity -= run.capacity();
            pool.give_buffer(run);
        }
        taken
    }

    /// Moves what waits into memory that it little more than fills.
    pub(super) fn compact(&mut self, pool: &mut Pool) {
        for run in &mut self.runs {
            self.capacity -= run.capacity();
            compact(run, pool);
            self.capacity += run.capacity();
        }
    }
}
