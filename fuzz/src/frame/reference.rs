//! The events that tungstenite, reading whole frames as a server, finds in a client's bytes.
//!
//! The relay differs from it on purpose:
//!
//! - a length that is not in its shortest form, or has its highest bit set, is refused with 1002;
//! - so is a close code that must not be sent, even in front of a reason that is not UTF-8; 1014,
//!   registered since and unknown to tungstenite, may be sent;
//! - what is wrong in the part of a header that has arrived is refused before the rest arrives, and a message that will
//!   be too large as soon as its header has arrived;
//! - a text that is a large frame, or comes in fragments, is refused at its first byte that is not
//!   UTF-8, before the rest of the frame comes;
//! - after a refusal that leaves the framing intact, and after the relay's own close, data frames are judged only by
//!   their headers and discarded, with any length;
//! - nothing is read after a close.

use std::io;

use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};

use super::super::frames::{BINARY_BEGINS, UNCHANGED, frame_under};
use super::super::wire::Wire;
use super::Event;

const PROTOCOL_ERROR: u16 = 1002;
const NOT_UTF8: u16 = 1007;
const TOO_LARGE: u16 = 1009;
/// A valid close code that tungstenite refuses.
const UNKNOWN_CODE: u16 = 1014;

/// Reads frame by frame, and collects the events.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about what was read")]
pub struct Reference {
    pub events: Vec<Event>,
    size_max: usize,
    /// The longest payload of a message in one frame that is checked only when it is complete.
    small_bytes_max: usize,
    context: WebSocketContext,
    /// A fragmented message is open.
    in_message: bool,
    /// Payload bytes of the open message.
    message_bytes: u64,
    /// Those bytes, if the message is a text.
    text: Option<Vec<u8>>,
    is_discarding: bool,
    /// Nothing more is read.
    is_over: bool,
    ends_in_frame: bool,
}

impl Reference {
    pub fn new(size_max: usize, small_bytes_max: usize) -> Self {
        Self {
            events: Vec::new(),
            size_max,
            small_bytes_max,
            context: context(Some(size_max), false),
            in_message: false,
            message_bytes: 0,
            text: None,
            is_discarding: false,
            is_over: false,
            ends_in_frame: false,
        }
    }

    /// Reads all of `bytes`. From `discarded_from` on data is discarded: only a frame that was complete by then counts.
    pub fn read(&mut self, bytes: &[u8], discarded_from: Option<usize>) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_over {
            let known = discarded_from.map(|from| (from + rest.len()).saturating_sub(bytes.len()));
            let frame = Frame::of(rest);
            let is_cut = known.is_some_and(|known| frame.len().is_none_or(|len| len > known));
            if is_cut && !self.is_discarding {
                self.judge_part(&rest[..known.unwrap_or(0).min(rest.len())]);
                self.begin_discarding();
                continue;
            }
            let Some((whole, behind)) = frame.len().and_then(|len| rest.split_at_checked(len)) else {
                self.judge_part(rest);
                self.ends_in_frame = true;
                return;
            };
            self.judge(&frame, whole);
            rest = behind;
        }
    }

    /// Whether the bytes end inside a frame or a message. `None` if that no longer matters.
    pub fn is_unfinished(&self) -> Option<bool> {
        (!self.is_over && !self.is_discarding).then_some(self.ends_in_frame || self.in_message)
    }

    /// Handles a complete frame.
    fn judge(&mut self, frame: &Frame<'_>, bytes: &[u8]) {
        if frame.is_length_refused() || frame.is_close_code_refused() {
            return self.refuse(PROTOCOL_ERROR, frame);
        }
        let is_thrown_away = self.is_discarding && frame.is_data();
        let stand_in = if is_thrown_away { frame.without_payload() } else { bytes.to_vec() };
        let outcome = if frame.close_code() == Some(UNKNOWN_CODE) {
            let known = frame.with_next_lower_close_code(stand_in);
            read_frame(&mut self.context, &known).map(with_unknown_code)
        } else {
            read_frame(&mut self.context, &stand_in)
        };
        if frame.is_data() {
            self.text = self.text_with(frame).filter(|_| !frame.is_final());
            self.in_message = !frame.is_final();
            self.message_bytes =
                if self.in_message { self.message_bytes + frame.payload.len() as u64 } else { 0 };
        }
        match outcome {
            Ok(Some(message)) if !is_thrown_away => self.take(message),
            Ok(_) => {}
            Err(code) => self.refuse(code, frame),
        }
    }

    /// Handles a frame of which only `bytes` have arrived.
    fn judge_part(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let frame = Frame::of(bytes);
        let mut context = context(None, self.in_message);
        let outcome = read_frame(&mut context, &frame.without_payload());
        if outcome == Err(PROTOCOL_ERROR) || frame.is_length_refused() {
            return self.refuse(PROTOCOL_ERROR, &frame);
        }
        let message_bytes = frame.length.unwrap_or(0).saturating_add(self.message_bytes);
        let is_limited = frame.is_header_whole && frame.is_data() && !self.is_discarding;
        if is_limited && message_bytes > self.size_max as u64 {
            return self.refuse(TOO_LARGE, &frame);
        }
        let is_looked_at =
            self.in_message || !frame.is_final() || frame.length > Some(self.small_bytes_max as u64);
        let text = self.text_with(&frame).filter(|_| is_limited && is_looked_at).unwrap_or_default();
        if std::str::from_utf8(&text).is_err_and(|error| error.error_len().is_some()) {
            self.refuse(NOT_UTF8, &frame);
        }
    }

    /// The text so far, with the payload of this data frame. `None` if it is not a text.
    fn text_with(&self, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let before = match frame.first & 0x0F {
            0 => self.text.as_deref()?,
            1 => &[],
            _ => return None,
        };
        let payload = frame.payload.iter().zip(frame.mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        Some(before.iter().copied().chain(payload).collect())
    }

    fn take(&mut self, message: Message) {
        self.events.push(match message {
            Message::Text(text) => Event::Text(text.as_str().to_owned()),
            Message::Binary(payload) => Event::Binary(payload.to_vec()),
            Message::Ping(payload) => Event::Ping(payload.to_vec()),
            Message::Pong(_) => Event::Pong,
            Message::Close(close) => {
                self.is_over = true;
                close.map_or(Event::Close(1005, Vec::new()), |close| {
                    Event::Close(close.code.into(), close.reason.as_bytes().to_vec())
                })
            }
            Message::Frame(frame) => panic!("tungstenite hands out {frame}"),
        });
    }

    fn refuse(&mut self, code: u16, frame: &Frame<'_>) {
        self.events.push(Event::Refused(code));
        if code == PROTOCOL_ERROR || !frame.is_data() {
            self.is_over = true;
        } else {
            self.begin_discarding();
        }
    }

    /// From now on a new context sees data frames without their payload.
    fn begin_discarding(&mut self) {
        if !self.is_discarding {
            self.is_discarding = true;
            self.context = context(None, self.in_message);
        }
    }
}

/// A context inside a message or between two.
fn context(size_max: Option<usize>, in_message: bool) -> WebSocketContext {
    let config =
        WebSocketConfig::default().read_buffer_size(1_024).max_message_size(size_max).max_frame_size(None);
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    if in_message {
        let first_fragment = frame_under(UNCHANGED, BINARY_BEGINS, b"");
        assert_eq!(read_frame(&mut context, &first_fragment), Ok(None));
    }
    context
}

/// Lets tungstenite read one frame. Returns the message that it completes, or the code of the refusal.
fn read_frame(context: &mut WebSocketContext, bytes: &[u8]) -> Result<Option<Message>, u16> {
    match context.read(&mut Wire::sending(bytes)) {
        Ok(message) => Ok(Some(message)),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(Error::Protocol(_)) => Err(PROTOCOL_ERROR),
        Err(Error::Utf8(_)) => Err(NOT_UTF8),
        Err(Error::Capacity(_)) => Err(TOO_LARGE),
        Err(error) => panic!("tungstenite fails: {error}"),
    }
}

/// Restores a close's own code.
fn with_unknown_code(message: Option<Message>) -> Option<Message> {
    match message {
        Some(Message::Close(Some(CloseFrame { reason, .. }))) => {
            Some(Message::Close(Some(CloseFrame { code: UNKNOWN_CODE.into(), reason })))
        }
        message => message,
    }
}

/// What is known of the frame at the start of some bytes.
struct Frame<'a> {
    first: u8,
    second: Option<u8>,
    /// The length as written, once all of its bytes have arrived.
    length: Option<u64>,
    is_header_whole: bool,
    header_bytes: usize,
    mask: [u8; 4],
    /// The payload so far, still masked.
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// `bytes` must not be empty.
    fn of(bytes: &'a [u8]) -> Self {
        let second = bytes.get(1).copied();
        let length_bytes = match second.unwrap_or(0) & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second.unwrap_or(0x80) & 0x80 == 0 { 0 } else { 4 };
        let header_bytes = 2 + length_bytes + mask_bytes;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let length = match length_bytes {
            0 => second.map(|second| u64::from(second & 0x7F)),
            count => bytes.get(2..2 + count).map(number),
        };
        let mask = bytes.get(2 + length_bytes..).and_then(|rest| rest.first_chunk());
        let length_in_memory = usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX);
        let payload = bytes.get(header_bytes..).unwrap_or_default();
        Self {
            first: bytes[0],
            second,
            length,
            is_header_whole: bytes.len() >= header_bytes,
            header_bytes,
            mask: mask.copied().unwrap_or_default(),
            payload: &payload[..length_in_memory.min(payload.len())],
        }
    }

    fn is_data(&self) -> bool {
        self.first & 8 == 0
    }

    fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }

    /// The length of the whole frame. `None` until it is known.
    fn len(&self) -> Option<usize> {
        let length = self.length.filter(|_| self.is_header_whole)?;
        self.header_bytes.checked_add(usize::try_from(length).ok()?)
    }

    fn is_length_refused(&self) -> bool {
        match (self.second.map(|second| second & 0x7F), self.length) {
            (Some(126), Some(length)) => length < 126,
            (Some(127), Some(length)) => length < 65_536 || length >> 63 != 0,
            _ => false,
        }
    }

    fn close_code(&self) -> Option<u16> {
        let [high, low, ..] = self.payload else { return None };
        let code = u16::from_be_bytes([high ^ self.mask[0], low ^ self.mask[1]]);
        (self.first & 0x0F == 8).then_some(code)
    }

    /// By section 7.4 of RFC 6455, and what was registered since.
    fn is_close_code_refused(&self) -> bool {
        self.close_code().is_some_and(|code| !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999))
    }

    /// `bytes` are this frame. The last byte of its close code must not be zero.
    fn with_next_lower_close_code(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let low = &mut bytes[self.header_bytes + 1];
        *low = ((*low ^ self.mask[1]) - 1) ^ self.mask[1];
        bytes
    }

    /// An empty frame that violates the same rules for headers as this one. A control frame that is too long stays so.
    fn without_payload(&self) -> Vec<u8> {
        let second = self.second.unwrap_or(0x80);
        let is_oversize_control = !self.is_data() && second & 0x7F > 125;
        let payload = if is_oversize_control { &[0; 126][..] } else { &[] };
        let mut frame = frame_under(UNCHANGED, self.first, payload);
        if second & 0x80 == 0 {
            frame[1] &= 0x7F;
            frame.drain(frame.len() - payload.len() - 4..frame.len() - payload.len());
        }
        frame
    }
}
