//! How many files, and so how many connections, the process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::relay::limits::REFUSALS_MAX;

/// Descriptors that are not connections: the standard streams, the poll, listeners, the signal
/// pipe and whatever else the process has open.
pub(super) const DESCRIPTORS_RESERVED: usize = 32;
/// Where the system sets no limit, ours: what Linux allows unless told otherwise.
const UNLIMITED: u64 = 1 << 20;

/// Raises the soft limit on open files to the hard one.
pub fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(())
}

/// The soft limit on open files.
#[must_use]
pub(super) fn file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// How many connections the limit leaves room for, beside those that are only told to come back;
/// half of it where it is very low.
pub(super) fn connections_max() -> usize {
    let limit = file_limit();
    (limit - (DESCRIPTORS_RESERVED + REFUSALS_MAX).min(limit / 2)).max(1)
}
