//! Messages that the relay writes, and the reasons why it closes a WebSocket.
//!
//! | a client's fault | answer | then |
//! | --- | --- | --- |
//! | a message without a peer | error `peer_not_connected` | stays open |
//! | a text that is not JSON | error `invalid_json` | stays open |
//! | a message over the limit | error `message_too_large` | close 1009 |
//! | a frame header or close frame that breaks RFC 6455 | | close 1002 |
//! | a text or close reason that is not UTF-8 | | close 1007 |
//! | sends nothing, accepts no bytes, or its message stands still or is late | | close 1001 |
//! | leaves too many notices unread | | close 1013 |
//!
//! No memory for a message is the relay's fault: close 1013. A receiver that has received a part of a message which
//! will never be whole is closed with 1011.
//!
//! Faults in the request head are answered in HTTP: see the table in `http::refusal`.

use std::fmt::{self, Write as _};

use super::frame::{Opcode, ServerHeader, is_close_code_allowed};
use super::json::InvalidJson;
use crate::relay::ids::{ClientType, SessionId};
use crate::relay::limits::{CLOSE_REASON_BYTES_MAX, LOGGED_CHARS_MAX};

/// A system message: one that the relay writes (section 2 of the contract).
#[derive(Clone, Copy, Debug)]
pub enum SystemMessage<'a> {
    /// The client that gets it has joined.
    Connected(ClientType, &'a SessionId),
    /// The peer has joined, or was connected before.
    PeerConnected(ClientType),
    /// The peer is gone.
    PeerDisconnected(ClientType),
    /// The answer to a message of the type `ping`.
    Pong,
    /// An error about what the client sent.
    Error(&'a ClientError),
}

/// What went wrong with what a client sent. Each variant has a `code` of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// No client of this type is connected, so the message has no receiver.
    PeerNotConnected(ClientType),
    /// The text is not JSON.
    InvalidJson(InvalidJson),
    /// The message is over the size limit.
    MessageTooLarge {
        /// Its length in bytes, or the part of it that is known.
        bytes: u64,
        /// Whether the message is longer than `bytes`.
        at_least: bool,
        /// The limit in bytes.
        limit: usize,
    },
    /// This many accepted messages were not written when their receiver's connection ended.
    Undelivered(u64),
}

impl ClientError {
    /// All codes of the contract.
    pub const CODES: [&'static str; 4] =
        ["peer_not_connected", "invalid_json", "message_too_large", "undelivered"];

    /// The index of its code in [`CODES`](Self::CODES).
    #[must_use]
    pub const fn code_index(&self) -> usize {
        match self {
            Self::PeerNotConnected(_) => 0,
            Self::InvalidJson(_) => 1,
            Self::MessageTooLarge { .. } => 2,
            Self::Undelivered(_) => 3,
        }
    }

    /// Its code in the contract.
    #[must_use]
    pub fn code(&self) -> &'static str {
        Self::CODES.get(self.code_index()).copied().unwrap_or_default()
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
                // Serialising a string never fails.
                let sentence = serde_json::to_string(&error.to_string()).unwrap_or_default();
                write!(text, r#"{{"type":"error","error":{sentence},"code":"{}""#, error.code())?;
                if let ClientError::Undelivered(count) = error {
                    write!(text, r#","count":{count}"#)?;
                }
            }
        }
        write!(text, r#","timestamp":{unix_millis}}}"#)
    }
}

/// Why the relay closes a WebSocket, or how it answers a client's close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client has closed. It gets this code and reason back.
    Echo(u16, Vec<u8>),
    /// Another client of the same type has joined.
    Replaced(ClientType),
    /// The session had no application message and no join for the session timeout.
    SessionTimeout,
    /// The relay is shutting down.
    ShuttingDown,
    /// Nothing came from the client for two ping intervals.
    Silent,
    /// The client accepted no byte for the stall timeout.
    TakesNothing,
    /// A message stood still, or was not whole in time.
    MessageTimeout,
    /// The client broke RFC 6455. The text says how.
    Protocol(&'static str),
    /// A text or a close reason was not UTF-8.
    NotUtf8,
    /// A message was over the size limit.
    TooLarge,
    /// The relay has no memory for the message now.
    NoRoom,
    /// The session was claimed with a secret that this client has not sent.
    Claimed,
    /// Too many notices waited for the client.
    NoticesUnread,
    /// The client has received a part of a message that will never be whole.
    CutShort,
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
            Self::Claimed => 1008,
            Self::CutShort => 1011,
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
            Self::Claimed => b"Session claimed: bring its pairing secret",
            Self::NoRoom => b"No room for this message now",
            Self::CutShort => b"Message cut short",
            Self::NoticesUnread => b"Too many notices left unread",
        }
    }

    /// The reason, for the log.
    pub(crate) fn shown(&self) -> &str {
        str::from_utf8(self.reason()).unwrap_or_default()
    }

    /// Appends the close frame. It always has a code, and a reason of at most 123 bytes.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        let reason = self.reason();
        debug_assert!(
            reason.len() <= CLOSE_REASON_BYTES_MAX,
            "the relay's reasons are short; a client's reason came in a control frame"
        );
        out.extend_from_slice(ServerHeader::new(Opcode::Close, true, 2 + reason.len()).as_bytes());
        out.extend_from_slice(&self.code().to_be_bytes());
        out.extend_from_slice(reason);
    }
}

/// The code of a close frame without a code. Never sent (RFC 6455, section 7.1.5).
const NO_STATUS_RECEIVED: u16 = 1005;

/// Parses the payload of a client's close frame. Returns its code, for the log, and the close that answers it (RFC
/// 6455, sections 5.5.1 and 7.4).
///
/// # Errors
/// Why the close frame is wrong.
pub fn answer_to_close(payload: &[u8]) -> Result<(u16, CloseReason), CloseReason> {
    match payload {
        // A close without a code is answered with 1000, because every close of the relay has a code.
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

/// Formats a client's text for the log: escaped, so that it cannot forge a line, and cut to [`LOGGED_CHARS_MAX`].
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a>(pub &'a str);

impl fmt::Display for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `take` also bounds the work: each character of the text gives at least one of the output.
        self.0.chars().flat_map(char::escape_default).take(LOGGED_CHARS_MAX).try_for_each(|c| f.write_char(c))
    }
}

#[cfg(test)]
mod tests;
