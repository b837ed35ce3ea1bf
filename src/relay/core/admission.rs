//! How connections are let in or turned away, before they ask for a session.

use std::io::{Read, Write};

use log::{debug, warn};

use super::record::SESSIONS;
use super::relay::Relay;
use crate::relay::access::address_rules::AddressRules;
use crate::relay::access::api_keys::ApiKeys;
use crate::relay::address::ClientAddress;
use crate::relay::hook::{Hook, Hooked};
use crate::relay::http::{AnswerForm, Refusal};
use crate::relay::ids::ConnectionId;

impl<S: Read + Write> Relay<S> {
    /// Needs one of these API keys to begin a session from now on, and no others.
    pub fn set_api_keys(&mut self, keys: ApiKeys) {
        self.gate.set_api_keys(keys);
    }

    /// Serves the addresses that these rules and the settings allow from now on. Clients that are connected already
    /// stay.
    pub fn set_address_rules(&mut self, rules: &AddressRules) {
        self.gate.set_address_rules(rules);
    }

    /// Asks this hook which clients may join, and tells it of joins and leaves, from now on.
    pub fn set_hook(&mut self, hook: Box<dyn Hook + Send>) {
        self.hook = Hooked::new(hook);
    }

    /// Refuses a connection for its address. Only few may wait until they have read the answer; the rest are cut at
    /// once.
    pub(super) fn turn_away(&mut self, id: ConnectionId, refusal: Refusal, form: AnswerForm<'_>) {
        self.refuse(id, refusal, form);
        let now = self.now.tick;
        if let Some(slot) = self.slots.get_mut(id)
            && !self.gate.may_wait(&mut slot.connection.remote, now)
        {
            slot.connection.cut(&mut self.pool, now);
        }
    }

    /// Waits for the request of a connection that is not let in, because it may ask for the relay's health: a
    /// supervisor must not restart a relay because it is full, or because it does not serve loopback.
    pub(super) fn keep_outside(&mut self, id: ConnectionId, refusal: Refusal) {
        let slot = self.slots.get_mut(id);
        if slot.is_some_and(|slot| self.gate.put_outside(&mut slot.connection.remote)) {
            debug!("conn={id} refusal={refusal:?} Not let in: may only ask for the relay's health");
        } else {
            self.turn_away(id, refusal, AnswerForm::default());
        }
    }

    /// The refusal of a connection that may only ask for the relay's health; `None` for any other connection.
    pub(super) fn refusal_outside(&self, id: ConnectionId) -> Option<Refusal> {
        let remote = self.slots.get(id).map(|slot| &slot.connection.remote);
        let address = remote.filter(|remote| remote.standing.is_outside())?.address;
        Some(if self.gate.is_served(address) { Refusal::ConnectionLimit } else { Refusal::Address })
    }

    /// A proxy has named its client. Says why that client is not let in, if it is not.
    pub(super) fn identify(&mut self, id: ConnectionId, client: ClientAddress) -> Result<(), Refusal> {
        debug!("conn={id} address={client} Named by its proxy");
        let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
        self.gate.identify(&mut slot.connection.remote, client, self.now.tick)?;
        self.settle_hosts();
        Ok(())
    }

    /// Refuses a client that could not prove what it should. One that fails too often is locked out.
    pub(super) fn refuse_unproven(&mut self, id: ConnectionId, refusal: Refusal, form: AnswerForm<'_>) {
        self.refuse(id, refusal, form);
        let Some(client) = self.slots.get(id).map(|slot| slot.connection.remote.address) else { return };
        if let Some(lock_out) = self.gate.note_failure(client, self.now.tick) {
            warn!(
                target: SESSIONS,
                "address={client} seconds={} Locked out: failed to join too often",
                lock_out.as_secs()
            );
        }
        self.settle_hosts();
    }
}
