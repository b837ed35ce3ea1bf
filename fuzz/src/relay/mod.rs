//! Clients send anything, in any pieces, with any readiness, errors and steps of time. The relay does not panic, its
//! invariants hold after every step, each client receives only HTTP and frames that RFC 6455 allows, and every stream
//! is given back exactly once. When all clients have left and all timeouts have passed, the relay is empty. Its memory
//! stays within the budget and is freed. No host has more clients than allowed, and no secret is logged.

mod access;
mod log_reader;
mod output;

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use apptuner_relay::relay::internals::address::{ClientAddress, Networks};
use apptuner_relay::relay::internals::limits::{
    BUFFERED_BYTES_MIN, FRAGMENT_BYTES_MAX, HIGH_WATER_BYTES, SHORT_READ_BYTES,
};
use apptuner_relay::relay::{ConnectionId, Effect, Readiness, Relay, Settings};
use apptuner_relay::relay::{Now, Tick};

use super::choices::Choices;
use super::frames::{LengthForm, PONG, TEXT, UNCHANGED, frame_under, monotonous_frame};
use super::wire::{Stream, Wire};

/// Memory that may be used beyond the budget: error messages of at most 160 bytes for each frame of 6 bytes in one
/// short read; the rest of a fragment that is still sent to a replaced client; an eighth more than replies need, of
/// which 1 MiB may wait; and a little for each client.
const ONE_READ_BYTES: usize =
    SHORT_READ_BYTES / 6 * 160 + FRAGMENT_BYTES_MAX + HIGH_WATER_BYTES / 8 + CLIENTS_MAX * 1_024;
/// Connections of one input.
const CLIENTS_MAX: usize = 16;
/// Bytes that all clients send, except for small ones.
const SENT_BYTES_MAX: usize = 4 << 20;
/// More turns than any input needs.
const TURNS_MAX: usize = 100_000;
/// Steps of the clock, in milliseconds: around the timeouts of the default settings.
const LEAPS: [u64; 12] =
    [0, 1, 999, 1_000, 5_000, 9_999, 10_000, 30_000, 60_000, 299_999, 300_000, 31 * 60_000];
/// Lengths around the bounds of the relay's buffers, fragments and water marks.
const LENGTHS: [usize; 16] = [
    0, 1, 2, 125, 126, 1_000, 16_383, 16_384, 16_385, 65_535, 65_536, 131_072, 131_073, 262_200, 400_000,
    1_100_000,
];

/// Runs the plan in `data`.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut settings = settings(&mut choices);
    let bits = choices.byte();
    // Without the bit, so that inputs from before there was a window keep their meaning.
    if bits & 4 == 0 {
        settings.redelivery_window = Duration::ZERO;
    }
    log_reader::start(bits & 1 != 0, &access::SECRETS);
    let has_demands = bits & 2 != 0;
    let settings = if has_demands { access::demand(&mut choices, &settings) } else { settings };
    let mut world = World::new(settings, has_demands);
    while !choices.is_empty() {
        world.step(&mut choices);
        world.check();
    }
    world.end();
}

fn settings(choices: &mut Choices<'_>) -> Settings {
    let bits = choices.byte();
    let is_set = |bit: u8| bits & (1 << bit) != 0;
    let default = Settings::default();
    let max_buffered = if is_set(7) { BUFFERED_BYTES_MIN } else { default.max_buffered };
    Settings {
        max_buffered,
        answer_pings: is_set(0),
        max_connections: is_set(1).then_some(2),
        max_message_rate: is_set(2).then_some(2),
        max_byte_rate: is_set(3).then_some(1_000),
        max_message_size: if is_set(4) { 200 } else { default.max_message_size },
        session_timeout: if is_set(5) { Duration::from_secs(2) } else { default.session_timeout },
        reconnect_window: if is_set(6) { Duration::ZERO } else { default.reconnect_window },
        ..default
    }
}

/// A client, seen from outside.
struct Client {
    id: ConnectionId,
    /// Its address.
    address: IpAddr,
    wire: Rc<RefCell<Wire>>,
    /// It has sent more than its first request.
    has_spoken: bool,
    /// The relay has ended its direction of the stream.
    is_shut: bool,
    /// The relay has given the stream back.
    is_gone: bool,
}

struct World {
    relay: Relay<Stream>,
    max_buffered: usize,
    /// Clients have different addresses and send secrets.
    has_demands: bool,
    /// The limit of clients per host, if no proxy can name other addresses.
    clients_of_host_max: Option<usize>,
    exempt: Networks,
    now: Now,
    clients: Vec<Client>,
    /// Bytes that clients may still send in large pieces.
    sendable_bytes: usize,
    /// At some time there were no descriptors, so a timer may be set for accepting again.
    is_exhausted: bool,
    /// Timers are set for closing the next session and for the end of the grace period.
    is_shutting_down: bool,
}

impl World {
    fn new(settings: Settings, has_demands: bool) -> Self {
        let now = Now { tick: Tick(1_000), unix_millis: 1_700_000_000_000, micros: 1_000_000 };
        let max_buffered = settings.max_buffered;
        let exempt = access::exempt(&settings);
        let has_proxies = settings.proxy_protocol || !settings.trust_proxy.is_empty();
        let clients_of_host_max = settings.max_connections_per_ip.filter(|_| !has_proxies);
        let relay = Relay::new(settings, [3, 5], now);
        Self {
            relay,
            max_buffered,
            has_demands,
            clients_of_host_max,
            exempt,
            now,
            clients: Vec::new(),
            sendable_bytes: SENT_BYTES_MAX,
            is_exhausted: false,
            is_shutting_down: false,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 20 {
            0 => self.connect(choices),
            1 => self.connect_and_join(choices),
            2 => self.send_upgrade(choices),
            3 => {
                let client = choices.byte();
                self.send(client, choices.string());
            }
            4 => self.send_small_frame(choices),
            5 => self.send_frame(choices),
            6 => self.send_text(choices),
            7 => self.set_reads(choices),
            8 => self.set_room(choices),
            9 => self.with_wire(choices.byte(), |mut wire| wire.end()),
            10 => self.with_wire(choices.byte(), |mut wire| wire.reset()),
            11 => self.with_wire(choices.byte(), |mut wire| wire.is_read_interrupted = true),
            12 => self.with_wire(choices.byte(), |mut wire| wire.is_write_interrupted = true),
            13 => self.tell_news(choices.byte()),
            14 => self.tell_anything(choices),
            15 => self.relay.handle_turn(self.now),
            16 => self.settle(),
            17 => self.pass_time(choices),
            18 => self.perform_effects(),
            _ => self.do_something_rare(choices),
        }
    }

    /// Checks what must hold after every step.
    fn check(&self) {
        #[cfg(debug_assertions)]
        self.relay.check_invariants();
        let timers_max = self.relay.connections()
            + self.relay.sessions()
            // At most one host is remembered per client that ever connected.
            + if self.has_demands { self.clients.len() } else { 0 }
            + usize::from(self.is_exhausted)
            + 2 * usize::from(self.is_shutting_down);
        assert!(self.relay.timers() <= timers_max, "no timer outlives what it is for");
        let buffered = self.relay.buffered_bytes();
        assert!(buffered <= self.max_buffered + ONE_READ_BYTES, "{buffered} bytes are over the budget");
    }

    fn connect(&mut self, choices: &mut Choices<'_>) {
        let address = if self.has_demands { access::address(choices) } else { [127, 0, 0, 1].into() };
        if self.clients.len() < CLIENTS_MAX && self.relay.can_accept() {
            let wire = Rc::new(RefCell::new(Wire::default()));
            let stream = Stream(Rc::clone(&wire));
            let id = self.relay.handle_accept(stream, (address, 4000).into(), self.now);
            assert!(self.clients.iter().all(|client| client.id != id), "{id} is used for the first time");
            self.clients.push(Client {
                id,
                address,
                wire,
                has_spoken: false,
                is_shut: false,
                is_gone: false,
            });
        }
    }

    /// The shortest way to a client in a session.
    fn connect_and_join(&mut self, choices: &mut Choices<'_>) {
        self.connect(choices);
        let newest = self.clients.len().wrapping_sub(1) as u8;
        self.send_request(newest, choices);
        self.settle();
    }

    fn send_upgrade(&mut self, choices: &mut Choices<'_>) {
        let client = choices.byte();
        self.send_request(client, choices);
    }

    fn send_request(&mut self, client: u8, choices: &mut Choices<'_>) {
        let request = self.request(choices);
        if let Some(client) = self.client(client) {
            let mut wire = client.wire.borrow_mut();
            client.has_spoken |= !wire.to_relay.is_empty() || !wire.received().is_empty();
            wire.send(&request);
        }
    }

    fn request(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        if self.has_demands { access::request(choices) } else { upgrade(choices.byte()) }
    }

    /// A frame with any first byte and any payload, in a correct form.
    fn send_small_frame(&mut self, choices: &mut Choices<'_>) {
        let (client, first) = (choices.byte(), choices.byte());
        let frame = frame_under([1, 2, 3, 4], first, choices.string());
        self.send(client, &frame);
    }

    /// A frame of any opcode and length with one repeated byte as payload, perhaps cut short.
    fn send_frame(&mut self, choices: &mut Choices<'_>) {
        let (client, first, content) = (choices.byte(), choices.byte(), choices.byte());
        let length = self.grant(choices.pick(LENGTHS));
        let form =
            choices.pick([LengthForm::Shortest, LengthForm::Shortest, LengthForm::Two, LengthForm::Eight]);
        let frame = monotonous_frame(first, [content, 0, 7, 255], form, content, length);
        let cut = if choices.flag() { usize::from(choices.word()).min(frame.len()) } else { frame.len() };
        self.send(client, &frame[..cut]);
    }

    /// A text message that is JSON.
    fn send_text(&mut self, choices: &mut Choices<'_>) {
        let client = choices.byte();
        let text = match choices.byte() % 6 {
            0 => r#"{"type":"ping"}"#.to_owned(),
            1 => "{\"type\":\"log\\u0000\u{2028}\"}".to_owned(),
            2 => r#"{"type":"x","type":1}"#.to_owned(),
            3 => "null".to_owned(),
            _ => format!("\"{}\"", "x".repeat(self.grant(choices.pick(LENGTHS)))),
        };
        self.send(client, &frame_under(UNCHANGED, TEXT, text.as_bytes()));
    }

    /// `length`, or less if all clients together have sent enough.
    fn grant(&mut self, length: usize) -> usize {
        let granted = if length <= self.sendable_bytes { length } else { length % 100 };
        self.sendable_bytes -= granted.min(self.sendable_bytes);
        granted
    }

    fn set_reads(&mut self, choices: &mut Choices<'_>) {
        let client = choices.byte();
        let steps: Vec<usize> = choices.string().iter().take(16).map(|&step| step.into()).collect();
        self.with_wire(client, |mut wire| wire.read_steps.extend(steps));
    }

    fn set_room(&mut self, choices: &mut Choices<'_>) {
        let client = choices.byte();
        let room = match choices.byte() {
            255 => usize::MAX,
            room @ 0..128 => room.into(),
            room => LENGTHS[usize::from(room) % LENGTHS.len()],
        };
        self.with_wire(client, |mut wire| wire.set_room(room));
    }

    fn send(&mut self, client: u8, bytes: &[u8]) {
        if let Some(client) = self.client(client) {
            client.has_spoken = true;
            client.wire.borrow_mut().send(bytes);
        }
    }

    fn with_wire(&mut self, client: u8, act: impl FnOnce(RefMut<'_, Wire>)) {
        if let Some(client) = self.client(client) {
            act(client.wire.borrow_mut());
        }
    }

    /// One of all clients, including those that have left: their identifiers are stale.
    fn client(&mut self, choice: u8) -> Option<&mut Client> {
        let index = usize::from(choice).checked_rem(self.clients.len())?;
        self.clients.get_mut(index)
    }

    /// Reports one client's readiness to the relay.
    fn tell_news(&mut self, client: u8) {
        if let Some(Client { id, wire, .. }) = self.client(client) {
            let (id, news) = (*id, std::mem::take(&mut wire.borrow_mut().news));
            self.relay.handle_readiness(id, news);
        }
    }

    /// Reports readiness that may not be true.
    fn tell_anything(&mut self, choices: &mut Choices<'_>) {
        let (client, bits) = (choices.byte(), choices.byte());
        let readiness = Readiness {
            is_readable: bits & 1 != 0,
            is_writable: bits & 2 != 0,
            is_read_closed: bits & 4 != 0,
            is_failed: bits & 8 != 0,
            is_urgent: bits & 16 != 0,
        };
        if let Some(id) = self.client(client).map(|client| client.id) {
            self.relay.handle_readiness(id, readiness);
        }
    }

    /// Reports all readiness, and makes turns until nothing is left to do at this time.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            for client in 0..self.clients.len() {
                self.tell_news(client as u8);
            }
            self.relay.handle_turn(self.now);
            self.perform_effects();
            let is_news = self
                .clients
                .iter()
                .any(|client| !client.is_gone && client.wire.borrow().news != Readiness::default());
            if !is_news && !self.relay.has_work() {
                self.check_clients_of_hosts();
                return;
            }
        }
        panic!("the relay never comes to rest");
    }

    /// Checks that no host has more clients than allowed.
    fn check_clients_of_hosts(&self) {
        let Some(max) = self.clients_of_host_max else { return };
        let mut counts = BTreeMap::new();
        for client in self.clients.iter().filter(|client| !client.is_gone) {
            let address = ClientAddress::new(client.address);
            let is_let_in = client.wire.borrow().received().starts_with(b"HTTP/1.1 101");
            if is_let_in && !self.exempt.contains(address) {
                let count = counts.entry(address.host()).or_insert(0);
                *count += 1;
                assert!(*count <= max, "{address} has {count} clients");
            }
        }
    }

    fn pass_time(&mut self, choices: &mut Choices<'_>) {
        let leap = choices.byte();
        if leap >= 128 {
            // To the relay's next deadline, but not before.
            if let Some(deadline) = self.relay.next_deadline() {
                self.set_tick(deadline.max(self.now.tick));
            }
        } else {
            self.set_tick(self.now.tick.after(Duration::from_millis(LEAPS[usize::from(leap) % LEAPS.len()])));
        }
        self.settle();
    }

    /// Moves the clock, with a turn at each deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now.tick.after(time);
        let mut turns = 0;
        while let Some(deadline) = self.relay.next_deadline().filter(|&deadline| deadline <= end) {
            self.set_tick(deadline);
            self.settle();
            turns += 1;
            assert!(turns < TURNS_MAX, "the relay never comes to rest");
        }
        self.set_tick(end);
        self.settle();
    }

    fn set_tick(&mut self, tick: Tick) {
        self.now.unix_millis += tick.0 - self.now.tick.0;
        self.now.tick = tick;
        self.now.micros = tick.0 * 1000;
    }

    fn do_something_rare(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 8 {
            0 => {
                self.is_shutting_down = true;
                self.relay.handle_shutdown(Duration::from_millis(choices.word().into()), self.now);
            }
            1 => {
                self.is_exhausted = true;
                self.relay.handle_accept_exhausted(self.now);
            }
            2 if self.has_demands => self.relay.set_api_keys(access::api_keys(choices)),
            3 if self.has_demands => self.relay.set_address_rules(&access::rules(choices)),
            4 => self.answer_ping(choices.byte()),
            _ => self.settle(),
        }
    }

    /// A client answers the last ping that it was sent, which confirms what came before it.
    fn answer_ping(&mut self, client: u8) {
        let Some(Client { wire, .. }) = self.client(client) else { return };
        let ping = output::last_ping(wire.borrow().received());
        if let Some(payload) = ping {
            self.send(client, &frame_under([1, 2, 3, 4], PONG, &payload));
        }
    }

    fn perform_effects(&mut self) {
        while let Some(effect) = self.relay.poll_effect() {
            let id = match &effect {
                Effect::ShutdownWrite(id) | Effect::Close { id, .. } => *id,
            };
            let client = self.clients.iter_mut().find(|client| client.id == id).expect("a known client");
            assert!(!client.is_gone, "{id} was given back before");
            match effect {
                Effect::ShutdownWrite(_) => {
                    assert!(!client.is_shut, "{id} was told before that nothing more comes");
                    client.is_shut = true;
                    client.wire.borrow_mut().is_relay_done = true;
                    client.check_output();
                }
                Effect::Close { stream, .. } => {
                    assert!(Rc::ptr_eq(&stream.0, &client.wire), "{id} gets another's stream back");
                    client.is_gone = true;
                    client.wire.borrow_mut().is_relay_done = true;
                    client.check_output();
                }
            }
        }
    }

    /// All clients leave at once, and all timeouts pass.
    fn end(&mut self) {
        for client in &self.clients {
            let mut wire = client.wire.borrow_mut();
            wire.end();
            wire.set_room(usize::MAX);
            wire.read_steps.clear();
        }
        self.settle();
        // A host may be locked out for an hour, and is remembered for another hour.
        self.pass(Duration::from_secs(3 * 60 * 60));
        let left = (self.relay.connections(), self.relay.sessions(), self.relay.timers());
        assert_eq!(left, (0, 0, 0), "connections, sessions and timers left");
        assert_eq!(self.relay.buffered_bytes(), 0, "bytes left on the account");
        assert!(self.clients.iter().all(|client| client.is_gone), "every stream is given back");
        assert_eq!(self.relay.next_deadline(), None);
        assert_eq!(self.relay.counters().connections_accepted, self.clients.len() as u64);
    }
}

impl Client {
    /// Checks all that the client has received.
    fn check_output(&self) {
        let wire = self.wire.borrow();
        let has_end = output::check(wire.received(), self.is_shut, self.has_spoken);
        let is_own_end = wire.is_client_done || wire.received().is_empty();
        assert!(!self.is_shut || has_end || is_own_end, "{} is not told why it ends", self.id);
    }
}

/// The head that joins one of six places in sessions, and may ask for receipts.
fn upgrade(choice: u8) -> Vec<u8> {
    let query = if choice & 0x80 == 0 { "" } else { "?receipts=1" };
    let choice = choice & 0x7F;
    let client_type = if choice & 1 == 0 { "desktop" } else { "mobile" };
    let session = ["a", "b", "c"][usize::from(choice >> 1) % 3];
    format!(
        "GET /{client_type}/{session}{query} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}
