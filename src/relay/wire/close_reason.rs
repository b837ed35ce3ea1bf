//! Why the relay closes a WebSocket, and with which code.
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

use super::frame::{Opcode, ServerHeader, is_close_code_allowed};
use crate::relay::ids::ClientType;
use crate::relay::limits::CLOSE_REASON_BYTES_MAX;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_frame_has_a_code_and_a_short_reason() {
        let reasons = [
            (CloseReason::Echo(4000, b"bye".to_vec()), 4000, "bye"),
            (CloseReason::Replaced(ClientType::Desktop), 1000, "New desktop connection"),
            (CloseReason::Replaced(ClientType::Mobile), 1000, "New mobile connection"),
            (CloseReason::SessionTimeout, 1000, "Session timeout"),
            (CloseReason::ShuttingDown, 1001, "Relay shutting down"),
            (CloseReason::Silent, 1001, "Nothing received for two ping intervals"),
            (CloseReason::TakesNothing, 1001, "Nothing taken for the stall timeout"),
            (CloseReason::MessageTimeout, 1001, "Message did not arrive in time"),
            (CloseReason::Protocol("Reserved opcode"), 1002, "Reserved opcode"),
            (CloseReason::NotUtf8, 1007, "Text must be UTF-8"),
            (CloseReason::TooLarge, 1009, "Message too large"),
            (CloseReason::NoRoom, 1013, "No room for this message now"),
            (CloseReason::NoticesUnread, 1013, "Too many notices left unread"),
        ];
        for (reason, code, text) in reasons {
            let mut frame = Vec::new();
            reason.write_frame(&mut frame);
            let [high, low] = u16::to_be_bytes(code);
            let length = u8::try_from(2 + text.len()).expect("short");
            assert_eq!(frame, [&[0x88, length, high, low], text.as_bytes()].concat());
        }
    }

    #[test]
    fn a_close_is_answered_with_its_own_code_or_is_a_fault() {
        let with = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
        let echo = |code, reason: &[u8]| CloseReason::Echo(code, reason.to_vec());
        let protocol = CloseReason::Protocol("Close code is not allowed");
        let rows = [
            (vec![], Ok((1005, echo(1000, b"")))),
            (vec![3], Err(CloseReason::Protocol("Close frame with half a code"))),
            (with(1000, b""), Ok((1000, echo(1000, b"")))),
            (with(1001, b"away"), Ok((1001, echo(1001, b"away")))),
            (with(4999, b""), Ok((4999, echo(4999, b"")))),
            (with(1000, &[0xFF]), Err(CloseReason::NotUtf8)),
            (with(1005, b""), Err(protocol.clone())),
            (with(0, b""), Err(protocol.clone())),
            (with(5000, b""), Err(protocol)),
        ];
        for (payload, expected) in rows {
            assert_eq!(answer_to_close(&payload), expected, "{payload:x?}");
        }
    }
}
