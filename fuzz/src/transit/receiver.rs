//! One receiver of a message, and the bytes that its stream was given.

use apptuner_relay::relay::internals::frame::Opcode;
use apptuner_relay::relay::internals::limits::FRAGMENT_BYTES_MAX;
use apptuner_relay::relay::internals::transit::{Cursor, Transits};

/// A cursor, and what its stream has taken of the message.
pub struct Receiver {
    pub cursor: Cursor,
    /// Bytes that it gets although another receiver, or the connection before it, had taken them already.
    pub repeated_bytes: usize,
    /// Bytes that the stream took and that are not parsed yet: the start of a frame.
    unread: Vec<u8>,
    /// The payload of all frames so far, including an incomplete one.
    payload: Vec<u8>,
    /// How much of it was compared.
    compared_bytes: usize,
    /// Payload bytes that the current frame still lacks, and whether it is the last frame.
    frame: Option<(usize, bool)>,
    /// The opcode of the first frame, once it has begun.
    opcode: Option<u8>,
    is_ended: bool,
}

impl Receiver {
    pub const fn new(cursor: Cursor, repeated_bytes: usize) -> Self {
        Self {
            cursor,
            repeated_bytes,
            unread: Vec::new(),
            payload: Vec::new(),
            compared_bytes: 0,
            frame: None,
            opcode: None,
            is_ended: false,
        }
    }

    /// Bytes of the message that it was given.
    pub const fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    /// The stream takes what is available, at most `room` bytes.
    pub fn write(&mut self, transits: &Transits, mut room: usize) {
        let transit = transits.get(self.cursor.key());
        while room > 0 {
            self.cursor.plan(transit);
            let planned = self.cursor.planned_bytes();
            if planned == 0 {
                return;
            }
            let count = planned.min(room);
            let taken = self.gather(transits, 0, count);
            assert!(taken.len() == count, "{} bytes of a fragment of {planned}", taken.len());
            let half = self.gather(transits, count / 2, count - count / 2);
            assert!(half == taken[count / 2..], "what is left of a fragment is its end");
            let (advanced, of_message) = self.cursor.advance(transit, count);
            let payload_before = self.payload.len();
            self.unread.extend_from_slice(&taken);
            room -= count;
            self.read_frames();
            assert_eq!((advanced, of_message), (count, self.payload.len() - payload_before));
        }
    }

    /// Checks that it was given the start of the message, and that its last frame ends the whole message.
    pub fn compare(&mut self, opcode: Opcode, bytes: &[u8], is_whole: bool) {
        let given = &self.payload[self.compared_bytes..];
        let expected = bytes.get(self.compared_bytes..self.payload.len());
        assert!(expected == Some(given), "other bytes than were sent");
        self.compared_bytes = self.payload.len();
        let expected = if opcode == Opcode::Text { 1 } else { 2 };
        assert!(self.opcode.is_none_or(|opcode| opcode == expected), "text stays text");
        assert_eq!(self.is_ended, self.cursor.is_done(), "the cursor knows the end");
        assert!(!self.is_ended || (is_whole && self.payload.len() == bytes.len()), "the end of a part");
    }

    fn gather(&self, transits: &Transits, skip: usize, count: usize) -> Vec<u8> {
        let mut taken = Vec::with_capacity(count);
        self.cursor.gather(transits.get(self.cursor.key()), skip, |bytes| {
            let left = count - taken.len();
            taken.extend_from_slice(bytes.get(..left).unwrap_or(bytes));
            taken.len() == count
        });
        taken
    }

    /// Parses the frames that the stream took.
    fn read_frames(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let mut bytes = &unread[..];
        loop {
            if let Some((left, is_final)) = self.frame {
                let (payload, behind) = bytes.split_at(left.min(bytes.len()));
                self.payload.extend_from_slice(payload);
                bytes = behind;
                self.frame = Some((left - payload.len(), is_final)).filter(|frame| frame.0 > 0);
                self.is_ended |= self.frame.is_none() && is_final;
            }
            assert!(self.frame.is_none() || bytes.is_empty());
            let Some((first, length, header_bytes)) = header(bytes) else { break };
            assert!(!self.is_ended, "nothing follows the last frame");
            assert!(length <= FRAGMENT_BYTES_MAX, "a fragment of {length} bytes");
            assert_eq!(first & 0x70, 0, "reserved bits are not set");
            let opcode = first & 0x0F;
            assert_eq!(opcode == 0, self.opcode.is_some(), "a continuation exactly behind the first frame");
            self.frame = Some((length, first & 0x80 != 0));
            bytes = &bytes[header_bytes..];
            self.opcode.get_or_insert(opcode);
        }
        self.unread = bytes.to_vec();
    }
}

/// First byte, payload length and header length of the frame at the start of `bytes`.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    Some(match second {
        127 => (*first, u64::from_be_bytes(*rest.first_chunk()?) as usize, 10),
        126 => (*first, u16::from_be_bytes(*rest.first_chunk()?).into(), 4),
        length => (*first, usize::from(*length), 2),
    })
}
