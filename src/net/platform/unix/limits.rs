//! How many files the process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where the system sets no limit, ours: what Linux allows unless told otherwise.
const UNLIMITED: u64 = 1 << 20;
/// What macOS allows every process (`OPEN_MAX`). Of its hard limit, which is none as a rule, it takes no word.
const MACOS_LIMIT: u64 = 10_240;

/// Raises the soft limit on open files to the hard one, or as far as the system takes it.
pub fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    let set = |current| setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    let is_higher = |wanted: u64| limit.current.is_some_and(|current| current < wanted);
    let result = set(limit.maximum);
    if limit.maximum.is_some() || result.is_ok() {
        return Ok(result?);
    }
    // There is no hard limit, and yet one that the system keeps to itself.
    let lower = [UNLIMITED, MACOS_LIMIT].into_iter().filter(|&wanted| is_higher(wanted));
    Ok(lower.fold(result, |result, wanted| result.or_else(|_| set(Some(wanted))))?)
}

/// The soft limit on open files.
#[must_use]
pub(in crate::net) fn file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
