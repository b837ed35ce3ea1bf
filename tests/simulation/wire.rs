//! One connection's two directions, with everything a network and a kernel may do to them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;

use apptuner_relay::relay::Readiness;
use apptuner_relay::relay::Tick;
use bytes::BytesMut;

use crate::journal::{Event, note};
use crate::random::Random;

/// How often, in a thousand calls, a wire does what a loaded kernel may do at any time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Only part of what is there, or of what there is room for.
    pub short: u32,
    /// `WouldBlock` although there is something, or room.
    pub blocked: u32,
    /// A signal came.
    pub interrupted: u32,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a wire")]
pub struct Wire {
    index: usize,
    faults: Faults,
    random: Random,
    /// What has arrived and the relay has not read.
    to_relay: VecDeque<u8>,
    /// When that arrived, piece by piece.
    arrivals: VecDeque<(Tick, usize)>,
    /// A read that found nothing, or not all, stands for what has come since: the relay has not been told of it.
    has_just_come: bool,
    /// The client's end of the stream has arrived behind it.
    pub is_client_done: bool,
    pub is_reset: bool,
    /// Writes fail; what has arrived can still be read.
    pub is_write_broken: bool,
    /// What the relay wrote and the client has not taken.
    from_relay: BytesMut,
    /// Bytes that the kernel takes for the client.
    pub capacity: usize,
    /// The relay has been refused since there last was room: it is owed an event.
    is_refused: bool,
    pub is_relay_done: bool,
    /// Readiness that the relay has not been told.
    pending: Readiness,
}

impl Wire {
    pub fn new(index: usize, faults: Faults, random: Random, capacity: usize) -> Self {
        Self {
            index,
            faults,
            random,
            to_relay: VecDeque::new(),
            arrivals: VecDeque::new(),
            has_just_come: false,
            is_client_done: false,
            is_reset: false,
            is_write_broken: false,
            from_relay: BytesMut::new(),
            capacity,
            is_refused: false,
            is_relay_done: false,
            // A socket just registered can be written to, and says so.
            pending: Readiness { is_writable: true, ..Readiness::default() },
        }
    }

    pub fn arrive(&mut self, bytes: &[u8], now: Tick) {
        self.to_relay.extend(bytes);
        self.arrivals.push_back((now, bytes.len()));
        self.pending.is_readable = true;
    }

    pub const fn end_input(&mut self) {
        self.is_client_done = true;
        self.pending.is_readable = true;
        self.pending.is_read_closed = true;
    }

    pub fn reset(&mut self) {
        self.is_reset = true;
        self.to_relay.clear();
        self.arrivals.clear();
        self.pending = Readiness { is_failed: true, is_read_closed: true, ..Readiness::READABLE };
    }

    pub const fn break_writes(&mut self) {
        self.is_write_broken = true;
    }

    /// The client takes at most `bytes` of what the relay wrote.
    pub fn take(&mut self, bytes: usize) -> BytesMut {
        let taken = self.from_relay.split_to(bytes.min(self.from_relay.len()));
        self.offer_room();
        taken
    }

    fn offer_room(&mut self) {
        if self.is_refused && self.has_room() {
            self.is_refused = false;
            self.pending.is_writable = true;
        }
    }

    pub fn has_room(&self) -> bool {
        self.from_relay.len() < self.capacity
    }

    pub fn has_waiting(&self) -> bool {
        !self.from_relay.is_empty()
    }

    pub fn unread(&self) -> usize {
        self.to_relay.len()
    }

    /// Since when there has been something that the relay could have read.
    pub fn unread_since(&self) -> Option<Tick> {
        self.arrivals.front().filter(|_| !self.has_just_come).map(|&(at, _)| at)
    }

    fn note_read(&mut self, mut bytes: usize) {
        while let Some((_, arrived)) = self.arrivals.front_mut()
            && bytes > 0
        {
            let count = bytes.min(*arrived);
            *arrived -= count;
            bytes -= count;
            if *arrived == 0 {
                self.arrivals.pop_front();
            }
        }
    }

    /// Takes the readiness that is due; `None` if there is none.
    pub fn take_readiness(&mut self) -> Option<Readiness> {
        self.has_just_come = false;
        let readiness = std::mem::take(&mut self.pending);
        (readiness != Readiness::default()).then_some(readiness)
    }

    pub fn is_readiness_pending(&self) -> bool {
        self.pending != Readiness::default()
    }
}

/// The relay's end of a wire.
#[derive(Clone, Debug)]
pub struct Stream(pub Rc<RefCell<Wire>>);

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        if wire.random.per_mille(wire.faults.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if wire.is_reset {
            note(Event::ReadFailed { wire: wire.index });
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if wire.to_relay.is_empty() && wire.is_client_done {
            note(Event::ReadEnded { wire: wire.index });
            return Ok(0);
        }
        let is_spurious = !wire.to_relay.is_empty() && wire.random.per_mille(wire.faults.blocked);
        if wire.to_relay.is_empty() || is_spurious {
            wire.pending.is_readable |= is_spurious;
            wire.has_just_come |= is_spurious;
            note(Event::ReadBlocked { wire: wire.index });
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = buffer.len().min(wire.to_relay.len());
        if wire.random.per_mille(wire.faults.short) {
            count = 1 + wire.random.below(count);
        }
        // A read that does not fill the buffer empties the socket; what is left has only just come.
        let has_just_come = count < buffer.len() && count < wire.to_relay.len();
        wire.pending.is_readable |= has_just_come;
        wire.has_just_come |= has_just_come;
        wire.to_relay.read_exact(&mut buffer[..count])?;
        wire.note_read(count);
        note(Event::Read { wire: wire.index, bytes: count, is_full: count == buffer.len() });
        Ok(count)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut bytes = vec![0; buffers.iter().map(|buffer| buffer.len()).sum()];
        let count = self.read(&mut bytes)?;
        let mut rest = &bytes[..count];
        for buffer in buffers {
            let (filled, behind) = rest.split_at(rest.len().min(buffer.len()));
            buffer[..filled.len()].copy_from_slice(filled);
            rest = behind;
        }
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        assert!(!wire.is_relay_done, "wire {} is written to after the end of the stream", wire.index);
        if wire.random.per_mille(wire.faults.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if wire.is_reset || wire.is_write_broken {
            note(Event::WriteFailed { wire: wire.index });
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let is_spurious = wire.has_room() && wire.random.per_mille(wire.faults.blocked);
        if !wire.has_room() || is_spurious {
            wire.is_refused = true;
            if is_spurious {
                wire.offer_room();
            }
            note(Event::WriteBlocked { wire: wire.index });
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = bytes.len().min(wire.capacity - wire.from_relay.len());
        if wire.random.per_mille(wire.faults.short) {
            count = 1 + wire.random.below(count);
        }
        wire.from_relay.extend_from_slice(&bytes[..count]);
        note(Event::Wrote { wire: wire.index, bytes: bytes[..count].to_vec() });
        Ok(count)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices: Vec<&[u8]> = buffers.iter().map(|buffer| &**buffer).collect();
        self.write(&slices.concat())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
