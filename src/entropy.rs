//! Reads randomness from the system. No other code may read it: seeds are arguments everywhere else.

use std::io;

/// Sixteen random bytes, as the seed of [`Relay::new`](crate::relay::Relay::new).
///
/// # Errors
/// The system has no source of randomness.
pub(crate) fn seed() -> io::Result<[u64; 2]> {
    Ok([getrandom::u64()?, getrandom::u64()?])
}
