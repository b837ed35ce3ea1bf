//! The hash function of the tables whose keys clients choose.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The standard library's hash, started with a secret key, so that no client can choose keys that collide. The
/// standard library's own random key would be randomness that the host has not given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyedHash(pub(crate) [u64; 2]);

impl KeyedHash {
    pub(crate) fn of(self, key: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        for word in self.0 {
            hasher.write_u64(word);
        }
        key.hash(&mut hasher);
        hasher.finish()
    }
}
