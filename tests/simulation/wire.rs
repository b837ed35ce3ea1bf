//! The two directions of one connection, with everything that a network and a kernel may do to them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;

use crate::journal::{Event, note};
use crate::random::Random;
use apptuner_relay::relay::{Readiness, Tick};
use stream::Wire as Link;

#[path = "../../src/relay/tests/stream.rs"]
mod stream;

/// How often a wire does what a loaded kernel may do at any time, per mille of calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Only a part of the available bytes, or of the available room.
    pub short: u32,
    /// `WouldBlock` although there are bytes, or room.
    pub blocked: u32,
    /// A signal interrupts the call.
    pub interrupted: u32,
}

#[derive(Debug)]
pub struct Wire {
    index: usize,
    faults: Faults,
    random: Random,
    /// The link without these faults.
    pub link: Link,
    /// When the unread bytes arrived, piece by piece.
    arrivals: VecDeque<(Tick, usize)>,
    /// A read found nothing, or not all, although there was more: the relay has not been told of the rest.
    has_just_come: bool,
}

impl Wire {
    /// The kernel takes `capacity` bytes for the client.
    pub fn new(index: usize, faults: Faults, random: Random, capacity: usize) -> Self {
        let mut link = Link::with_room(capacity);
        // A new socket can be written to, and an event reports it.
        link.news.is_writable = true;
        Self { index, faults, random, link, arrivals: VecDeque::new(), has_just_come: false }
    }

    pub fn arrive(&mut self, bytes: &[u8], now: Tick) {
        self.link.send(bytes);
        self.arrivals.push_back((now, bytes.len()));
    }

    pub fn reset(&mut self) {
        self.link.reset();
        self.link.to_relay.clear();
        self.arrivals.clear();
        self.link.news = Readiness { is_failed: true, is_read_closed: true, ..Readiness::READABLE };
    }

    /// The client takes at most `bytes` of what the relay wrote.
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let taken = self.link.take_received(bytes);
        self.link.set_room(self.link.room + taken.len());
        taken
    }

    pub fn has_waiting(&self) -> bool {
        !self.link.received().is_empty()
    }

    pub const fn has_room(&self) -> bool {
        self.link.room > 0
    }

    pub fn unread(&self) -> usize {
        self.link.to_relay.len()
    }

    /// Since when there have been bytes that the relay could have read.
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

    /// Takes the readiness that must be reported. `None` if there is none.
    pub fn take_readiness(&mut self) -> Option<Readiness> {
        self.has_just_come = false;
        let readiness = std::mem::take(&mut self.link.news);
        (readiness != Readiness::default()).then_some(readiness)
    }

    pub fn is_readiness_pending(&self) -> bool {
        self.link.news != Readiness::default()
    }

    /// How many of `bytes` one call moves, if the kernel limits it.
    fn step(&mut self, bytes: usize) -> Option<usize> {
        if self.random.per_mille(self.faults.blocked) {
            return Some(0);
        }
        self.random.per_mille(self.faults.short).then(|| 1 + self.random.below(bytes))
    }
}

/// The relay's end of a wire.
#[derive(Clone, Debug)]
pub struct Stream(pub Rc<RefCell<Wire>>);

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        if wire.random.per_mille(wire.faults.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if !wire.link.is_reset && !wire.link.to_relay.is_empty() {
            let step = wire.step(asked.min(wire.link.to_relay.len()));
            wire.link.read_steps.extend(step);
        }
        let result = wire.link.read_vectored(buffers);
        let moved = result.as_ref().copied().unwrap_or(0);
        // A read that does not fill the buffer has emptied the socket. Bytes that are left have only just arrived.
        wire.has_just_come |= moved < asked && !wire.link.to_relay.is_empty();
        wire.note_read(moved);
        note(match &result {
            Ok(0) => Event::ReadEnded { wire: wire.index },
            Ok(bytes) => Event::Read { wire: wire.index, bytes: *bytes, is_full: *bytes == asked },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Event::ReadBlocked { wire: wire.index }
            }
            Err(_) => Event::ReadFailed { wire: wire.index },
        });
        result
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        assert!(!wire.link.is_relay_done, "wire {} is written to after the end of the stream", wire.index);
        if wire.random.per_mille(wire.faults.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let is_broken = wire.link.is_reset || wire.link.is_write_broken;
        if !is_broken && wire.has_room() {
            let given: usize = slices.iter().map(|slice| slice.len()).sum();
            let step = wire.step(given.min(wire.link.room));
            wire.link.write_steps.extend(step);
        }
        let result = wire.link.write_vectored(slices);
        note(match &result {
            Ok(count) => {
                let received = wire.link.received();
                Event::Wrote { wire: wire.index, bytes: received[received.len() - count..].to_vec() }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Event::WriteBlocked { wire: wire.index }
            }
            Err(_) => Event::WriteFailed { wire: wire.index },
        });
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
