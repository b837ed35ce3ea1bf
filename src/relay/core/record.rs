//! What is counted and logged: the end of each connection, messages, errors, times.

use std::io::{Read, Write};

use log::{debug, info};

use super::relay::Relay;
use super::slots::{Membership, Slot};
use crate::relay::client::outbox::ArrivalGroup;
use crate::relay::client::traffic::{Carried, ClientCounts};
use crate::relay::counts::end_reason::EndReason;
use crate::relay::hook::Hooked;
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::sessions::{Session, Traffic};
use crate::relay::time::Now;
use crate::relay::wire::message::{ClientError, Logged};

/// Log target of the lines about joins and the life of sessions, whatever file they are in. Operators filter by it,
/// and the simulation reads these lines: it learns from them in which order things happened.
pub(super) const SESSIONS: &str = "apptuner_relay::sessions";
/// Log target of the line that each message leaves, so that it can be turned off by itself.
pub(super) const MESSAGES: &str = "apptuner_relay::messages";
/// Log target of the line that each ended connection leaves.
const ACCESS: &str = "apptuner_relay::access";

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) reason: EndReason,
    /// The close code, or the HTTP status of the answer; 0 if there was neither.
    pub(super) code: u16,
    /// Messages for the client that are given up.
    pub(super) undelivered: u64,
    /// Messages that are kept for its return.
    pub(super) kept: u64,
}

impl End {
    /// The end of a connection that was in no session; `status` is that of the answer in HTTP, or 0.
    pub(super) const fn of_request(reason: EndReason, status: u16) -> Self {
        Self { reason, code: status, undelivered: 0, kept: 0 }
    }
}

impl<S: Read + Write> Relay<S> {
    /// Notes that a connection that was in no session has ended. Later traffic is not counted.
    pub(super) fn note_request_end(&mut self, id: ConnectionId, end: End) {
        self.counters.connections_ended.add(&end.reason, 1);
        self.log_end(id, "-", "-", end);
    }

    /// Notes that a client has left its session, which still exists. Later traffic is not counted.
    pub(super) fn note_end(&mut self, id: ConnectionId, membership: Membership, end: End) {
        let Membership { client_type, session: key } = membership;
        self.count_end(client_type, end);
        let counts = self.slots.get(id).map_or(ClientCounts::default(), |slot| slot.connection.counts());
        if let Some(session) = self.sessions.get_mut(key) {
            session.keep_traffic(Traffic { messages: counts.messages_in, bytes: counts.bytes_in });
        }
        let session = self.sessions.get(key).map_or("-", |session| session.id.as_str());
        self.log_end(id, client_type.as_str(), session, end);
        tell_left(&mut self.hook, self.slots.get(id), id, session, end);
    }

    /// As [`note_end`](Self::note_end), for a client whose session has ended before it.
    pub(super) fn note_end_with_session(
        &mut self,
        id: ConnectionId,
        client_type: ClientType,
        session: &str,
        end: End,
    ) {
        self.count_end(client_type, end);
        self.log_end(id, client_type.as_str(), session, end);
        tell_left(&mut self.hook, self.slots.get(id), id, session, end);
    }

    /// Notes that a session has ended, and cancels its timer.
    pub(super) fn note_session_end(&mut self, session: &Session) {
        let seconds = u64::from(session.age_seconds(self.now.tick));
        self.counters.session_seconds.observe(seconds, 1);
        if let Some(alarm) = session.timer {
            self.wheel.cancel(alarm.key);
        }
    }

    fn count_end(&mut self, client_type: ClientType, end: End) {
        self.counters.connections_ended.add(&end.reason, 1);
        let sender = client_type.peer();
        self.counters.messages_undelivered.add(&sender, end.undelivered);
        if self.pool.transits.keeps_written() {
            self.counters.messages_given_up.add(&sender, end.undelivered);
        }
    }

    fn log_end(&self, id: ConnectionId, client_type: &str, session: &str, end: End) {
        let Some(slot) = self.slots.get(id) else { return };
        let counts = slot.connection.counts();
        let tenths = slot.connection.age(self.now.tick).as_millis() / 100;
        info!(
            target: ACCESS,
            "conn={id} address={} client={client_type} session={} seconds={}.{} messages_in={} bytes_in={} \
             messages_out={} bytes_out={} confirmed={} redelivered={} kept={} undelivered={} errors={} reason={} \
             code={} Connection ended",
            slot.connection.remote.address,
            Logged(session),
            tenths / 10,
            tenths % 10,
            counts.messages_in,
            counts.bytes_in,
            counts.messages_out,
            counts.bytes_out,
            counts.confirmed,
            counts.redelivered,
            end.kept,
            end.undelivered,
            counts.errors,
            end.reason.as_str(),
            end.code,
        );
    }

    /// Counts and logs an error that is sent to a client.
    pub(super) fn note_error(&mut self, id: ConnectionId, error: &ClientError) {
        self.counters.errors_sent.add(error, 1);
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.connection.counts_mut().errors += 1;
        // A session that has just ended has no entry any more, but its clients are still told.
        let key = slot.membership().map(|membership| membership.session);
        let session = key.filter(|&key| self.sessions.contains(key)).and_then(|key| self.sessions.get(key));
        let session = session.map_or("-", |session| session.id.as_str());
        debug!(
            target: SESSIONS,
            "conn={id} client={} session={} error={} Client told: {error}",
            slot.client_type().as_str(),
            Logged(session),
            error.code(),
        );
    }

    pub(super) fn log_message(&self, id: ConnectionId, message_type: Option<&str>, is_forwarded: bool) {
        if !self.is_logging_messages {
            return;
        }
        let Some(membership) = self.slots.get(id).and_then(Slot::membership) else { return };
        let Some(session) = self.sessions.get(membership.session) else { return };
        info!(
            target: MESSAGES,
            "conn={id} session={} forwarded={is_forwarded} Message from {}: {}",
            Logged(session.id.as_str()),
            membership.client_type.as_str(),
            Logged(message_type.unwrap_or("-")),
        );
    }

    /// The totals of the current read, for the peer.
    pub(super) fn carried(
        &mut self,
        from: ConnectionId,
        to: ConnectionId,
        sender: ClientType,
    ) -> &mut Carried {
        self.carried.get_or_insert_with(|| Carried::new(from, to, sender))
    }

    /// Adds this read's totals to the counters of both clients. Call before a counter is read or a client leaves.
    pub(super) fn credit(&mut self) {
        let Some(Carried { from, to, sender, messages, small_messages, bytes }) = self.carried.take() else {
            return;
        };
        self.counters.messages_accepted.add(&sender, messages);
        self.counters.bytes_accepted.add(&sender, bytes);
        let now = self.now.wrapped_micros();
        if let Some(slot) = self.slots.get_mut(from) {
            slot.connection.counts_mut().add_in(messages, bytes);
        }
        if let Some(slot) = self.slots.get_mut(to) {
            slot.connection.counts_mut().add_out(messages, bytes);
            if small_messages > 0 {
                slot.connection.outbox_mut(&mut self.pool).note_arrivals(small_messages, now);
            }
        }
    }

    /// Measures the turn that has ended at `micros` (on the clock of [`Now::micros`]), and how long the messages that
    /// it delivered were in the relay. Optional: nothing but the two histograms depends on it.
    pub fn handle_turn_end(&mut self, micros: u64) {
        self.counters.turn_micros.observe(micros.saturating_sub(self.now.micros), 1);
        self.measure_delivered(Now { micros, ..self.now });
    }

    pub(super) fn measure_delivered(&mut self, at: Now) {
        for ArrivalGroup { micros, messages } in self.pool.delivered.drain(..) {
            let in_relay = at.wrapped_micros().wrapping_sub(micros);
            self.counters.relay_micros.observe(u64::from(in_relay), u64::from(messages));
        }
    }
}

/// Tells the hook that the client in `slot` has left its session.
fn tell_left<S>(hook: &mut Hooked, slot: Option<&Slot<S>>, id: ConnectionId, session_id: &str, end: End) {
    let Some(slot) = slot else { return };
    hook.left(&slot.as_member(id, slot.client_type(), session_id), end.reason, end.code);
}
