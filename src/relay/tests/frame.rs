//! Frames as clients write them. Unit tests, `tests/`, the fuzz targets and the benchmarks share this one writer.
#![allow(dead_code, reason = "each of those who share it uses a part of it")]

/// First bytes of whole messages and of control frames.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
/// First bytes of fragments.
pub(crate) const TEXT_BEGINS: u8 = 0x01;
pub(crate) const BINARY_BEGINS: u8 = 0x02;
pub(crate) const CONTINUES: u8 = 0x00;
pub(crate) const ENDS: u8 = 0x80;

/// Bits of the first byte: no fragment follows, and three that no client of the relay may set.
pub(crate) const FINAL: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const RSV2: u8 = 0x20;
pub(crate) const RSV3: u8 = 0x10;
/// First bytes with an opcode that RFC 6455 reserves.
pub(crate) const RESERVED_DATA: u8 = 0x83;
pub(crate) const RESERVED_CONTROL: u8 = 0x8B;

/// What masks a frame where a test does not choose. It has no zeros, so that a payload left masked shows.
pub(crate) const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
/// A mask that leaves the payload as it is.
pub(crate) const UNCHANGED: [u8; 4] = [0; 4];

/// The bit of the second byte that says that the payload is masked.
const MASKED: u8 = 0x80;
/// In place of a length: it follows in two bytes, or in eight.
const LENGTH_IN_TWO_BYTES: u8 = 126;
const LENGTH_IN_EIGHT_BYTES: u8 = 127;

/// How the length of a frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LengthForm {
    /// As short as it goes, as RFC 6455 asks for.
    Shortest,
    /// In two bytes, if it fits.
    Two,
    /// In eight.
    Eight,
}

/// A frame that `first` begins.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(first, MASK, LengthForm::Shortest, payload)
}

/// A frame under a mask of its own.
pub(crate) fn frame_under(mask: [u8; 4], first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(first, mask, LengthForm::Shortest, payload)
}

pub(crate) fn frame_with(first: u8, mask: [u8; 4], form: LengthForm, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    write_header(first, mask, form, payload.len() as u64, &mut frame);
    write_payload(mask, payload, &mut frame);
    frame
}

/// The header of a frame, its mask included, that announces `length` bytes.
pub(crate) fn frame_header(first: u8, length: u64) -> Vec<u8> {
    header_with(first, MASK, LengthForm::Shortest, length)
}

pub(crate) fn header_with(first: u8, mask: [u8; 4], form: LengthForm, length: u64) -> Vec<u8> {
    let mut header = Vec::new();
    write_header(first, mask, form, length, &mut header);
    header
}

/// Appends a frame.
pub(crate) fn write_frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    write_header(first, MASK, LengthForm::Shortest, payload.len() as u64, out);
    write_payload(MASK, payload, out);
}

/// Appends the header of a frame, its mask included.
pub(crate) fn write_header(first: u8, mask: [u8; 4], form: LengthForm, length: u64, out: &mut Vec<u8>) {
    out.push(first);
    match (form, u8::try_from(length), u16::try_from(length)) {
        (LengthForm::Shortest, Ok(short @ 0..LENGTH_IN_TWO_BYTES), _) => out.push(MASKED | short),
        (LengthForm::Shortest | LengthForm::Two, _, Ok(medium)) => {
            out.push(MASKED | LENGTH_IN_TWO_BYTES);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(MASKED | LENGTH_IN_EIGHT_BYTES);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(mask);
}

fn write_payload(mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(written) = out.get_mut(start..) {
        apply_mask(written, mask);
    }
}

/// Masks a payload, or takes the mask off again.
pub(crate) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// The payload of a close frame.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}
