//! Both directions of one connection, in memory. Unit tests, `tests/`, the fuzz targets and a benchmark share it.
//!
//! The module that declares this one imports `Readiness`, whose path differs inside and outside the crate.
#![allow(dead_code, reason = "each of those who share it uses a part of it")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;

use super::Readiness;

/// What lies between the relay and one client. It is read and written from the relay's end.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a wire")]
pub(crate) struct Wire {
    /// Sent by the client, and not yet read by the relay.
    pub(crate) to_relay: VecDeque<u8>,
    /// Written by the relay. The client has taken the first `taken_bytes` of them.
    pub(crate) from_relay: Vec<u8>,
    pub(crate) taken_bytes: usize,
    /// How often the relay has read.
    pub(crate) reads: usize,
    /// Bytes that the client's side still takes.
    pub(crate) room: usize,
    /// Most bytes that one call moves.
    pub(crate) step_max: usize,
    /// The same for each of the next reads and writes; 0 is a call that would block.
    pub(crate) read_steps: VecDeque<usize>,
    pub(crate) write_steps: VecDeque<usize>,
    /// The steps of reads begin again after the last one.
    pub(crate) are_read_steps_repeated: bool,
    /// If it is there, the stream takes whatever one write gives, without room for it, and nothing more until a
    /// flush has handed that on. A stream that encrypts does so.
    pub(crate) kept: Option<Vec<u8>>,
    /// A flush would block. With `is_never_flushed`, so it is after each write.
    pub(crate) is_unflushed: bool,
    pub(crate) is_never_flushed: bool,
    /// A signal interrupts the next read, or the next write.
    pub(crate) is_read_interrupted: bool,
    pub(crate) is_write_interrupted: bool,
    /// The client has ended its side of the stream.
    pub(crate) is_client_done: bool,
    /// The relay has ended its side.
    pub(crate) is_relay_done: bool,
    /// Reads and writes fail.
    pub(crate) is_reset: bool,
    /// Writes fail; what has arrived can still be read.
    pub(crate) is_write_broken: bool,
    /// What the relay has not been told yet.
    pub(crate) news: Readiness,
    /// A write was refused since there last was room: the relay must be told when there is some again.
    pub(crate) is_refused: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            to_relay: VecDeque::new(),
            from_relay: Vec::new(),
            taken_bytes: 0,
            reads: 0,
            room: usize::MAX,
            step_max: usize::MAX,
            read_steps: VecDeque::new(),
            write_steps: VecDeque::new(),
            are_read_steps_repeated: false,
            kept: None,
            is_unflushed: false,
            is_never_flushed: false,
            is_read_interrupted: false,
            is_write_interrupted: false,
            is_client_done: false,
            is_relay_done: false,
            is_reset: false,
            is_write_broken: false,
            news: Readiness::default(),
            is_refused: false,
        }
    }
}

impl Wire {
    /// A wire on which the client has sent these bytes.
    pub(crate) fn sending(bytes: &[u8]) -> Self {
        Self { to_relay: bytes.iter().copied().collect(), ..Self::default() }
    }

    /// A wire whose client takes so many bytes.
    pub(crate) fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// The client sends bytes, unless it has ended its stream.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if !self.is_client_done {
            self.to_relay.extend(bytes);
            self.news.is_readable = true;
        }
    }

    /// The client ends its stream.
    pub(crate) fn end(&mut self) {
        self.is_client_done = true;
        self.news.is_readable = true;
        self.news.is_read_closed = true;
    }

    /// The stream fails.
    pub(crate) fn reset(&mut self) {
        self.is_reset = true;
        self.news.is_readable = true;
        self.news.is_failed = true;
    }

    /// The client's side takes `room` bytes more.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.room = room;
        if room > 0 && self.is_refused {
            self.is_refused = false;
            self.news.is_writable = true;
        }
    }

    /// What the relay wrote and the client has not taken.
    pub(crate) fn received(&self) -> &[u8] {
        self.from_relay.get(self.taken_bytes..).unwrap_or_default()
    }

    /// The client takes at most `bytes` of that.
    pub(crate) fn take_received(&mut self, bytes: usize) -> Vec<u8> {
        let taken = self.received().get(..bytes).unwrap_or(self.received()).to_vec();
        self.taken_bytes += taken.len();
        // Rarely, so that a client that takes a little of much does not move the rest each time.
        if self.taken_bytes > self.from_relay.len() / 2 {
            self.from_relay.drain(..self.taken_bytes);
            self.taken_bytes = 0;
        }
        taken
    }

    /// The client takes all of it.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        self.take_received(usize::MAX)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reads += 1;
        if std::mem::take(&mut self.is_read_interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let step = self.read_steps.pop_front();
        if self.are_read_steps_repeated {
            self.read_steps.extend(step);
        }
        let step = step.unwrap_or(self.step_max);
        let has_something = !self.to_relay.is_empty() || self.is_client_done;
        if step == 0 || !has_something {
            self.news.is_readable |= has_something;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let count = step.min(asked).min(self.to_relay.len());
        let mut left = count;
        for buffer in buffers {
            let here = left.min(buffer.len());
            let (place, _) = buffer.split_at_mut(here);
            self.to_relay.read_exact(place)?;
            left -= here;
        }
        // A short read says that nothing is left: if something is, that is news.
        self.news.is_readable |= count < asked && !self.to_relay.is_empty();
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(!self.is_relay_done, "written to after the end of the stream");
        assert!(slices.iter().any(|slice| !slice.is_empty()), "an empty write says nothing");
        if std::mem::take(&mut self.is_write_interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.is_write_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.is_empty()) {
            for slice in slices {
                kept.extend_from_slice(slice);
            }
            return Ok(kept.len());
        }
        let most = self.write_steps.pop_front().unwrap_or(self.step_max).min(self.room);
        if most == 0 || self.kept.is_some() {
            // Who is refused although there is room is told of that room.
            self.is_refused = true;
            self.set_room(self.room);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut left = most;
        for slice in slices {
            let part = slice.get(..left).unwrap_or(slice);
            self.from_relay.extend_from_slice(part);
            left -= part.len();
        }
        self.room -= most - left;
        self.is_unflushed = self.is_never_flushed;
        Ok(most - left)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(kept) = &mut self.kept {
            let count = kept.len().min(self.room);
            self.room -= count;
            self.from_relay.extend(kept.drain(..count));
        }
        let is_kept = self.kept.as_ref().is_some_and(|kept| !kept.is_empty());
        if is_kept || self.is_unflushed { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

/// The relay's end of a wire. Its clones are the same wire, so that a test keeps the client's end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream(pub(crate) Rc<RefCell<Wire>>);

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.borrow_mut().read_vectored(buffers)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.borrow_mut().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}
