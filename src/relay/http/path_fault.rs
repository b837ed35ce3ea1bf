//! What is wrong with a path that names no client's side of a session.

use std::borrow::Cow;

use crate::relay::ids::{ClientType, SessionId};

/// What is wrong with a path that names no client's side of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// It begins with none of those that there are.
    Unknown,
    /// It would, but for the case of a letter.
    Case,
    /// It would, but for what stands before.
    Prefix,
    /// Sessions are issued there, and nobody joins one.
    Sessions,
    /// It ends where the session ID should begin.
    NoSessionId,
    /// Something follows the session ID.
    Behind,
    /// The session ID is too long.
    TooLong {
        /// Its length in bytes, up to the largest number that fits.
        bytes: u16,
    },
    /// The session ID has a character that none has.
    Character {
        /// Its first byte.
        byte: u8,
    },
}

impl PathFault {
    /// What is wrong with `path`, which is no session's.
    pub(super) fn of(path: &str) -> Self {
        if let Some(id) = id_in(path) {
            return Self::of_id(id);
        }
        if id_in(&path.to_ascii_lowercase()).is_some() {
            return Self::Case;
        }
        let is_session = |(at, _): (usize, &str)| path.get(at..).and_then(id_in).is_some();
        if path.match_indices('/').skip(1).any(is_session) { Self::Prefix } else { Self::Unknown }
    }

    fn of_id(id: &str) -> Self {
        let (first, behind) = id.split_once('/').map_or((id, None), |(first, behind)| (first, Some(behind)));
        if first.is_empty() {
            return Self::NoSessionId;
        }
        if let Some(byte) = first.bytes().find(|byte| !SessionId::is_allowed(*byte)) {
            return Self::Character { byte };
        }
        if behind.is_some() {
            return Self::Behind;
        }
        Self::TooLong { bytes: u16::try_from(id.len()).unwrap_or(u16::MAX) }
    }

    /// What is wrong, to be read behind the paths that there are.
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
            Self::Prefix => "nothing may stand before that, so have the proxy take it off".into(),
            Self::Sessions => "POST to /sessions, without an upgrade, gives a session ID to use there".into(),
            Self::NoSessionId => of_id("is empty").into(),
            Self::Behind => "nothing may follow the session ID but a query".into(),
            Self::TooLong { bytes } => of_id(&format!("has {bytes} characters")).into(),
            Self::Character { byte: b'%' } => of_id("has a %, for percent-encoding is not undone").into(),
            Self::Character { byte } if byte.is_ascii_graphic() => {
                of_id(&format!("has a {}", char::from(byte))).into()
            }
            Self::Character { byte } => of_id(&format!("has the byte 0x{byte:02X}")).into(),
        }
    }
}

/// What stands where a session ID should, with what follows it; `None` if the path leads to no session.
fn id_in(path: &str) -> Option<&str> {
    let segments = path.strip_prefix('/')?;
    ClientType::ALL.into_iter().find_map(|client_type| {
        let behind = segments.strip_prefix(client_type.as_str())?;
        if behind.is_empty() { Some(behind) } else { behind.strip_prefix('/') }
    })
}
