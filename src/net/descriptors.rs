//! How many files, and so how many connections, the process may have open.

use super::platform::file_limit;
use crate::relay::limits::REFUSALS_MAX;

/// Descriptors that are not connections: the standard streams, the poll, listeners, the signal
/// pipe and whatever else the process has open.
pub(super) const DESCRIPTORS_RESERVED: usize = 32;

/// How many connections the limit leaves room for, beside those that are only told to come back;
/// half of it where it is very low.
pub(super) fn connections_max() -> usize {
    let limit = file_limit();
    (limit - (DESCRIPTORS_RESERVED + REFUSALS_MAX).min(limit / 2)).max(1)
}
