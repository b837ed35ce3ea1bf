//! Makes the frames that a client sends.

pub(crate) use written::*;

#[path = "../../src/relay/tests/frame.rs"]
mod written;

/// A frame with `byte` for each of the `length` bytes of its payload.
pub(crate) fn monotonous_frame(
    first: u8,
    mask: [u8; 4],
    form: LengthForm,
    byte: u8,
    length: usize,
) -> Vec<u8> {
    let mut frame = header_with(first, mask, form, length as u64);
    let frame_bytes = frame.len() + length;
    frame.append(&mut mask.map(|mask| byte ^ mask).repeat(length.div_ceil(4)));
    frame.truncate(frame_bytes);
    frame
}
