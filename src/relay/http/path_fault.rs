//! Why a path is not the path of one side of a session.

use std::borrow::Cow;

use crate::relay::ids::{ClientType, SessionId};

/// Why a path is not the path of one side of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// It begins with none of the known paths.
    Unknown,
    /// It is a session path, except for the case of letters.
    Case,
    /// A session path follows something else, such as a prefix of a proxy.
    Prefix,
    /// It is `/sessions`, where sessions are issued but not joined.
    Sessions,
    /// It ends where the session ID should begin.
    NoSessionId,
    /// Something other than a query follows the session ID.
    AfterSessionId,
    /// The session ID is too long.
    TooLong {
        /// Its length in bytes, saturating.
        bytes: u16,
    },
    /// The session ID has a character that is not allowed.
    Character {
        /// The first byte of the character.
        byte: u8,
    },
}

impl PathFault {
    /// Finds out why `path` is not a session path.
    pub(super) fn of(path: &str) -> Self {
        if let Some(id) = id_in(path) {
            return Self::of_id(id);
        }
        if id_in(&path.to_ascii_lowercase()).is_some() {
            return Self::Case;
        }
        let is_session = |(at, _): (usize, &str)| path.get(at..).and_then(id_in).is_some();
        // The first slash begins the path itself, so it is left out.
        if path.match_indices('/').skip(1).any(is_session) { Self::Prefix } else { Self::Unknown }
    }

    fn of_id(id: &str) -> Self {
        let (first, after) = id.split_once('/').map_or((id, None), |(first, after)| (first, Some(after)));
        if first.is_empty() {
            return Self::NoSessionId;
        }
        // A wrong character explains more than what follows it.
        if let Some(byte) = first.bytes().find(|byte| !SessionId::is_allowed(*byte)) {
            return Self::Character { byte };
        }
        if after.is_some() {
            return Self::AfterSessionId;
        }
        Self::TooLong { bytes: u16::try_from(id.len()).unwrap_or(u16::MAX) }
    }

    /// What is wrong, as the end of a sentence that lists the known paths.
    pub(super) fn sentence(self) -> Cow<'static, str> {
        let of_id = |problem: &str| {
            format!(
                "a session ID is 1 to {} letters A-Z and a-z, digits, - and _, and this one {problem}",
                SessionId::BYTES_MAX
            )
        };
        match self {
            Self::Unknown => "this path begins with none of them".into(),
            Self::Case => "write this path in lower case up to the session ID".into(),
            Self::Prefix => "nothing may come before that; let the proxy remove it".into(),
            Self::Sessions => "POST to /sessions, without an upgrade, gives a session ID to use there".into(),
            Self::NoSessionId => of_id("is empty").into(),
            Self::AfterSessionId => "nothing may follow the session ID but a query".into(),
            Self::TooLong { bytes } => of_id(&format!("has {bytes} characters")).into(),
            Self::Character { byte: b'%' } => of_id("has a %; percent-encoding is not decoded").into(),
            Self::Character { byte } if byte.is_ascii_graphic() => {
                of_id(&format!("has a {}", char::from(byte))).into()
            }
            Self::Character { byte } => of_id(&format!("has the byte 0x{byte:02X}")).into(),
        }
    }
}

/// The part of the path where the session ID belongs, and all after it. `None` if the path is not one of a session.
fn id_in(path: &str) -> Option<&str> {
    let segments = path.strip_prefix('/')?;
    ClientType::ALL.into_iter().find_map(|client_type| {
        let after = segments.strip_prefix(client_type.as_str())?;
        if after.is_empty() { Some(after) } else { after.strip_prefix('/') }
    })
}
