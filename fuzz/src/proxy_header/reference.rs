//! Slow parsers of both versions of the PROXY protocol, by its sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Their result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    NeedMore,
    Whole { bytes: usize, client: Option<IpAddr> },
    Malformed,
}

/// Parses the header at the start.
pub fn read(bytes: &[u8]) -> Reading {
    let signature = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];
    if bytes.starts_with(&signature) {
        read_binary(bytes)
    } else if bytes.starts_with(b"PROXY ") {
        read_line(bytes)
    } else if signature.starts_with(bytes) || b"PROXY ".starts_with(bytes) {
        Reading::NeedMore
    } else {
        Reading::Malformed
    }
}

/// Up to 107 bytes, of which the first LF must follow a CR.
fn read_line(bytes: &[u8]) -> Reading {
    let mut line = Vec::new();
    for &byte in bytes.iter().take(107) {
        line.push(byte);
        if byte == b'\n' {
            return match client_of_line(&line) {
                Ok(client) => Reading::Whole { bytes: line.len(), client },
                Err(()) => Reading::Malformed,
            };
        }
    }
    if line.len() == 107 { Reading::Malformed } else { Reading::NeedMore }
}

/// The client in a line, if there is one. An error if it is malformed.
fn client_of_line(line: &[u8]) -> Result<Option<IpAddr>, ()> {
    let text = String::from_utf8(line.to_vec()).map_err(|_| ())?;
    let text = text.strip_suffix("\r\n").ok_or(())?;
    let words: Vec<&str> = text.split(' ').collect();
    if words[1] == "UNKNOWN" {
        return Ok(None);
    }
    let [_, family, source, destination, source_port, destination_port] = words[..] else { return Err(()) };
    let are_ports = [source_port, destination_port].into_iter().all(|port| {
        // It may begin with any number of zeros.
        let digits = port.trim_start_matches('0');
        !port.is_empty()
            && port.chars().all(|digit| digit.is_ascii_digit())
            && (digits.len() < 5 || (digits.len() == 5 && digits <= "65535"))
    });
    let is_v6 = match family {
        "TCP4" => false,
        "TCP6" => true,
        _ => return Err(()),
    };
    let source: IpAddr = source.parse().map_err(|_| ())?;
    let destination: IpAddr = destination.parse().map_err(|_| ())?;
    let is_family = source.is_ipv6() == is_v6 && destination.is_ipv6() == is_v6;
    if are_ports && is_family { Ok(Some(source)) } else { Err(()) }
}

/// The length in the header counts the bytes after the first 16. In all there may be at most 4 KiB.
fn read_binary(bytes: &[u8]) -> Reading {
    if bytes.len() < 16 {
        return Reading::NeedMore;
    }
    let (version, command, family, protocol) =
        (bytes[12] / 16, bytes[12] % 16, bytes[13] / 16, bytes[13] % 16);
    let length = 16 + 256 * usize::from(bytes[14]) + usize::from(bytes[15]);
    if version != 2 || command > 1 || length > 4_096 {
        return Reading::Malformed;
    }
    if bytes.len() < length {
        return Reading::NeedMore;
    }
    let (is_local, behind) = (command == 0, length - 16);
    let client = match (family, protocol) {
        _ if is_local => None,
        (0, 0) | (3, 1) => None,
        (1, 1) if behind >= 12 => Some(IpAddr::V4(Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]))),
        (2, 1) if behind >= 36 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[16..32]);
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => return Reading::Malformed,
    };
    Reading::Whole { bytes: length, client }
}
