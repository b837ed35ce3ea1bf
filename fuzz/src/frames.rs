//! Makes a client's frames.

pub(crate) use written::*;

#[path = "../../src/relay/tests/frame.rs"]
mod written;

/// A frame whose payload is `byte`, `length` times.
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
