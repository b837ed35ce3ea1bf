//! Frame headers of RFC 6455, parsed and written without I/O.
//!
//! A client's header is refused as soon as the bytes at hand prove it wrong, before its payload arrives.

use crate::relay::limits::{CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX};

/// The type of a frame (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The sender closes the connection.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping, or is sent unasked.
    Pong,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Whether this is a control frame. It may come between two fragments of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.bits() & 0x8 != 0
    }
}

/// A client's frame header that keeps every rule that can be checked from the header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The type of the frame.
    pub opcode: Opcode,
    /// Whether the message ends with this frame.
    pub is_final: bool,
    /// Length of the header in bytes, including its mask.
    pub header_bytes: usize,
    /// Length of the payload in bytes. Less than 2⁶³.
    pub payload_bytes: u64,
    /// The masking key (RFC 6455, section 5.3).
    pub mask: [u8; 4],
}

impl FrameHeader {
    /// Length of the whole frame in bytes. Saturates at `usize::MAX`.
    #[must_use]
    pub fn frame_bytes(self) -> usize {
        usize::try_from(self.payload_bytes).unwrap_or(usize::MAX).saturating_add(self.header_bytes)
    }

    /// Whether the frame is a whole message, that is, one that is not fragmented.
    #[must_use]
    pub fn is_whole_message(&self) -> bool {
        self.is_final && matches!(self.opcode, Opcode::Text | Opcode::Binary)
    }
}

/// Why a header is refused. Each of these is a protocol error (close code 1002).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// RSV1, RSV2 or RSV3 is set although no extension was negotiated.
    ReservedBits,
    /// The opcode is reserved.
    ReservedOpcode,
    /// The mask bit is not set; a client must mask every frame.
    Unmasked,
    /// A control frame that is fragmented.
    FragmentedControl,
    /// A control frame with a payload of more than 125 bytes.
    OversizeControl,
    /// A continuation frame, although no message has begun.
    UnexpectedContinuation,
    /// A text or binary frame in the middle of a message.
    ExpectedContinuation,
    /// The length is not in its shortest form.
    NonMinimalLength,
    /// The 64-bit length has its highest bit set.
    LengthOverflow,
}

impl HeaderError {
    /// The reason in the close frame.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "Reserved bits must be zero",
            Self::ReservedOpcode => "Reserved opcode",
            Self::Unmasked => "Client frames must be masked",
            Self::FragmentedControl => "Control frames must not be fragmented",
            Self::OversizeControl => "Control frames carry at most 125 bytes",
            Self::UnexpectedContinuation => "Continuation without a message begun",
            Self::ExpectedContinuation => "New message in the middle of another",
            Self::NonMinimalLength => "Length is not in its shortest form",
            Self::LengthOverflow => "Length has its highest bit set",
        }
    }
}

/// Parses the header at the start of `bytes`. `None` if more bytes are needed.
///
/// `in_message` says whether a fragmented message is open, so that a continuation must come next (RFC 6455, sections
/// 5.1 to 5.5).
///
/// # Errors
/// The first rule that the header breaks.
pub fn parse_header(bytes: &[u8], in_message: bool) -> Result<Option<FrameHeader>, HeaderError> {
    let &[first, second, ..] = bytes else {
        return match bytes {
            // One byte may already prove the header wrong.
            &[first] => check_first_byte(first, in_message).map(|_| None),
            _ => Ok(None),
        };
    };
    let opcode = check_first_byte(first, in_message)?;
    let length_byte = second & 0x7F;
    // Before the mask bit is checked: 126 and 127 are wrong for a control frame whatever follows.
    if opcode.is_control() && usize::from(length_byte) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(HeaderError::OversizeControl);
    }
    if second & 0x80 == 0 {
        return Err(HeaderError::Unmasked);
    }
    let (length_bytes, payload_bytes) = match (length_byte, bytes) {
        (126, [_, _, length @ ..]) => match length.first_chunk() {
            Some(&length) => (2, u64::from(u16::from_be_bytes(length))),
            None => return Ok(None),
        },
        (127, [_, _, length @ ..]) => match length.first_chunk() {
            Some(&length) => (8, u64::from_be_bytes(length)),
            None => return Ok(None),
        },
        (length, _) => (0, u64::from(length)),
    };
    // The largest length that has a shorter form.
    let shortest_form_max = match length_bytes {
        0 => 0,
        2 => 125,
        _ => u64::from(u16::MAX),
    };
    if length_bytes > 0 && payload_bytes <= shortest_form_max {
        return Err(HeaderError::NonMinimalLength);
    }
    if payload_bytes >> 63 != 0 {
        return Err(HeaderError::LengthOverflow);
    }
    let Some(&mask) = bytes.get(2 + length_bytes..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
    let header_bytes = 2 + length_bytes + mask.len();
    Ok(Some(FrameHeader { opcode, is_final: first & 0x80 != 0, header_bytes, payload_bytes, mask }))
}

/// Masks or unmasks a payload (RFC 6455, section 5.3). For a part of a payload, rotate `mask` so that it begins with
/// the byte for the part's first byte.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    // Eight bytes at once: the mask twice.
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= mask;
    }
}

fn check_first_byte(first: u8, in_message: bool) -> Result<Opcode, HeaderError> {
    if first & 0x70 != 0 {
        return Err(HeaderError::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & 0x0F).ok_or(HeaderError::ReservedOpcode)?;
    let is_final = first & 0x80 != 0;
    match opcode {
        Opcode::Close | Opcode::Ping | Opcode::Pong if !is_final => Err(HeaderError::FragmentedControl),
        Opcode::Continuation if !in_message => Err(HeaderError::UnexpectedContinuation),
        Opcode::Text | Opcode::Binary if in_message => Err(HeaderError::ExpectedContinuation),
        Opcode::Continuation
        | Opcode::Text
        | Opcode::Binary
        | Opcode::Close
        | Opcode::Ping
        | Opcode::Pong => Ok(opcode),
    }
}

/// An unmasked header, as the relay sends it.
#[derive(Clone, Copy, Debug)]
pub struct ServerHeader {
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl ServerHeader {
    /// Length of the longest header, in bytes: two bytes and a 64-bit length.
    pub const BYTES_MAX: usize = FRAME_HEADER_BYTES_MAX - 4;

    /// The header of a frame with a payload of `payload_bytes` (RFC 6455, section 5.2).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each arm's range fits its type")]
    pub fn new(opcode: Opcode, is_final: bool, payload_bytes: usize) -> Self {
        // The highest bit is FIN.
        let first = opcode.bits() | if is_final { 0x80 } else { 0 };
        let mut bytes = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let len = Self::len_for(payload_bytes);
        let [_, second, length @ ..] = &mut bytes;
        match len {
            2 => *second = payload_bytes as u8,
            4 => {
                *second = 126;
                length[..2].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            }
            _ => {
                *second = 127;
                length.copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            }
        }
        Self { bytes, len: len as u8 }
    }

    /// Length of the header, in bytes, of a frame with a payload of `payload_bytes`.
    #[must_use]
    pub const fn len_for(payload_bytes: usize) -> usize {
        match payload_bytes {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => Self::BYTES_MAX,
        }
    }

    /// The header's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Length in bytes, including the header, of the frame at the start of `bytes`, which the relay has written.
///
/// So a buffer of small frames can be split into frames without a list of their lengths.
#[must_use]
pub fn server_frame_len(bytes: &[u8]) -> usize {
    match *bytes {
        [_, 126, a, b, ..] => 4 + usize::from(u16::from_be_bytes([a, b])),
        [_, length, ..] if length < 126 => 2 + usize::from(length),
        // A buffer of small frames has no 64-bit lengths.
        _ => bytes.len(),
    }
}

/// Whether a close frame may contain this code (RFC 6455, section 7.4).
#[must_use]
pub const fn is_close_code_allowed(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(opcode: Opcode, is_final: bool, header_bytes: usize, payload_bytes: u64) -> FrameHeader {
        FrameHeader { opcode, is_final, header_bytes, payload_bytes, mask: [1, 2, 3, 4] }
    }

    #[test]
    fn unmasking_undoes_a_mask_for_every_length_and_cut() {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        for length in 0..70 {
            let payload: Vec<u8> = (0..length).collect();
            let masked: Vec<u8> =
                payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            for cut in 0..=masked.len() {
                let mut bytes = masked.clone();
                let (start, end) = bytes.split_at_mut(cut);
                unmask(start, mask);
                let mut turned = mask;
                turned.rotate_left(cut % 4);
                unmask(end, turned);
                assert_eq!(bytes, payload, "{length} bytes cut at {cut}");
            }
        }
    }

    #[test]
    fn headers_are_parsed_whole_byte_by_byte_and_with_more_bytes_after_them() {
        let mask = [1, 2, 3, 4];
        let rows: &[(&[u8], bool, FrameHeader)] = &[
            (&[0x81, 0x80], false, header(Opcode::Text, true, 6, 0)),
            (&[0x01, 0xFD], false, header(Opcode::Text, false, 6, 125)),
            (&[0x82, 0xFE, 0, 126], false, header(Opcode::Binary, true, 8, 126)),
            (&[0x82, 0xFE, 0xFF, 0xFF], false, header(Opcode::Binary, true, 8, 65_535)),
            (&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0], false, header(Opcode::Binary, true, 14, 65_536)),
            (
                &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
                false,
                header(Opcode::Binary, true, 14, u64::MAX >> 1),
            ),
            (&[0x00, 0x80], true, header(Opcode::Continuation, false, 6, 0)),
            (&[0x80, 0x81], true, header(Opcode::Continuation, true, 6, 1)),
            (&[0x88, 0x80], true, header(Opcode::Close, true, 6, 0)),
            (&[0x89, 0xFD], false, header(Opcode::Ping, true, 6, 125)),
            (&[0x8A, 0x80], false, header(Opcode::Pong, true, 6, 0)),
        ];
        for (start, in_message, expected) in rows {
            let whole = [start, &mask[..]].concat();
            for cut in 0..whole.len() {
                assert_eq!(parse_header(&whole[..cut], *in_message), Ok(None), "{start:x?} cut at {cut}");
            }
            assert_eq!(parse_header(&whole, *in_message), Ok(Some(*expected)), "{start:x?}");
            let with_more = [&whole[..], &[0xFF; 20]].concat();
            assert_eq!(parse_header(&with_more, *in_message), Ok(Some(*expected)), "{start:x?} and more");
        }
    }

    #[test]
    fn a_wrong_header_is_refused_at_the_first_byte_that_proves_it() {
        let rows: &[(&[u8], bool, HeaderError)] = &[
            (&[0xC1], false, HeaderError::ReservedBits),
            (&[0xA1], false, HeaderError::ReservedBits),
            (&[0x91], false, HeaderError::ReservedBits),
            (&[0x83], false, HeaderError::ReservedOpcode),
            (&[0x87], false, HeaderError::ReservedOpcode),
            (&[0x8B], false, HeaderError::ReservedOpcode),
            (&[0x8F], false, HeaderError::ReservedOpcode),
            (&[0x08], false, HeaderError::FragmentedControl),
            (&[0x09], true, HeaderError::FragmentedControl),
            (&[0x80], false, HeaderError::UnexpectedContinuation),
            (&[0x81], true, HeaderError::ExpectedContinuation),
            (&[0x02], true, HeaderError::ExpectedContinuation),
            (&[0x89, 0xFE], false, HeaderError::OversizeControl),
            (&[0x88, 0x7F], false, HeaderError::OversizeControl),
            (&[0x81, 0x05], false, HeaderError::Unmasked),
            (&[0x81, 0xFE, 0, 125], false, HeaderError::NonMinimalLength),
            (&[0x81, 0xFE, 0, 0], false, HeaderError::NonMinimalLength),
            (&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], false, HeaderError::NonMinimalLength),
            (&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], false, HeaderError::LengthOverflow),
        ];
        for (bytes, in_message, expected) in rows {
            let proof = bytes.len();
            for cut in 0..proof {
                assert_eq!(parse_header(&bytes[..cut], *in_message), Ok(None), "{bytes:x?} cut at {cut}");
            }
            assert_eq!(parse_header(bytes, *in_message), Err(*expected), "{bytes:x?}");
            let with_more = [bytes, &[0x80; 20][..]].concat();
            assert_eq!(parse_header(&with_more, *in_message), Err(*expected), "{bytes:x?} and more");
        }
    }

    #[test]
    fn written_headers_are_minimal_and_give_the_length_of_their_frame() {
        for (payload_bytes, expected) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xFF, 0xFF]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let written = ServerHeader::new(Opcode::Text, true, payload_bytes);
            assert_eq!(written.as_bytes(), expected);
            assert_eq!(ServerHeader::len_for(payload_bytes), expected.len());
            if payload_bytes < 65_536 {
                let frame = [expected, &vec![0; payload_bytes + 7]].concat();
                assert_eq!(server_frame_len(&frame), expected.len() + payload_bytes);
            }
        }
        assert_eq!(ServerHeader::new(Opcode::Continuation, false, 1).as_bytes(), [0x00, 1]);
        assert_eq!(ServerHeader::new(Opcode::Ping, true, 0).as_bytes(), [0x89, 0]);
    }

    #[test]
    fn close_codes_are_those_of_section_7_4() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|&code| is_close_code_allowed(code)).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, expected);
    }
}
