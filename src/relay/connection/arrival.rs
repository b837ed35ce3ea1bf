//! Where a connection comes from.

use crate::relay::address::ClientAddress;

/// Where a connection comes from, and how that was taken.
#[derive(Debug, Default)]
pub(in crate::relay) struct Arrival {
    /// Its peer's address, or what a proxy says.
    pub(in crate::relay) client: ClientAddress,
    /// It counts against the limit of its host.
    pub(in crate::relay) is_counted: bool,
    /// It was refused for its address.
    pub(in crate::relay) is_turned_away: bool,
}
