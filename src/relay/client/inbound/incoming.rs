//! What reading a client's bytes yields: messages, control frames, violations.

use std::ops::Range;

use tungstenite::Bytes;

use crate::relay::transit::{TransitKey, Transits};
use crate::relay::wire::close_reason::CloseReason;
use crate::relay::wire::json::{InvalidJson, TextError};
use crate::relay::wire::message::ClientError;

use super::Receiver;

/// The top-level `type` of a text message.
pub type MessageType = Box<str>;

/// A complete message or control frame from a client.
#[derive(Debug)]
pub enum Incoming {
    /// A text message, which is valid UTF-8, and the result of its check: its `type` if the rules ask for it and the
    /// message has one, or why the text is not JSON.
    Text(Content, Result<Option<MessageType>, InvalidJson>),
    /// A binary message.
    Binary(Content),
    /// A ping with its payload. The pong must carry the same payload.
    Ping(Bytes),
    /// A pong with its payload, which is that of the ping that it answers.
    Pong(Bytes),
    /// A close frame. Nothing may follow it.
    Close {
        /// Its code, or 1005 if it has none (RFC 6455, section 7.1.5).
        code: u16,
        /// The close frame that answers it.
        answer: CloseReason,
    },
    /// The end of a message that was discarded while it arrived. The error says why it is not JSON; it is there only if
    /// its sender has not been sent an error yet.
    Skipped(Option<InvalidJson>),
}

impl Incoming {
    /// Whether it is a message, forwarded or not, as opposed to a control frame.
    #[must_use]
    pub const fn is_message(&self) -> bool {
        matches!(self, Self::Text(..) | Self::Binary(_) | Self::Skipped(_))
    }

    /// A text message with the result of its check. Text that is not UTF-8 is a violation (RFC 6455, section 8.1); text
    /// that is not JSON is not.
    pub(super) fn text(
        content: Content,
        checked: Result<Option<MessageType>, TextError>,
    ) -> Result<Self, Violation> {
        match checked {
            Ok(message_type) => Ok(Self::Text(content, Ok(message_type))),
            Err(TextError::InvalidJson(error)) => Ok(Self::Text(content, Err(error))),
            Err(TextError::NotUtf8) => Err(CloseReason::NotUtf8.into()),
        }
    }
}

/// Where the payload of a message is.
#[derive(Debug)]
pub enum Content {
    /// In the receive buffer: [`Receiver::range`](super::Receiver::range).
    Received(Range<usize>),
    /// In a buffer of its own: small, and joined from parts.
    Joined(Vec<u8>),
    /// A message in transit, and its length in bytes. The receiver of this value must
    /// [detach](Transits::detach_sender) the message from its sender.
    InTransit(TransitKey, usize),
}

impl Content {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Received(range) => range.len(),
            Self::Joined(bytes) => bytes.len(),
            Self::InTransit(_, len) => *len,
        }
    }

    /// Whether the message is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of the payload, as far as it is still in memory. `receiver` and `transits` must be those that it was read
    /// with.
    #[must_use]
    pub fn to_vec(&self, receiver: &Receiver, transits: &Transits) -> Vec<u8> {
        match self {
            Self::Received(range) => receiver.range(range.clone()).to_vec(),
            Self::Joined(bytes) => bytes.clone(),
            Self::InTransit(key, _) => transits.get(*key).bytes().collect::<Vec<_>>().concat(),
        }
    }
}

/// The rules for a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest message, in bytes.
    pub size_max: usize,
    /// Whether to find the `type` of a text.
    pub wants_type: bool,
    /// Whether a text must be JSON. If so, a text is discarded as soon as it is known not to be.
    pub requires_json: bool,
    /// A message of up to this many bytes is collected in one buffer; a longer one becomes a message in transit.
    pub small_bytes_max: usize,
    /// Whether to discard data frames of any size. Control frames are still returned.
    pub discard: bool,
}

/// A rule that a client broke; the connection ends because of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// The code and reason of the close frame.
    pub reason: CloseReason,
    /// The error message that the client is sent before the close frame.
    pub error: Option<ClientError>,
    /// Whether the relay can still find the frames in what follows, and so the client's close frame.
    pub is_framing_intact: bool,
}

impl From<CloseReason> for Violation {
    fn from(reason: CloseReason) -> Self {
        // After a protocol error the relay cannot know where the next frame begins.
        let is_framing_intact = !matches!(reason, CloseReason::Protocol(_));
        Self { reason, error: None, is_framing_intact }
    }
}
