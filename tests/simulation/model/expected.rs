//! What the relay must write, and how to tell whether something is it.

use std::rc::Rc;

use crate::client::Content;

/// Something that the relay must write.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Answer(u16),
    /// A system message that begins and ends like this; between them stands a sentence at most.
    System {
        start: String,
        end: String,
    },
    Message(Message),
    /// Any reason will do where none is given.
    Close {
        code: u16,
        reason: Option<String>,
    },
}

/// An application message on its way to a receiver.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub id: u64,
    pub content: Rc<Content>,
    /// Bytes of it that the receiver may be given so far.
    pub noted: usize,
    pub is_whole: bool,
    /// The relay keeps it in pieces, and it leaves in fragments of what is there.
    pub is_in_transit: bool,
    /// Memory may have been short while its receiver got it: not all of it may be kept.
    pub was_short: bool,
}

impl Expected {
    /// Bytes as the relay counts them where something waits: of a message in transit its own, else frames.
    pub fn queued_bytes(&self) -> usize {
        match self {
            Self::Message(message) if message.is_in_transit => message.noted,
            _ => wire_len(self),
        }
    }

    /// Of these, those that take small memory.
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

/// Bytes of something in one frame.
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
