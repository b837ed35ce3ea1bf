//! What the relay must write, and whether something matches it.

use std::rc::Rc;

use crate::client::Content;

/// Something that the relay must write.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Answer(u16),
    /// A system message with this start and end. Between them there may be one sentence.
    System {
        start: String,
        end: String,
    },
    Message(Message),
    /// Without a given reason, any is accepted.
    Close {
        code: u16,
        reason: Option<String>,
    },
}

/// An application message in transit to a receiver.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub id: u64,
    pub content: Rc<Content>,
    /// Its bytes that the receiver may have been given so far.
    pub noted: usize,
    pub is_whole: bool,
    /// The relay keeps it in pieces, and sends available bytes in fragments.
    pub is_in_transit: bool,
    /// Memory may have been short while it was sent, so it may not be kept whole.
    pub was_short: bool,
}

impl Expected {
    /// Queued bytes as the relay counts them: its own bytes for a message in transit, otherwise frames.
    pub fn queued_bytes(&self) -> usize {
        match self {
            Self::Message(message) if message.is_in_transit => message.noted,
            _ => wire_len(self),
        }
    }

    /// The part of them that uses the memory for small messages.
    pub fn small_bytes(&self) -> usize {
        if self.is_in_transit() { 0 } else { wire_len(self) }
    }

    pub const fn message(&self) -> Option<&Message> {
        if let Self::Message(message) = self { Some(message) } else { None }
    }

    pub fn is_in_transit(&self) -> bool {
        self.message().is_some_and(|message| message.is_in_transit)
    }
}

pub(super) fn is_like(payload: &[u8], start: &str, end: &str) -> bool {
    payload.len() >= start.len() + end.len()
        && payload.starts_with(start.as_bytes())
        && payload.ends_with(end.as_bytes())
        && serde_json::from_slice::<serde_json::Value>(payload).is_ok()
}

/// The length of an item in one frame.
pub(super) fn wire_len(item: &Expected) -> usize {
    let frame = |payload: usize| header_len(payload) + payload;
    match item {
        Expected::Answer(_) => 0,
        Expected::System { start, end } => frame(start.len() + end.len()),
        Expected::Close { reason, .. } => frame(2 + reason.as_ref().map_or(0, String::len)),
        Expected::Message(message) => frame(message.content.payload.len()),
    }
}

pub(super) const fn header_len(payload: usize) -> usize {
    match payload {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

pub(super) fn shown(opcode: u8, payload: &[u8]) -> String {
    let start = String::from_utf8_lossy(&payload[..payload.len().min(60)]).into_owned();
    format!("opcode {opcode}, {} bytes, {start:?}", payload.len())
}

pub(super) fn shown_expected(expected: Option<&Expected>) -> String {
    match expected {
        Some(Expected::Message(message)) => {
            let content = shown(message.content.opcode, &message.content.payload);
            format!("{content}, {} of them there, whole: {}", message.noted, message.is_whole)
        }
        other => format!("{other:?}"),
    }
}
