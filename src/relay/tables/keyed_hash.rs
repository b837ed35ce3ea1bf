//! The hash of the tables that clients fill.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The standard hash behind a secret prefix, so that nobody can choose keys that collide. The standard
/// library's own prefix would be entropy that nobody handed in.
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
