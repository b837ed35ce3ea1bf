//! The door to randomness: nothing else asks for any.

use std::io;

/// Sixteen bytes that nobody can guess, as the seed of [`Relay::new`](crate::relay::Relay::new).
pub(crate) fn seed() -> io::Result<[u64; 2]> {
    Ok([getrandom::u64()?, getrandom::u64()?])
}
