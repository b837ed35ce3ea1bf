//! Where a connection comes from.

use crate::relay::address::ClientAddress;

/// Where a connection comes from, and how that was taken.
#[derive(Debug, Default)]
pub(in super::super) struct Arrival {
    /// Its peer's address, or what a proxy says.
    pub(in super::super) client: ClientAddress,
    /// It counts against the limit of its host.
    pub(in super::super) is_counted: bool,
    /// It was refused for its address.
    pub(in super::super) is_turned_away: bool,
}
