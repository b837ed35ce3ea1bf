//! A relay among in-memory streams, on a clock that the test moves.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::relay::core::relay::Relay;
use crate::relay::effect::Effect;
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::readiness::Readiness;
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{FINAL, PONG, TEXT, frame};
use crate::relay::tests::stream::{Stream, Wire};
use crate::relay::time::{Now, Tick};
use crate::relay::wire::json;

/// When every world begins: an arbitrary point on both clocks.
const START: Now = Now { tick: Tick(1_000), unix_millis: 1_700_000_000_000, micros: 1_000_000 };

/// More turns than any test has work for.
const TURNS_MAX: usize = 100_000;

/// A client, seen from its own side.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ConnectionId,
    wire: Rc<RefCell<Wire>>,
}

/// What a client finds in what it received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    Head(String),
    Text(String),
    Binary(Vec<u8>),
    Ping,
    /// A ping that asks for a confirmation, with its number.
    Asked(String),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The relay ended the stream.
    End,
}

pub(super) fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}

/// A system message, its timestamp left out.
pub(super) fn system(start: &str) -> Received {
    Received::Text(format!("{{{start}}}"))
}

pub(super) struct World {
    pub(super) relay: Relay<Stream>,
    now: Now,
    clients: Vec<(ConnectionId, Rc<RefCell<Wire>>)>,
    gone: Vec<ConnectionId>,
}

impl World {
    pub(super) fn quiet() -> Self {
        Self::with(Settings::default())
    }

    /// A relay that counts messages as delivered once they are written.
    pub(super) fn with(settings: Settings) -> Self {
        Self::seeded(settings, [3, 5])
    }

    pub(super) fn seeded(settings: Settings, seed: [u64; 2]) -> Self {
        Self::keeping(Settings { redelivery_window: Duration::ZERO, ..settings }, seed)
    }

    /// A relay that keeps messages until they are confirmed.
    pub(super) fn keeping(settings: Settings, seed: [u64; 2]) -> Self {
        Self { relay: Relay::new(settings, seed, START), now: START, clients: Vec::new(), gone: Vec::new() }
    }

    pub(super) fn connect(&mut self) -> Client {
        self.connect_from("127.0.0.1")
    }

    pub(super) fn connect_from(&mut self, address: &str) -> Client {
        let client = self.accept_from(address);
        self.run_until_idle();
        client
    }

    /// A client that was accepted; the relay has not worked since.
    pub(super) fn accept(&mut self) -> Client {
        self.accept_from("127.0.0.1")
    }

    fn accept_from(&mut self, address: &str) -> Client {
        let wire = Rc::new(RefCell::new(Wire::default()));
        let addr = SocketAddr::new(address.parse().expect("an address"), 4000);
        let id = self.relay.handle_accept(Stream(Rc::clone(&wire)), addr, self.now);
        self.clients.push((id, Rc::clone(&wire)));
        Client { id, wire }
    }

    /// The answer in HTTP to a request that a client sends whole: its status, and all of it.
    pub(super) fn ask(&mut self, client: &Client, request: &[u8]) -> (u16, String) {
        self.send(client, request);
        self.answer(client)
    }

    /// The answer in HTTP that a client has received: its status, and all of it.
    pub(super) fn answer(&self, client: &Client) -> (u16, String) {
        let Some(Received::Head(answer)) = self.take(client).into_iter().next() else { panic!("no answer") };
        (answer[9..12].parse().expect("a status"), answer)
    }

    /// A client in its session that has read its greeting, peer or not.
    pub(super) fn join(&mut self, client_type: ClientType, session: &str) -> Client {
        let client = self.connect();
        self.send(&client, &upgrade(client_type, session));
        let greeting = self.take(&client);
        assert!(matches!(&greeting[..2], [Received::Head(_), Received::Text(_)]), "{greeting:?}");
        client
    }

    /// A desktop and a mobile that have read their greetings.
    pub(super) fn pair(&mut self, session: &str) -> (Client, Client) {
        let desktop = self.join(ClientType::Desktop, session);
        let mobile = self.join(ClientType::Mobile, session);
        assert_eq!(self.take(&desktop), [system(r#""type":"mobile_connected""#)]);
        (desktop, mobile)
    }

    /// Sends bytes, which the relay learns of in its next turn.
    pub(super) fn queue(&mut self, client: &Client, bytes: &[u8]) {
        client.wire.borrow_mut().to_relay.extend(bytes);
        self.relay.handle_readiness(client.id, Readiness::READABLE);
    }

    /// Sends bytes and lets the relay work.
    pub(super) fn send(&mut self, client: &Client, bytes: &[u8]) {
        self.queue(client, bytes);
        self.run_until_idle();
    }

    /// One turn, whatever it leaves over.
    pub(super) fn turn(&mut self) {
        self.relay.handle_turn(self.now);
    }

    /// Bytes arrive in the kernel, and the relay is not told.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn arrive(&self, client: &Client, bytes: &[u8]) {
        client.wire.borrow_mut().to_relay.extend(bytes);
    }

    /// Tells the relay that a client's bytes have arrived.
    pub(super) fn tell(&mut self, client: &Client) {
        self.relay.handle_readiness(client.id, Readiness::READABLE);
    }

    /// Tells the relay of everybody whose bytes have arrived.
    pub(super) fn tell_all(&mut self) {
        for (id, wire) in &self.clients {
            if !wire.borrow().to_relay.is_empty() {
                self.relay.handle_readiness(*id, Readiness::READABLE);
            }
        }
    }

    /// One turn, before which the relay was not told all.
    pub(super) fn turn_told_in_part(&mut self) {
        self.relay.handle_told_in_part();
        self.turn();
    }

    /// Moves the clock; the relay has not worked since.
    pub(super) fn stand_still(&mut self, time: Duration) {
        self.set_tick(self.now.tick.after(time));
    }

    pub(super) fn send_text(&mut self, client: &Client, text: &str) {
        self.send(client, &frame(TEXT, text.as_bytes()));
    }

    /// How many bytes more the client's side takes; what it takes at once is no event.
    pub(super) fn set_room(&mut self, client: &Client, room: usize) {
        client.wire.borrow_mut().room = room;
        if room > 0 {
            self.relay.handle_readiness(client.id, Readiness::WRITABLE);
        }
        self.run_until_idle();
    }

    /// From here on the relay's end of the client's stream keeps what it takes until there is room for it.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn keep(&self, client: &Client) {
        client.wire.borrow_mut().kept = Some(Vec::new());
    }

    /// The same, but the relay has not worked since.
    pub(super) fn open_room(&mut self, client: &Client, room: usize) {
        client.wire.borrow_mut().room = room;
        self.relay.handle_readiness(client.id, Readiness::WRITABLE);
    }

    /// The same, but no event tells the relay.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn set_room_silently(&self, client: &Client, room: usize) {
        client.wire.borrow_mut().room = room;
    }

    /// A signal interrupts the relay's next read.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn interrupt(&self, client: &Client) {
        client.wire.borrow_mut().is_read_interrupted = true;
    }

    /// The client ends its stream.
    pub(super) fn close_tcp(&mut self, client: &Client) {
        client.wire.borrow_mut().is_client_done = true;
        let end = Readiness { is_read_closed: true, ..Readiness::READABLE };
        self.relay.handle_readiness(client.id, end);
        self.run_until_idle();
    }

    /// The client's stream fails, and no event tells the relay.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn reset_silently(&self, client: &Client) {
        client.wire.borrow_mut().is_reset = true;
    }

    /// The client's stream fails.
    pub(super) fn reset(&mut self, client: &Client) {
        client.wire.borrow_mut().is_reset = true;
        self.relay.handle_readiness(client.id, Readiness { is_failed: true, ..Readiness::default() });
        self.run_until_idle();
    }

    /// Bytes that the relay has not read from a client.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn unread(&self, client: &Client) -> usize {
        client.wire.borrow().to_relay.len()
    }

    /// How often the relay has read from a client.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn reads(&self, client: &Client) -> usize {
        client.wire.borrow().reads
    }

    /// Turns until nothing is left to do at this point in time.
    pub(super) fn run_until_idle(&mut self) {
        for _ in 0..TURNS_MAX {
            self.relay.handle_turn(self.now);
            while let Some(effect) = self.relay.poll_effect() {
                match effect {
                    Effect::ShutdownWrite(id) => {
                        self.relay.stream(id).expect("open").0.borrow_mut().is_relay_done = true;
                    }
                    Effect::Close { id, stream } => {
                        stream.0.borrow_mut().is_relay_done = true;
                        self.gone.push(id);
                    }
                }
            }
            if !self.relay.has_work() {
                return;
            }
        }
        panic!("the relay never comes to rest");
    }

    /// Moves the clock, stopping wherever the relay wants to be called.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.tick.after(time);
        let mut turns = 0;
        while let Some(deadline) = self.relay.next_deadline().filter(|&deadline| deadline <= end) {
            self.set_tick(deadline);
            self.run_until_idle();
            turns += 1;
            assert!(turns < TURNS_MAX, "the relay never comes to rest");
        }
        self.set_tick(end);
        self.run_until_idle();
    }

    /// Moves the clock while the relay does not run, as if its process were stopped.
    pub(super) fn freeze(&mut self, time: Duration) {
        self.set_tick(self.now.tick.after(time));
        self.run_until_idle();
    }

    fn set_tick(&mut self, tick: Tick) {
        let unix_millis = START.unix_millis + (tick.0 - START.tick.0);
        self.now = Now { tick, unix_millis, micros: tick.0 * 1000 };
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    pub(super) fn is_gone(&self, client: &Client) -> bool {
        self.gone.contains(&client.id)
    }

    /// Bytes that a client has received and that were not taken.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn unparsed(&self, client: &Client) -> usize {
        client.wire.borrow().received().len()
    }

    /// Bytes of application messages among them, whether or not those are whole.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn payload_taken(&self, client: &Client) -> usize {
        let wire = client.wire.borrow();
        let frames = split_frames(wire.received());
        frames.iter().filter(|(first, _)| first & 0x08 == 0).map(|(_, payload)| payload.len()).sum()
    }

    /// Takes everything the client received, and answers its pings as an ordinary client does. Returns the messages.
    pub(super) fn take_and_confirm(&mut self, client: &Client) -> Vec<Received> {
        let received = self.take(client);
        let mut messages = Vec::new();
        for one in received {
            if let Received::Asked(number) = one {
                self.send(client, &frame(PONG, number.as_bytes()));
            } else if one == Received::Ping {
                self.send(client, &frame(PONG, b""));
            } else {
                messages.push(one);
            }
        }
        messages
    }

    /// Takes everything the client received, and returns the control frames.
    pub(super) fn take_controls(&self, client: &Client) -> Vec<Received> {
        let is_control =
            |one: &Received| matches!(one, Received::Ping | Received::Pong(_) | Received::Close(..));
        self.take(client).into_iter().filter(is_control).collect()
    }

    /// Takes everything the client received: the answer in HTTP if there is one, then messages.
    #[expect(clippy::unused_self, reason = "a client's view of the world")]
    pub(super) fn take(&self, client: &Client) -> Vec<Received> {
        let mut wire = client.wire.borrow_mut();
        let bytes = wire.take_all();
        let mut received = parse(&bytes);
        if wire.is_relay_done {
            received.push(Received::End);
        }
        received
    }

    /// All clients leave at once, and all windows pass: the relay must be as empty as it began.
    pub(super) fn expect_empty_in_the_end(&mut self) {
        for (id, wire) in &self.clients {
            let mut wire = wire.borrow_mut();
            wire.is_client_done = true;
            wire.room = usize::MAX;
            let end = Readiness { is_read_closed: true, is_writable: true, ..Readiness::READABLE };
            self.relay.handle_readiness(*id, end);
        }
        self.run_until_idle();
        self.pass(Duration::from_secs(3 * 3600));
        let left = (self.relay.connections(), self.relay.sessions(), self.relay.timers());
        assert_eq!(left, (0, 0, 0), "connections, sessions and timers left");
        assert_eq!(self.relay.buffered_bytes(), 0, "bytes left on the account");
    }
}

fn parse(mut bytes: &[u8]) -> Vec<Received> {
    let mut received = Vec::new();
    if bytes.starts_with(b"HTTP/") {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
        let (head, rest) = bytes.split_at(end);
        let head = String::from_utf8(head.to_vec()).expect("ASCII");
        if !head.starts_with("HTTP/1.1 101 ") {
            return vec![Received::Head(head + std::str::from_utf8(rest).expect("text"))];
        }
        received.push(Received::Head(head));
        bytes = rest;
    }
    let mut open: Option<(u8, Vec<u8>)> = None;
    for (first, payload) in split_frames(bytes) {
        match first & 0x0F {
            0x8 => {
                let reason = String::from_utf8(payload[2..].to_vec()).expect("UTF-8");
                received.push(Received::Close(u16::from_be_bytes([payload[0], payload[1]]), reason));
            }
            0x9 if payload.is_empty() => received.push(Received::Ping),
            0x9 => received.push(Received::Asked(String::from_utf8(payload.to_vec()).expect("a number"))),
            0xA => received.push(Received::Pong(payload.to_vec())),
            opcode => {
                assert_eq!(opcode != 0, open.is_none(), "a message within a message");
                let message = open.get_or_insert_with(|| (opcode, Vec::new()));
                message.1.extend_from_slice(payload);
                if first & FINAL != 0 {
                    received.extend(open.take().map(|(opcode, payload)| message_of(opcode, payload)));
                }
            }
        }
    }
    received
}

/// The whole frames in a byte stream: first byte and payload.
fn split_frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length_bytes, length) = match second {
            126 => (2, rest.get(..2).map(|length| u64::from(u16::from_be_bytes(length.try_into().unwrap())))),
            127 => (8, rest.get(..8).map(|length| u64::from_be_bytes(length.try_into().unwrap()))),
            length => (0, Some(u64::from(*length))),
        };
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else { break };
        let Some((payload, behind)) = rest[length_bytes..].split_at_checked(length) else { break };
        frames.push((*first, payload));
        bytes = behind;
    }
    frames
}

fn message_of(opcode: u8, payload: Vec<u8>) -> Received {
    if opcode == 2 {
        return Received::Binary(payload);
    }
    let text = String::from_utf8(payload).expect("UTF-8");
    json::check_text(text.as_bytes()).expect("JSON");
    match text.split_once(r#","timestamp":"#) {
        Some((start, _)) => Received::Text(format!("{start}}}")),
        None => Received::Text(text),
    }
}

pub(super) fn upgrade(client_type: ClientType, session: &str) -> Vec<u8> {
    format!(
        "GET /{}/{session} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        client_type.as_str()
    )
    .into_bytes()
}
