//! The relay itself, without socket, clock, thread or randomness: bytes, readiness and the time
//! come in, effects go out. The same inputs give the same outputs, byte for byte.
//!
//! | module | its one job |
//! | --- | --- |
//! | [`address`], `arrival`, [`origin`] | where clients come from |
//! | [`limits`] | every bound and default |
//! | [`time`], [`ids`], [`readiness`] | what the relay is told, and by which names it goes |
//! | [`wheel`] | the timing wheel |
//! | [`secret`] | secrets, their hashes, and new ones |
//! | [`frame`], [`handshake`], [`message`] | RFC 6455 headers, the HTTP head, messages: bytes in, values out |
//! | [`proxy_header`] | whose connection a proxy brings |
//! | [`api_keys`], [`address_rules`] | what operators keep in files |
//! | [`json`] | whether a text is UTF-8 and JSON, and its `type` |
//! | `meter`, `pace`, `usage`, [`hosts`] | rates, those of a client, what it used, and those of an address |
//! | [`memory`] | the account of all memory for messages, and its chunks |
//! | [`transit`] | messages on their way: chunks, and a cursor for each receiver |
//! | [`outbox`], [`inbound`] | what waits for one client, and what has come from it |
//! | [`session`] | who is whose peer |
//! | `hash`, `line` | what the tables of sessions and hosts share |
//! | [`effect`], [`histogram`], [`counters`], [`end_reason`] | what the relay asks of its host, and what it tells |
//! | [`connection`], `slots` | one client, from head to close; all of them |
//! | `catch_up` | how far what has arrived has been read |
//! | `gate`, `intake`, `streaming`, `pressure`, `turn` | the parts of [`Relay`]: what comes in, and where it goes |
//! | `parting`, `drain`, `access_log` | and how it ends |
//! | [`report`], `books` | what it tells of itself, and what must hold of it |
//!
//! Where to start: [`Relay::handle_turn`], in `turn`. Of the words for an end, a client *leaves* its
//! session; the relay *closes* a WebSocket, *ends* a stream once what waits is written, *cuts* it
//! off with what can be written at once, and *removes* the connection.

mod access_log;
pub mod address;
pub mod address_rules;
pub mod api_keys;
mod arrival;
#[cfg(debug_assertions)]
mod books;
mod catch_up;
pub mod connection;
pub mod counters;
mod drain;
pub mod effect;
pub mod end_reason;
pub mod frame;
mod gate;
pub mod handshake;
mod hash;
pub mod histogram;
pub mod hosts;
pub mod ids;
pub mod inbound;
mod intake;
pub mod json;
pub mod limits;
mod line;
pub mod memory;
pub mod message;
mod meter;
pub mod origin;
pub mod outbox;
mod pace;
mod parting;
mod pressure;
pub mod proxy_header;
pub mod readiness;
mod records;
pub mod report;
pub mod secret;
pub mod session;
mod slots;
mod streaming;
#[cfg(test)]
mod tests;
pub mod time;
pub mod transit;
mod turn;
mod usage;
pub mod wheel;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use log::debug;

use address::{ClientAddress, Networks, is_loopback};
use address_rules::{AddressRules, Admission};
use api_keys::KeyNames;
use catch_up::CatchUp;
use connection::{Connection, Phase};
use counters::Counters;
use drain::Drain;
pub use drain::Shutdown;
use effect::Effect;
use handshake::{AnswerForm, HeadReader, Refusal};
use hosts::{HostKey, Hosts};
use ids::ConnectionId;
use inbound::Receiver;
use limits::{ACCEPT_RETRY, IDLE_HOSTS_MAX, REFUSALS_MAX, SESSIONS_MIN, SESSIONS_PER_CONNECTION, Settings};
use memory::Memory;
use meter::Meter;
use outbox::{Backlog, Outbox, Pool};
use readiness::Readiness;
use secret::SecretKey;
use session::{SessionKey, Sessions};
use slots::Slots;
use time::{Now, Tick};
use transit::Transits;
use usage::Carried;
use wheel::{TimerKey, Wheel};

/// Log target of the line that each message leaves, so that it can be turned off by itself.
const MESSAGES: &str = "apptuner_relay::messages";

/// Pairs desktops with mobiles over any streams that can be read and written without blocking.
///
/// A host drives it in turns:
///
/// 1. tell it what the streams are ready for: [`handle_readiness`](Self::handle_readiness); and if that was not all
///    that is ready, say so: [`handle_told_in_part`](Self::handle_told_in_part);
/// 2. let it work: [`handle_turn`](Self::handle_turn), which reads, routes, fires timers and
///    writes, all within bounds, the rest being left to the next turn;
/// 3. hand it newcomers: [`handle_accept`](Self::handle_accept), while
///    [`can_accept`](Self::can_accept), and if some are left waiting all the same, say so as in 1;
/// 4. do what it asks: [`poll_effect`](Self::poll_effect) until `None`;
/// 5. wait for readiness until [`next_deadline`](Self::next_deadline), or not at all while it
///    [`has_work`](Self::has_work).
///
/// Streams must be non-blocking: `WouldBlock` is how they say that there is nothing to read, or
/// no room to write. A read that fills less than its buffer is taken to say that nothing is left
/// until the next readiness, as it does on a socket. A stream that keeps what it is given says so
/// with a `WouldBlock` of `flush`, which is called again once the stream takes bytes again; what it keeps
/// counts as not written. Nothing here
/// panics on account of what a client sends.
///
/// Nobody is ended for silence, lateness or inactivity before what had arrived by the deadline has been read, however
/// late the host gets to it. A timer that would end somebody waits for two more turns, which follow at once, and for
/// what the host says is ready by then; that is why each turn takes up all that became ready since the one before.
#[derive(Debug)]
pub struct Relay<S> {
    settings: Settings,
    slots: Slots<S>,
    sessions: Sessions,
    hosts: Hosts,
    admission: Admission,
    /// Those whose word is taken for where a client comes from.
    proxies: Networks,
    api_keys: Option<KeyNames>,
    secret_key: SecretKey,
    wheel: Wheel<Timer>,
    receiver: Receiver,
    pool: Pool,
    counters: Counters,
    /// What the read under way has brought, not yet put down.
    carried: Option<Carried>,
    /// Connections that a read may bring something from, each at most once.
    ready: VecDeque<ConnectionId>,
    catch_up: CatchUp,
    /// Connections that are not read because memory is short, each at most once.
    starved: VecDeque<ConnectionId>,
    /// How many of these are still there.
    starved_clients: usize,
    /// Connections to flush and to set timers for at the end of the turn, each at most once.
    touched: Vec<ConnectionId>,
    /// Connections that take no place of a client's, of which there are few: [`arrival::Standing::Outside`].
    outside: usize,
    /// How many of them, refused for their address, were waited for lately.
    refusals: Meter,
    effects: VecDeque<Effect<S>>,
    /// The time of the current turn.
    now: Now,
    /// The host has no descriptors left for newcomers; it may try again when this fires.
    accept_retry: Option<TimerKey>,
    /// It has had none since it last accepted anybody.
    is_exhausted: bool,
    /// Set once the relay is shutting down.
    drain: Option<Drain>,
    /// Whether somebody reads the log line of each message, as of this turn.
    is_logging_messages: bool,
}

/// Everything that can become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Something of a connection is due: [`connection::Due`].
    Connection(ConnectionId),
    /// A session has been inactive, or empty, for too long.
    Session(SessionKey),
    /// A host can be forgotten.
    Host(HostKey),
    /// The host was out of descriptors; it may try again.
    Accept,
    /// The next session is to be closed in a shutdown.
    Drain,
    /// The grace of a shutdown is over.
    Shutdown,
}

impl<S: Read + Write> Relay<S> {
    /// A relay with nobody connected.
    ///
    /// `seed` must be hard to guess: it keys the hashes of tables and secrets, and sessions that are issued
    /// follow from it; it has no other influence on what the relay does. `now` begins its time.
    #[must_use]
    pub fn new(settings: Settings, seed: [u64; 2], now: Now) -> Self {
        let connections_max = settings.max_connections.unwrap_or(usize::MAX).saturating_add(REFUSALS_MAX);
        let sessions_max = connections_max.saturating_mul(SESSIONS_PER_CONNECTION).max(SESSIONS_MIN);
        let hosts_max = connections_max.saturating_add(IDLE_HOSTS_MAX + 1);
        // One timer for each connection, session and host, one to accept again, two to shut down.
        let timers_max =
            connections_max.saturating_add(sessions_max).saturating_add(hosts_max).saturating_add(3);
        Self {
            slots: Slots::new(),
            sessions: Sessions::new(sessions_max, settings.session_timeout, settings.reconnect_window, seed),
            hosts: Hosts::new(&settings, seed),
            admission: Admission::new(&settings.allow, &settings.deny, &AddressRules::default()),
            proxies: settings.proxies(),
            api_keys: None,
            secret_key: SecretKey::new(seed),
            wheel: Wheel::new(timers_max, now.tick),
            receiver: Receiver::default(),
            pool: Pool::new(Transits::new(Memory::new(settings.max_buffered))),
            counters: Counters::default(),
            carried: None,
            ready: VecDeque::new(),
            catch_up: CatchUp::new(now.tick),
            starved: VecDeque::new(),
            starved_clients: 0,
            touched: Vec::new(),
            outside: 0,
            refusals: Meter::new(Some(REFUSALS_MAX as u64), Duration::from_secs(1)),
            effects: VecDeque::new(),
            now,
            accept_retry: None,
            is_exhausted: false,
            drain: None,
            is_logging_messages: false,
            settings,
        }
    }

    /// Takes on a connection from `client_addr`. The host watches the stream for both directions,
    /// once, and reports its readiness under the identifier returned.
    ///
    /// Over a limit, or where its address is not served, the client is told so, in HTTP, and let go. Where there is
    /// no room, and where it comes from this machine, its request is read before, for it may ask for the relay's
    /// health.
    pub fn handle_accept(&mut self, stream: S, client_addr: SocketAddr, now: Now) -> ConnectionId {
        self.now = now;
        self.is_exhausted = false;
        let client = ClientAddress::new(client_addr.ip());
        let is_over_limit = self.is_at_connection_limit();
        let mut connection = Connection::new(stream, now.tick);
        connection.arrival.client = client;
        if self.expects_proxy_header(client_addr) {
            connection.phase = Phase::Head(HeadReader::behind_proxy_header());
        }
        let id = self.slots.insert(connection);
        self.counters.connections_accepted += 1;
        debug!("conn={id} address={client_addr} Accepted");
        match self.let_in(id) {
            Err(Refusal::Address) if is_loopback(client) => self.keep_outside(id, Refusal::Address),
            Err(refusal) => self.turn_away(id, refusal, AnswerForm::default()),
            Ok(()) if self.drain.is_some() => {
                self.refuse(id, Refusal::ConnectionLimit, AnswerForm::default());
            }
            Ok(()) if is_over_limit => self.keep_outside(id, Refusal::ConnectionLimit),
            Ok(()) => {}
        }
        self.arm(id);
        id
    }

    /// Whether a connection from there is expected to begin with the header of a proxy.
    #[must_use]
    pub fn expects_proxy_header(&self, client_addr: SocketAddr) -> bool {
        self.settings.proxy_protocol && self.proxies.contains(ClientAddress::new(client_addr.ip()))
    }

    /// Whether there is room for one more connection, if only to tell it that there is none. As
    /// long as there is not, newcomers are best left waiting; the next turn may change it.
    #[must_use]
    pub fn can_accept(&self) -> bool {
        let is_full = self.slots.len() >= self.connections_max().saturating_add(REFUSALS_MAX);
        !is_full && self.accept_retry.is_none() && self.drain.is_none()
    }

    /// Notes that the host could not accept for want of descriptors or memory: it is asked to try
    /// again when a connection ends, or after a moment. Returns whether that is news.
    pub fn handle_accept_exhausted(&mut self, now: Now) -> bool {
        self.now = now;
        if self.accept_retry.is_none() {
            self.accept_retry = self.schedule(now.tick.after(ACCEPT_RETRY), Timer::Accept);
        }
        !std::mem::replace(&mut self.is_exhausted, true)
    }

    /// Notes what a stream is ready for. A stale identifier is ignored. Constant time.
    pub fn handle_readiness(&mut self, id: ConnectionId, readiness: Readiness) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.connection.note(readiness);
        let wants_write = slot.connection.wants_write();
        self.make_ready(id);
        if wants_write {
            self.touch(id);
        }
    }

    /// Notes that something may be ready that has not been told: a signal interrupted the poll, it brought as many
    /// events as its buffer holds, or there are newcomers for whom this turn had no time. Until a turn comes before
    /// which nothing was left out, nobody is ended for what may lie unread.
    pub fn handle_told_in_part(&mut self) {
        self.catch_up.note_told_in_part();
    }

    /// Notes that a stream could not be shut down yet, for it keeps what its socket does not take: it is
    /// flushed once that takes bytes again.
    pub fn handle_unflushed(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.note_unflushed();
        }
    }

    /// Begins to shut down: no newcomers; session after session, every client gets what is queued for it and
    /// then a close with 1001. What is left after `grace` is dropped. Returns how the sessions are closed, unless
    /// the relay is shutting down already.
    pub fn handle_shutdown(&mut self, grace: Duration, now: Now) -> Option<Shutdown> {
        self.now = now;
        self.drain.is_none().then(|| self.begin_drain(grace))
    }

    /// The next thing for the host to do, in order; `None` when there is nothing left.
    pub fn poll_effect(&mut self) -> Option<Effect<S>> {
        self.effects.pop_front()
    }

    /// When to call [`handle_turn`](Self::handle_turn) if nothing becomes ready before; it may
    /// find nothing due yet. Constant time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.wheel.next_deadline()
    }

    /// Whether a turn left something over, so that the next one must not wait.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.touched.is_empty() || self.is_timer_due() || self.is_starved_served()
    }

    /// Whether a timer waits for its turn, one included that has fired too early for a verdict.
    fn is_timer_due(&self) -> bool {
        self.wheel.next_deadline().is_some_and(|deadline| deadline <= self.now.tick)
    }

    /// Whether the relay is shutting down and nobody is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.slots.len() == 0
    }

    /// The stream of a connection, to register it or to end its writing side.
    pub fn stream(&mut self, id: ConnectionId) -> Option<&mut S> {
        self.slots.get_mut(id).map(|slot| &mut slot.connection.stream)
    }

    /// What waits for a client that its socket has not taken: messages, and the notices between them.
    #[must_use]
    pub fn backlog(&self, id: ConnectionId) -> Option<Backlog> {
        let outbox = self.slots.get(id)?.connection.outbox();
        Some(outbox.map_or(Backlog::default(), Outbox::backlog))
    }

    /// Bytes on the account that [`Settings::max_buffered`] limits.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.pool.transits.memory.used_bytes()
    }

    /// How many connections there are, in whatever phase.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// How many sessions there are, those included that wait for their clients to come back.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many hosts are known: those with a connection that counts, or of which something is remembered.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// How many timers are pending.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// What the relay has done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The connection at the other side of this one's session.
    fn peer_of(&self, id: ConnectionId) -> Option<ConnectionId> {
        let membership = self.slots.get(id)?.membership()?;
        self.sessions.peer(membership.session, membership.client_type)
    }

    fn is_at_connection_limit(&self) -> bool {
        self.slots.len() - self.outside >= self.connections_max()
    }

    fn connections_max(&self) -> usize {
        self.settings.max_connections.unwrap_or(usize::MAX)
    }

    /// Has a connection served, if a read may bring something.
    fn make_ready(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(id)
            && slot.connection.is_readable()
            && !slot.is_ready
        {
            slot.is_ready = true;
            self.ready.push_back(id);
        }
    }

    fn touch(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(id)
            && !slot.is_touched
        {
            slot.is_touched = true;
            self.touched.push(id);
        }
    }

    fn schedule(&mut self, deadline: Tick, timer: Timer) -> Option<TimerKey> {
        let key = self.wheel.schedule(deadline, timer).ok();
        debug_assert!(key.is_some(), "the wheel has room for every connection and session");
        key
    }
}
