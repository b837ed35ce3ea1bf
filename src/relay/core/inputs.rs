//! What a host reports to the relay, except for [turns](Relay::handle_turn).

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use log::debug;

use super::drain_plan::Shutdown;
use super::relay::{Relay, Timer};
use crate::relay::access::gate::NotAllowed;
use crate::relay::address::{ClientAddress, is_loopback};
use crate::relay::client::connection::{Connection, Phase};
use crate::relay::http::{AnswerForm, HeadReader, Refusal};
use crate::relay::ids::ConnectionId;
use crate::relay::limits::ACCEPT_RETRY;
use crate::relay::readiness::Readiness;
use crate::relay::time::Now;

impl<S: Read + Write> Relay<S> {
    /// Takes over a connection from `client_addr`. The host watches its stream for both directions and reports
    /// readiness under the identifier that is returned.
    ///
    /// A connection over a limit, or from an address that is not served, is refused in HTTP. At the connection limit,
    /// and on loopback, the relay reads the request first, because it may ask for the relay's health.
    pub fn handle_accept(&mut self, stream: S, client_addr: SocketAddr, now: Now) -> ConnectionId {
        self.now = now;
        self.is_exhausted = false;
        let client = ClientAddress::new(client_addr.ip());
        let is_over_limit = self.is_at_connection_limit();
        let mut connection = Connection::new(stream, now.tick);
        connection.remote.address = client;
        if self.gate.expects_proxy_header(client) {
            connection.phase = Phase::Head(HeadReader::behind_proxy_header());
        }
        let admitted = self.gate.admit(&mut connection.remote, now.tick);
        let id = self.slots.insert(connection);
        self.settle_hosts();
        self.counters.connections_accepted += 1;
        debug!("conn={id} address={client_addr} Accepted");
        match admitted {
            Err(NotAllowed::Address) if is_loopback(client) => self.keep_outside(id, Refusal::Address),
            Err(reason) => self.turn_away(id, reason.into(), AnswerForm::default()),
            Ok(()) if self.drain.is_some() => {
                self.refuse(id, Refusal::ConnectionLimit, AnswerForm::default());
            }
            Ok(()) if is_over_limit => self.keep_outside(id, Refusal::ConnectionLimit),
            Ok(()) => {}
        }
        self.arm(id);
        id
    }

    /// Notes that the host could not accept a connection because it has no descriptors or memory left. The host is
    /// asked to try again when a connection ends, or after a moment. Returns whether this is the first failure since
    /// the last accepted connection.
    pub fn handle_accept_exhausted(&mut self, now: Now) -> bool {
        self.now = now;
        if self.accept_retry.is_none() {
            self.accept_retry = self.schedule(now.tick.after(ACCEPT_RETRY), Timer::Accept);
        }
        !std::mem::replace(&mut self.is_exhausted, true)
    }

    /// Notes what a stream is ready for. Ignores the identifier of a connection that has ended. Constant time.
    pub fn handle_readiness(&mut self, id: ConnectionId, readiness: Readiness) {
        let Some(slot) = self.slots.find_mut(id) else { return };
        slot.connection.note(readiness);
        let wants_write = slot.connection.wants_write();
        self.make_ready(id);
        if wants_write {
            self.touch(id);
        }
    }

    /// Notes that the host may not have reported everything: a signal interrupted the poll, the poll filled its
    /// buffer of events, or this turn had no time for new connections. Until a complete report, no client is ended
    /// for something that may be unread.
    pub fn handle_told_in_part(&mut self) {
        self.catch_up.note_told_in_part();
    }

    /// Notes that a stream could not be shut down yet because it keeps bytes that its socket has not taken. It is
    /// flushed when the socket takes bytes again.
    pub fn handle_unflushed(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.note_unflushed();
        }
    }

    /// Begins a shutdown: no new connections; one session after another, each client gets what is queued for it and
    /// then a close with 1001. What is left after `grace` is dropped. Returns how the sessions are closed, or `None`
    /// if the relay is shutting down already.
    pub fn handle_shutdown(&mut self, grace: Duration, now: Now) -> Option<Shutdown> {
        self.now = now;
        self.drain.is_none().then(|| self.begin_drain(grace))
    }
}
