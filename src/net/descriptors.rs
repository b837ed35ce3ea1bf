//! How many connections the limit on open files allows.

use super::platform::file_limit;
use crate::admin;
use crate::relay::limits::REFUSALS_MAX;

/// Descriptors that are neither connections nor listeners: the standard streams, the poll and its waker, the signals'
/// pipe, a file that is being read, and a few spare ones.
pub(super) const DESCRIPTORS_RESERVED: usize = 16;

/// How many connections of clients the limit on open files allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// Open at once, including refused connections that wait for their answer to be read.
    pub(super) open: usize,
    /// Served at once.
    pub(super) served: usize,
}

impl ConnectionLimits {
    /// The limits of a process with this many listeners for clients and for the operator.
    pub(super) fn beside(listeners: usize, admin_listeners: usize) -> Self {
        Self::within(file_limit(), listeners, admin_listeners)
    }

    /// As [`beside`](Self::beside), for a given limit on open files. Clients get at least a quarter of it.
    fn within(file_limit: usize, listeners: usize, admin_listeners: usize) -> Self {
        let operators = if admin_listeners == 0 { 0 } else { admin::CONNECTIONS_MAX };
        let reserved = DESCRIPTORS_RESERVED + listeners + admin_listeners + operators;
        // At least two: one connection to serve and one to refuse.
        let open = file_limit.saturating_sub(reserved).max(file_limit / 4).max(2);
        // With few descriptors, at most half of them are for connections that are only refused.
        Self { open, served: open - REFUSALS_MAX.min(open / 2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_and_operators_have_descriptors_beside_those_of_clients() {
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
