//! A request head, however it is cut, is read like a slow and strict reader of the whole reads it:
//! accepted with the same session and key, or refused for a fault that it has; it ends at the same
//! byte, and what stands behind is left to the WebSocket.

mod strict;

use apptuner_relay::relay::handshake::{
    HeadReader, Progress, Verdict, write_health, write_refusal, write_switching_protocols,
};
use tungstenite::handshake::derive_accept_key;

use super::answer::{self, Answer};
use super::choices::Choices;
use strict::Reading;

/// What heads are made of, so that most inputs come near to a good one.
const PIECES: [&str; 48] = [
    "GET ",
    "HEAD ",
    "POST ",
    "/desktop/",
    "/mobile/",
    "/health",
    "abc-_9",
    "?query=%20",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "GET /desktop/abc HTTP/1.1\r\n",
    "GET /mobile/abc HTTP/1.1\r\nHost: relay\r\n",
    "Host: relay\r\n",
    "Host: 127.0.0.1:8787\r\n",
    "Host: [::1]:\r\n",
    "Host: %61,b\r\n",
    "Upgrade: websocket\r\n",
    "upgrade:\th2c ,, WebSocket \r\n",
    "Connection: Upgrade\r\n",
    "connection: keep-alive, upgrade\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Version: 8\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n",
    "Sec-WebSocket-Protocol: chat, superchat\r\n",
    "Sec-WebSocket-Protocol: a b\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 5, 05\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X-Name: value\r\n",
    " folded: value\r\n",
    "\r\n",
    "http://relay:80/",
    "wss://[::1]",
    "user@",
    ": ",
    ",",
    " ",
    "\t",
    "a",
    "é",
    "\n",
    "\r",
    "\0",
    "\x7F",
];
/// How often a piece may stand, around the bounds of heads and session IDs.
const REPEATS: [usize; 12] = [1, 1, 1, 1, 2, 98, 99, 100, 101, 128, 129, 16_300];

/// Compares both readings of the head in `data`.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let is_raw = choices.flag();
    let step_count = choices.below(8);
    let steps: Vec<usize> = choices.bytes(step_count).iter().map(|&step| step.into()).collect();
    let bytes = if is_raw { choices.rest().to_vec() } else { head(&mut choices) };

    let mut reader = HeadReader::default();
    let read = read_in_pieces(&mut reader, &bytes, &steps);
    let whole = read_in_pieces(&mut HeadReader::default(), &bytes, &[]);
    assert_eq!(read, whole, "in pieces and whole");
    let expected = strict::read(&bytes);
    let Some((consumed, verdict)) = read else {
        assert_eq!(expected, None, "the strict reader has come to an end");
        return;
    };
    let Some((expected_consumed, reading)) = expected else {
        panic!("the strict reader needs more after {verdict:?}");
    };
    assert_eq!(consumed, expected_consumed, "where the head ends, or is refused");
    compare(&verdict, &reading, &bytes[..consumed]);
    check_answer(&verdict);
    let again = read_in_pieces(&mut reader, &bytes, &steps);
    assert_eq!(again, Some((consumed, verdict)), "the reader is as new");
}

fn head(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut head = Vec::new();
    while !choices.is_empty() {
        let choice = choices.byte();
        if let Some(piece) = PIECES.get(usize::from(choice) % 64) {
            let repeats = if choice >= 192 { choices.pick(REPEATS) } else { 1 };
            let bytes = piece.repeat(repeats.min(20_000 / piece.len()));
            head.extend_from_slice(bytes.as_bytes());
        } else {
            let count = usize::from(choice % 16);
            head.extend_from_slice(choices.bytes(count));
        }
    }
    head
}

/// How many bytes belong to the head, and what it is; `None` if it goes on.
fn read_in_pieces(reader: &mut HeadReader, bytes: &[u8], steps: &[usize]) -> Option<(usize, Verdict)> {
    let mut steps = steps.iter().copied().filter(|&step| step > 0).cycle();
    let mut rest = bytes;
    loop {
        let step = steps.next().unwrap_or(usize::MAX);
        let (piece, behind) = rest.split_at(step.min(rest.len()));
        match reader.push(piece) {
            Progress::NeedMore if behind.is_empty() => return None,
            Progress::NeedMore => rest = behind,
            Progress::Done { consumed, verdict, .. } => {
                assert!(consumed <= piece.len(), "no more than was pushed");
                return Some((bytes.len() - rest.len() + consumed, verdict));
            }
        }
    }
}

fn compare(verdict: &Verdict, reading: &Reading, head: &[u8]) {
    let is_head_method = head.starts_with(b"HEAD ");
    match (verdict, reading) {
        (Verdict::Upgrade(upgrade), Reading::Upgrade { client_type, session_id, key, subprotocol }) => {
            assert_eq!(upgrade.client_type.as_str(), *client_type);
            assert_eq!(upgrade.session_id.as_str(), session_id);
            assert_eq!(upgrade.accept_key(), derive_accept_key(key.as_bytes()));
            assert_eq!(upgrade.subprotocol(), subprotocol.as_deref());
        }
        (Verdict::Health { head_only }, Reading::Health) => assert_eq!(*head_only, is_head_method),
        (Verdict::Refuse { refusal, head_only }, Reading::Faults(faults)) => {
            assert!(faults.contains(refusal), "refused for {refusal:?}, but its faults are {faults:?}");
            assert_eq!(*head_only, is_head_method);
        }
        (verdict, reading) => panic!("{verdict:?}, but read as {reading:?}"),
    }
}

/// What goes out is HTTP, whatever the client put into its request.
fn check_answer(verdict: &Verdict) {
    let mut answer = Vec::new();
    match verdict {
        Verdict::Upgrade(upgrade) => write_switching_protocols(upgrade, &mut answer),
        Verdict::Health { head_only } => write_health("{}", *head_only, &mut answer),
        Verdict::Refuse { refusal, head_only } => write_refusal(*refusal, *head_only, &mut answer),
    }
    match (verdict, answer::read(&answer, true)) {
        (Verdict::Upgrade(_), Answer::SwitchingProtocols(rest)) => assert!(rest.is_empty()),
        (Verdict::Health { .. }, Answer::Other(status)) => assert_eq!(status, "200"),
        (Verdict::Refuse { .. }, Answer::Other(status)) => assert!(status.starts_with('4'), "{status}"),
        (verdict, _) => panic!("{verdict:?} is not answered"),
    }
}
