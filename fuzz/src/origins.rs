//! A slow parser of origins: a state for each part, one character after the other.

/// Scheme, host and port in lower case. All are empty for `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NaiveOrigin {
    pub scheme: String,
    pub host: String,
    /// `None` if it is neither written nor known from the scheme.
    pub port: Option<u64>,
}

/// Parses an origin. `None` if it is not valid.
pub fn read(text: &str) -> Option<NaiveOrigin> {
    if text == "null" {
        return Some(NaiveOrigin::default());
    }
    let mut scheme = String::new();
    let mut rest = text.chars();
    for c in rest.by_ref() {
        if c == ':' {
            break;
        }
        let is_allowed = c.is_ascii_alphabetic()
            || (!scheme.is_empty() && (c.is_ascii_digit() || matches!(c, '+' | '-' | '.')));
        if !is_allowed {
            return None;
        }
        scheme.push(c.to_ascii_lowercase());
    }
    let authority = rest.as_str().strip_prefix("//")?;
    if scheme.is_empty() {
        return None;
    }
    let (host, port) = host_and_port(authority)?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    let port = port.or_else(|| port_of(&scheme));
    Some(NaiveOrigin { scheme, host: host.to_ascii_lowercase(), port })
}

/// Whether the origin is the host of a `Host` field.
pub fn is_at(origin: &NaiveOrigin, host: &str) -> bool {
    let Some((name, port)) = host_and_port(host) else { return false };
    !origin.scheme.is_empty()
        && origin.host == name.to_ascii_lowercase()
        && origin.port == port.or_else(|| port_of(&origin.scheme))
}

/// The port follows the first colon after the first closing bracket, if there is a bracket.
fn host_and_port(authority: &str) -> Option<(String, Option<u64>)> {
    let bracket = authority.chars().position(|c| c == ']');
    let characters: Vec<char> = authority.chars().collect();
    let colon = (0..characters.len())
        .find(|&index| characters[index] == ':' && bracket.is_none_or(|bracket| index > bracket));
    let Some(colon) = colon else { return Some((authority.to_owned(), None)) };
    let host = characters[..colon].iter().collect();
    let mut port = None;
    for digit in &characters[colon + 1..] {
        let number = port.unwrap_or(0_u64) * 10 + u64::from(digit.to_digit(10)?);
        if number > 65_535 {
            return None;
        }
        port = Some(number);
    }
    Some((host, port))
}

/// The default port of a scheme.
pub fn port_of(scheme: &str) -> Option<u64> {
    [("http", 80), ("ws", 80), ("https", 443), ("wss", 443)]
        .into_iter()
        .find_map(|(known, port)| (known == scheme).then_some(port))
}
