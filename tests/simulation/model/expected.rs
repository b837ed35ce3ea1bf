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
    /// Notices of so many messages delivered, in one or several.
    Receipts(u64),
    /// Without a given reason, any is accepted.
    Close {
        code: u16,
        reason: Option<String>,
    },
}

/// An application message in transit to a receiver.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a message")]
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
    /// On how many connections that have ended it was written in full.
    pub written: u32,
    /// Its start is no longer in memory: it cannot begin again.
    pub is_start_lost: bool,
}

impl Message {
    /// A message of which `noted` bytes have arrived.
    pub const fn new(
        id: u64,
        content: Rc<Content>,
        noted: usize,
        is_whole: bool,
        is_in_transit: bool,
    ) -> Self {
        Self {
            id,
            content,
            noted,
            is_whole,
            is_in_transit,
            was_short: false,
            written: 0,
            is_start_lost: false,
        }
    }

    /// Its bytes, as the relay counts them: its own bytes if it is in transit, otherwise its frame.
    pub fn queued_bytes(&self) -> usize {
        if self.is_in_transit { self.noted } else { frame_len(self.content.payload.len()) }
    }
}

impl Expected {
    /// Queued bytes as the relay counts them: its own bytes for a message in transit, otherwise frames.
    pub fn queued_bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.queued_bytes(),
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
    match item {
        Expected::Answer(_) => 0,
        Expected::System { start, end } => frame_len(start.len() + end.len()),
        Expected::Close { reason, .. } => frame_len(2 + reason.as_ref().map_or(0, String::len)),
        Expected::Message(message) => frame_len(message.content.payload.len()),
        Expected::Receipts(_) => frame_len(RECEIPT_START.len()),
    }
}

/// How a notice of delivered messages begins.
pub(super) const RECEIPT_START: &str = r#"{"type":"delivered","count":"#;

const fn frame_len(payload: usize) -> usize {
    header_len(payload) + payload
}

/// The number of messages in a notice that they were delivered.
pub(super) fn receipt_count(payload: &[u8]) -> Option<u64> {
    let payload = std::str::from_utf8(payload)
        .ok()
        .filter(|payload| is_like(payload.as_bytes(), RECEIPT_START, "}"))?;
    let (count, rest) = payload.strip_prefix(RECEIPT_START)?.split_once(',')?;
    rest.starts_with(r#""timestamp":"#).then(|| count.parse().ok()).flatten()
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
