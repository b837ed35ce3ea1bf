//! Where a connection comes from.

use super::address::ClientAddress;

/// Where a connection comes from, and how that was taken.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// Its peer's address, or what a proxy says.
    pub(super) client: ClientAddress,
    /// It counts against the limit of its host.
    pub(super) is_counted: bool,
    /// It was refused for its address.
    pub(super) is_turned_away: bool,
}
