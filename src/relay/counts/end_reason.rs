//! Why a connection ended.

use crate::relay::wire::close_reason::CloseReason;

/// Why a connection ended, as the log and the metrics name it (section 9 of the contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// It sent an HTTP request without an upgrade, and was answered.
    Answered,
    /// Its request was refused in HTTP.
    Refused,
    /// The client closed it.
    ClientClosed,
    /// The stream ended or failed without a close.
    Lost,
    /// Another connection took its place.
    Replaced,
    /// Its session timed out.
    SessionTimeout,
    /// The relay shuts down.
    ShuttingDown,
    /// Nothing came from the client for two ping intervals.
    Silent,
    /// The client accepted no byte for the stall timeout.
    TakesNothing,
    /// A message of the client stood still, or was not whole in time.
    MessageTimeout,
    /// The client broke the rules of RFC 6455.
    ProtocolError,
    /// A text was not UTF-8.
    NotUtf8,
    /// A message was too large.
    TooLarge,
    /// Its session was claimed with a secret that the client had not sent.
    Unproven,
    /// The relay had no memory for its message, or too many notices waited for it.
    NoRoom,
    /// The client had received a part of a message that will never be whole.
    CutShort,
}

impl EndReason {
    /// All reasons.
    pub const ALL: [Self; 16] = [
        Self::Answered,
        Self::Refused,
        Self::ClientClosed,
        Self::Lost,
        Self::Replaced,
        Self::SessionTimeout,
        Self::ShuttingDown,
        Self::Silent,
        Self::TakesNothing,
        Self::MessageTimeout,
        Self::ProtocolError,
        Self::NotUtf8,
        Self::TooLarge,
        Self::Unproven,
        Self::NoRoom,
        Self::CutShort,
    ];

    /// The name in the log and in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::ClientClosed => "client_closed",
            Self::Lost => "lost",
            Self::Replaced => "replaced",
            Self::SessionTimeout => "session_timeout",
            Self::ShuttingDown => "shutting_down",
            Self::Silent => "silent",
            Self::TakesNothing => "takes_nothing",
            Self::MessageTimeout => "message_timeout",
            Self::ProtocolError => "protocol_error",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::Unproven => "unproven",
            Self::NoRoom => "no_room",
            Self::CutShort => "cut_short",
        }
    }
}

impl From<&CloseReason> for EndReason {
    fn from(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::Echo(..) => Self::ClientClosed,
            CloseReason::Replaced(_) => Self::Replaced,
            CloseReason::SessionTimeout => Self::SessionTimeout,
            CloseReason::ShuttingDown => Self::ShuttingDown,
            CloseReason::Silent => Self::Silent,
            CloseReason::TakesNothing => Self::TakesNothing,
            CloseReason::MessageTimeout => Self::MessageTimeout,
            CloseReason::Protocol(_) => Self::ProtocolError,
            CloseReason::NotUtf8 => Self::NotUtf8,
            CloseReason::TooLarge => Self::TooLarge,
            CloseReason::Claimed => Self::Unproven,
            CloseReason::NoRoom | CloseReason::NoticesUnread => Self::NoRoom,
            CloseReason::CutShort => Self::CutShort,
        }
    }
}
