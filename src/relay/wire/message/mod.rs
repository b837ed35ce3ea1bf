//! System messages, and the errors among them.
//!
//! Why a WebSocket is closed, and with which code, is in [`close_reason`](super::close_reason). Faults in the request
//! head are answered in HTTP: see the table in `http::refusal`.

use std::fmt::{self, Write as _};

use super::frame::{Opcode, ServerHeader};
use super::json::InvalidJson;
use crate::relay::ids::{ClientType, SessionId};
use crate::relay::limits::LOGGED_CHARS_MAX;

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
    /// This many messages of the client, which asked to be told, have been confirmed by their receiver.
    Delivered(u64),
}

/// What went wrong with what a client sent. Each variant has a `code` of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// No client of this type is connected, so the message has no receiver now.
    PeerNotConnected {
        /// The type of the client that is missing.
        peer: ClientType,
        /// The message is kept for a client that may come back.
        is_kept: bool,
    },
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
    /// This many accepted messages are given up: their receiver is gone, or has not confirmed them in time.
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
            Self::PeerNotConnected { .. } => 0,
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
            Self::PeerNotConnected { peer: ClientType::Mobile, .. } => {
                f.write_str("Mobile device not connected")
            }
            Self::PeerNotConnected { peer: ClientType::Desktop, .. } => f.write_str("Desktop not connected"),
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
                } else if matches!(error, ClientError::PeerNotConnected { is_kept: true, .. }) {
                    text.write_str(r#","kept":true"#)?;
                }
            }
            Self::Delivered(count) => write!(text, r#"{{"type":"delivered","count":{count}"#)?,
        }
        write!(text, r#","timestamp":{unix_millis}}}"#)
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
