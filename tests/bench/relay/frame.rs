//! Frames as clients write and read them, and messages that are prepared once and checked to the last byte.

use std::ops::Range;

use crate::Result;
use crate::text::message_text;

pub(crate) use written::{
    CLOSE, FINAL, MASK, PING, PONG, RSV1, RSV2, RSV3, TEXT, apply_mask, frame_header, write_frame,
};

#[path = "../../../src/relay/tests/frame.rs"]
mod written;

/// The place of the number's digits in a message.
const NUMBER: Range<usize> = 5..15;
/// Numbers of one session. Those of the next session follow, so that a misrouted message is noticed.
const NUMBERS_PER_SESSION: u64 = 1_000_000;

/// A frame at the start of some input. The next bytes begin at `payload.end`.
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) is_final: bool,
    pub(crate) payload: Range<usize>,
}

/// Reads the frame at the start of `input`, if it is complete, and unmasks it in place.
///
/// A relay must not mask. The pipe forwards the frames as the other client has masked them.
pub(crate) fn read_frame(input: &mut [u8], is_masked: bool) -> Result<Option<Frame>> {
    let &[first, second, ..] = &*input else { return Ok(None) };
    if first & (RSV1 | RSV2 | RSV3) != 0 || (second & 0x80 != 0) != is_masked {
        return Err(format!("a frame that begins with {first:02x} {second:02x}").into());
    }
    let (length_bytes, length) = match second & 0x7F {
        126 => (2, input.get(2..4).map(big_endian)),
        127 => (8, input.get(2..10).map(big_endian)),
        length => (0, Some(u64::from(length))),
    };
    let mask_start = 2 + length_bytes;
    let start = if is_masked { mask_start + MASK.len() } else { mask_start };
    let Some(end) = length.map(usize::try_from).transpose()?.map(|length| start + length) else {
        return Ok(None);
    };
    if input.len() < end {
        return Ok(None);
    }
    if is_masked {
        let mask = input[mask_start..start].try_into()?;
        apply_mask(&mut input[start..end], mask);
    }
    Ok(Some(Frame { opcode: first & 0x0F, is_final: first & FINAL != 0, payload: start..end }))
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// A message of a given size with a place for a number.
pub(crate) struct Template {
    text: Vec<u8>,
    frame: Vec<u8>,
    /// Where the digits begin in the frame.
    digits_start: usize,
}

/// The number of message `count` of a session, counted from 0.
pub(crate) fn number(session: usize, count: u64) -> u64 {
    (1000 + session as u64 % 9000) * NUMBERS_PER_SESSION + count % NUMBERS_PER_SESSION
}

impl Template {
    pub(crate) fn new(bytes: usize) -> Self {
        let text = message_text(bytes).into_bytes();
        let mut frame = Vec::new();
        write_frame(TEXT, &text, &mut frame);
        let digits_start = frame.len() - text.len() + NUMBER.start;
        Self { text, frame, digits_start }
    }

    /// Appends the frame of message `number`.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
        let digits_start = out.len() + self.digits_start;
        out.extend_from_slice(&self.frame);
        let mut rest = number;
        for at in NUMBER.rev() {
            let digit = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
            out[digits_start + at - NUMBER.start] = digit ^ MASK[at % 4];
            rest /= 10;
        }
    }

    /// Requires that `message` is message `number`, byte for byte.
    pub(crate) fn check(&self, number: u64, message: &[u8]) -> Result<()> {
        let is_intact = message.len() == self.text.len()
            && message[..NUMBER.start] == self.text[..NUMBER.start]
            && message[NUMBER.end..] == self.text[NUMBER.end..];
        if !is_intact {
            let start = String::from_utf8_lossy(&message[..message.len().min(100)]);
            return Err(format!("a damaged message of {} bytes: {start}", message.len()).into());
        }
        let digits = str::from_utf8(&message[NUMBER])?;
        if digits.parse() != Ok(number) {
            return Err(format!("message {digits} in place of {number}").into());
        }
        Ok(())
    }
}
