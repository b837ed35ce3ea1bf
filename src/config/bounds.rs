//! The bounds of settings, with units and reasons.

use std::time::Duration;

use crate::relay::limits::SESSIONS_PER_CONNECTION;

/// The default port.
pub(crate) const DEFAULT_PORT: u16 = 8787;
/// Longest duration of any setting. It is long enough to mean never, and too short for a deadline to overflow.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Largest `max_message_size`, in bytes. Every system can allocate this much as one piece, and it can be counted in
/// 32 bits.
pub(crate) const MESSAGE_SIZE_MAX: usize = 1024 * 1024 * 1024;
/// Largest `max_buffered`, in bytes. It is more memory than machines have, and sums of it do not overflow.
pub(crate) const BUFFERED_MAX: usize = if usize::BITS >= 64 { 1 << 40 } else { 1 << 30 };
/// Largest `max_connections`: ten times Linux's default limit on open files per process.
pub(crate) const CONNECTIONS_MAX: usize = 10_000_000;
/// Largest `max_byte_rate`, in bytes per second: about 10 Gbit/s. A higher limit would never act.
pub(crate) const BYTE_RATE_MAX: u64 = 1024 * 1024 * 1024;

/// Largest number of addresses to listen on. Tokens of the event loop are reserved for them.
pub(crate) const LISTENERS_MAX: usize = 64;

const _: () = assert!(MESSAGE_SIZE_MAX <= u32::MAX as usize);
const _: () = assert!(CONNECTIONS_MAX <= u32::MAX as usize / SESSIONS_PER_CONNECTION);
