//! A client as the network sees it: the bytes that it sends, a list of what they mean, and what it does by itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use apptuner_relay::relay::Tick;
use bytes::BytesMut;

use crate::frame::{
    BINARY, BINARY_BEGINS, CLOSE, CONTINUES, ENDS, FINAL, LengthForm, PING, PONG, RESERVED_DATA, RSV1, TEXT,
    TEXT_BEGINS, frame_header, frame_under, frame_with,
};
use crate::plan::{Behaviour, Fault, OnClose, Pongs, Reading, Request, Say, Sending};
use crate::random::Random;
use crate::reader::{Piece, Reader};
use crate::visit::{Caller, Credentials, Issued};
use crate::wire::Wire;

/// What some of a client's bytes mean. They begin at the end of the previous unit.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The number of bytes that the client has sent at the end of this unit.
    pub end: u64,
    /// Bytes of an application message, which must arrive in time.
    pub is_data: bool,
    /// The frame of an application message, if these bytes are one.
    pub frame: Option<Frame>,
    pub what: What,
}

/// A data frame of a message.
#[derive(Clone, Debug)]
pub struct Frame {
    pub header_bytes: usize,
    pub payload_bytes: usize,
    pub content: Rc<Content>,
}

/// The content of an application message, valid or not.
#[derive(Debug)]
pub struct Content {
    pub opcode: u8,
    pub payload: Vec<u8>,
    /// The number of bytes before the first wrong one.
    pub valid_bytes: usize,
    /// The wrong byte makes the text invalid JSON; otherwise it ends the connection.
    pub is_bad_json: bool,
}

impl Content {
    pub fn valid(opcode: u8, payload: Vec<u8>) -> Rc<Self> {
        Rc::new(Self { opcode, valid_bytes: payload.len(), payload, is_bad_json: false })
    }

    fn invalid(opcode: u8, payload: Vec<u8>, valid_bytes: usize, is_bad_json: bool) -> Rc<Self> {
        Rc::new(Self { opcode, payload, valid_bytes, is_bad_json })
    }
}

#[derive(Clone, Debug)]
pub enum What {
    Upgrade {
        caller: Caller,
        has_protocols: bool,
        wants_receipts: bool,
    },
    /// A request for a new session.
    Issue(Credentials),
    /// A request that is answered in HTTP with this status, at its end or before.
    Answered(u16),
    /// A frame of a message that is not its last.
    Fragment,
    Message {
        is_ping: bool,
    },
    /// A text that is not JSON.
    BadJson,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close {
        code: Option<u16>,
        reason: Vec<u8>,
    },
    /// Bytes that end the connection with this code, at their end or before.
    Refused(u16),
}

const MESSAGE: What = What::Message { is_ping: false };

/// Texts that are not JSON, and the offset of the first wrong byte.
const BAD_JSON: [(&str, usize); 7] = [
    ("", 0),
    ("nope", 1),
    (r#"{"a":"#, 5),
    (r#"{"a":1}}"#, 7),
    ("[1,]", 3),
    ("\"a\u{1}\"", 2),
    ("{'a':1}", 1),
];

/// Requests that are answered in HTTP, and the status.
const REQUESTS: [(&str, u16); 13] = [
    ("\r\nGET /health HTTP/1.1\r\nHost: relay\r\n\r\n", 200),
    ("GET /favicon.ico HTTP/1.1\r\nHost: relay\r\n\r\n", 204),
    ("GET /health HTTP/1.1\r\nHost: relay\r\n\r\n", 200),
    ("GET / HTTP/1.1\r\nHost: relay\r\n\r\n", 404),
    ("GET /desktop/a%20b HTTP/1.1\r\nHost: relay\r\n\r\n", 404),
    ("GET /desktop/a HTTP/1.1\r\nHost: relay\r\n\r\n", 426),
    ("POST /desktop/a HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\n\r\n", 405),
    ("GET /desktop/a HTTP/1.1\r\n\r\n", 400),
    ("GET /desktop/a HTTP/1.1\r\nHost relay\r\n\r\n", 400),
    (
        "GET /desktop/a HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        426,
    ),
    ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n", 400),
    ("GET /sessions HTTP/1.1\r\nHost: relay\r\n\r\n", 405),
    ("PUT /sessions HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer short\r\n\r\n", 405),
];

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a client")]
pub struct Client {
    pub wire: Rc<RefCell<Wire>>,
    pub behaviour: Behaviour,
    random: Random,
    /// Number of bytes sent so far.
    said: u64,
    units: Vec<Unit>,
    /// Bytes sent that have not arrived.
    outgoing: BytesMut,
    /// The rest of a message whose beginning is sent.
    held_back: BytesMut,
    reader: Reader,
    /// The session that it was issued, until `take_issued` is called.
    issued: Option<Issued>,
    next_send: Option<Tick>,
    next_take: Option<Tick>,
    end_at: Option<Tick>,
    /// Pongs that it sends late, and when.
    late_pongs: VecDeque<(Tick, Vec<u8>)>,
    /// The number of the last numbered ping that it has taken.
    last_ping: u32,
    /// It never sends anything.
    is_mute: bool,
    has_vanished: bool,
    has_closed: bool,
    has_ended: bool,
    /// The end of its stream is in transit behind all bytes.
    is_ending: bool,
}

impl Client {
    pub fn new(wire: Rc<RefCell<Wire>>, behaviour: Behaviour, random: Random) -> Self {
        Self {
            wire,
            behaviour,
            random,
            said: 0,
            units: Vec::new(),
            outgoing: BytesMut::new(),
            held_back: BytesMut::new(),
            reader: Reader::default(),
            issued: None,
            next_send: None,
            next_take: None,
            end_at: None,
            late_pongs: VecDeque::new(),
            last_ping: 0,
            is_mute: false,
            has_vanished: false,
            has_closed: false,
            has_ended: false,
            is_ending: false,
        }
    }

    /// The units sent since the last call.
    pub fn take_units(&mut self) -> Vec<Unit> {
        std::mem::take(&mut self.units)
    }

    /// The session that it was issued since the last call.
    pub const fn take_issued(&mut self) -> Option<Issued> {
        self.issued.take()
    }

    pub fn request(&mut self, request: Request, caller: Caller) {
        let (query, protocols) = if request == Request::EagerUpgrade {
            ("?v=1", &["apptuner", "other"][..])
        } else {
            ("", &[][..])
        };
        let wants_receipts = self.behaviour.wants_receipts;
        let query = match query {
            "" if wants_receipts => "?receipts=1",
            "?v=1" if wants_receipts => "?v=1&receipts=1",
            _ => query,
        };
        let head = format!(
            "GET /{}/{}{} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            caller.client_type.as_str(),
            caller.session,
            caller.credentials.query(query),
            caller.credentials.lines(protocols),
        );
        let issue = caller.credentials.clone();
        let upgrade = What::Upgrade { caller, has_protocols: !protocols.is_empty(), wants_receipts };
        match request {
            Request::Upgrade => self.say_bytes(head.as_bytes(), false, upgrade),
            Request::EagerUpgrade => {
                self.say_bytes(head.as_bytes(), false, upgrade);
                self.ping(5);
            }
            Request::Partial(bytes) => {
                self.held_back = head.as_bytes()[bytes..].into();
                self.outgoing.extend_from_slice(&head.as_bytes()[..bytes]);
                self.add_unit(head.len(), false, upgrade);
            }
            Request::Other(choice) => {
                let (head, status) = REQUESTS[choice % REQUESTS.len()];
                self.say_bytes(head.as_bytes(), false, What::Answered(status));
            }
            Request::Issue => {
                let head = format!("POST /sessions HTTP/1.1\r\nHost: relay\r\n{}\r\n", issue.lines(&[]));
                self.say_bytes(head.as_bytes(), false, What::Issue(issue));
            }
            Request::Nothing => self.is_mute = true,
        }
    }

    /// Sends something. `id` makes its content unique.
    pub fn say(&mut self, what: &Say, id: u64, size_max: usize) {
        if self.is_mute || self.has_vanished || self.is_ending {
            return;
        }
        self.finish_part();
        match *what {
            Say::Text { bytes, fragments, pings_between } => {
                let content = Content::valid(1, text(id, bytes));
                self.message(&content, fragments, pings_between, &MESSAGE);
            }
            Say::Binary { bytes, fragments, pings_between } => {
                let content = Content::valid(2, binary(id, bytes));
                self.message(&content, fragments, pings_between, &MESSAGE);
            }
            Say::Spoiled { bytes, fragments, at_per_mille, fault } => {
                self.spoiled(text(id, bytes), fragments, at_per_mille, fault);
            }
            Say::Burst { messages, bytes } => {
                for index in 0..messages as u64 {
                    self.message(&Content::valid(1, text(id + index, bytes)), 1, false, &MESSAGE);
                }
            }
            Say::AppPing => {
                let payload = format!(r#"{{"type":"ping","n":{id}}}"#).into_bytes();
                self.message(&Content::valid(1, payload), 1, false, &What::Message { is_ping: true });
            }
            Say::BadJson(choice) => {
                let (text, offset) = BAD_JSON[choice % BAD_JSON.len()];
                let content = Content::invalid(1, text.into(), offset, true);
                self.message(&content, 1, false, &What::BadJson);
            }
            Say::Ping(bytes) => self.ping(bytes),
            Say::Pong(bytes) => self.pong(vec![7; bytes]),
            Say::Guess { ahead } => self.pong((self.last_ping + ahead).to_string().into_bytes()),
            Say::Close { code, reason } => self.close(code, reason),
            Say::Broken(choice) => self.broken(choice, false),
            Say::NotUtf8 { fragments } => self.not_utf8(fragments),
            Say::TooLarge { fragments } => self.too_large(fragments, size_max),
            Say::Part { bytes, sent_per_mille } => {
                self.part(&Content::valid(2, binary(id, bytes)), 1, sent_per_mille);
            }
            Say::PartOfMany { bytes, fragments, sent_per_mille } => {
                self.part(&Content::valid(2, binary(id, bytes)), fragments, sent_per_mille);
            }
        }
    }

    fn finish_part(&mut self) {
        let rest = std::mem::take(&mut self.held_back);
        self.outgoing.unsplit(rest);
    }

    fn add_unit(&mut self, bytes: usize, is_data: bool, what: What) {
        self.said += bytes as u64;
        self.units.push(Unit { end: self.said, is_data, frame: None, what });
    }

    /// Sends a data frame with a part of a message.
    fn say_data(&mut self, first: u8, part: &[u8], content: &Rc<Content>, what: What) {
        let frame = self.frame(first, part);
        self.outgoing.extend_from_slice(&frame);
        self.said += frame.len() as u64;
        let header_bytes = frame.len() - part.len();
        let frame = Frame { header_bytes, payload_bytes: part.len(), content: Rc::clone(content) };
        self.units.push(Unit { end: self.said, is_data: true, frame: Some(frame), what });
    }

    fn say_bytes(&mut self, bytes: &[u8], is_data: bool, what: What) {
        self.outgoing.extend_from_slice(bytes);
        self.add_unit(bytes.len(), is_data, what);
    }

    fn say_control(&mut self, first: u8, payload: &[u8], what: What) {
        let frame = self.frame(first, payload);
        self.say_bytes(&frame, false, what);
    }

    fn frame(&mut self, first: u8, payload: &[u8]) -> Vec<u8> {
        let [a, b, c, d, ..] = self.random.next().to_le_bytes();
        frame_under([a, b, c, d], first, payload)
    }

    /// Sends a whole message. Its last frame, or the frame with its first wrong byte, means `what`.
    fn message(&mut self, content: &Rc<Content>, fragments: usize, pings_between: bool, what: &What) {
        let mut start = 0;
        for index in 0..fragments {
            let is_last = index + 1 == fragments;
            let left = content.payload.len() - start;
            let end = start + if is_last { left } else { self.random.below(left + 1) };
            let first = if index == 0 { content.opcode } else { CONTINUES } | if is_last { FINAL } else { 0 };
            let is_wrong = matches!(what, What::Refused(_)) && (start..end).contains(&content.valid_bytes);
            let is_meant = is_wrong || (is_last && !matches!(what, What::Refused(_)));
            let what = if is_meant { what.clone() } else { What::Fragment };
            self.say_data(first, &content.payload[start..end], content, what);
            if pings_between && !is_last {
                self.ping(index);
            }
            start = end;
        }
    }

    /// Sends the first part of a message. The rest follows before the next thing that is sent.
    fn part(&mut self, content: &Rc<Content>, fragments: usize, sent_per_mille: usize) {
        let before = self.outgoing.len();
        self.message(content, fragments, false, &MESSAGE);
        let said = self.outgoing.len() - before;
        self.held_back = self.outgoing.split_off(before + said * sent_per_mille / 1000);
    }

    /// Sends a text that becomes wrong in the middle.
    fn spoiled(&mut self, mut text: Vec<u8>, fragments: usize, at_per_mille: usize, fault: Fault) {
        let at = (text.len() * at_per_mille / 1000).max(24);
        let wrong = text.iter().skip(at).position(|&byte| byte == b'a').map(|index| at + index);
        let Some(wrong) = wrong else {
            return self.message(&Content::valid(1, text), fragments, false, &MESSAGE);
        };
        match fault {
            Fault::Json => {
                text[wrong] = 1;
                let content = Content::invalid(1, text, wrong, true);
                self.message(&content, fragments, false, &What::BadJson);
            }
            Fault::Utf8 => {
                text[wrong] = 0xFF;
                let content = Content::invalid(1, text, wrong, false);
                self.message(&content, fragments, false, &What::Refused(1007));
            }
            Fault::Frame(choice) => {
                self.begin_message(text, wrong);
                // At this place a continuation is not wrong.
                self.broken(if choice % 9 == 3 { 1 } else { choice }, true);
            }
            Fault::Close => {
                self.begin_message(text, wrong);
                self.close(Some(1000), 0);
            }
        }
    }

    /// Sends the beginning of a message, in a fragment that is never followed by another.
    fn begin_message(&mut self, text: Vec<u8>, bytes: usize) {
        let content = Content::valid(1, text);
        self.say_data(TEXT_BEGINS, &content.payload[..bytes], &content, What::Fragment);
    }

    fn ping(&mut self, bytes: usize) {
        let payload: Vec<u8> = (0..bytes).map(|_| self.random.next().to_le_bytes()[0]).collect();
        self.say_control(PING, &payload, What::Ping(payload.clone()));
    }

    fn pong(&mut self, payload: Vec<u8>) {
        self.say_control(PONG, &payload.clone(), What::Pong(payload));
    }

    /// Answers a ping, unless it is in the middle of a frame.
    fn answer_ping(&mut self, payload: Vec<u8>) {
        if self.held_back.is_empty() && !self.is_ending {
            self.pong(payload);
        }
    }

    /// Answers the pings that it has just taken, unless it answers each of them at once.
    fn answer_pings(&mut self, mut pings: Vec<Vec<u8>>, now: Tick) {
        match self.behaviour.pongs {
            Pongs::Each => pings.into_iter().for_each(|ping| self.answer_ping(ping)),
            Pongs::Last => pings.pop().into_iter().for_each(|ping| self.answer_ping(ping)),
            Pongs::Late(millis) => {
                self.late_pongs.extend(pings.into_iter().map(|ping| (Tick(now.0 + millis), ping)));
            }
            Pongs::Wrong(choice) => {
                for mut ping in pings {
                    match choice % 4 {
                        0 => ping.clear(),
                        1 => ping.insert(0, b'0'),
                        2 => ping.push(b' '),
                        _ => ping = (self.last_ping + 1).to_string().into_bytes(),
                    }
                    self.answer_ping(ping);
                }
            }
            Pongs::Unnumbered => {
                pings.into_iter().filter(Vec::is_empty).for_each(|ping| self.answer_ping(ping));
            }
        }
    }

    fn close(&mut self, code: Option<u16>, reason: usize) {
        let reason = if code.is_some() { vec![b'r'; reason] } else { Vec::new() };
        let mut payload = code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default();
        payload.extend_from_slice(&reason);
        self.has_closed = true;
        self.say_control(CLOSE, &payload, What::Close { code, reason });
    }

    /// Sends a frame that breaks the rules. `in_message` says whether a continuation must come next.
    fn broken(&mut self, choice: usize, in_message: bool) {
        // With the number of bytes after which the frame is known to be wrong.
        let (frame, proof_bytes) = match choice % 9 {
            // Without a mask.
            0 => (vec![TEXT_BEGINS, 3, b'a', b'b', b'c'], if in_message { 1 } else { 2 }),
            1 => (self.frame(TEXT | RSV1, b"{}"), 1),
            2 => (self.frame(RESERVED_DATA, b"{}"), 1),
            3 => (self.frame(ENDS, b"{}"), 1),
            4 => (self.frame(PING & !FINAL, b"{}"), 1),
            5 => (self.frame(PING, &[0; 126]), 2),
            6 => {
                let frame = frame_with(TEXT, [1, 2, 3, 4], LengthForm::Two, &[0, 0, 0, 0, 4]);
                (frame, if in_message { 1 } else { 4 })
            }
            7 => (self.frame(CLOSE, &1005_u16.to_be_bytes()), 8),
            _ => (self.frame(CLOSE, &[3]), 7),
        };
        self.say_refused(&frame, proof_bytes, 1002);
    }

    /// Sends a frame that ends the connection with `code`, at the latest when its first `proof_bytes` have arrived.
    fn say_refused(&mut self, frame: &[u8], proof_bytes: usize, code: u16) {
        let (proof, rest) = frame.split_at(proof_bytes);
        self.say_bytes(proof, true, What::Refused(code));
        self.outgoing.extend_from_slice(rest);
        self.said += rest.len() as u64;
    }

    fn not_utf8(&mut self, fragments: usize) {
        let content = Content::invalid(1, Vec::new(), 0, false);
        for index in 0..fragments {
            let is_last = index + 1 == fragments;
            let first = if index == 0 { TEXT_BEGINS } else { CONTINUES } | if is_last { FINAL } else { 0 };
            let payload: &[u8] = if is_last { b"\"\xED\xA0\x80\"" } else { b"\xC3\xA9" };
            let what = if is_last { What::Refused(1007) } else { What::Fragment };
            self.say_data(first, payload, &content, what);
        }
    }

    fn too_large(&mut self, fragments: usize, size_max: usize) {
        let content = Content::valid(2, vec![0; size_max]);
        for index in 1..fragments {
            let first = if index == 1 { BINARY_BEGINS } else { CONTINUES };
            self.say_data(first, &vec![0; size_max / fragments], &content, What::Fragment);
        }
        let first = if fragments > 1 { ENDS } else { BINARY };
        let left = size_max - size_max / fragments * (fragments - 1);
        let frame = self.frame(first, &vec![0; left + 1]);
        self.say_refused(&frame, frame_header(first, left as u64 + 1).len(), 1009);
    }

    pub fn half_close(&mut self) {
        if !self.has_vanished {
            self.is_ending = true;
        }
    }

    /// Whether it takes all bytes at once.
    pub fn would_read(&self) -> bool {
        self.behaviour.reading == Reading::Eager && !self.has_vanished && !self.wire.borrow().link.is_reset
    }

    pub fn vanish(&mut self) {
        self.has_vanished = true;
        self.outgoing.clear();
    }

    /// When it next does something by itself, if it does.
    pub fn next_act(&self) -> Option<Tick> {
        if self.has_vanished || self.wire.borrow().link.is_reset {
            return None;
        }
        let sends = self.next_send.filter(|_| !self.outgoing.is_empty());
        let is_slow = matches!(self.behaviour.reading, Reading::Slow { .. });
        let takes = self.next_take.filter(|_| is_slow && self.wire.borrow().has_waiting());
        let answers = self.late_pongs.front().map(|(at, _)| *at);
        [sends, takes, answers, self.end_at].into_iter().flatten().min()
    }

    /// Does what it does by itself at `now`. Returns whether it did anything.
    pub fn act(&mut self, now: Tick) -> bool {
        if self.has_vanished || self.wire.borrow().link.is_reset {
            self.end_at = None;
            return false;
        }
        let taken = self.take(now);
        let mut is_busy = !taken.is_empty();
        self.answer(&taken, now);
        while self.late_pongs.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, ping)) = self.late_pongs.pop_front()
        {
            self.answer_ping(ping);
            is_busy = true;
        }
        if self.end_at.is_some_and(|at| at <= now) {
            self.end_at = None;
            self.answer_close();
            self.is_ending = true;
        }
        is_busy |= self.send(now);
        if self.is_ending && self.outgoing.is_empty() && !self.has_ended {
            self.has_ended = true;
            self.wire.borrow_mut().link.end();
            is_busy = true;
        }
        is_busy
    }

    fn take(&mut self, now: Tick) -> Vec<u8> {
        let bytes = match self.behaviour.reading {
            Reading::Eager => usize::MAX,
            Reading::Never => 0,
            Reading::Slow { bytes, every_millis } => {
                if !self.wire.borrow().has_waiting() || self.next_take.is_some_and(|at| now < at) {
                    return Vec::new();
                }
                self.next_take = Some(Tick(now.0 + every_millis));
                bytes
            }
        };
        self.wire.borrow_mut().take(bytes)
    }

    fn answer(&mut self, mut taken: &[u8], now: Tick) {
        let mut pings = Vec::new();
        while !taken.is_empty() {
            let (used, piece) = self.reader.push(taken).expect("checked when it was written");
            taken = &taken[used..];
            if let Some(Piece::Answer { status: 201, body, .. }) = &piece {
                self.issued = issued_in(body);
            }
            match piece {
                Some(Piece::Frame { opcode: 9, payload, .. }) => {
                    let number = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
                    self.last_ping = number.unwrap_or(self.last_ping);
                    match self.behaviour.pongs {
                        _ if !self.behaviour.answers_pings => {}
                        Pongs::Each => self.answer_ping(payload),
                        _ => pings.push(payload),
                    }
                }
                Some(Piece::Frame { opcode: 8, .. } | Piece::Answer { status: 200.., .. }) => {
                    self.closed_by_relay(now);
                }
                Some(Piece::Frame { .. } | Piece::Answer { .. }) | None => {}
            }
        }
        self.answer_pings(pings, now);
        if self.wire.borrow().link.is_relay_done && self.behaviour.on_close != OnClose::Ignore {
            self.is_ending = true;
        }
    }

    fn closed_by_relay(&mut self, now: Tick) {
        match self.behaviour.on_close {
            OnClose::AnswerAndEnd => {
                self.answer_close();
                self.is_ending = true;
            }
            OnClose::Answer => self.answer_close(),
            OnClose::End => self.is_ending = true,
            OnClose::Late(millis) => self.end_at = Some(Tick(now.0 + millis)),
            OnClose::Ignore => {}
        }
    }

    fn answer_close(&mut self) {
        if !self.has_closed && self.held_back.is_empty() && !self.is_ending {
            self.close(Some(1000), 0);
        }
    }

    fn send(&mut self, now: Tick) -> bool {
        if self.outgoing.is_empty() {
            return false;
        }
        let count = match self.behaviour.sending {
            Sending::AtOnce => self.outgoing.len(),
            Sending::Trickle { bytes, every_millis } => {
                if self.next_send.is_some_and(|at| now < at) {
                    return false;
                }
                self.next_send = Some(Tick(now.0 + every_millis));
                bytes.min(self.outgoing.len())
            }
        };
        self.wire.borrow_mut().arrive(&self.outgoing.split_to(count), now);
        true
    }
}

/// The session in the body of a 201.
pub fn issued_in(body: &str) -> Option<Issued> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    let text = |name: &str| Some(body.get(name)?.as_str()?.to_owned());
    Some((text("sessionId")?, text("secret")?))
}

/// A unique JSON text of about `bytes` bytes, with characters of every length.
pub fn text(id: u64, bytes: usize) -> Vec<u8> {
    let start = format!(r#"{{"n":{id},"p":""#);
    if bytes < start.len() + 2 {
        return id.to_string().into_bytes();
    }
    let mut text = start;
    let round = "aé€😀";
    let left = bytes - text.len() - 2;
    text.push_str(&round.repeat(left / round.len()));
    let of_last = (0..=left % round.len()).rev().find(|&end| round.is_char_boundary(end));
    text.push_str(&round[..of_last.unwrap_or(0)]);
    text.push_str(r#""}"#);
    text.into_bytes()
}

/// Bytes of all values, unique if there are enough of them.
pub fn binary(id: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(id);
    let mut binary = Vec::with_capacity(bytes + 8);
    while binary.len() < bytes {
        binary.extend_from_slice(&random.next().to_le_bytes());
    }
    binary.truncate(bytes);
    binary
}
