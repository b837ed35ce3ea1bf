//! Where a connection comes from.

use super::address::ClientAddress;

/// Where a connection comes from, and how that was taken.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// Its peer's address, or what a proxy says.
    pub(super) client: ClientAddress,
    pub(super) standing: Standing,
}

/// How the limits per address take a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// They do not apply to it.
    #[default]
    Exempt,
    /// It counts against the limit of its host.
    Counted,
    /// It was refused for its address.
    TurnedAway,
}
