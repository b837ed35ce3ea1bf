//! One line for each connection that has ended.

use std::io::{Read, Write};

use log::info;

use super::relay::Relay;
use super::slots::Membership;
use crate::relay::client::traffic::Tally;
use crate::relay::counts::counters;
use crate::relay::counts::end_reason::EndReason;
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::sessions::Traffic;
use crate::relay::wire::message::Logged;

/// Log target of those lines.
const ACCESS: &str = "apptuner_relay::access";

/// How a connection ended, apart from whose it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) reason: EndReason,
    /// The close code, or the status of the answer in HTTP; 0 if there was neither.
    pub(super) code: u16,
    /// Messages that waited for it.
    pub(super) undelivered: u64,
}

impl<S: Read + Write> Relay<S> {
    /// Notes that a connection has ended: what is still read from it or written to it belongs to nobody. Once
    /// per connection, while its session, if it is in one, is there.
    pub(super) fn note_end(&mut self, id: ConnectionId, membership: Option<Membership>, end: End) {
        let Some(Membership { client_type, session: key }) = membership else {
            counters::add(&mut self.counters.connections_ended, end.reason as usize, 1);
            return self.log_end(id, "-", "-", end);
        };
        self.count_end(client_type, end);
        let tally = self.slots.get(id).map_or(Tally::default(), |slot| slot.connection.tally());
        if let Some(session) = self.sessions.get_mut(key) {
            session.keep_traffic(Traffic { messages: tally.messages_in, bytes: tally.bytes_in });
        }
        let session = self.sessions.get(key).map_or("-", |session| session.id.as_str());
        self.log_end(id, client_type.as_str(), session, end);
    }

    /// The same of a client whose session has ended before.
    pub(super) fn note_end_with_session(
        &mut self,
        id: ConnectionId,
        client_type: ClientType,
        session: &str,
        end: End,
    ) {
        self.count_end(client_type, end);
        self.log_end(id, client_type.as_str(), session, end);
    }

    fn count_end(&mut self, client_type: ClientType, end: End) {
        counters::add(&mut self.counters.connections_ended, end.reason as usize, 1);
        let sender = client_type.peer();
        counters::add(&mut self.counters.messages_undelivered, sender as usize, end.undelivered);
    }

    fn log_end(&self, id: ConnectionId, client_type: &str, session: &str, end: End) {
        let Some(slot) = self.slots.get(id) else { return };
        let tally = slot.connection.tally();
        let tenths = slot.connection.age(self.now.tick).as_millis() / 100;
        info!(
            target: ACCESS,
            "conn={id} address={} client={client_type} session={} seconds={}.{} messages_in={} bytes_in={} \
             messages_out={} bytes_out={} undelivered={} errors={} reason={} code={} Connection ended",
            slot.connection.arrival.client,
            Logged(session),
            tenths / 10,
            tenths % 10,
            tally.messages_in,
            tally.bytes_in,
            tally.messages_out,
            tally.bytes_out,
            end.undelivered,
            tally.errors,
            end.reason.as_str(),
            end.code,
        );
    }
}
