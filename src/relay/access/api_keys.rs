//! API keys. With them, only clients that have one can begin sessions.

use std::collections::{BTreeMap, BTreeSet};

use super::operator_file::{FileProblem, read_lines};
use super::secret::{Secret, SecretKey};

/// Longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The keys of a file, with their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys(Vec<(Box<str>, Secret)>);

impl ApiKeys {
    /// Parses lines of the form `name key`. A name is `[A-Za-z0-9._-]{1,64}`. A key has 16 to 256 of the characters
    /// that a Bearer token may have (RFC 6750, section 2.1).
    ///
    /// # Errors
    /// What is wrong with which line, or that there is no key. It quotes not even a name, which may be a key in the
    /// wrong column.
    pub fn parse(text: &str) -> Result<Self, FileProblem> {
        let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
        let keys = read_lines(text, "key; write lines of the form: name key", |words| {
            let &[name, key] = words else { return Err("not of the form: name key".into()) };
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
                return Err("the name is not of 1 to 64 letters, digits, dots, dashes and underscores".into());
            }
            // `=` is allowed only at the end, as padding.
            let is_token = key.trim_end_matches('=').bytes().all(is_token_byte);
            let Some(secret) = Secret::new(key.as_bytes()).filter(|_| is_token) else {
                return Err("the key is not of 16 to 256 letters, digits and -._~+/".into());
            };
            if !names.insert(name.to_owned()) {
                return Err("a second key of the same name; keep one, or give it another name".into());
            }
            if !values.insert(key.to_owned()) {
                return Err(
                    "the key is already given to another name; give each name a key of its own".into()
                );
            }
            Ok((name.into(), secret))
        })?;
        Ok(Self(keys))
    }
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// The names of keys, by the hashes of the keys. The time of a lookup may vary: the hashes that it compares are keyed
/// with a secret, so it tells a client nothing about them.
#[derive(Debug)]
pub(crate) struct KeyNames(BTreeMap<[u8; 32], Box<str>>);

impl KeyNames {
    pub(crate) fn new(keys: ApiKeys, secret_key: &SecretKey) -> Self {
        Self(keys.0.into_iter().map(|(name, key)| (secret_key.hash(&key).to_bytes(), name)).collect())
    }

    /// The name of this key. `None` if it is not one of the keys.
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
    fn an_error_shows_no_key_even_if_the_key_is_in_the_column_of_names() {
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
    fn an_error_names_the_line_and_shows_no_key() {
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
            ("a secret-0123456789\nb secret-0123456789", "line 2: the key is already given to another name"),
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
