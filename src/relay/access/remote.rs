//! Where a connection comes from, and how the limits per address see it.

use crate::relay::address::ClientAddress;

/// The far end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Remote {
    /// The address of its peer, or the one that a trusted proxy names.
    pub(crate) address: ClientAddress,
    pub(crate) standing: Standing,
}

/// How the limits per address see a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The limits do not apply to it.
    #[default]
    Exempt,
    /// It counts against the limit of its host.
    Counted,
    /// It is over a limit, or its address is not served. It takes no place of a client and gets only the relay's
    /// health or a refusal.
    Outside {
        /// It counts against the limit of its host all the same.
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
