//! The PROXY protocol, versions 1 and 2: a header before everything else, in which a proxy names the client
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

use crate::relay::address::ClientAddress;
use crate::relay::limits::PROXY_HEADER_BYTES_MAX;

/// The header of a proxy that speaks for itself: version 2, LOCAL, without addresses (section 2.2).
pub const LOCAL_HEADER: &[u8; FIXED_BYTES] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// The start of every header of version 2 (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of the fixed part of version 2, in bytes: the signature, version and command, family, and length.
const FIXED_BYTES: usize = 16;
/// The start of every header of version 1 (section 2.1).
const WORD: &[u8] = b"PROXY ";
/// Length of the longest header of version 1, in bytes, including CR LF.
const LINE_BYTES_MAX: usize = 107;

/// The result for the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// They may become a header. More bytes are needed.
    NeedMore,
    /// They begin with a header.
    Whole {
        /// The length of the header.
        bytes: usize,
        /// The client that the proxy names. `None` if it speaks for itself, or does not know.
        client: Option<ClientAddress>,
    },
    /// They are not the start of a header.
    Malformed,
}

/// Parses the header at the start of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> ProxyHeader {
    // Also true while fewer bytes than `start` have arrived.
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted);
    let parsed = if begins(SIGNATURE) {
        parse_binary(bytes)
    } else if begins(WORD) {
        parse_line(bytes)
    } else {
        None
    };
    parsed.unwrap_or(ProxyHeader::Malformed)
}

/// Parses version 1. `None` if the header is malformed; so in the next function.
fn parse_line(bytes: &[u8]) -> Option<ProxyHeader> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
        return (bytes.len() < LINE_BYTES_MAX).then_some(ProxyHeader::NeedMore);
    };
    let line = str::from_utf8(bytes.get(WORD.len()..end)?.strip_suffix(b"\r")?).ok()?;
    let bytes = end + 1;
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // The specification says to ignore the rest of the line.
        return Some(ProxyHeader::Whole { bytes, client: None });
    }
    let (source, destination) = (words.next()?, words.next()?);
    let client: IpAddr = match family {
        "TCP4" => {
            // The destination must be right, but is not used.
            destination.parse::<Ipv4Addr>().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    let ports = [words.next()?, words.next()?];
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_whole = ports.into_iter().all(is_port) && words.next().is_none();
    is_whole.then_some(ProxyHeader::Whole { bytes, client: Some(ClientAddress::new(client)) })
}

/// Parses version 2.
fn parse_binary(bytes: &[u8]) -> Option<ProxyHeader> {
    /// The upper four bits are the version, 2; the lower four are the command.
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const TCP_OVER_IPV4: u8 = 0x11;
    const TCP_OVER_IPV6: u8 = 0x21;
    const UNSPECIFIED: u8 = 0x00;
    const UNIX_STREAM: u8 = 0x31;
    let Some((fixed, after_fixed)) = bytes.split_at_checked(FIXED_BYTES) else {
        return Some(ProxyHeader::NeedMore);
    };
    let &[command, family, high, low] = fixed.last_chunk::<4>()?;
    // Big-endian, and without the fixed part.
    let length = usize::from(u16::from_be_bytes([high, low]));
    // A family that is not served is refused below, once the whole header is there.
    let is_command = matches!(command, LOCAL | PROXY);
    if !is_command || FIXED_BYTES + length > PROXY_HEADER_BYTES_MAX {
        return None;
    }
    let Some(rest) = after_fixed.get(..length) else { return Some(ProxyHeader::NeedMore) };
    let client: Option<IpAddr> = match (command, family) {
        (LOCAL, _) | (_, UNSPECIFIED | UNIX_STREAM) => None,
        // Source address, destination address and two ports. Extensions may follow.
        (_, TCP_OVER_IPV4) => Some(Ipv4Addr::from(*rest.first_chunk::<12>()?.first_chunk::<4>()?).into()),
        (_, TCP_OVER_IPV6) => Some(Ipv6Addr::from(*rest.first_chunk::<36>()?.first_chunk::<16>()?).into()),
        _ => return None,
    };
    Some(ProxyHeader::Whole { bytes: FIXED_BYTES + length, client: client.map(ClientAddress::new) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: usize, client: &str) -> ProxyHeader {
        let client = (client != "-").then(|| ClientAddress::new(client.parse().unwrap()));
        ProxyHeader::Whole { bytes, client }
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn of_ipv4() -> Vec<u8> {
        binary(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x1F, 0x90, 0x22, 0x53])
    }

    fn of_ipv6() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
        binary(0x21, 0x21, &[&source.octets()[..], &[0; 16], &[0; 4]].concat())
    }

    #[test]
    fn a_header_names_the_client() {
        let with_more = |header: Vec<u8>| [&header[..], b"\x04\0\x01x"].concat();
        let mut with_extension = of_ipv4();
        with_extension[15] += 4;
        let with_extension = with_more(with_extension);
        let table: [(Vec<u8>, &str); 13] = [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 8787\r\n".to_vec(), "192.0.2.1"),
            (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(), "255.255.255.255"),
            (b"PROXY TCP6 2001:db8::7 ::1 0 0\r\n".to_vec(), "2001:db8::7"),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n".to_vec(), "192.0.2.1"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "-"),
            (b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n".to_vec(), "-"),
            (of_ipv4(), "192.0.2.1"),
            (with_extension, "192.0.2.1"),
            (of_ipv6(), "2001:db8::7"),
            (LOCAL_HEADER.to_vec(), "-"),
            (binary(0x20, 0x11, &[]), "-"),
            (binary(0x21, 0x00, b"anything"), "-"),
            (binary(0x21, 0x31, &[0; 216]), "-"),
        ];
        for (header, client) in table {
            let shown = header.escape_ascii();
            assert_eq!(parse(&header), whole(header.len(), client), "{shown}");
            assert_eq!(
                parse(&[&header[..], b"GET / HTTP/1.1"].concat()),
                whole(header.len(), client),
                "{shown}"
            );
            for length in 0..header.len() {
                assert_eq!(parse(&header[..length]), ProxyHeader::NeedMore, "{length} of {shown}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused_as_soon_as_that_is_certain() {
        let too_long = [&binary(0x21, 0x00, &[])[..14], &[0x10, 0x01]].concat();
        let table: [Vec<u8>; 24] = [
            b"G".to_vec(),
            b"\x16".to_vec(),
            b"PROXI".to_vec(),
            b"\r\n\r\nX".to_vec(),
            b"PROXY \r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 8787\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 8787 \r\n".to_vec(),
            b"PROXY TCP4  192.0.2.1 10.0.0.1 8080 8787\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 8080\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +80 8787\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 localhost 1 2\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 \xff 10.0.0.1 1 2\r\n".to_vec(),
            [b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat(),
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x12, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x41, &[0; 36]),
            too_long,
        ];
        for header in table {
            assert_eq!(parse(&header), ProxyHeader::Malformed, "{}", header.escape_ascii());
        }
    }
}
