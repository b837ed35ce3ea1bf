//! A PROXY protocol header is parsed as slow parsers of both versions parse it, with the same length and client. Every
//! prefix needs more bytes, bytes after it change nothing, and a malformed one stays malformed.

pub mod reference;

use apptuner_relay::relay::internals::address::ClientAddress;
use apptuner_relay::relay::internals::limits::PROXY_HEADER_BYTES_MAX;
use apptuner_relay::relay::internals::proxy_header::{ProxyHeader, parse};

use super::choices::Choices;
use reference::Reading;

/// Pieces of headers of version 1.
const PIECES: [&str; 32] = [
    "PROXY ",
    "PROXY TCP4 ",
    "PROXY TCP6 ",
    "PROXY UNKNOWN",
    "TCP4",
    "TCP6",
    "UNKNOWN",
    "UDP4",
    " ",
    "\r\n",
    "\r",
    "\n",
    "192.0.2.1",
    "10.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "192.0.2.256",
    "01.2.3.4",
    "2001:db8::7",
    "::1",
    "::ffff:192.0.2.1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "[::1]",
    "0",
    "80",
    "65535",
    "65536",
    "+80",
    "00080",
    "é",
    "\t",
    "x",
];
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The second byte of the length: around what addresses need, and around the maximum.
const LENGTHS: [u16; 14] = [0, 11, 12, 13, 35, 36, 37, 216, 255, 256, 4_079, 4_080, 4_081, 65_535];

/// Parses the header in `data`, and variations of it.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let bytes = match choices.byte() % 4 {
        0 => choices.rest().to_vec(),
        1 => line(&mut choices),
        _ => binary(&mut choices),
    };
    let (header, reading) = (parse(&bytes), reference::read(&bytes));
    match (header, reading) {
        (ProxyHeader::NeedMore, Reading::NeedMore) | (ProxyHeader::Malformed, Reading::Malformed) => {}
        (
            ProxyHeader::Whole { bytes: length, client },
            Reading::Whole { bytes: expected, client: source },
        ) => {
            assert_eq!((length, client), (expected, source.map(ClientAddress::new)));
            assert!(length <= PROXY_HEADER_BYTES_MAX && length <= bytes.len());
        }
        _ => panic!("{header:?}, but read as {reading:?}"),
    }
    check_parts(&bytes, header);
}

/// Checks all prefixes, and bytes after the header.
fn check_parts(bytes: &[u8], header: ProxyHeader) {
    let length = match header {
        ProxyHeader::Whole { bytes, .. } => bytes,
        ProxyHeader::NeedMore | ProxyHeader::Malformed => bytes.len(),
    };
    // In a long header only both ends matter.
    let lengths = (0..=length).filter(|&end| end < 300 || end + 3 > length);
    let mut is_malformed = false;
    for end in lengths {
        match parse(&bytes[..end]) {
            ProxyHeader::NeedMore => assert!(!is_malformed, "what is malformed at {end} stays so"),
            ProxyHeader::Malformed => is_malformed = true,
            whole @ ProxyHeader::Whole { .. } => {
                assert_eq!((end, whole), (length, header), "a header has one end");
            }
        }
    }
    assert_eq!(is_malformed, header == ProxyHeader::Malformed, "what is malformed never was whole");
    if header != ProxyHeader::NeedMore {
        for more in [&b"\n"[..], b"\r\n", b"\0", b"PROXY UNKNOWN\r\n", SIGNATURE] {
            assert_eq!(parse(&[bytes, more].concat()), header, "what stands behind changes nothing");
        }
    }
}

fn line(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    while !choices.is_empty() {
        let choice = choices.byte();
        match PIECES.get(usize::from(choice) % 40) {
            Some(piece) => line.extend_from_slice(piece.as_bytes()),
            None if choice >= 200 => line.resize(line.len() + usize::from(choice - 190), b'y'),
            None => line.extend_from_slice(choices.bytes(usize::from(choice % 8))),
        }
    }
    line
}

fn binary(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(choices.pick([0x21, 0x21, 0x21, 0x20, 0x22, 0x11, 0x00]));
    header.push(choices.pick([0x11, 0x21, 0x00, 0x31, 0x12, 0x22, 0x32, 0x41, 0x01]));
    let length = choices.pick(LENGTHS);
    header.extend_from_slice(&length.to_be_bytes());
    let there = usize::from(length).saturating_add(choices.below(4)).saturating_sub(choices.below(3));
    let content = choices.rest();
    header.extend(
        content.iter().copied().chain(std::iter::repeat(7)).take(there.max(content.len()).min(5_000)),
    );
    header
}
