//! Frames written by hand: valid and invalid ones of clients, and the rules for the relay's.

use bytes::{Buf, BytesMut};

pub(crate) use written::*;

#[path = "../../src/relay/tests/frame.rs"]
mod written;

/// One frame sent by the relay.
pub(crate) struct Frame {
    pub(crate) is_final: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: BytesMut,
}

/// Takes a complete frame off `input`, if there is one, and checks all rules for the relay's frames.
pub(crate) fn take_frame(input: &mut BytesMut) -> Option<Frame> {
    let &[first, length, ..] = &input[..] else {
        return None;
    };
    assert_eq!(first & (RSV1 | RSV2 | RSV3), 0, "reserved bits");
    let (header_bytes, length) = match length {
        0..126 => (2, usize::from(length)),
        126 => (4, usize::try_from(big_endian(input.get(2..4)?)).unwrap()),
        127 => (10, usize::try_from(big_endian(input.get(2..10)?)).unwrap()),
        128.. => panic!("a masked frame from the relay"),
    };
    let shortest = match length {
        0..126 => 2,
        126..0x1_0000 => 4,
        0x1_0000.. => 10,
    };
    assert_eq!(header_bytes, shortest, "length {length} in its shortest form");
    if input.len() < header_bytes + length {
        return None;
    }
    input.advance(header_bytes);
    let payload = input.split_to(length);
    let (is_final, opcode) = (first & FINAL != 0, first & 0x0F);
    assert!(opcode < 8 || (is_final && length <= 125), "fragmented or oversize control frame");
    Some(Frame { is_final, opcode, payload })
}

pub(crate) fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
