//! Makes the frames that a client sends.

/// How the length of a frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthForm {
    /// As short as it goes, as RFC 6455 asks for.
    Shortest,
    /// In two bytes, if it fits.
    Two,
    /// In eight.
    Eight,
}

/// A masked frame whose first byte is `first`.
pub fn client_frame(first: u8, mask: [u8; 4], form: LengthForm, payload: &[u8]) -> Vec<u8> {
    let mut frame = client_header(first, mask, form, payload.len());
    if mask == [0; 4] {
        frame.extend_from_slice(payload);
    } else {
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
    frame
}

/// The same with `byte` for each of the `length` bytes of its payload.
pub fn monotonous_frame(first: u8, mask: [u8; 4], form: LengthForm, byte: u8, length: usize) -> Vec<u8> {
    let mut frame = client_header(first, mask, form, length);
    let frame_bytes = frame.len() + length;
    frame.append(&mut mask.map(|mask| byte ^ mask).repeat(length.div_ceil(4)));
    frame.truncate(frame_bytes);
    frame
}

fn client_header(first: u8, mask: [u8; 4], form: LengthForm, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    match (form, length) {
        (LengthForm::Shortest, 0..=125) => header.push(0x80 | length as u8),
        (LengthForm::Shortest | LengthForm::Two, 0..=0xFFFF) => {
            header.push(0xFE);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(0xFF);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header.extend(mask);
    header
}
