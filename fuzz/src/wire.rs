//! Both directions of one connection, in memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

use apptuner_relay::relay::Readiness;

/// What lies between the relay and one client.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a wire")]
pub struct Wire {
    /// Sent by the client and not yet read.
    pub to_relay: VecDeque<u8>,
    /// Written by the relay, from the beginning.
    pub from_relay: Vec<u8>,
    /// Bytes that the client's side still takes.
    pub room: usize,
    /// The most that each of the next reads gives; none is a read that blocks.
    pub read_steps: VecDeque<usize>,
    /// The client has ended its stream.
    pub is_client_done: bool,
    /// Reads and writes fail.
    pub is_reset: bool,
    /// The next read and the next write are interrupted by a signal.
    pub is_read_interrupted: bool,
    pub is_write_interrupted: bool,
    /// The relay has asked for the end of its side of the stream.
    pub is_relay_done: bool,
    /// What the relay has not been told yet.
    pub news: Readiness,
    /// A write was refused since the last room was made.
    is_blocked: bool,
}

impl Wire {
    pub fn new() -> Self {
        Self {
            to_relay: VecDeque::new(),
            from_relay: Vec::new(),
            room: usize::MAX,
            read_steps: VecDeque::new(),
            is_client_done: false,
            is_reset: false,
            is_read_interrupted: false,
            is_write_interrupted: false,
            is_relay_done: false,
            news: Readiness::default(),
            is_blocked: false,
        }
    }

    /// The client sends bytes, unless it has ended its stream.
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.is_client_done {
            self.to_relay.extend(bytes);
            self.news.is_readable = true;
        }
    }

    /// The client ends its stream.
    pub fn end(&mut self) {
        self.is_client_done = true;
        self.news.is_readable = true;
        self.news.is_read_closed = true;
    }

    /// The stream fails.
    pub fn reset(&mut self) {
        self.is_reset = true;
        self.news.is_readable = true;
        self.news.is_failed = true;
    }

    /// The client's side takes `room` bytes more.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
        if room > 0 && self.is_blocked {
            self.is_blocked = false;
            self.news.is_writable = true;
        }
    }
}

/// The relay's end of a wire.
#[derive(Clone, Debug)]
pub struct Stream(pub Rc<RefCell<Wire>>);

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if std::mem::take(&mut wire.is_read_interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if wire.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let step = wire.read_steps.pop_front().unwrap_or(usize::MAX);
        let is_empty = wire.to_relay.is_empty();
        if step == 0 || (is_empty && !wire.is_client_done) {
            wire.news.is_readable |= !is_empty || wire.is_client_done;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = step.min(buffer.len()).min(wire.to_relay.len());
        wire.to_relay.make_contiguous();
        wire.to_relay.read_exact(&mut buffer[..count])?;
        // A short read says that nothing is left: if something is, that is news.
        wire.news.is_readable |= count < buffer.len() && !wire.to_relay.is_empty();
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.is_relay_done, "written to after the end of the stream");
        assert!(!bytes.is_empty(), "an empty write says nothing");
        if std::mem::take(&mut wire.is_write_interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if wire.is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if wire.room == 0 {
            wire.is_blocked = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(wire.room);
        wire.room -= count;
        wire.from_relay.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
