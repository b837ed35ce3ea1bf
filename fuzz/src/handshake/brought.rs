//! The secrets and keys of a request, found and decoded by hand.

/// Secrets as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    pub secret: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    pub bearer: Option<Vec<u8>>,
}

impl Brought {
    /// `None` if any of it is wrong, or several differ. A wrong Bearer token is ignored: it may be for a proxy.
    pub fn read(query: &str, authorizations: &[&[u8]], protocols: &[&[u8]]) -> Option<Self> {
        let mut secrets: Vec<Option<Vec<u8>>> =
            in_query(query).into_iter().map(|value| percent_decoded(value.as_bytes())).collect();
        secrets.extend(in_protocols(protocols, b"apptuner.secret.").into_iter().map(base64url_decoded));
        let keys = in_protocols(protocols, b"apptuner.key.").into_iter().map(base64url_decoded).collect();
        let is_ours = |token: &&[u8]| {
            (16..=256).contains(&token.len()) && token.iter().all(|byte| (0x21..=0x7E).contains(byte))
        };
        let bearers = in_authorizations(authorizations);
        let bearer = bearers.first().filter(|_| authorizations.len() == 1).copied().filter(is_ours);
        Some(Self { secret: only(secrets).ok()?, key: only(keys).ok()?, bearer: bearer.map(<[u8]>::to_vec) })
    }
}

/// Values of `secret` in the query.
fn in_query(query: &str) -> Vec<&str> {
    query.split('&').filter_map(|pair| pair.strip_prefix("secret=")).collect()
}

fn in_protocols<'a>(protocols: &[&'a [u8]], prefix: &[u8]) -> Vec<&'a [u8]> {
    protocols.iter().filter_map(|protocol| protocol.strip_prefix(prefix)).collect()
}

/// The text after `Bearer` and white space.
fn in_authorizations<'a>(authorizations: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut tokens = Vec::new();
    for value in authorizations {
        if value.len() >= 7 && value[..7].eq_ignore_ascii_case(b"bearer ") {
            let white = value[7..].iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
            tokens.push(&value[7 + white..]);
        }
    }
    tokens
}

/// The common value of all, if there are any. An error if one is malformed, too short or long, or differs.
fn only(all: Vec<Option<Vec<u8>>>) -> Result<Option<Vec<u8>>, ()> {
    let all: Vec<Vec<u8>> = all.into_iter().collect::<Option<_>>().ok_or(())?;
    let is_right = all.iter().all(|one| one.len() >= 16 && one.len() <= 256 && one == &all[0]);
    if is_right { Ok(all.into_iter().next()) } else { Err(()) }
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut index = 0;
    while index < text.len() {
        if text[index] == b'%' {
            let digit = |index: usize| char::from(*text.get(index)?).to_digit(16);
            bytes.push((digit(index + 1)? * 16 + digit(index + 2)?) as u8);
            index += 3;
        } else {
            bytes.push(text[index]);
            index += 1;
        }
    }
    Some(bytes)
}

/// Six bits per character. Bits left over at the end must be fewer than six, and zero.
fn base64url_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = Vec::new();
    for character in text {
        let value = alphabet.iter().position(|known| known == character)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1 != 0));
    }
    let octets = bits.chunks_exact(8);
    let rest = octets.remainder();
    if rest.len() >= 6 || rest.contains(&true) {
        return None;
    }
    Some(octets.map(|octet| octet.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect())
}
