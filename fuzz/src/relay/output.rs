//! What a client may receive: an HTTP answer, and after a 101 the frames that RFC 6455 allows a server.

use apptuner_relay::relay::internals::frame::is_close_code_allowed;
use serde_json::Value;

use super::super::answer::{self, Answer};

/// Close codes inside a message that the receiver did not cause: it is replaced, the session or the relay ends, it read
/// nothing, its session was claimed, or the message will never be whole.
const CODES_OF_OTHERS: [u16; 4] = [1000, 1001, 1008, 1011];

/// Checks all that a client has received. With `is_whole` nothing may be missing at the end. Only a client that
/// `has_spoken` may have caused its own close.
///
/// Returns whether it was told about the end: by an HTTP answer or by a close frame.
pub fn check(bytes: &[u8], is_whole: bool, has_spoken: bool) -> bool {
    match answer::read(bytes, is_whole) {
        Answer::InHead => false,
        Answer::SwitchingProtocols(frames) => check_frames(frames, is_whole, has_spoken),
        Answer::Other(_) => true,
    }
}

/// The payload of the last ping that a client has received as a whole.
pub fn last_ping(bytes: &[u8]) -> Option<Vec<u8>> {
    let Answer::SwitchingProtocols(mut bytes) = answer::read(bytes, false) else { return None };
    let mut last = None;
    while let Some((frame, behind)) = Frame::split_from(bytes) {
        bytes = behind;
        if frame.opcode == 9 {
            last = Some(frame.payload.to_vec());
        }
    }
    last
}

/// One whole frame of a server.
struct Frame<'a> {
    is_final: bool,
    opcode: u8,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, and the rest. `None` if it is incomplete.
    fn split_from(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [first, second, rest @ ..] = bytes else { return None };
        assert!(first & 0x70 == 0, "reserved bits are not set");
        assert!(second & 0x80 == 0, "a server does not mask");
        let (length, rest) = match second {
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = u64::from_be_bytes(*length);
                assert!(length > 0xFFFF, "a 64-bit length for {length} bytes");
                (usize::try_from(length).expect("no frame is larger than memory"), rest)
            }
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = u16::from_be_bytes(*length);
                assert!(length > 125, "a 16-bit length for {length} bytes");
                (usize::from(length), rest)
            }
            length => (usize::from(*length), rest),
        };
        let (payload, behind) = rest.split_at_checked(length)?;
        Some((Self { is_final: first & 0x80 != 0, opcode: first & 0x0F, payload }, behind))
    }
}

fn check_frames(mut bytes: &[u8], is_whole: bool, has_spoken: bool) -> bool {
    let mut message: Option<(u8, Vec<u8>)> = None;
    let mut is_first = true;
    let mut is_closed = false;
    while let Some((frame, behind)) = Frame::split_from(bytes) {
        bytes = behind;
        assert!(!is_closed, "nothing follows a close");
        assert!(!is_first || frame.payload.starts_with(b"{\"type\":\"connected\","), "the greeting first");
        is_first = false;
        if frame.opcode >= 8 {
            assert!(frame.is_final && frame.payload.len() <= 125, "a control frame is small and whole");
            is_closed = check_control(&frame);
            if is_closed {
                check_end(frame.payload, message.is_some(), has_spoken);
            }
            continue;
        }
        assert_eq!(frame.opcode == 0, message.is_some(), "a continuation exactly within a message");
        let (opcode, payload) = message.get_or_insert_with(|| (frame.opcode, Vec::new()));
        payload.extend_from_slice(frame.payload);
        if frame.is_final {
            check_message(*opcode, payload);
            message = None;
        }
    }
    assert!(!is_whole || bytes.is_empty(), "the stream ends in a frame");
    assert!(!is_whole || !is_first, "every client gets `connected` first");
    is_closed
}

/// Returns whether it is a close.
fn check_control(frame: &Frame<'_>) -> bool {
    match (frame.opcode, frame.payload) {
        (8, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            assert!(is_close_code_allowed(code), "close code {code}");
            assert!(std::str::from_utf8(reason).is_ok(), "a close reason is UTF-8");
            true
        }
        (9 | 10, _) => false,
        (opcode, _) => panic!("control frame {opcode:x} with {} bytes", frame.payload.len()),
    }
}

/// A message is cut short only by a close that says why, and only if it was begun.
fn check_end(close: &[u8], is_in_message: bool, has_spoken: bool) {
    let Some((code, reason)) = close.split_first_chunk() else { return };
    let code = u16::from_be_bytes(*code);
    let says_why = has_spoken || CODES_OF_OTHERS.contains(&code);
    assert!(!is_in_message || says_why, "close code {code} in the middle of a message");
    let is_cut_short = code == 1011 && reason == b"Message cut short";
    // A close is answered with its own code and reason.
    assert!(!is_cut_short || is_in_message || has_spoken, "no message was cut short");
}

fn check_message(opcode: u8, payload: &[u8]) {
    match opcode {
        1 => {
            let text = std::str::from_utf8(payload).expect("text is UTF-8");
            // A `Value` cannot hold all nesting, numbers and escapes that the grammar allows.
            if let Err(error) = serde_json::from_str::<Value>(text) {
                let error = error.to_string();
                let is_grammatical = ["recursion", "out of range", "surrogate", "hex escape"];
                assert!(is_grammatical.iter().any(|reason| error.contains(reason)), "{error} in {text}");
            }
        }
        2 => {}
        _ => panic!("data frame {opcode:x}"),
    }
}
