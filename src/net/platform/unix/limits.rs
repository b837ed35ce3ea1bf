//! The limit on open files.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Our limit where the system sets none: Linux's default maximum.
const UNLIMITED: u64 = 1 << 20;
/// What macOS allows every process (`OPEN_MAX`). It usually reports no hard limit, but refuses to raise the soft one
/// beyond this.
const MACOS_LIMIT: u64 = 10_240;

/// Raises the soft limit on open files to the hard limit, or as far as the system allows.
///
/// # Errors
/// The system refuses every higher limit.
pub fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    let set = |current| setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    let is_higher = |wanted: u64| limit.current.is_some_and(|current| current < wanted);
    let result = set(limit.maximum);
    // With a hard limit, no other value can help.
    if limit.maximum.is_some() || result.is_ok() {
        return Ok(result?);
    }
    // The system reports no hard limit, but has one that it does not report.
    let lower = [UNLIMITED, MACOS_LIMIT].into_iter().filter(|&wanted| is_higher(wanted));
    Ok(lower.fold(result, |result, wanted| result.or_else(|_| set(Some(wanted))))?)
}

/// The soft limit on open files.
#[must_use]
pub(in crate::net) fn file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
