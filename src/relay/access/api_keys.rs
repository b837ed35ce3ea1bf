//! The API keys of those who may begin sessions.

use std::collections::{BTreeMap, BTreeSet};

use super::operator_file::{FileProblem, read_all};
use super::secret::{Secret, SecretKey};

/// Longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Keys and their names, as a file holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys(Vec<(Box<str>, Secret)>);

impl ApiKeys {
    /// Reads `name key` from each line. A name is `[A-Za-z0-9._-]{1,64}`; a key is of 16 to 256 of the characters
    /// of a Bearer token (RFC 6750, section 2.1). No problem quotes a name: it may be a key in the wrong place.
    pub fn parse(text: &str) -> Result<Self, FileProblem> {
        let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
        let keys = read_all(text, "key; write lines of the form: name key", |words| {
            let &[name, key] = words else { return Err("not of the form: name key".into()) };
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
                return Err("the name is not of 1 to 64 letters, digits, dots, dashes and underscores".into());
            }
            let is_token = key.trim_end_matches('=').bytes().all(is_token_byte);
            let Some(secret) = Secret::new(key.as_bytes()).filter(|_| is_token) else {
                return Err("the key is not of 16 to 256 letters, digits and -._~+/".into());
            };
            if !names.insert(name.to_owned()) {
                return Err("a second key of the same name; keep one, or give it another name".into());
            }
            if !values.insert(key.to_owned()) {
                return Err("the key is another one's, too; give each its own".into());
            }
            Ok((name.into(), secret))
        })?;
        Ok(Self(keys))
    }
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// The names of keys, found by the keys' hashes. The search may take more or less time: what it compares is
/// hashed under a key that nobody knows.
#[derive(Debug)]
pub(crate) struct KeyNames(BTreeMap<[u8; 32], Box<str>>);

impl KeyNames {
    pub(crate) fn new(keys: ApiKeys, secret_key: &SecretKey) -> Self {
        Self(keys.0.into_iter().map(|(name, key)| (secret_key.hash(&key).to_bytes(), name)).collect())
    }

    /// Whose key this is.
    pub(crate) fn name_of(&self, key: &Secret, secret_key: &SecretKey) -> Option<&str> {
        self.0.get(&secret_key.hash(key).to_bytes()).map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_name_and_a_key() {
        let text = "# ours\n\nalice 0123456789abcdef\n  bob\tABCDEFGHIJKLMNOP== # since May\r\n";
        let keys = ApiKeys::parse(text).unwrap();
        let secret_key = SecretKey::new([1, 2]);
        let names = KeyNames::new(keys, &secret_key);
        let name_of = |key: &str| names.name_of(&Secret::new(key.as_bytes()).unwrap(), &secret_key);
        assert_eq!(name_of("0123456789abcdef"), Some("alice"));
        assert_eq!(name_of("ABCDEFGHIJKLMNOP=="), Some("bob"));
        assert_eq!(name_of("0123456789abcdeF"), None);
        assert_eq!(name_of("# since May -----"), None);
    }

    #[test]
    fn no_key_is_shown_even_where_it_stands_in_the_place_of_a_name() {
        for text in [
            "secret-0123456789 alice",
            "secret-0123456789 alice-0123456789\nsecret-0123456789 bob-01234567890",
            "alice secret-0123456789\nsecret-0123456789 secret-0123456789",
        ] {
            let error = ApiKeys::parse(text).unwrap_err();
            assert!(!error.contains("secret-"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_no_key_is_shown() {
        let long = format!("{} 0123456789abcdef", "n".repeat(65));
        for (text, problem) in [
            ("", "holds no key"),
            ("# alice 0123456789abcdef\n \n", "holds no key"),
            ("alice", "line 1: not of the form"),
            ("\nalice secret-0123456789 more", "line 2: not of the form"),
            ("alice secret-012345678", "ok"),
            ("alice secret-01234567890", "ok"),
            ("alice secret-01", "line 1: the key is not of 16 to 256"),
            ("alice secret-0123456789!", "line 1: the key is not of 16 to 256"),
            ("al:ce secret-0123456789", "line 1: the name is not of"),
            (&long, "line 1: the name is not of"),
            ("a secret-0123456789\na secret-0123456780", "line 2: a second key of the same name"),
            ("a secret-0123456789\nb secret-0123456789", "line 2: the key is another one's"),
        ] {
            match ApiKeys::parse(text) {
                Ok(_) => assert_eq!(problem, "ok", "{text}"),
                Err(error) => {
                    assert!(error.starts_with(problem), "{text}: {error}");
                    assert!(!error.contains("secret-"), "{error}");
                }
            }
        }
    }
}
