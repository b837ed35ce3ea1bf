//! The operator's listener: metrics, state and sessions of a running relay, and a status page that draws them.
//!
//! Like the relay it uses no socket and no clock: bytes, readiness and the time come in, effects go out. It must not
//! delay clients: it makes at most one page per turn and one per 10 ms, and reads few bytes of a
//! connection per turn. Answers of one sentence are sent without waiting. Each connection gets one request answered.
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the status page |
//! | `/metrics` | all metrics, in Prometheus's text format 0.0.4 |
//! | `/livez` | 200: the event loop runs |
//! | `/readyz` | 200, or 503 while new connections are refused |
//! | `/sessions` | the number of sessions, and a list of some, in JSON |
//! | `/history` | samples of the last 15 minutes, in JSON, for the status page |

mod answer;
mod history;
mod metrics;
mod process;
mod request;
mod sessions;
mod status_page;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::time::Duration;

use slab::Slab;

use crate::relay::access::secret::{Secret, SecretHash, SecretKey};
use crate::relay::client::connection::{Connection, Due, FlushEnd, Phase, ReadEnd};
use crate::relay::client::inbound::Receiver;
use crate::relay::client::outbox::Pool;
use crate::relay::http::{Refusal, write_answer};
use crate::relay::limits::ACCEPT_RETRY;
use crate::relay::{Now, Readiness, Relay, Settings, Tick};
use history::History;
pub(crate) use metrics::exposition;
pub use metrics::metrics;
pub use process::Process;
use request::{AdminPage, AdminRequest};
use status_page::StatusPage;

/// Connections at once. One more replaces another, so a client that opens all of them cannot lock the operator out.
pub const CONNECTIONS_MAX: usize = 16;
/// The shortest time between two pages. Making one takes about 0.1 ms, so this limits the cost to 1 % of the time.
const ANSWER_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes read of a connection per turn. Most requests are shorter.
const READ_BYTES: usize = 4096;

/// What the host must do for a connection. A key is the one that [`Admin::handle_accept`] returned.
#[derive(Debug)]
pub enum AdminEffect<S> {
    /// End the writing direction of the stream. Reading goes on.
    ShutdownWrite(usize),
    /// Deregister the stream and close it.
    Close(S),
}

/// Answers operators, over any streams that can be read and written without blocking.
///
/// A host drives it like the [`Relay`], with the same kinds of streams and readiness.
#[derive(Debug)]
pub struct Admin<S> {
    connections: Slab<AdminConnection<S>>,
    settings: Settings,
    token: Option<SecretHash>,
    secret_key: SecretKey,
    status_page: StatusPage,
    history: History,
    receiver: Receiver,
    pool: Pool,
    /// Connections with a complete request, the next to answer first. After a turn only requests for pages are left.
    waiting: VecDeque<usize>,
    effects: VecDeque<AdminEffect<S>>,
    /// Connections accepted since the start.
    accepted: u64,
    /// Something has happened since the last turn.
    is_touched: bool,
    /// When the next page may be made.
    next_answer: Tick,
    /// While set, accepting is paused: the host was out of descriptors or memory.
    accept_retry: Option<Tick>,
    start: Now,
}

#[derive(Debug)]
struct AdminConnection<S> {
    connection: Connection<S>,
    /// Its place in the order of accepting.
    number: u64,
    request: Option<AdminRequest>,
}

/// Which connection to drop when a new one needs its place: the lowest first, and among equals the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KeepPriority {
    Answered,
    Silent,
    Waiting,
}

impl<S: Read + Write> AdminConnection<S> {
    /// Whether to read it now. After a complete request nothing is read until the request is answered.
    fn wants_read(&self) -> bool {
        self.request.is_none() && self.connection.is_readable()
    }

    fn priority(&self) -> KeepPriority {
        match self.connection.phase {
            Phase::Head(_) if self.request.is_some() => KeepPriority::Waiting,
            Phase::Head(_) => KeepPriority::Silent,
            Phase::Open | Phase::Closing(_) | Phase::Ending(_) => KeepPriority::Answered,
        }
    }
}

impl<S: Read + Write> Admin<S> {
    /// An engine without connections. With a `token`, most pages need it. `seed` is the key of the token's hash and
    /// must be hard to guess. Of the relay's `settings` only the time for a request head is used.
    #[must_use]
    pub fn new(token: Option<&Secret>, settings: Settings, seed: [u64; 2], now: Now) -> Self {
        let secret_key = SecretKey::new(seed);
        Self {
            connections: Slab::new(),
            settings,
            token: token.map(|token| secret_key.hash(token)),
            secret_key,
            status_page: StatusPage::new(),
            history: History::new(now.tick),
            receiver: Receiver::default(),
            pool: Pool::default(),
            waiting: VecDeque::new(),
            effects: VecDeque::new(),
            accepted: 0,
            is_touched: false,
            next_answer: now.tick,
            accept_retry: None,
            start: now,
        }
    }

    /// Adds a connection and returns its key. If there are too many, it replaces one that is answered or silent, if
    /// possible. The key is not used again until the stream was returned by [`AdminEffect::Close`].
    pub fn handle_accept(&mut self, stream: S, now: Now) -> usize {
        self.accept_retry = None;
        if self.connections.len() >= CONNECTIONS_MAX {
            let least = self.connections.iter().min_by_key(|(_, entry)| (entry.priority(), entry.number));
            if let Some(least) = least.map(|(key, _)| key) {
                self.remove(least);
            }
        }
        self.accepted += 1;
        self.is_touched = true;
        let connection = Connection::new(stream, now.tick);
        self.connections.insert(AdminConnection { connection, number: self.accepted, request: None })
    }

    /// Whether the host may accept connections. False for a short time after accepting has
    /// [failed](Self::handle_accept_exhausted), up to the first turn after that time.
    #[must_use]
    pub const fn can_accept(&self) -> bool {
        self.accept_retry.is_none()
    }

    /// Notes that the host could not accept a connection because descriptors or memory are used up.
    pub fn handle_accept_exhausted(&mut self, now: Tick) {
        self.accept_retry = Some(now.after(ACCEPT_RETRY));
    }

    /// Notes the readiness of a stream. It is only a hint: an event meant for an earlier connection with the same key
    /// does no harm.
    pub fn handle_readiness(&mut self, key: usize, readiness: Readiness) {
        if let Some(entry) = self.connections.get_mut(key) {
            entry.connection.note(readiness);
            self.is_touched = true;
        }
    }

    /// Reads requests, answers them, and writes. Makes at most one page. The work is bounded by
    /// [`CONNECTIONS_MAX`].
    ///
    /// `process` is called only if an answer needs it.
    pub fn handle_turn<R: Read + Write>(
        &mut self,
        now: Now,
        relay: &Relay<R>,
        process: impl Fn() -> Process,
    ) {
        // Most turns of the loop have nothing for the operator.
        if !std::mem::take(&mut self.is_touched) && now.tick < self.next_deadline() {
            return;
        }
        // From now on the host may accept again.
        self.accept_retry = self.accept_retry.filter(|&retry| retry > now.tick);
        self.history.note(self.steady(now), relay);
        // Keys are below the capacity, and connections may be removed inside the loop.
        for key in 0..self.connections.capacity() {
            self.probe_due(key, now.tick);
            self.read(key, now.tick);
        }
        self.answer(now, relay, process);
        for key in 0..self.connections.capacity() {
            self.fire_due(key, now.tick);
            self.flush(key, now.tick);
        }
    }

    /// `now` with a wall-clock time that is derived from the start and the ticks since, so that it never jumps.
    const fn steady(&self, now: Now) -> Now {
        let since_start = now.tick.0.saturating_sub(self.start.tick.0);
        Now { unix_millis: self.start.unix_millis.saturating_add(since_start), ..now }
    }

    /// The next effect for the host to perform, in order. `None` if there are no more.
    pub fn poll_effect(&mut self) -> Option<AdminEffect<S>> {
        self.effects.pop_front()
    }

    /// When to call [`handle_turn`](Self::handle_turn) if nothing becomes ready before. At once, `Tick(0)`, if the last
    /// turn left something to read.
    #[must_use]
    pub fn next_deadline(&self) -> Tick {
        if self.connections.iter().any(|(_, entry)| entry.wants_read()) {
            return Tick(0);
        }
        let next_page = self.waiting.front().map(|_| self.next_answer);
        let without_request = self.connections.iter().filter(|(_, entry)| entry.request.is_none());
        let due = |(_, entry): (usize, &AdminConnection<S>)| {
            // Only the rate limits of open WebSocket connections use the time, and there are none here.
            entry.connection.due(&self.settings, Tick::default()).map(|(deadline, _)| deadline)
        };
        without_request
            .filter_map(due)
            .chain(next_page)
            .chain(self.accept_retry)
            .fold(self.history.next_sample(), Tick::min)
    }

    /// The stream of a connection, to register it or to end its writing direction.
    pub fn stream(&mut self, key: usize) -> Option<&mut S> {
        self.connections.get_mut(key).map(|entry| &mut entry.connection.stream)
    }

    /// Reads once, so that a connection that sends fast does not delay others.
    fn read(&mut self, key: usize, now: Tick) {
        let Some(entry) = self.connections.get_mut(key).filter(|entry| entry.wants_read()) else {
            return;
        };
        match entry.connection.read(&mut self.receiver, &mut self.pool.transits, READ_BYTES, now) {
            ReadEnd::Bytes(count) => self.take_in(key, count, now),
            ReadEnd::Blocked => {}
            // Without a complete request there is nothing to answer.
            ReadEnd::Ended if matches!(entry.connection.phase, Phase::Head(_)) => self.remove(key),
            ReadEnd::Ended => entry.connection.end_after_input(&mut self.pool, now),
            ReadEnd::Failed => self.remove(key),
        }
    }

    /// Processes the bytes that a read has brought. After a request they are discarded.
    fn take_in(&mut self, key: usize, count: usize, now: Tick) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        if let Phase::Head(reader) = &mut entry.connection.phase {
            // Without a token, the host name is checked instead.
            let is_open = self.token.is_none();
            let parsed = reader
                .push_for(self.receiver.bytes(), |head, outcome| AdminRequest::parse(head, outcome, is_open));
            if let Some((_, mut request)) = parsed {
                if !is_allowed(&request, self.token.as_ref(), &self.secret_key) {
                    request.page = AdminPage::Unauthorized;
                }
                entry.request = Some(request);
                self.waiting.push_back(key);
            }
        } else if entry.connection.is_discarding_too_much(count, now) {
            self.remove(key);
        }
        self.receiver.clear();
    }

    /// Answers every request that needs only a sentence, and the oldest request for a page if one may be made.
    fn answer<R: Read + Write>(&mut self, now: Now, relay: &Relay<R>, process: impl Fn() -> Process) {
        for _ in 0..self.waiting.len() {
            let Some(key) = self.waiting.pop_front() else { return };
            let Some(entry) = self.connections.get_mut(key) else { continue };
            let is_page = entry.request.as_ref().is_some_and(|request| request.page.is_page());
            // Back to the end. The loop passes each request once, so pages keep their order.
            if is_page && now.tick < self.next_answer {
                self.waiting.push_back(key);
                continue;
            }
            if is_page {
                self.next_answer = now.tick.after(ANSWER_INTERVAL);
            }
            if let Some(request) = entry.request.take() {
                let mut answer = Vec::new();
                self.write(&request, now, relay, &process, &mut answer);
                self.send(key, &answer, now.tick);
            }
        }
    }

    fn write<R: Read + Write>(
        &self,
        request: &AdminRequest,
        now: Now,
        relay: &Relay<R>,
        process: impl Fn() -> Process,
        out: &mut Vec<u8>,
    ) {
        let head_only = request.head_only;
        match request.page {
            AdminPage::StatusPage => self.status_page.write(head_only, out),
            AdminPage::Metrics => {
                let text = exposition(relay, &process(), self.start.unix_millis);
                answer::write_metrics(&text, head_only, out);
            }
            AdminPage::Live => answer::write_live(head_only, out),
            AdminPage::Ready => answer::write_ready(relay.service(), head_only, out),
            AdminPage::Sessions { from, limit } => {
                answer::write_json(&sessions::page(relay, from, limit), head_only, out);
            }
            AdminPage::History { since } => {
                answer::write_json(
                    &self.history.since(since, self.steady(now), self.start.unix_millis, relay),
                    head_only,
                    out,
                );
            }
            AdminPage::Refused(refusal) => write_answer(&refusal.answer(), head_only, out),
            AdminPage::Unauthorized => write_answer(&answer::unauthorized(), head_only, out),
            AdminPage::NotFound => write_answer(&answer::not_found(), head_only, out),
            AdminPage::OtherHost => write_answer(&answer::other_host(), head_only, out),
            AdminPage::BadQuery => write_answer(&answer::bad_query(), head_only, out),
        }
    }

    /// Queues an answer and ends the connection behind it.
    fn send(&mut self, key: usize, answer: &[u8], now: Tick) {
        if let Some(entry) = self.connections.get_mut(key) {
            let outbox = entry.connection.outbox_mut(&mut self.pool);
            outbox.reply(&mut self.pool, |out| out.extend_from_slice(answer));
            entry.connection.end(&mut self.pool, now);
        }
    }

    /// Marks a connection as readable if its deadline has passed, so that it is read before the deadline acts. The
    /// process may have been stopped, and its request may wait in the socket without an event.
    fn probe_due(&mut self, key: usize, now: Tick) {
        if let Some(entry) = self.connections.get_mut(key)
            && entry.connection.due(&self.settings, now).is_some_and(|(deadline, _)| deadline <= now)
        {
            entry.connection.note(Readiness::READABLE);
        }
    }

    fn fire_due(&mut self, key: usize, now: Tick) {
        let Some(entry) = self.connections.get(key) else { return };
        match entry.connection.due(&self.settings, now) {
            // A complete request is answered soon, so its deadline no longer counts.
            Some((deadline, Due::Head))
                if deadline <= now && entry.request.is_none() && !entry.connection.is_readable() =>
            {
                let mut answer = Vec::new();
                write_answer(&Refusal::HeadTimeout.answer(), false, &mut answer);
                self.send(key, &answer, now);
            }
            Some((deadline, Due::End)) if deadline <= now => self.remove(key),
            Some(_) | None => {}
        }
    }

    fn flush(&mut self, key: usize, now: Tick) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        // Answers are short, so one flush may write all of it.
        match entry.connection.flush(&mut self.pool, usize::MAX, now) {
            FlushEnd::Idle | FlushEnd::More => {}
            FlushEnd::Shut => self.effects.push_back(AdminEffect::ShutdownWrite(key)),
            FlushEnd::Gone => self.remove(key),
        }
    }

    fn remove(&mut self, key: usize) {
        if let Some(entry) = self.connections.try_remove(key) {
            self.waiting.retain(|&waiting| waiting != key);
            self.effects.push_back(AdminEffect::Close(entry.connection.stream));
        }
    }
}

fn is_allowed(request: &AdminRequest, token: Option<&SecretHash>, key: &SecretKey) -> bool {
    let Some(token) = token else { return true };
    let brought = request.token.as_ref().map(|brought| key.hash(brought));
    // Hashes are compared in constant time.
    request.page.is_public() || brought.is_some_and(|brought| brought.is(token))
}
