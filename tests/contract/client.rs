//! A WebSocket client that can break every rule and checks that the relay follows all of them.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::answer::{Answer, upgrade_request};
use crate::frame::{CLOSE, Frame, PING, PONG, TEXT, big_endian, close_payload, frame, take_frame};
use crate::harness::WAIT_MAX;
use crate::stream::Stream;

const READ_BYTES: usize = 64 * 1024;
/// How long a write must be blocked before the relay counts as not reading.
const BLOCKED_AFTER: Duration = Duration::from_millis(700);
/// More than a relay that holds a flood back may take, including kernel buffers.
const FLOOD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a client received from the relay.
#[derive(PartialEq, Eq)]
pub(crate) enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The relay ended the stream.
    End,
    /// The connection broke.
    Reset,
}

/// What a client does with each ping of the relay that it reads.
#[derive(Clone, Copy)]
pub(crate) enum Pings {
    /// The test receives it like a message, and decides.
    Received,
    /// It is answered at once, as by client libraries.
    Answered,
    /// It is skipped without an answer.
    Skipped,
}

/// The result of a flood: the number of whole messages that were taken, and the rest of the message that was not.
pub(crate) struct Flood {
    pub(crate) sent: usize,
    pub(crate) rest: Vec<u8>,
}

pub(crate) struct Client {
    stream: Stream,
    /// Received bytes that are not parsed yet.
    input: BytesMut,
    /// Opcode and payload so far of a message whose last fragment is missing.
    unfinished: Option<(u8, Vec<u8>)>,
    pub(crate) pings: Pings,
}

/// Sets timeouts so that no test hangs, and turns off Nagle's algorithm.
pub(crate) fn with_timeouts(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream.set_write_timeout(Some(WAIT_MAX)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection with a small receive buffer, so that unread bytes soon wait in the relay.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(128 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    with_timeouts(socket.into())
}

impl Client {
    /// A client whose upgrade to `path` was accepted.
    pub(crate) fn upgrade(stream: Stream, path: &str) -> Self {
        let (answer, client) = Self::handshake(stream, upgrade_request(path).as_bytes());
        assert_eq!(answer.status, 101, "{path}: {answer:?}");
        client
    }

    /// A client that has joined and read its `connected`, but no notice after it.
    pub(crate) fn join(stream: Stream, client_type: &str, session: &str) -> Self {
        let mut client = Self::upgrade(stream, &format!("/{client_type}/{session}"));
        client.expect_connected(client_type, session);
        client
    }

    /// A client that has joined its `peer`. Neither has anything left to read.
    pub(crate) fn join_peer(stream: Stream, client_type: &str, session: &str, peer: &mut Self) -> Self {
        let mut client = Self::join(stream, client_type, session);
        let peer_type = if client_type == "mobile" { "desktop" } else { "mobile" };
        client.expect_notice(&format!("{peer_type}_connected"));
        peer.expect_notice(&format!("{client_type}_connected"));
        client
    }

    /// Sends `request` and reads the head of the answer. Bytes after it are left to the client.
    pub(crate) fn handshake(mut stream: Stream, request: &[u8]) -> (Answer, Self) {
        stream.write_all(request).unwrap();
        let mut client = Self { stream, input: BytesMut::new(), unfinished: None, pings: Pings::Received };
        let head_length = loop {
            if let Some(at) = client.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert_eq!(client.fill(), None, "after {:?}", client.input);
        };
        let answer = Answer::parse(&client.input.split_to(head_length));
        (answer, client)
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send_byte_by_byte(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send_raw(&[*byte]);
        }
    }

    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        self.send_raw(&frame(first, payload));
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    pub(crate) fn send_close(&mut self, code: u16, reason: &str) {
        self.send(CLOSE, &close_payload(code, reason));
    }

    /// A second handle on the connection, for sending from another thread while this one reads.
    pub(crate) fn writer(&self) -> Stream {
        self.stream.try_clone().unwrap()
    }

    /// Sends `bytes` from another thread, because the relay does not take all of them while the peer does not read.
    pub(crate) fn send_meanwhile(&self, bytes: Vec<u8>) -> JoinHandle<()> {
        let mut writer = self.writer();
        thread::spawn(move || writer.write_all(&bytes).unwrap())
    }

    /// Sends `message(0)`, `message(1)`, … until the relay takes no more.
    pub(crate) fn flood(&mut self, message: impl Fn(usize) -> Vec<u8>) -> Flood {
        self.stream.set_write_timeout(Some(BLOCKED_AFTER)).unwrap();
        let mut taken_bytes = 0;
        let mut sent = 0;
        let rest = 'blocked: loop {
            let bytes = message(sent);
            let mut written = 0;
            while written < bytes.len() {
                match self.stream.write(&bytes[written..]) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        break 'blocked bytes[written..].to_vec();
                    }
                    Err(error) => panic!("after {sent} messages: {error}"),
                }
            }
            sent += 1;
            taken_bytes += written;
            assert!(taken_bytes < FLOOD_BYTES_MAX, "the relay takes and takes");
        };
        self.stream.set_write_timeout(Some(WAIT_MAX)).unwrap();
        Flood { sent, rest }
    }

    /// Ends the writing direction (FIN). Reading goes on.
    pub(crate) fn finish_sending(&self) {
        self.stream.finish_sending().unwrap();
    }

    /// Resets the connection (RST).
    pub(crate) fn reset(self) {
        self.stream.reset();
    }

    /// Reads once. Returns the end of the stream, if it was reached.
    pub(crate) fn fill(&mut self) -> Option<Received> {
        let start = self.input.len();
        self.input.resize(start + READ_BYTES, 0);
        let result = self.stream.read(&mut self.input[start..]);
        self.input.truncate(start + result.as_ref().copied().unwrap_or(0));
        match result {
            Ok(0) => Some(Received::End),
            Ok(_) => None,
            // Within TLS, an end without a `close_notify` is not an orderly end.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {
                Some(Received::Reset)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(error) => panic!("nothing came from the relay: {error}"),
        }
    }

    /// The next frame, or what ended the stream.
    pub(crate) fn receive_frame(&mut self) -> Result<Frame, Received> {
        loop {
            if let Some(frame) = take_frame(&mut self.input) {
                return Ok(frame);
            }
            if let Some(end) = self.fill() {
                return Err(end);
            }
        }
    }

    /// The next message, control frame or end. Of the relay's pings, only those that the test wants to receive.
    pub(crate) fn receive(&mut self) -> Received {
        loop {
            let received = match self.receive_frame() {
                Ok(frame) => frame,
                Err(end) => return end,
            };
            match received.opcode {
                0x8 => return parse_close(&received.payload),
                0x9 => match self.pings {
                    Pings::Received => return Received::Ping(received.payload.to_vec()),
                    // An error means that the relay has ended the connection, which the next read tells.
                    Pings::Answered => drop(self.stream.write_all(&frame(PONG, &received.payload))),
                    Pings::Skipped => {}
                },
                0xA => return Received::Pong(received.payload.to_vec()),
                opcode => {
                    if let Some(message) = self.assemble(opcode, &received) {
                        return message;
                    }
                }
            }
        }
    }

    /// Reads the next frames of a message, up to its first. The first must not be the last.
    pub(crate) fn expect_part(&mut self) {
        while self.unfinished.is_none() {
            let frame = self.receive_frame().unwrap();
            if frame.opcode < 0x8 {
                assert!(self.assemble(frame.opcode, &frame).is_none(), "a part of a message");
            }
        }
    }

    fn assemble(&mut self, opcode: u8, frame: &Frame) -> Option<Received> {
        let (opcode, mut payload) = match (opcode, self.unfinished.take()) {
            (0, Some(begun)) => begun,
            (1 | 2, None) => (opcode, Vec::new()),
            (opcode, begun) => panic!("opcode {opcode}, in mid-message: {}", begun.is_some()),
        };
        payload.extend_from_slice(&frame.payload);
        if !frame.is_final {
            self.unfinished = Some((opcode, payload));
            None
        } else if opcode == 1 {
            Some(Received::Text(String::from_utf8(payload).unwrap()))
        } else {
            Some(Received::Binary(payload))
        }
    }

    /// The next message or the end. The relay's pings are skipped.
    pub(crate) fn receive_except_pings(&mut self) -> Received {
        loop {
            let received = self.receive();
            if !matches!(received, Received::Ping(_)) {
                return received;
            }
        }
    }

    /// Everything that waits for this client: what comes before the answer to a ping.
    pub(crate) fn receive_all(&mut self) -> Vec<Received> {
        self.send(PING, b"is that all?");
        let mut all = Vec::new();
        loop {
            match self.receive() {
                Received::Pong(payload) if payload == b"is that all?" => return all,
                end @ (Received::End | Received::Reset) => panic!("{end:?} after {all:?}"),
                received => all.push(received),
            }
        }
    }

    pub(crate) fn expect(&mut self, expected: &Received) {
        let received = self.receive();
        assert!(received == *expected, "expected {expected:?}, received {received:?}");
    }

    pub(crate) fn expect_text(&mut self, text: &str) {
        self.expect(&Received::Text(text.to_owned()));
    }

    /// The next message, which must be a system message. Its time is checked and removed.
    pub(crate) fn receive_system(&mut self) -> Value {
        let received = self.receive();
        let Received::Text(text) = &received else {
            panic!("expected a system message, received {received:?}")
        };
        let mut message: Value = serde_json::from_str(text).unwrap();
        let fields = message.as_object_mut().unwrap();
        let timestamp = fields.remove("timestamp").unwrap_or_else(|| panic!("no time in {text}"));
        assert_is_now(&timestamp);
        message
    }

    pub(crate) fn expect_system(&mut self, expected: &Value) {
        assert_eq!(self.receive_system(), *expected);
    }

    pub(crate) fn expect_connected(&mut self, client_type: &str, session: &str) {
        let expected = json!({"type": "connected", "clientType": client_type, "sessionId": session});
        self.expect_system(&expected);
    }

    /// Expects `mobile_connected` or a similar notice.
    pub(crate) fn expect_notice(&mut self, name: &str) {
        self.expect_system(&json!({"type": name}));
    }

    pub(crate) fn expect_error(&mut self, code: &str, sentence: &str) {
        self.expect_system(&json!({"type": "error", "code": code, "error": sentence}));
    }

    /// Expects `undelivered` and returns its count, which the sentence must contain, too.
    pub(crate) fn expect_undelivered(&mut self) -> usize {
        let message = self.receive_system();
        let (sentence, count) = (&message["error"], &message["count"]);
        let expected = json!({"type": "error", "code": "undelivered", "error": sentence, "count": count});
        assert_eq!(message, expected);
        let count = count.as_u64().unwrap();
        let sentence = sentence.as_str().unwrap();
        assert!(sentence.contains(&count.to_string()), "{count}: {sentence}");
        usize::try_from(count).unwrap()
    }

    /// Expects a ping of the relay, and returns the payload that a pong must have to answer it.
    pub(crate) fn expect_ping(&mut self) -> Vec<u8> {
        match self.receive() {
            Received::Ping(payload) => payload,
            received => panic!("expected a ping, received {received:?}"),
        }
    }

    /// Expects a ping and answers it, which confirms every message before it. Nothing else may be waiting.
    pub(crate) fn confirm(&mut self) {
        let payload = self.expect_ping();
        self.send(PONG, &payload);
        // The relay has read the pong once it answers what was sent behind it.
        self.expect_quiet();
    }

    /// Expects the relay's close and answers it. Then the stream must end in order.
    pub(crate) fn expect_close(&mut self, code: u16, reason: &str) {
        self.expect(&Received::Close(code, reason.to_owned()));
        self.send_close(code, "");
        self.expect(&Received::End);
    }

    /// As [`expect_close`](Self::expect_close), with any reason.
    pub(crate) fn expect_close_code(&mut self, code: u16) {
        match self.receive_except_pings() {
            Received::Close(received, _) if received == code => {}
            received => panic!("expected a close with {code}, received {received:?}"),
        }
        self.send_close(code, "");
        self.expect(&Received::End);
    }

    /// Requires that nothing is waiting for this client: a pong must be the next thing to come.
    pub(crate) fn expect_quiet(&mut self) {
        self.send(PING, b"is anything left?");
        self.expect(&Received::Pong(b"is anything left?".to_vec()));
    }

    /// Closes in order, like a well-behaved client.
    pub(crate) fn leave(mut self) {
        self.send_close(1000, "");
        self.expect(&Received::Close(1000, String::new()));
        self.expect(&Received::End);
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Requires a time in milliseconds that is about now. It may be a little older for a slow reader.
pub(crate) fn assert_is_now(timestamp: &Value) {
    assert_is_soon(timestamp, 0);
}

/// Requires a Unix time in milliseconds that is about `millis` ahead.
pub(crate) fn assert_is_soon(timestamp: &Value, millis: u64) {
    let error = (unix_time() + millis).abs_diff(timestamp.as_u64().unwrap());
    assert!(error < 60_000, "{timestamp} is {error} ms from {millis} ms ahead");
}

/// Parses a close of the relay. It must have a code and a reason in valid UTF-8.
fn parse_close(payload: &[u8]) -> Received {
    let (code, reason) = payload.split_at_checked(2).expect("every close frame has a code");
    let code = u16::try_from(big_endian(code)).unwrap();
    Received::Close(code, String::from_utf8(reason.to_vec()).unwrap())
}

impl fmt::Debug for Received {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => {
                let start: String = text.chars().take(200).collect();
                write!(formatter, "Text of {} bytes: {start:?}", text.len())
            }
            Self::Binary(bytes) => {
                let start = &bytes[..bytes.len().min(20)];
                write!(formatter, "Binary of {} bytes: {start:?}", bytes.len())
            }
            Self::Ping(payload) => write!(formatter, "Ping {:?}", String::from_utf8_lossy(payload)),
            Self::Pong(payload) => write!(formatter, "Pong {:?}", String::from_utf8_lossy(payload)),
            Self::Close(code, reason) => write!(formatter, "Close {code} {reason:?}"),
            Self::End => write!(formatter, "End"),
            Self::Reset => write!(formatter, "Reset"),
        }
    }
}
