//! The state of a relay, and what a host can ask it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::SocketAddr;

use super::catch_up::CatchUp;
use super::drain_plan::DrainPlan;
use super::slots::Slots;
use crate::relay::access::gate::Gate;
use crate::relay::access::host_limits::HostKey;
use crate::relay::address::ClientAddress;
use crate::relay::client::inbound::Receiver;
use crate::relay::client::outbox::{Backlog, Outbox, Pool};
use crate::relay::client::traffic::Carried;
use crate::relay::counts::counters::Counters;
use crate::relay::effect::Effect;
use crate::relay::hook::Hooked;
use crate::relay::ids::ConnectionId;
use crate::relay::limits::{IDLE_HOSTS_MAX, REFUSALS_MAX, SESSIONS_MIN, SESSIONS_PER_CONNECTION};
use crate::relay::memory::Memory;
use crate::relay::sessions::{SessionKey, SessionTimes, Sessions};
use crate::relay::settings::Settings;
use crate::relay::tables::idle_order::IdleOrder;
use crate::relay::tables::wheel::{TimerKey, Wheel};
use crate::relay::time::{Now, Tick};
use crate::relay::transit::Transits;

/// Pairs desktops with mobiles over any streams that can be read and written without blocking.
///
/// A host drives it in turns:
///
/// 1. Report what the streams are ready for: [`handle_readiness`](Self::handle_readiness). If the report is not
///    complete, say so: [`handle_told_in_part`](Self::handle_told_in_part).
/// 2. Let it work: [`handle_turn`](Self::handle_turn) reads, routes, fires timers and writes. All of it is bounded;
///    the rest is left to the next turn.
/// 3. Hand over new connections: [`handle_accept`](Self::handle_accept), while [`can_accept`](Self::can_accept). If
///    some have to wait, say so as in 1.
/// 4. Do what it asks: [`poll_effect`](Self::poll_effect) until `None`.
/// 5. Wait for readiness until [`next_deadline`](Self::next_deadline), or not at all while it
///    [`has_work`](Self::has_work).
///
/// A host that could not accept a stream, or could not shut one down, says so:
/// [`handle_accept_exhausted`](Self::handle_accept_exhausted), [`handle_unflushed`](Self::handle_unflushed).
/// [`handle_shutdown`](Self::handle_shutdown) begins a shutdown; go on with turns until
/// [`is_drained`](Self::is_drained).
///
/// Streams must be non-blocking. `WouldBlock` says that there is nothing to read, or no room to write. A read that
/// fills only a part of its buffer means that nothing is left until the next readiness, as on a socket. A stream that
/// keeps bytes returns `WouldBlock` from `flush`, which is called again when the stream takes bytes again; bytes that
/// it keeps count as not written. Nothing that a client sends causes a panic.
///
/// A client is not ended for silence, lateness or inactivity before everything that had arrived by the deadline has
/// been read, however late the host is. A timer that would end a client therefore waits for two more turns, which
/// follow at once. For that, each turn must get a report of everything that became ready since the turn before.
#[derive(Debug)]
pub struct Relay<S> {
    pub(super) settings: Settings,
    pub(super) slots: Slots<S>,
    pub(super) sessions: Sessions,
    pub(super) gate: Gate,
    pub(super) wheel: Wheel<Timer>,
    pub(super) receiver: Receiver,
    pub(super) pool: Pool,
    pub(super) counters: Counters,
    /// Totals of the current read that are not yet added to the counters.
    pub(super) carried: Option<Carried>,
    /// Connections that may have something to read, each at most once.
    pub(super) ready: VecDeque<ConnectionId>,
    pub(super) catch_up: CatchUp,
    /// Connections that are not read because memory is short, each at most once. Some may have ended.
    pub(super) starved: VecDeque<ConnectionId>,
    /// How many of `starved` have not ended.
    pub(super) starved_clients: usize,
    /// Connections with unconfirmed messages, in the order in which these are given up if memory is needed.
    pub(super) unconfirmed: IdleOrder<ConnectionId>,
    /// Connections to flush and to set timers for at the end of the turn, each at most once.
    pub(super) touched: Vec<ConnectionId>,
    pub(super) effects: VecDeque<Effect<S>>,
    pub(super) hook: Hooked,
    /// The time of the current turn.
    pub(super) now: Now,
    /// Set while the host has no descriptors left; it may try again when this fires.
    pub(super) accept_retry: Option<TimerKey>,
    /// The host has had no descriptors left since it last accepted a connection.
    pub(super) is_exhausted: bool,
    /// Set once the relay is shutting down.
    pub(super) drain: Option<DrainPlan>,
    /// Whether the log line of each message is on in this turn.
    pub(super) is_logging_messages: bool,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// A connection has something due: [`Due`](crate::relay::client::connection::Due).
    Connection(ConnectionId),
    /// A session may have been inactive, or empty, for too long.
    Session(SessionKey),
    /// A host can be forgotten.
    Host(HostKey),
    /// The host may try to accept connections again.
    Accept,
    /// The shutdown closes the next session.
    Drain,
    /// The grace of a shutdown is over.
    Shutdown,
}

impl<S: Read + Write> Relay<S> {
    /// A relay without connections.
    ///
    /// `seed` must be hard to guess. It keys the hashes of tables and secrets, and the secrets of issued sessions
    /// follow from it. It has no other influence on what the relay does. `now` begins its time.
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
            sessions: Sessions::new(sessions_max, SessionTimes::of(&settings), seed),
            gate: Gate::new(&settings, seed),
            wheel: Wheel::new(timers_max, now.tick),
            receiver: Receiver::default(),
            pool: Pool::new(Transits::new(
                Memory::new(settings.max_buffered),
                !settings.redelivery_window.is_zero(),
            )),
            counters: Counters::default(),
            carried: None,
            ready: VecDeque::new(),
            catch_up: CatchUp::new(now.tick),
            starved: VecDeque::new(),
            starved_clients: 0,
            unconfirmed: IdleOrder::default(),
            touched: Vec::new(),
            effects: VecDeque::new(),
            hook: Hooked::default(),
            now,
            accept_retry: None,
            is_exhausted: false,
            drain: None,
            is_logging_messages: false,
            settings,
        }
    }

    /// When to call [`handle_turn`](Self::handle_turn) if nothing becomes ready before. It is possible that nothing
    /// is due at that time. Constant time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.wheel.next_deadline()
    }

    /// Whether the turn left work to the next one, which must then follow without a wait.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.touched.is_empty() || self.is_timer_due() || self.is_starved_served()
    }

    /// Whether a timer is due, including one that has fired too early for a verdict.
    fn is_timer_due(&self) -> bool {
        self.wheel.next_deadline().is_some_and(|deadline| deadline <= self.now.tick)
    }

    /// Whether [`serve_starved`](Self::serve_starved) has something to do.
    pub(super) fn is_starved_served(&self) -> bool {
        !self.starved.is_empty() && self.pool.transits.memory.has_small_room()
    }

    /// The next thing for the host to do, in order; `None` if there is nothing left.
    pub fn poll_effect(&mut self) -> Option<Effect<S>> {
        self.effects.pop_front()
    }

    /// Whether the relay is shutting down and has no connections left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.slots.len() == 0
    }

    /// Whether a connection from this address begins with a PROXY protocol header.
    #[must_use]
    pub fn expects_proxy_header(&self, client_addr: SocketAddr) -> bool {
        self.gate.expects_proxy_header(ClientAddress::new(client_addr.ip()))
    }

    /// Whether the relay can take one more connection, even if only to refuse it. Otherwise it is best to leave new
    /// connections waiting; the next turn may change it.
    #[must_use]
    pub fn can_accept(&self) -> bool {
        let is_full = self.slots.len() >= self.connections_max().saturating_add(REFUSALS_MAX);
        !is_full && self.accept_retry.is_none() && self.drain.is_none()
    }

    pub(super) fn is_at_connection_limit(&self) -> bool {
        self.slots.len() - self.gate.outside() >= self.connections_max()
    }

    fn connections_max(&self) -> usize {
        self.settings.max_connections.unwrap_or(usize::MAX)
    }

    /// The stream of a connection, to register it or to end its writing side.
    pub fn stream(&mut self, id: ConnectionId) -> Option<&mut S> {
        self.slots.get_mut(id).map(|slot| &mut slot.connection.stream)
    }

    /// What waits for a client and has not been taken by its socket: messages, and notices between them.
    #[must_use]
    pub fn backlog(&self, id: ConnectionId) -> Option<Backlog> {
        let outbox = self.slots.get(id)?.connection.outbox();
        Some(outbox.map_or(Backlog::default(), Outbox::backlog))
    }

    /// Bytes on the memory account, which [`Settings::max_buffered`] limits.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.pool.transits.memory.used_bytes()
    }

    /// Number of connections, in any phase.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Number of sessions, including those whose clients may come back.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Number of known hosts: those with a connection that counts, or with something to remember.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.gate.hosts.len()
    }

    /// Number of pending timers.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// What the relay has done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The connection on the other side of the session of `id`.
    pub(super) fn peer_of(&self, id: ConnectionId) -> Option<ConnectionId> {
        let membership = self.slots.find(id)?.membership()?;
        self.sessions.peer(membership.session, membership.client_type)
    }
}
