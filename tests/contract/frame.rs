//! Frames by hand: those a client may send, those it may not, and all that the relay's must be.

use bytes::{Buf, BytesMut};

/// First bytes of whole, unfragmented frames.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
/// First bytes of fragments.
pub(crate) const TEXT_BEGINS: u8 = 0x01;
pub(crate) const CONTINUES: u8 = 0x00;
pub(crate) const ENDS: u8 = 0x80;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// One frame as the relay sent it.
pub(crate) struct Frame {
    pub(crate) is_final: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: BytesMut,
}

/// A masked frame; `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The header of a masked frame, mask included, that announces `length` bytes.
pub(crate) fn frame_header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        126..0x1_0000 => {
            bytes.push(0x80 | 0x7E);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        0x1_0000.. => {
            bytes.push(0x80 | 0x7F);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// The payload of a close frame.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Takes a frame off `input` if it is there in full, and checks all that a relay's frame must be.
pub(crate) fn take_frame(input: &mut BytesMut) -> Option<Frame> {
    let &[first, length, ..] = &input[..] else {
        return None;
    };
    assert_eq!(first & 0x70, 0, "reserved bits");
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
    let (is_final, opcode) = (first & 0x80 != 0, first & 0x0F);
    assert!(opcode < 8 || (is_final && length <= 125), "fragmented or oversize control frame");
    Some(Frame { is_final, opcode, payload })
}

pub(crate) fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
