//! What the relay must write, and how to tell whether something is it.

use std::rc::Rc;

use apptuner_relay::relay::limits::{FRAGMENT_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};

/// Something that the relay must write.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Answer(u16),
    /// A system message that begins and ends like this; between them stands a sentence at most.
    System {
        start: String,
        end: String,
    },
    /// It takes `room` of the budget, if it is a large one.
    Message {
        opcode: u8,
        payload: Rc<[u8]>,
        room: usize,
    },
    /// Any reason will do where none is given.
    Close {
        code: u16,
        reason: Option<String>,
    },
}

impl Expected {
    pub const fn room(&self) -> usize {
        if let Self::Message { room, .. } = self { *room } else { 0 }
    }
}

pub(super) fn is_like(payload: &[u8], start: &str, end: &str) -> bool {
    payload.len() >= start.len() + end.len()
        && payload.starts_with(start.as_bytes())
        && payload.ends_with(end.as_bytes())
        && serde_json::from_slice::<serde_json::Value>(payload).is_ok()
}

/// Bytes of something on the wire. A message of more than 16 KiB leaves in fragments.
pub(super) fn wire_len(item: &Expected) -> usize {
    let frame = |payload: usize| header_len(payload) + payload;
    match item {
        Expected::Answer(_) => 0,
        Expected::System { start, end } => frame(start.len() + end.len()),
        Expected::Close { reason, .. } => frame(2 + reason.as_ref().map_or(0, String::len)),
        Expected::Message { payload, .. } if payload.len() > SMALL_MESSAGE_BYTES_MAX => {
            let full = (payload.len() - 1) / FRAGMENT_BYTES_MAX;
            full * frame(FRAGMENT_BYTES_MAX) + frame(payload.len() - full * FRAGMENT_BYTES_MAX)
        }
        Expected::Message { payload, .. } => frame(payload.len()),
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
        Some(Expected::Message { opcode, payload, .. }) => shown(*opcode, payload),
        other => format!("{other:?}"),
    }
}
