//! HTTP requests written by hand, and what every answer must fulfil.

use std::io::{Read, Write};

use crate::harness::Relay;
use crate::stream::Stream;

/// The key of RFC 6455, section 1.3, and the answer it must get.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An answer as received.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A correct WebSocket upgrade. Tests replace one line of it.
pub(crate) fn upgrade_request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// A correct request without an upgrade.
pub(crate) fn plain_request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: relay\r\n\r\n")
}

impl Answer {
    /// Parses a head, up to and including its empty line.
    pub(crate) fn parse(head: &[u8]) -> Self {
        let head = str::from_utf8(head).unwrap().strip_suffix("\r\n\r\n").unwrap();
        let (status_line, fields) = head.split_once("\r\n").unwrap();
        let status = status_line.strip_prefix("HTTP/1.1 ").unwrap();
        let headers = fields.split("\r\n").map(|field| {
            let (name, value) = field.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self { status: status[..3].parse().unwrap(), headers: headers.collect(), body: String::new() }
    }

    /// The value of a header, which must be there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|header| header.0 == name);
        let value = values.next().map(|header| header.1.as_str());
        assert!(values.next().is_none(), "{name} stands twice in {self:?}");
        value
    }

    /// Sends a whole request and reads the whole answer.
    pub(crate) fn to(mut stream: Stream, request: &str) -> Self {
        stream.write_all(request.as_bytes()).unwrap();
        Self::read(stream, request.starts_with("HEAD "))
    }

    /// Reads to the end of the stream, which must be orderly, and checks what every answer must fulfil.
    pub(crate) fn read(mut stream: Stream, is_to_head: bool) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let head_length = head_length.expect("an answer with a head") + 4;
        let mut answer = Self::parse(&bytes[..head_length]);
        answer.body = String::from_utf8(bytes[head_length..].to_vec()).unwrap();
        answer.check(is_to_head);
        answer
    }

    fn check(&self, is_to_head: bool) {
        assert_ne!(self.status, 101, "{self:?}");
        let connection = if self.status == 426 { "upgrade, close" } else { "close" };
        assert_eq!(self.header("connection"), Some(connection), "{self:?}");
        if self.status == 204 {
            assert_eq!((self.header("content-length"), &*self.body), (None, ""), "{self:?}");
            return;
        }
        let length: usize = self.header("content-length").expect("Content-Length").parse().unwrap();
        if is_to_head {
            assert_eq!(self.body, "");
            return;
        }
        assert_eq!(length, self.body.len(), "{self:?}");
        if self.status >= 400 {
            assert!(self.header("content-type").unwrap().starts_with("text/plain"), "{self:?}");
            assert!(!self.body.trim().is_empty(), "{self:?}");
            assert!(!self.body.trim_end().contains('\n'), "{self:?}");
        }
    }
}

/// The answers to `request`: sent whole, byte by byte, and with a lot of unread input after it.
fn answers_to_all_ways_of_sending(relay: &Relay, request: &[u8]) -> [Answer; 3] {
    let is_to_head = request.starts_with(b"HEAD ");
    let mut whole = relay.tcp();
    whole.write_all(request).unwrap();

    let mut in_bytes = relay.tcp();
    for byte in request {
        in_bytes.write_all(&[*byte]).unwrap();
    }

    let mut with_more_behind = relay.tcp();
    let more = vec![b'x'; 300_000];
    with_more_behind.write_all(&[request, &more].concat()).unwrap();

    [whole, in_bytes, with_more_behind].map(|stream| Answer::read(stream, is_to_head))
}

/// Requires `status` for `request`, sent whole, byte by byte and with more after it.
pub(crate) fn assert_status(relay: &Relay, request: &[u8], status: u16) -> [Answer; 3] {
    let answers = answers_to_all_ways_of_sending(relay, request);
    for answer in &answers {
        let request = String::from_utf8_lossy(request);
        assert_eq!(answer.status, status, "{request}\n{answer:?}");
    }
    answers
}

pub(crate) fn assert_statuses(rows: &[(String, u16)]) {
    let relay = Relay::start(&[]);
    for (request, status) in rows {
        assert_status(&relay, request.as_bytes(), *status);
    }
}
