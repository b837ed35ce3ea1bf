//! Where a connection comes from.

use crate::relay::address::ClientAddress;

/// Where a connection comes from, and how that was taken.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// Its peer's address, or what a proxy says.
    pub(crate) client: ClientAddress,
    pub(crate) standing: Standing,
}

/// How the limits per address take a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They do not apply to it.
    #[default]
    Exempt,
    /// It counts against the limit of its host.
    Counted,
    /// It is beyond a limit, or its address is not served: it takes no place of a client's, and gets nothing but
    /// the relay's health or a refusal. It may count against the limit of its host all the same.
    Outside {
        /// It does.
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
