//! What a host tells the relay, apart from [turns](Relay::handle_turn).

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
        let Some(slot) = self.slots.find_mut(id) else { return };
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
}
