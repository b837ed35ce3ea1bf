//! Identifiers of connections and sessions, and the two client types.

use std::fmt;

/// Identifies one connection. No other connection of this relay gets the same identifier.
///
/// A slot is used again after its connection has ended; the generation then differs. So an identifier that was kept
/// for too long matches no connection, rather than a wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Index in the slab of connections.
    pub slot: u32,
    /// How many connections had been accepted before this one, modulo [`Self::GENERATION_MAX`] + 1.
    pub generation: u32,
}

impl ConnectionId {
    /// The largest generation. It fits into half a machine word, so that a host can store slot and generation in one.
    pub const GENERATION_MAX: u32 = if usize::BITS >= 64 { u32::MAX } else { 0xFFFF };
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// The side of a session that a client takes: the first segment of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientType {
    /// The developer's app. It sends bundles.
    Desktop,
    /// The phone. It receives bundles.
    Mobile,
}

impl ClientType {
    /// Both client types. The order is that of every array with one entry for each client type.
    pub const ALL: [Self; 2] = [Self::Desktop, Self::Mobile];

    /// The other client type.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Desktop => Self::Mobile,
            Self::Mobile => Self::Desktop,
        }
    }

    /// The word used in paths and system messages: `desktop` or `mobile`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Mobile => "mobile",
        }
    }

    /// The same word at the start of a sentence: `Desktop` or `Mobile`.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Desktop => "Desktop",
            Self::Mobile => "Mobile",
        }
    }
}

/// A session ID as it is written in the path: `[A-Za-z0-9_-]{1,128}`. Case matters.
///
/// An ID of up to [`SHORT_BYTES_MAX`](Self::SHORT_BYTES_MAX) bytes is stored inline, without an allocation, so that a
/// table of sessions does not fragment the heap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Text);

/// The stored text. A given text always has the same variant, so that the derived comparisons are right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Text {
    /// The length in bytes, and the text, padded with zeros.
    Short(u8, [u8; SessionId::SHORT_BYTES_MAX]),
    Long(Box<str>),
}

impl SessionId {
    /// The longest session ID, in bytes.
    pub const BYTES_MAX: usize = 128;
    /// The longest ID that is stored inline, in bytes: 128 bits in base64url.
    pub const SHORT_BYTES_MAX: usize = 22;

    /// Checks a path segment and copies it. `None` if it is not a session ID.
    #[must_use]
    pub fn parse(segment: &[u8]) -> Option<Self> {
        let is_allowed = segment.iter().copied().all(Self::is_allowed);
        if segment.is_empty() || segment.len() > Self::BYTES_MAX || !is_allowed {
            return None;
        }
        let mut short = [0; Self::SHORT_BYTES_MAX];
        // `get_mut` is `None` exactly if the segment is too long to be stored inline.
        Some(Self(match (short.get_mut(..segment.len()), u8::try_from(segment.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(segment);
                Text::Short(length, short)
            }
            (_, _) => Text::Long(std::str::from_utf8(segment).ok()?.into()),
        }))
    }

    /// Whether a session ID may contain this byte.
    #[must_use]
    pub const fn is_allowed(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
    }

    /// The text. It needs no escaping in JSON or in a log line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Short(length, bytes) => {
                let bytes = bytes.get(..usize::from(*length)).unwrap_or_default();
                // ASCII, as `parse` has checked.
                std::str::from_utf8(bytes).unwrap_or_default()
            }
            Text::Long(text) => text,
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_is_1_to_128_url_safe_characters() {
        let [longest, short, long] = [128, 22, 23].map(|length| "x".repeat(length));
        for valid in [short.as_str(), long.as_str(), "a", "abc123", "A-b_C", "-", "_", longest.as_str()] {
            assert_eq!(SessionId::parse(valid.as_bytes()).map(|id| id.to_string()), Some(valid.to_owned()));
        }
        let too_long = "x".repeat(129);
        for invalid in ["", "a b", "a/b", "a%41", "ä", "a.b", "a\n", "a#", too_long.as_str()] {
            assert_eq!(SessionId::parse(invalid.as_bytes()), None, "{invalid:?}");
        }
    }
}
