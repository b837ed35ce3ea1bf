//! Secrets of clients, the keyed hashes by which the relay compares them, and new random secrets.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::relay::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};

/// Bytes of an issued session ID or secret: 128 bits.
const ISSUED_BYTES: usize = 16;

/// A pairing secret or API key that a client has sent. Never printed, not even by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret of [`SECRET_BYTES_MIN`] to [`SECRET_BYTES_MAX`] bytes; `None` for any other length.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()).then(|| Self(bytes.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The keyed hash of a secret. Two hashes are compared in constant time.
#[derive(Clone)]
pub struct SecretHash(CtOutput<Hmac<Sha256>>);

impl SecretHash {
    /// Whether both are hashes of the same secret. The time does not depend on their content.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// The bytes of the hash, as a key for lookups. A client that does not know the relay's key cannot choose them.
    pub(crate) fn to_bytes(&self) -> [u8; 32] {
        self.0.as_bytes().to_owned().into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// The relay's key, derived from its seed. It hashes secrets, and generates issued session IDs and secrets
/// (HMAC-SHA-256, RFC 2104, as a pseudorandom function).
pub struct SecretKey {
    hashes: Hmac<Sha256>,
    draws: Hmac<Sha256>,
    drawn: u64,
    none: SecretHash,
}

impl SecretKey {
    /// Derives the keys from `seed`. They are as hard to guess as the seed.
    #[must_use]
    pub fn new(seed: [u64; 2]) -> Self {
        let seed = seed.map(u64::to_le_bytes).concat();
        // A key for each purpose, so that no output of one is an output of another.
        let derive = |purpose: &[u8]| keyed(&keyed(&seed).chain_update(purpose).finalize().into_bytes());
        let hashes = derive(b"hashes of secrets");
        let none = SecretHash(derive(b"no secret").finalize());
        Self { hashes, draws: derive(b"what is issued"), drawn: 0, none }
    }

    /// The hash of a secret. The time depends only on the secret's length.
    #[must_use]
    pub fn hash(&self, secret: &Secret) -> SecretHash {
        SecretHash(self.hashes.clone().chain_update(&secret.0).finalize())
    }

    /// A hash that no secret has. It is compared if there is no hash to compare with, so that the time is the same.
    #[must_use]
    pub const fn hash_of_none(&self) -> &SecretHash {
        &self.none
    }

    /// A new random text of 128 bits, in base64url (RFC 4648, section 5). Never the same twice.
    pub fn draw(&mut self) -> String {
        self.drawn += 1;
        // The counter is different each time, so the output is, too.
        let output = self.draws.clone().chain_update(self.drawn.to_le_bytes()).finalize().into_bytes();
        BASE64URL_NOPAD.encode(output.get(..ISSUED_BYTES).unwrap_or(&output))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "a key may have any length (RFC 2104, section 2)")]
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn secrets_have_16_to_256_bytes() {
        for (bytes, is_secret) in [(0, false), (15, false), (16, true), (256, true), (257, false)] {
            assert_eq!(Secret::new(&vec![b'x'; bytes]).is_some(), is_secret, "{bytes}");
        }
    }

    #[test]
    fn hashes_are_equal_only_for_the_same_secret_and_key() {
        let (key, other) = (SecretKey::new([1, 2]), SecretKey::new([1, 3]));
        let hash = key.hash(&secret("correct horse battery"));
        assert!(hash.is(&key.hash(&secret("correct horse battery"))));
        assert!(!hash.is(&key.hash(&secret("correct horse batterx"))));
        assert!(!hash.is(&other.hash(&secret("correct horse battery"))));
        assert!(!hash.is(key.hash_of_none()));
    }

    #[test]
    fn drawn_texts_have_128_bits_never_repeat_and_follow_from_the_seed() {
        let mut key = SecretKey::new([1, 2]);
        let drawn: std::collections::BTreeSet<String> = (0..1000).map(|_| key.draw()).collect();
        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|text| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap().len() == 16));
        assert_eq!(SecretKey::new([1, 2]).draw(), SecretKey::new([1, 2]).draw());
        assert_ne!(SecretKey::new([1, 2]).draw(), SecretKey::new([2, 2]).draw());
    }

    #[test]
    fn debug_output_shows_nothing_secret() {
        let key = SecretKey::new([1, 2]);
        let shown = format!("{:?} {:?} {key:?}", secret("correct horse battery"), key.hash_of_none());
        assert_eq!(shown, "Secret SecretHash SecretKey");
    }
}
