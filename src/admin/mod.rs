//! What an operator asks of a running relay: its metrics, its state, its sessions, and a page that draws them.
//!
//! Like the relay it knows no socket and no clock: bytes, readiness and the time come in, effects go out. It works
//! beside the relay and never for long: one page is made in a turn, and few in a second, however many are asked for,
//! and little is read of each connection. Answers of a sentence wait for nothing. One request per connection.
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the status page |
//! | `/metrics` | everything that is counted, in the text format 0.0.4 of Prometheus |
//! | `/livez` | 200: the loop turns |
//! | `/readyz` | 200, or 503 while newcomers are refused |
//! | `/sessions` | how many there are, and a page of them, in JSON |
//! | `/history` | the last quarter of an hour, in JSON, for the status page |

mod answer;
mod history;
mod metrics;
mod process;
mod question;
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
use question::{AdminPage, Question};
use status_page::StatusPage;

/// Connections at once. One more takes the place of another: whoever holds them all keeps nobody out.
pub const CONNECTIONS_MAX: usize = 16;
/// No page is made sooner after the one before: making one takes a tenth of a millisecond.
const ANSWER_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes read of a connection in a turn; most requests are shorter.
const READ_BYTES: usize = 4096;

/// What the host is to do for a connection; keys are those of [`Admin::handle_accept`].
#[derive(Debug)]
pub enum AdminEffect<S> {
    /// Send the end of the stream and keep reading.
    ShutdownWrite(usize),
    /// Stop watching the stream, and drop it.
    Close(S),
}

/// Answers operators, over any streams that can be read and written without blocking.
///
/// A host drives it as it drives the [`Relay`], whose readiness and streams are of the same kind.
#[derive(Debug)]
pub struct Admin<S> {
    connections: Slab<Visitor<S>>,
    settings: Settings,
    token: Option<SecretHash>,
    secret_key: SecretKey,
    status_page: StatusPage,
    history: History,
    receiver: Receiver,
    pool: Pool,
    /// Whose request is whole, in the order in which they are answered; after a turn, those who wait for a page.
    asking: VecDeque<usize>,
    effects: VecDeque<AdminEffect<S>>,
    accepted: u64,
    /// Something has happened since the last turn.
    is_touched: bool,
    next_answer: Tick,
    /// The host has no descriptors left for newcomers until then.
    accept_retry: Option<Tick>,
    start: Now,
}

#[derive(Debug)]
struct Visitor<S> {
    connection: Connection<S>,
    /// How many came before it.
    number: u64,
    question: Option<Question>,
}

/// Who is kept before whom when there is no place left, the least worth first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum VisitorWorth {
    Answered,
    Silent,
    Asking,
}

impl<S: Read + Write> Visitor<S> {
    /// Whether a read may bring something that is looked at: behind a request nothing is until it is answered.
    fn is_to_be_read(&self) -> bool {
        self.question.is_none() && self.connection.is_readable()
    }

    fn worth(&self) -> VisitorWorth {
        match self.connection.phase {
            Phase::Head(_) if self.question.is_some() => VisitorWorth::Asking,
            Phase::Head(_) => VisitorWorth::Silent,
            Phase::Open | Phase::Closing(_) | Phase::Ending(_) => VisitorWorth::Answered,
        }
    }
}

impl<S: Read + Write> Admin<S> {
    /// Nobody is connected. With a `token` most pages take it; `seed` must be hard to guess, and keys its hash.
    /// Of the relay's `settings` only the time for a request head matters.
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
            asking: VecDeque::new(),
            effects: VecDeque::new(),
            accepted: 0,
            is_touched: false,
            next_answer: now.tick,
            accept_retry: None,
            start: now,
        }
    }

    /// Takes on a connection, in place of the one worth least if there are too many, and returns its key, which is not
    /// used again before its stream is given back.
    pub fn handle_accept(&mut self, stream: S, now: Now) -> usize {
        self.accept_retry = None;
        if self.connections.len() >= CONNECTIONS_MAX {
            let least = self.connections.iter().min_by_key(|(_, visitor)| (visitor.worth(), visitor.number));
            if let Some(least) = least.map(|(key, _)| key) {
                self.remove(least);
            }
        }
        self.accepted += 1;
        self.is_touched = true;
        let connection = Connection::new(stream, now.tick);
        self.connections.insert(Visitor { connection, number: self.accepted, question: None })
    }

    /// Whether to try to accept somebody: not for a moment after it [failed](Self::handle_accept_exhausted), until a
    /// turn after that moment.
    #[must_use]
    pub const fn can_accept(&self) -> bool {
        self.accept_retry.is_none()
    }

    /// Notes that the host could not accept, for want of descriptors or memory.
    pub fn handle_accept_exhausted(&mut self, now: Tick) {
        self.accept_retry = Some(now.after(ACCEPT_RETRY));
    }

    /// Notes what a stream is ready for. What was meant for the one before it is only a hint.
    pub fn handle_readiness(&mut self, key: usize, readiness: Readiness) {
        if let Some(visitor) = self.connections.get_mut(key) {
            visitor.connection.note(readiness);
            self.is_touched = true;
        }
    }

    /// Reads requests, answers them, of those for a page at most one, and writes. Bounded by the number of connections,
    /// which are few.
    ///
    /// `process` is asked only where the answer tells of it.
    pub fn handle_turn<R: Read + Write>(
        &mut self,
        now: Now,
        relay: &Relay<R>,
        process: impl Fn() -> Process,
    ) {
        if !std::mem::take(&mut self.is_touched) && now.tick < self.next_deadline() {
            return;
        }
        // The host has tried again, or does once somebody waits.
        self.accept_retry = self.accept_retry.filter(|&retry| retry > now.tick);
        self.history.note(self.steady(now), relay);
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

    /// The same time by a wall clock that was set once, at the start, and never jumps.
    const fn steady(&self, now: Now) -> Now {
        let since_start = now.tick.0.saturating_sub(self.start.tick.0);
        Now { unix_millis: self.start.unix_millis.saturating_add(since_start), ..now }
    }

    /// The next thing for the host to do, in order; `None` when there is nothing left.
    pub fn poll_effect(&mut self) -> Option<AdminEffect<S>> {
        self.effects.pop_front()
    }

    /// When to call [`handle_turn`](Self::handle_turn) if nothing becomes ready before: at once if the last one left
    /// something to read.
    #[must_use]
    pub fn next_deadline(&self) -> Tick {
        if self.connections.iter().any(|(_, visitor)| visitor.is_to_be_read()) {
            return Tick(0);
        }
        let asked = self.asking.front().map(|_| self.next_answer);
        let unasked = self.connections.iter().filter(|(_, visitor)| visitor.question.is_none());
        let due = |(_, visitor): (usize, &Visitor<S>)| {
            // The time matters to the rates of an open connection alone, and none is.
            visitor.connection.due(&self.settings, Tick::default()).map(|(deadline, _)| deadline)
        };
        unasked
            .filter_map(due)
            .chain(asked)
            .chain(self.accept_retry)
            .fold(self.history.next_sample(), Tick::min)
    }

    /// The stream of a connection, to register it or to end its writing side.
    pub fn stream(&mut self, key: usize) -> Option<&mut S> {
        self.connections.get_mut(key).map(|visitor| &mut visitor.connection.stream)
    }

    /// Reads once: whoever sends faster than it is read holds nobody up.
    fn read(&mut self, key: usize, now: Tick) {
        let Some(visitor) = self.connections.get_mut(key).filter(|visitor| visitor.is_to_be_read()) else {
            return;
        };
        match visitor.connection.read(&mut self.receiver, &mut self.pool.transits, READ_BYTES, now) {
            ReadEnd::Bytes(count) => self.take_in(key, count, now),
            ReadEnd::Blocked => {}
            ReadEnd::Ended if matches!(visitor.connection.phase, Phase::Head(_)) => self.remove(key),
            ReadEnd::Ended => visitor.connection.end_after_input(&mut self.pool, now),
            ReadEnd::Failed => self.remove(key),
        }
    }

    fn take_in(&mut self, key: usize, count: usize, now: Tick) {
        let Some(visitor) = self.connections.get_mut(key) else { return };
        if let Phase::Head(reader) = &mut visitor.connection.phase {
            let is_open = self.token.is_none();
            let asked = reader
                .push_for(self.receiver.bytes(), |head, outcome| Question::parse(head, outcome, is_open));
            if let Some((_, mut question)) = asked {
                if !is_allowed(&question, self.token.as_ref(), &self.secret_key) {
                    question.asked = AdminPage::Unauthorized;
                }
                visitor.question = Some(question);
                self.asking.push_back(key);
            }
        } else if visitor.connection.is_discarding_too_much(count, now) {
            self.remove(key);
        }
        self.receiver.clear();
    }

    /// Answers whom a sentence answers, and who has waited longest for a page, if it is time for one.
    fn answer<R: Read + Write>(&mut self, now: Now, relay: &Relay<R>, process: impl Fn() -> Process) {
        for _ in 0..self.asking.len() {
            let Some(key) = self.asking.pop_front() else { return };
            let Some(visitor) = self.connections.get_mut(key) else { continue };
            let is_page = visitor.question.as_ref().is_some_and(|question| question.asked.is_page());
            if is_page && now.tick < self.next_answer {
                self.asking.push_back(key);
                continue;
            }
            if is_page {
                self.next_answer = now.tick.after(ANSWER_INTERVAL);
            }
            if let Some(question) = visitor.question.take() {
                let mut answer = Vec::new();
                self.write(&question, now, relay, &process, &mut answer);
                self.send(key, &answer, now.tick);
            }
        }
    }

    fn write<R: Read + Write>(
        &self,
        question: &Question,
        now: Now,
        relay: &Relay<R>,
        process: impl Fn() -> Process,
        out: &mut Vec<u8>,
    ) {
        let head_only = question.head_only;
        match question.asked {
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
            AdminPage::Nothing(refusal) => write_answer(&refusal.answer(), head_only, out),
            AdminPage::Unauthorized => write_answer(&answer::unauthorized(), head_only, out),
            AdminPage::NotFound => write_answer(&answer::not_found(), head_only, out),
            AdminPage::OtherHost => write_answer(&answer::other_host(), head_only, out),
            AdminPage::BadQuery => write_answer(&answer::bad_query(), head_only, out),
        }
    }

    fn send(&mut self, key: usize, answer: &[u8], now: Tick) {
        if let Some(visitor) = self.connections.get_mut(key) {
            let outbox = visitor.connection.outbox_mut(&mut self.pool);
            outbox.reply(&mut self.pool, |out| out.extend_from_slice(answer));
            visitor.connection.end(&mut self.pool, now);
        }
    }

    /// Has a visitor whose time is up read before that is held against it: the process may have been stopped, and what
    /// came meanwhile not been told.
    fn probe_due(&mut self, key: usize, now: Tick) {
        if let Some(visitor) = self.connections.get_mut(key)
            && visitor.connection.due(&self.settings, now).is_some_and(|(deadline, _)| deadline <= now)
        {
            visitor.connection.note(Readiness::READABLE);
        }
    }

    fn fire_due(&mut self, key: usize, now: Tick) {
        let Some(visitor) = self.connections.get(key) else { return };
        match visitor.connection.due(&self.settings, now) {
            // What was asked is answered soon.
            Some((deadline, Due::Head))
                if deadline <= now && visitor.question.is_none() && !visitor.connection.is_readable() =>
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
        let Some(visitor) = self.connections.get_mut(key) else { return };
        // An answer is short enough to be written at once.
        match visitor.connection.flush(&mut self.pool, usize::MAX, now) {
            FlushEnd::Idle | FlushEnd::More => {}
            FlushEnd::Shut => self.effects.push_back(AdminEffect::ShutdownWrite(key)),
            FlushEnd::Gone => self.remove(key),
        }
    }

    fn remove(&mut self, key: usize) {
        if let Some(visitor) = self.connections.try_remove(key) {
            self.asking.retain(|&asking| asking != key);
            self.effects.push_back(AdminEffect::Close(visitor.connection.stream));
        }
    }
}

fn is_allowed(question: &Question, token: Option<&SecretHash>, key: &SecretKey) -> bool {
    let Some(token) = token else { return true };
    let brought = question.token.as_ref().map(|brought| key.hash(brought));
    question.asked.is_public() || brought.is_some_and(|brought| brought.is(token))
}
