//! Who is who: connections, sessions and client types.

use std::fmt;

/// Names one connection for as long as the relay lives.
///
/// The slot is reused once a connection has ended; the generation is not, so an identifier that
/// outlived its connection names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Index in the slab of connections.
    pub slot: u32,
    /// How many connections had been accepted before this one, modulo [`Self::GENERATION_MAX`] + 1.
    pub generation: u32,
}

impl ConnectionId {
    /// Generations fit half a machine word, so that a host can keep slot and generation in one.
    pub const GENERATION_MAX: u32 = if usize::BITS >= 64 { u32::MAX } else { 0xFFFF };
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// Which side of a session a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientType {
    /// The developer's app, which sends bundles.
    Desktop,
    /// The phone, which receives them.
    Mobile,
}

impl ClientType {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Desktop, Self::Mobile];

    /// The client type at the other end of the session.
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

    /// The word as it begins a sentence: `Desktop` or `Mobile`.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Desktop => "Desktop",
            Self::Mobile => "Mobile",
        }
    }
}

/// A session's name as it stands in the path: `[A-Za-z0-9_-]{1,128}`, case-sensitive.
///
/// One of up to [`SHORT_BYTES_MAX`](Self::SHORT_BYTES_MAX) needs no memory of its own: a table of them leaves no
/// holes in the heap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Text);

/// The same text has always the same form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Text {
    /// Its length, and the text, zeros behind it.
    Short(u8, [u8; SessionId::SHORT_BYTES_MAX]),
    Long(Box<str>),
}

impl SessionId {
    /// The longest session ID, in bytes.
    pub const BYTES_MAX: usize = 128;
    /// The longest that stands in its place: 128 bits in base64url.
    pub const SHORT_BYTES_MAX: usize = 22;

    /// Checks a path segment and keeps it; `None` if it is not a session ID.
    #[must_use]
    pub fn parse(segment: &[u8]) -> Option<Self> {
        let is_allowed = segment.iter().copied().all(Self::is_allowed);
        if segment.is_empty() || segment.len() > Self::BYTES_MAX || !is_allowed {
            return None;
        }
        let mut short = [0; Self::SHORT_BYTES_MAX];
        Some(Self(match (short.get_mut(..segment.len()), u8::try_from(segment.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(segment);
                Text::Short(length, short)
            }
            (_, _) => Text::Long(std::str::from_utf8(segment).ok()?.into()),
        }))
    }

    /// Whether the byte may stand in a session ID.
    #[must_use]
    pub const fn is_allowed(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
    }

    /// The text, safe to stand unescaped in JSON and in a log line.
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
