//! How many files, and so how many connections, the process may have open.

use super::platform::file_limit;
use crate::admin;
use crate::relay::limits::REFUSALS_MAX;

/// Descriptors that are neither connections nor listeners: the standard streams, the poll and its waker, the signals'
/// pipe, a file that is being read, and what else the process may have open.
pub(super) const DESCRIPTORS_RESERVED: usize = 16;

/// How many connections of clients there are descriptors for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// At once, those included that are only told to come back.
    pub(super) open: usize,
    /// Of these, those that are served.
    pub(super) served: usize,
}

impl ConnectionLimits {
    /// What the limit on open files leaves beside so many listeners for clients and for the operator.
    pub(super) fn beside(listeners: usize, admin_listeners: usize) -> Self {
        Self::within(file_limit(), listeners, admin_listeners)
    }

    /// Where the limit is so low that next to nothing would be left, clients get a quarter of it.
    fn within(file_limit: usize, listeners: usize, admin_listeners: usize) -> Self {
        let operators = if admin_listeners == 0 { 0 } else { admin::CONNECTIONS_MAX };
        let reserved = DESCRIPTORS_RESERVED + listeners + admin_listeners + operators;
        let open = file_limit.saturating_sub(reserved).max(file_limit / 4).max(2);
        Self { open, served: open - REFUSALS_MAX.min(open / 2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_has_its_descriptors_beside_those_of_clients() {
        for (file_limit, listeners, admin_listeners, open, served) in [
            (1024, 1, 0, 1007, 943),
            (1024, 1, 1, 990, 926),
            (1024, 41, 1, 950, 886),
            (128, 1, 1, 94, 47),
            (64, 1, 1, 30, 15),
            (40, 1, 1, 10, 5),
            (20, 64, 1, 5, 3),
            (0, 1, 1, 2, 1),
            (usize::MAX, 64, 64, usize::MAX - 160, usize::MAX - 224),
        ] {
            let limits = ConnectionLimits::within(file_limit, listeners, admin_listeners);
            assert_eq!(
                limits,
                ConnectionLimits { open, served },
                "{file_limit} {listeners} {admin_listeners}"
            );
        }
    }
}
