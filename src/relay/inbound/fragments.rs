//! The payload of a message that comes in fragments.

use super::{Incoming, Refused};
use crate::relay::message::CloseReason;

/// The fragments of one message, unmasked and joined.
#[derive(Debug, Default)]
pub(super) enum Fragments {
    #[default]
    None,
    /// Text, and the start of a character that a fragment ended in.
    Text {
        text: String,
        split: Vec<u8>,
    },
    Binary(Vec<u8>),
}

impl Fragments {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Text { text, split } => text.len() + split.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), CloseReason> {
        match self {
            Self::None => Ok(()),
            Self::Text { text, split } => push_text(text, split, payload),
            Self::Binary(bytes) => {
                bytes.extend_from_slice(payload);
                Ok(())
            }
        }
    }

    pub(super) fn finish(self) -> Result<Option<Incoming>, Refused> {
        match self {
            Self::None => Ok(None),
            Self::Text { text, split } if split.is_empty() => Ok(Some(Incoming::Text(text.into()))),
            Self::Text { .. } => Err(CloseReason::NotUtf8.into()),
            Self::Binary(bytes) => Ok(Some(Incoming::Binary(bytes.into()))),
        }
    }
}

/// Appends a fragment of text, each byte checked once, at the earliest moment that proves it wrong.
fn push_text(text: &mut String, split: &mut Vec<u8>, mut payload: &[u8]) -> Result<(), CloseReason> {
    while let (false, [next, rest @ ..]) = (split.is_empty(), payload) {
        split.push(*next);
        payload = rest;
        match std::str::from_utf8(split) {
            Ok(character) => {
                text.push_str(character);
                split.clear();
            }
            Err(error) if error.error_len().is_some() => return Err(CloseReason::NotUtf8),
            Err(_) => {}
        }
    }
    let mut chunks = payload.utf8_chunks();
    if let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let is_cut_short =
            std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if chunks.next().is_some() || !(chunk.invalid().is_empty() || is_cut_short) {
            return Err(CloseReason::NotUtf8);
        }
        split.extend_from_slice(chunk.invalid());
    }
    Ok(())
}
