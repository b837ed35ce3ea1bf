//! The far end of a connection: its address, and how the limits per address treat it.

use crate::relay::address::ClientAddress;

/// The far end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Remote {
    /// The address of the TCP peer, or the client address that a trusted proxy has named.
    pub(crate) address: ClientAddress,
    pub(crate) standing: Standing,
}

/// How the limits per address treat a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The limits do not apply to it, or do not count connections.
    #[default]
    Exempt,
    /// It counts against its host's limit of connections.
    Counted,
    /// It is over a limit, or its address is not served. It does not count as a client, and gets only the health
    /// answer or a refusal.
    Outside {
        /// It still counts against its host's limit of connections.
        is_counted: bool,
    },
}

impl Standing {
    pub(crate) const fn is_outside(self) -> bool {
        matches!(self, Self::Outside { .. })
    }

    pub(crate) const fn is_counted(self) -> bool {
        matches!(self, Self::Counted | Self::Outside { is_counted: true })
    }
}
