//! What the relay says, and what it has to know of what others say.
//!
//! | a client's fault | answer | then |
//! | --- | --- | --- |
//! | no peer to take a message | error `peer_not_connected` | stays open |
//! | text that is not JSON | error `invalid_json` | stays open |
//! | a message over the limit | error `message_too_large` | close 1009 |
//! | a header or close frame against RFC 6455 | | close 1002 |
//! | text or close reason that is not UTF-8 | | close 1007 |
//! | silent, takes nothing, or a message does not arrive in time | | close 1001 |
//! | leaves too many notices unread | | close 1013 |
//!
//! That memory for a message cannot be had is the relay's own trouble: close 1013.
//!
//! A fault in the request head is answered in HTTP, by the table in `handshake.rs`.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde_core::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::frame::{Opcode, ServerHeader, is_close_code_allowed};
use super::ids::{ClientType, SessionId};
use super::limits::{CLOSE_REASON_BYTES_MAX, LOGGED_CHARS_MAX};

/// A message that the relay itself writes (section 2 of the contract).
#[derive(Clone, Copy, Debug)]
pub enum SystemMessage<'a> {
    /// The newcomer is in.
    Connected(ClientType, &'a SessionId),
    /// The other side of the session has joined, or was there already.
    PeerConnected(ClientType),
    /// The other side of the session is gone.
    PeerDisconnected(ClientType),
    /// The answer to an application's own `ping`.
    Pong,
    /// Something went wrong with what the client sent.
    Error(&'a ClientError),
}

/// What went wrong with something that a client sent, each variant with the contract's `code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// Nobody of this client type is there to take the message.
    PeerNotConnected(ClientType),
    /// The text is not JSON.
    InvalidJson(InvalidJson),
    /// The message is larger than the relay takes.
    MessageTooLarge {
        /// Its length in bytes, as far as it is known.
        bytes: u64,
        /// Whether more was still to come.
        at_least: bool,
        /// The limit in bytes.
        limit: usize,
    },
    /// So many accepted messages were still queued when their receiver's connection ended.
    Undelivered(u64),
}

impl ClientError {
    const fn code(&self) -> &'static str {
        match self {
            Self::PeerNotConnected(_) => "peer_not_connected",
            Self::InvalidJson(_) => "invalid_json",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::Undelivered(_) => "undelivered",
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerNotConnected(ClientType::Mobile) => f.write_str("Mobile device not connected"),
            Self::PeerNotConnected(ClientType::Desktop) => f.write_str("Desktop not connected"),
            Self::InvalidJson(error) => write!(f, "{error}"),
            Self::MessageTooLarge { bytes, at_least, limit } => write!(
                f,
                "Message of {}{bytes} bytes is over this relay's limit of {limit} bytes (--max-message-size)",
                if *at_least { "at least " } else { "" },
            ),
            Self::Undelivered(1) => f.write_str("1 message was not delivered: its receiver disconnected"),
            Self::Undelivered(count) => {
                write!(f, "{count} messages were not delivered: their receiver disconnected")
            }
        }
    }
}

impl SystemMessage<'_> {
    /// Appends the message as one text frame; `unix_millis` becomes its `timestamp`.
    pub fn write_frame(self, unix_millis: u64, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(160);
        // Writing to a `String` cannot fail.
        let _ = self.write_text(unix_millis, &mut text);
        out.extend_from_slice(ServerHeader::new(Opcode::Text, true, text.len()).as_bytes());
        out.extend_from_slice(text.as_bytes());
    }

    fn write_text(self, unix_millis: u64, text: &mut String) -> fmt::Result {
        match self {
            Self::Connected(client_type, session_id) => write!(
                text,
                r#"{{"type":"connected","clientType":"{}","sessionId":"{session_id}""#,
                client_type.as_str(),
            )?,
            Self::PeerConnected(peer) => write!(text, r#"{{"type":"{}_connected""#, peer.as_str())?,
            Self::PeerDisconnected(peer) => write!(text, r#"{{"type":"{}_disconnected""#, peer.as_str())?,
            Self::Pong => text.write_str(r#"{"type":"pong""#)?,
            Self::Error(error) => {
                let sentence = serde_json::Value::String(error.to_string());
                write!(text, r#"{{"type":"error","error":{sentence},"code":"{}""#, error.code())?;
                if let ClientError::Undelivered(count) = error {
                    write!(text, r#","count":{count}"#)?;
                }
            }
        }
        write!(text, r#","timestamp":{unix_millis}}}"#)
    }
}

/// Why the relay closes a WebSocket, or with what it answers a client's close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed; it gets its own code and reason back.
    Echo(u16, Vec<u8>),
    /// Another client of the same type has joined.
    Replaced(ClientType),
    /// The session saw neither a message nor a join for too long.
    SessionTimeout,
    /// The relay is shutting down.
    ShuttingDown,
    /// Nothing at all came from the client for two ping intervals.
    Silent,
    /// The client took no byte for the stall timeout.
    TakesNothing,
    /// A message did not arrive in time.
    MessageTimeout,
    /// The client broke RFC 6455; how.
    Protocol(&'static str),
    /// Text or a close reason was not UTF-8.
    NotUtf8,
    /// A message was over the size limit.
    TooLarge,
    /// The relay has no room for the message now.
    NoRoom,
    /// Too many notices waited for the client.
    NoticesUnread,
}

impl CloseReason {
    /// The close code (section 5 of the contract; RFC 6455, section 7.4).
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::Echo(code, _) => *code,
            Self::Replaced(_) | Self::SessionTimeout => 1000,
            Self::ShuttingDown | Self::Silent | Self::TakesNothing | Self::MessageTimeout => 1001,
            Self::Protocol(_) => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            Self::NoRoom | Self::NoticesUnread => 1013,
        }
    }

    fn reason(&self) -> &[u8] {
        match self {
            Self::Echo(_, reason) => reason,
            Self::Replaced(ClientType::Desktop) => b"New desktop connection",
            Self::Replaced(ClientType::Mobile) => b"New mobile connection",
            Self::SessionTimeout => b"Session timeout",
            Self::ShuttingDown => b"Relay shutting down",
            Self::Silent => b"Nothing received for two ping intervals",
            Self::TakesNothing => b"Nothing taken for the stall timeout",
            Self::MessageTimeout => b"Message did not arrive in time",
            Self::Protocol(reason) => reason.as_bytes(),
            Self::NotUtf8 => b"Text must be UTF-8",
            Self::TooLarge => b"Message too large",
            Self::NoRoom => b"No room for this message now",
            Self::NoticesUnread => b"Too many notices left unread",
        }
    }

    /// Appends the close frame: always a code, and a reason of at most 123 bytes.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        let reason = self.reason();
        debug_assert!(
            reason.len() <= CLOSE_REASON_BYTES_MAX,
            "ours are short, a client's came in a control frame"
        );
        out.extend_from_slice(ServerHeader::new(Opcode::Close, true, 2 + reason.len()).as_bytes());
        out.extend_from_slice(&self.code().to_be_bytes());
        out.extend_from_slice(reason);
    }
}

/// Stands for the code of a close frame that carried none; never sent (RFC 6455, section 7.1.5).
const NO_STATUS_RECEIVED: u16 = 1005;

/// Reads the payload of a client's close frame: its code, and what it is answered with, or why it
/// is refused (RFC 6455, sections 5.5.1 and 7.4).
pub fn answer_to_close(payload: &[u8]) -> Result<(u16, CloseReason), CloseReason> {
    match payload {
        [] => Ok((NO_STATUS_RECEIVED, CloseReason::Echo(1000, Vec::new()))),
        [_] => Err(CloseReason::Protocol("Close frame with half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_close_code_allowed(code) {
                Err(CloseReason::Protocol("Close code is not allowed"))
            } else if std::str::from_utf8(reason).is_err() {
                Err(CloseReason::NotUtf8)
            } else {
                Ok((code, CloseReason::Echo(code, reason.to_vec())))
            }
        }
    }
}

/// Where a text stops being JSON (RFC 8259), and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidJson {
    /// Zero-based offset of the first offending byte; the text's length if it ends too soon.
    pub offset: usize,
    reason: String,
}

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invalid JSON at byte {}: {}", self.offset, self.reason)
    }
}

/// Checks that a text is one JSON value, of any type and depth; builds nothing.
pub fn check_json(text: &str) -> Result<(), InvalidJson> {
    parse(text).map_err(|error| locate(text, &error))
}

fn parse(text: &str) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_ignored_any(IgnoredAny)?;
    deserializer.end()
}

/// Checks a text as [`check_json`] does, and reads its top-level `type` on the way.
///
/// `None` if the value is no object, or has no `type` that is a string. Of duplicate keys the
/// last one counts.
pub fn check_json_and_type(text: &str) -> Result<Option<Cow<'_, str>>, InvalidJson> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match deserializer.deserialize_map(TypeOfMessage).and_then(|found| deserializer.end().map(|()| found)) {
        Ok(found) => Ok(found),
        // Either no object, or what reading minds and the grammar does not: numbers out of range,
        // escapes that do not pair. The contract asks for the grammar alone.
        Err(_) => check_json(text).map(|()| None),
    }
}

/// Finds the offending byte: `serde_json` tells a line and the count of bytes it had consumed on it,
/// which is one past the culprit, with three exceptions: a control character in a string is not
/// consumed, the four digits of an escape are consumed together, or found missing whatever stands in
/// the place of the first ones, and the end of the text in the middle of a number is not told from a
/// wrong byte.
fn locate(text: &str, error: &serde_json::Error) -> InvalidJson {
    let mut reason = error.to_string();
    if let Some(end) = reason.rfind(" at line ") {
        reason.truncate(end);
    }
    let lines = text.split_inclusive('\n');
    let line_start: usize = lines.take(error.line().saturating_sub(1)).map(str::len).sum();
    let consumed = line_start + error.column();
    let ends_in_number = || {
        // If a digit would mend it, the number was not wrong but cut short.
        consumed == text.len()
            && reason.starts_with("invalid number")
            && parse(&format!("{text}0")).map_or_else(|error| error.is_eof(), |()| true)
    };
    let bad_hex_digit = |end: usize, escape_bytes| first_bad_hex_digit(text.as_bytes(), end, escape_bytes);
    let offset = if error.is_eof() {
        match (3..=5).rev().find_map(|escape_bytes| bad_hex_digit(text.len(), escape_bytes)) {
            Some(offset) => {
                "invalid escape".clone_into(&mut reason);
                offset
            }
            None => text.len(),
        }
    } else if ends_in_number() {
        text.len()
    } else if reason.starts_with("control character") {
        consumed
    } else {
        bad_hex_digit(consumed, 6).unwrap_or(consumed.saturating_sub(1))
    };
    InvalidJson { offset, reason }
}

/// The first digit that is none of a `\uXXXX` escape of which `escape_bytes` stand before `end`, if
/// one does.
fn first_bad_hex_digit(text: &[u8], end: usize, escape_bytes: usize) -> Option<usize> {
    let before = text.get(..end)?;
    let (strings, [b'\\', b'u', digits @ ..]) = before.split_at_checked(end.checked_sub(escape_bytes)?)?
    else {
        return None;
    };
    let backslashes = strings.iter().rev().take_while(|&&byte| byte == b'\\').count();
    let bad = digits.iter().position(|digit| !digit.is_ascii_hexdigit())?;
    (backslashes % 2 == 0).then_some(end - digits.len() + bad)
}

/// Reads `type` from an object.
struct TypeOfMessage;

impl<'de> Visitor<'de> for TypeOfMessage {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_type) = map.next_key_seed(KeyIsType)? {
            if is_type {
                found = map.next_value_seed(StringOrElse)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Tells whether a key is `type`.
struct KeyIsType;

impl<'de> DeserializeSeed<'de> for KeyIsType {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIsType {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == "type")
    }
}

/// Reads a string, borrowed where it has no escapes; any other value is `None`.
struct StringOrElse;

impl<'de> DeserializeSeed<'de> for StringOrElse {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StringOrElse {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Shows what a client sent in a log line: escaped, so that no line can be forged, and cut short.
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a>(pub &'a str);

impl fmt::Display for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No escape is longer than the text may be, so the bound on the input bounds the work.
        self.0.chars().flat_map(char::escape_default).take(LOGGED_CHARS_MAX).try_for_each(|c| f.write_char(c))
    }
}

#[cfg(test)]
mod tests;
