//! Every bound of a setting, with its unit and its reason.

use std::time::Duration;

use crate::relay::limits::SESSIONS_PER_CONNECTION;

/// The port listened on by default.
pub(crate) const DEFAULT_PORT: u16 = 8787;
/// Longest duration of any setting: long enough to mean never, far too short for a deadline to overflow.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Largest `max_message_size`, in bytes: a message is one piece of memory, and this much of it can
/// be had, and counted in 32 bits, everywhere.
pub(crate) const MESSAGE_SIZE_MAX: usize = 1024 * 1024 * 1024;
/// Largest `max_buffered`, in bytes: more memory than machines have, and no sum of it overflows.
pub(crate) const BUFFERED_MAX: usize = if usize::BITS >= 64 { 1 << 40 } else { 1 << 30 };
/// Largest `max_connections`: ten times the files that Linux lets one process open, unless told otherwise.
pub(crate) const CONNECTIONS_MAX: usize = 10_000_000;
/// Largest `max_byte_rate`, in bytes per second: a client on a 10 Gbit/s network comes near it, and a
/// limit above what can be reached is none.
pub(crate) const BYTE_RATE_MAX: u64 = 1024 * 1024 * 1024;

/// Most addresses to listen on.
pub(crate) const LISTENERS_MAX: usize = 64;

const _: () = assert!(MESSAGE_SIZE_MAX <= u32::MAX as usize);
const _: () = assert!(CONNECTIONS_MAX <= u32::MAX as usize / SESSIONS_PER_CONNECTION);
