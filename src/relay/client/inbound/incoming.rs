//! What comes out of reading a client's bytes.

use std::ops::Range;

use tungstenite::Bytes;

use crate::relay::transit::{TransitKey, Transits};
use crate::relay::wire::json::{InvalidJson, TextError};
use crate::relay::wire::message::{ClientError, CloseReason};

use super::Receiver;

/// The top-level `type` of a text message.
pub type MessageType = Box<str>;

/// Something whole that a client sent, or something that it is about to send.
#[derive(Debug)]
pub enum Incoming {
    /// A text message, which is UTF-8: its `type`, if that was asked for and it has one, or why it is not JSON.
    Text(Content, Result<Option<MessageType>, InvalidJson>),
    /// A binary message.
    Binary(Content),
    /// A ping, to be answered with the same payload.
    Ping(Bytes),
    /// A pong; all it tells is that the client lives.
    Pong,
    /// A close frame. Nothing may follow it.
    Close {
        /// Its code; 1005 if it carried none (RFC 6455, section 7.1.5).
        code: u16,
        /// What it is answered with.
        answer: CloseReason,
    },
    /// The end of a message that nobody was to get any more; why it is not JSON, if its sender is yet to be told.
    Skipped(Option<InvalidJson>),
}

impl Incoming {
    /// Whether it is a message, to be forwarded or not.
    #[must_use]
    pub const fn is_message(&self) -> bool {
        matches!(self, Self::Text(..) | Self::Binary(_) | Self::Skipped(_))
    }

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
    /// Small, and joined from fragments.
    Joined(Vec<u8>),
    /// A message in transit, and how long it is in bytes. Whoever is given it has to see that it is
    /// [detached](Transits::detach_sender) from its sender.
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

    /// Whether the message has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of the payload, as far as it is in memory, wherever that is; `receiver` and `transits` are those that it
    /// came through.
    #[must_use]
    pub fn to_vec(&self, receiver: &Receiver, transits: &Transits) -> Vec<u8> {
        match self {
            Self::Received(range) => receiver.range(range.clone()).to_vec(),
            Self::Joined(bytes) => bytes.clone(),
            Self::InTransit(key, _) => transits.get(*key).bytes().collect::<Vec<_>>().concat(),
        }
    }
}

/// What is asked of a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest message, in bytes.
    pub size_max: usize,
    /// Whether anybody will look at the `type` of a text.
    pub wants_type: bool,
    /// Whether a text that is not JSON is of no use: what comes of it is not kept.
    pub requires_json: bool,
    /// Up to this many bytes a message is kept until it is whole; a longer one becomes a message in transit.
    pub small_bytes_max: usize,
    /// Data frames are thrown away as they come, whatever their size; only control frames are handed out.
    pub discard: bool,
}

/// What a client sent is refused: the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// What goes into the close frame.
    pub reason: CloseReason,
    /// What the client is told before it.
    pub error: Option<ClientError>,
    /// Whether frames can still be told apart in what follows, and the client's close be heard.
    pub is_framing_intact: bool,
}

impl From<CloseReason> for Violation {
    fn from(reason: CloseReason) -> Self {
        let is_framing_intact = !matches!(reason, CloseReason::Protocol(_));
        Self { reason, error: None, is_framing_intact }
    }
}
