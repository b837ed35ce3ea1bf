//! The client that proxies name: all that they wrote in one list, walked from its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::ranges::{self, Range};

/// What one proxy wrote.
#[derive(Clone, Copy, Debug)]
enum Word {
    Address(IpAddr),
    Hidden,
    Malformed,
}

/// The client that the fields `X-Forwarded-For` and `Forwarded` name. An error if they are malformed.
pub fn client([by_habit, by_standard]: [Vec<&[u8]>; 2], proxies: &[Range]) -> Result<Option<IpAddr>, ()> {
    let mut habit = Vec::new();
    for value in by_habit {
        habit.extend(value.split(|&byte| byte == b',').map(strip).filter(|word| !word.is_empty()).map(word));
    }
    let mut standard = Vec::new();
    for value in by_standard {
        let elements = split(value, b',');
        standard.extend(elements.into_iter().map(strip).filter(|word| !word.is_empty()).map(word_of_element));
    }
    match (walk(&habit, proxies)?, walk(&standard, proxies)?) {
        (one, other) if habit.is_empty() || standard.is_empty() => Ok(one.or(other)),
        (one, other) if one == other => Ok(one),
        _ => Err(()),
    }
}

fn walk(words: &[Word], proxies: &[Range]) -> Result<Option<IpAddr>, ()> {
    let mut client = None;
    for index in (0..words.len()).rev() {
        match words[index] {
            Word::Malformed => return Err(()),
            Word::Hidden => return Ok(client),
            Word::Address(address) => {
                client = Some(address);
                if !ranges::contain(proxies, address) {
                    return Ok(client);
                }
            }
        }
    }
    Ok(client)
}

fn word_of_element(element: &[u8]) -> Word {
    for pair in split(element, b';') {
        let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = (strip(&pair[..equals]), strip(&pair[equals + 1..]));
        if name.eq_ignore_ascii_case(b"for") {
            let is_quoted = value.len() >= 2 && value[0] == b'"' && value[value.len() - 1] == b'"';
            return word(if is_quoted { &value[1..value.len() - 1] } else { value });
        }
    }
    Word::Hidden
}

/// The pieces in order. A separator counts if an even number of quotes stands between it and the end of its piece. So a
/// client's own text to the left of what a proxy wrote cannot change the result.
fn split(value: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut end = value.len();
    let mut pieces = Vec::new();
    for place in (0..value.len()).rev() {
        if value[place] == separator && quotes(value, place + 1, end).is_multiple_of(2) {
            pieces.insert(0, &value[place + 1..end]);
            end = place;
        }
    }
    pieces.insert(0, &value[..end]);
    pieces
}

/// The number of quotes in that part that are not escaped. A single backslash escapes; a pair is a literal one.
fn quotes(value: &[u8], start: usize, end: usize) -> usize {
    let is_quote = |&place: &usize| {
        let backslashes = (0..place).rev().take_while(|&before| value[before] == b'\\').count();
        value[place] == b'"' && backslashes % 2 == 0
    };
    (start..end).filter(is_quote).count()
}

/// ADDRESS, IPV4:PORT, [IPV6] or [IPV6]:PORT, with any port.
fn word(word: &[u8]) -> Word {
    let Ok(text) = std::str::from_utf8(word) else { return Word::Malformed };
    if text.eq_ignore_ascii_case("unknown") || text.starts_with('_') {
        return Word::Hidden;
    }
    let colon = text.find(':').unwrap_or(text.len());
    let bracket = text.find(']').unwrap_or(text.len());
    let plain = text.parse::<IpAddr>().ok();
    let with_port = text[..colon].parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let in_brackets = text[..bracket].strip_prefix('[').and_then(|text| text.parse::<Ipv6Addr>().ok());
    let behind = text.get(bracket + 1..).unwrap_or("x");
    let in_brackets = in_brackets.filter(|_| behind.is_empty() || behind.starts_with(':')).map(IpAddr::V6);
    plain
        .or(with_port)
        .or(in_brackets)
        .map_or(Word::Malformed, |address| Word::Address(plain_address(address)))
}

/// A mapped address as IPv4.
fn plain_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(mapped) if mapped.segments()[..6] == [0, 0, 0, 0, 0, 0xFFFF] => {
            let [.., a, b, c, d] = mapped.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

fn strip(value: &[u8]) -> &[u8] {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(|byte| is_white(byte)).count();
    let end = value.iter().rev().take_while(|byte| is_white(byte)).count();
    if start == value.len() { &[] } else { &value[start..value.len() - end] }
}
