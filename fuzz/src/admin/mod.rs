//! Operators and strangers send anything, in any pieces, and may not read. Each is answered in HTTP as its request
//! demands, or is replaced if all connections are used. There are never too many connections, few bytes of each are
//! read per turn, at most one page is made per turn, each stream is given back exactly once, no secret is shown, and an
//! idle listener does nothing.

mod request;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use apptuner_relay::admin::{Admin, AdminEffect, CONNECTIONS_MAX, Process};
use apptuner_relay::relay::internals::secret::Secret;
use apptuner_relay::relay::{self, Now, Readiness, Relay, Settings, Tick};

use super::answer::{self, Answer};
use super::choices::Choices;
use super::wire::{Stream, Wire};
use request::{Request, SESSION, TOKEN};

/// Connections of one input.
const VISITORS_MAX: usize = 64;
/// Bytes read of one connection per turn.
const READ_BYTES_MAX: usize = 4096;
/// More turns than any input needs.
const TURNS_MAX: usize = 10_000;
/// Steps of the clock, in milliseconds: around the timeouts and the time between two pages.
const LEAPS: [u64; 10] = [0, 1, 9, 10, 100, 160, 4_999, 5_000, 10_000, 1_000_000];

/// Runs the plan in `data`.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut world = World::new(choices.flag());
    while !choices.is_empty() {
        world.step(&mut choices);
        world.check();
    }
    world.end();
}

/// A client of the operator's listener, seen from outside.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a visitor")]
struct Visitor {
    key: usize,
    wire: Rc<RefCell<Wire>>,
    since: Tick,
    /// Its first request, if that is correct.
    request: Option<Request>,
    /// The part of the request that is not sent yet.
    unsent: Vec<u8>,
    sent_bytes: usize,
    is_reset: bool,
    is_shut: bool,
    is_gone: bool,
    has_made_way: bool,
    /// Its answer may have been made long before it began to read it.
    was_narrow: bool,
}

struct World {
    admin: Admin<Stream>,
    relay: Relay<Stream>,
    /// The relay's clients. They only stay connected.
    clients: Vec<Rc<RefCell<Wire>>>,
    has_token: bool,
    now: Now,
    visitors: Vec<Visitor>,
}

impl World {
    fn new(has_token: bool) -> Self {
        let now = Now { tick: Tick(1_000), unix_millis: 1_700_000_000_000, micros: 1_000_000 };
        let token = Secret::new(TOKEN.as_bytes()).filter(|_| has_token);
        Self {
            admin: Admin::new(token.as_ref(), Settings::default(), [3, 5], now),
            relay: Relay::new(Settings { max_connections: Some(3), ..Settings::default() }, [5, 3], now),
            clients: Vec::new(),
            has_token,
            now,
            visitors: Vec::new(),
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 20 {
            0 => self.connect(None),
            1 => self.connect(Some(Request::choose(choices))),
            2 | 3 => {
                self.connect(Some(Request::choose(choices)));
                self.send_rest(self.visitors.len().wrapping_sub(1) as u8, usize::MAX);
            }
            4 => self.send_rest(choices.byte(), choices.byte().into()),
            5 => self.send_rest(choices.byte(), usize::MAX),
            6 => {
                let visitor = choices.byte();
                self.send(visitor, choices.string());
            }
            7 => self.send(choices.byte(), &vec![b'x'; 20_000]),
            8 => self.set_reads(choices),
            9 => {
                let (visitor, room) = (choices.byte(), choices.word());
                let room = if room == u16::MAX { usize::MAX } else { room.into() };
                if let Some(visitor) = self.visitor(visitor) {
                    visitor.was_narrow = true;
                    visitor.wire.borrow_mut().set_room(room);
                }
            }
            10 => self.with_wire(choices.byte(), |mut wire| wire.end()),
            11 => {
                if let Some(visitor) = self.visitor(choices.byte()) {
                    visitor.is_reset = true;
                    visitor.wire.borrow_mut().reset();
                }
            }
            12 => self.with_wire(choices.byte(), |mut wire| wire.is_read_interrupted = true),
            13 => self.with_wire(choices.byte(), |mut wire| wire.is_write_interrupted = true),
            14 => self.tell_news(choices.byte().into()),
            15 => self.turn(),
            16 => self.settle(),
            17 => self.pass(Duration::from_millis(choices.pick(LEAPS))),
            18 => self.admin.handle_accept_exhausted(self.now.tick),
            _ => self.do_something_of_the_relay(choices),
        }
    }

    /// Checks what must hold after every step.
    fn check(&self) {
        assert!(self.kept() <= CONNECTIONS_MAX, "no more are kept than there are places");
    }

    fn kept(&self) -> usize {
        self.visitors.iter().filter(|visitor| !visitor.is_gone).count()
    }

    fn connect(&mut self, request: Option<Request>) {
        if self.visitors.len() == VISITORS_MAX || !self.admin.can_accept() {
            return;
        }
        let (wire, kept) = (Rc::new(RefCell::new(Wire::default())), self.kept());
        let waiting: Vec<bool> =
            self.visitors.iter().map(|visitor| visitor.waits_for_page(self.has_token)).collect();
        let key = self.admin.handle_accept(Stream(Rc::clone(&wire)), self.now);
        let made_way = self.perform_effects();
        assert!(made_way.len() <= usize::from(kept == CONNECTIONS_MAX), "one makes way, if it must");
        for &index in &made_way {
            self.visitors[index].has_made_way = true;
            let is_worth_less =
                self.visitors.iter().any(|visitor| !visitor.is_gone && visitor.waits_for_nothing());
            assert!(!waiting[index] || !is_worth_less, "who waits for a page goes last");
        }
        assert!(self.visitors.iter().all(|visitor| visitor.is_gone || visitor.key != key), "{key} is free");
        let unsent = request.as_ref().map(Request::to_bytes).unwrap_or_default();
        self.visitors.push(Visitor {
            key,
            wire,
            since: self.now.tick,
            request,
            unsent,
            sent_bytes: 0,
            is_reset: false,
            is_shut: false,
            is_gone: false,
            has_made_way: false,
            was_narrow: false,
        });
    }

    /// Sends the next `count` bytes of a request.
    fn send_rest(&mut self, visitor: u8, count: usize) {
        if let Some(visitor) = self.visitor(visitor) {
            let count = count.min(visitor.unsent.len());
            let part: Vec<u8> = visitor.unsent.drain(..count).collect();
            visitor.send(&part);
        }
    }

    /// Sends other bytes. Before the end of a request they are part of it, and any answer is allowed.
    fn send(&mut self, visitor: u8, bytes: &[u8]) {
        if let Some(visitor) = self.visitor(visitor) {
            if !visitor.unsent.is_empty() {
                visitor.request = None;
            }
            visitor.send(bytes);
        }
    }

    fn set_reads(&mut self, choices: &mut Choices<'_>) {
        let visitor = choices.byte();
        let steps: Vec<usize> = choices.string().iter().take(16).map(|&step| step.into()).collect();
        self.with_wire(visitor, |mut wire| wire.read_steps.extend(steps));
    }

    fn with_wire(&mut self, visitor: u8, act: impl FnOnce(RefMut<'_, Wire>)) {
        if let Some(visitor) = self.visitor(visitor) {
            act(visitor.wire.borrow_mut());
        }
    }

    fn visitor(&mut self, choice: u8) -> Option<&mut Visitor> {
        let index = usize::from(choice).checked_rem(self.visitors.len())?;
        self.visitors.get_mut(index)
    }

    fn tell_news(&mut self, index: usize) {
        if let Some(visitor) = self.visitors.get(index).filter(|visitor| !visitor.is_gone) {
            let news = std::mem::take(&mut visitor.wire.borrow_mut().news);
            self.admin.handle_readiness(visitor.key, news);
        }
    }

    fn turn(&mut self) {
        let state = |visitor: &Visitor| {
            let wire = visitor.wire.borrow();
            (wire.to_relay.len(), !wire.received().is_empty())
        };
        let before: Vec<_> = self.visitors.iter().map(state).collect();
        self.admin.handle_turn(self.now, &self.relay, Process::default);
        let mut pages = 0;
        for (visitor, (waiting_before, was_answered)) in self.visitors.iter().zip(before) {
            let (waiting, is_answered) = state(visitor);
            assert!(waiting_before - waiting <= READ_BYTES_MAX, "{waiting_before} bytes, {waiting} are left");
            let is_for_page =
                visitor.request.as_ref().is_some_and(|request| request.is_for_page(self.has_token));
            let is_page = visitor.wire.borrow().received().starts_with(b"HTTP/1.1 200");
            let is_begun = is_answered && !was_answered && !visitor.was_narrow;
            pages += usize::from(is_begun && is_for_page && is_page);
        }
        assert!(pages <= 1, "{pages} pages in one turn");
        self.perform_effects();
    }

    /// Reports all readiness, and makes turns until nothing is left to do at this time.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            for index in 0..self.visitors.len() {
                self.tell_news(index);
            }
            self.turn();
            let has_news =
                |visitor: &Visitor| !visitor.is_gone && visitor.wire.borrow().news != Readiness::default();
            if self.admin.next_deadline() > self.now.tick && !self.visitors.iter().any(has_news) {
                assert!(
                    !self.visitors.iter().any(Visitor::is_kept_for_nothing),
                    "let go once it has its answer"
                );
                return;
            }
        }
        panic!("the operator's side never comes to rest");
    }

    /// Moves the clock, with a turn at each deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now.tick.after(time);
        self.settle();
        let mut turns = 0;
        while self.admin.next_deadline() <= end {
            self.set_tick(self.admin.next_deadline().max(self.now.tick));
            self.settle();
            turns += 1;
            assert!(turns < TURNS_MAX, "the operator's side never comes to rest");
        }
        self.set_tick(end);
        self.settle();
    }

    fn set_tick(&mut self, tick: Tick) {
        self.now.unix_millis += tick.0 - self.now.tick.0;
        self.now.tick = tick;
        self.now.micros = tick.0 * 1000;
    }

    /// Returns the indices of the streams that were given back.
    fn perform_effects(&mut self) -> Vec<usize> {
        let mut given_back = Vec::new();
        while let Some(effect) = self.admin.poll_effect() {
            let is_meant = |visitor: &Visitor| match &effect {
                AdminEffect::ShutdownWrite(key) => !visitor.is_gone && visitor.key == *key,
                AdminEffect::Close(stream) => Rc::ptr_eq(&stream.0, &visitor.wire),
            };
            let index = self.visitors.iter().position(is_meant).expect("a known visitor");
            let visitor = &mut self.visitors[index];
            assert!(!visitor.is_gone, "given back before");
            match effect {
                AdminEffect::ShutdownWrite(_) => {
                    assert!(!visitor.is_shut, "told before that nothing more comes");
                    visitor.is_shut = true;
                }
                AdminEffect::Close(_) => {
                    visitor.is_gone = true;
                    given_back.push(index);
                }
            }
            visitor.wire.borrow_mut().is_relay_done = true;
            visitor.check_answer(self.has_token, self.now.tick);
        }
        given_back
    }

    fn do_something_of_the_relay(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 4 {
            0 => {
                self.relay.handle_shutdown(Duration::from_secs(1), self.now);
            }
            1 => {
                self.relay.handle_accept_exhausted(self.now);
            }
            choice => {
                let wire = Rc::new(RefCell::new(Wire::default()));
                let address = ([127, 0, 0, 1], 4000).into();
                if !self.relay.can_accept() || self.clients.len() > 8 {
                    return;
                }
                let id = self.relay.handle_accept(Stream(Rc::clone(&wire)), address, self.now);
                let client_type = if choice == 2 { "desktop" } else { "mobile" };
                wire.borrow_mut().send(
                    format!(
                        "GET /{client_type}/{SESSION} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                    )
                    .as_bytes(),
                );
                self.relay.handle_readiness(id, Readiness { is_readable: true, ..Readiness::default() });
                self.clients.push(wire);
            }
        }
        self.relay.handle_turn(self.now);
        while let Some(effect) = self.relay.poll_effect() {
            if let relay::Effect::Close { stream, .. } = effect {
                drop(stream);
            }
        }
    }

    /// All clients read everything, and all timeouts pass.
    fn end(&mut self) {
        for visitor in &self.visitors {
            let mut wire = visitor.wire.borrow_mut();
            wire.set_room(usize::MAX);
            wire.read_steps.clear();
        }
        self.pass(Duration::from_secs(1));
        for visitor in &self.visitors {
            visitor.wire.borrow_mut().end();
        }
        self.pass(Duration::from_secs(20));
        assert_eq!(self.kept(), 0, "every stream is given back");
        assert!(self.admin.next_deadline() > self.now.tick);
    }
}

impl Visitor {
    fn send(&mut self, bytes: &[u8]) {
        let mut wire = self.wire.borrow_mut();
        if !wire.is_client_done {
            self.sent_bytes += bytes.len();
        }
        wire.send(bytes);
    }

    /// It has its answer, and has ended its stream.
    fn is_kept_for_nothing(&self) -> bool {
        let wire = self.wire.borrow();
        let is_over = wire.is_client_done && wire.to_relay.is_empty() && wire.read_steps.is_empty();
        !self.is_gone && is_over && wire.room == usize::MAX && !wire.received().is_empty()
    }

    /// Its request for a page was read, it may have the page, and has received nothing of it yet.
    fn waits_for_page(&self, has_token: bool) -> bool {
        let wire = self.wire.borrow();
        let Some(request) = self.request.as_ref().filter(|request| request.is_for_page(has_token)) else {
            return false;
        };
        let is_read = self.sent_bytes - wire.to_relay.len() >= request.to_bytes().len();
        // If there was no room, it may have been answered although nothing was received.
        !self.is_gone && is_read && !self.was_narrow && wire.received().is_empty() && !self.is_reset
    }

    /// It was answered, or its request cannot be complete yet.
    fn waits_for_nothing(&self) -> bool {
        let is_in_head = self.sent_bytes == 0 || (self.request.is_some() && !self.unsent.is_empty());
        is_in_head || !self.wire.borrow().received().is_empty()
    }

    /// Checks the whole answer.
    fn check_answer(&self, has_token: bool, now: Tick) {
        let wire = self.wire.borrow();
        let text = String::from_utf8_lossy(wire.received());
        assert!(!text.contains(SESSION) && !text.contains(TOKEN), "{text}");
        let is_late = now >= self.since.after(Duration::from_secs(10));
        // A client that does not read for so long gets nothing more.
        let is_slow = now >= self.since.after(Duration::from_secs(5));
        let is_whole = self.is_shut;
        let status = match answer::read(wire.received(), is_whole) {
            Answer::InHead => {
                let is_owed = self.request.is_some() && self.unsent.is_empty() && !wire.is_client_done;
                assert!(!is_owed || self.is_reset || is_slow || self.is_gone, "an answer");
                return;
            }
            Answer::Other(status) => status,
            Answer::SwitchingProtocols(_) => panic!("no WebSocket here"),
        };
        let Some(request) = &self.request else { return };
        let is_right = request.statuses(has_token).contains(&status) || (is_late && status == "408");
        assert!(is_right, "{request:?}: {text}");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        if is_whole && status == "200" && !request.is_head() {
            request.check_page(body);
        }
        assert!(!request.is_head() || status == "408" || body.is_empty(), "HEAD has no body: {text}");
    }
}
