//! Who may come in: addresses, limits per host, pairing secrets, API keys; and sessions that the relay issues.

use std::io::{Read, Write};

use log::{debug, info, warn};

use super::relay::Relay;
use crate::relay::access::address_rules::{AddressRules, Admission};
use crate::relay::access::api_keys::{ApiKeys, KeyNames};
use crate::relay::access::secret::{Secret, SecretHash};
use crate::relay::address::{ClientAddress, is_loopback};
use crate::relay::client::standing::Standing;
use crate::relay::http::{AnswerForm, Credentials, Refusal, Upgrade};
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::limits::REFUSALS_MAX;
use crate::relay::sessions::Session;

/// What was found of a client that may join.
pub(super) struct Pass {
    /// The secret that it claims the session with, if nobody has claimed it.
    pub(super) claim: Option<SecretHash>,
}

impl<S: Read + Write> Relay<S> {
    /// From here on these API keys are needed to begin sessions, and no others.
    pub fn set_api_keys(&mut self, keys: ApiKeys) {
        self.api_keys = Some(KeyNames::new(keys, &self.secret_key));
    }

    /// From here on these rules, and those of the settings, say which addresses are served. Clients that are
    /// there already stay.
    pub fn set_address_rules(&mut self, rules: &AddressRules) {
        self.admission = Admission::new(&self.settings.allow, &self.settings.deny, rules);
    }

    /// Counts a connection against the limits of its host, or says why it is not let in.
    pub(super) fn let_in(&mut self, id: ConnectionId) -> Result<(), Refusal> {
        let Some(client) = self.slots.get(id).map(|slot| slot.connection.arrival.client) else {
            return Ok(());
        };
        if !self.is_served(client) {
            return Err(Refusal::Address);
        }
        if is_loopback(client) || self.proxies.contains(client) {
            return Ok(());
        }
        let admitted = self.hosts.admit(client.host(), self.now.tick);
        let is_counted =
            admitted.map_err(|denied| Refusal::AddressLimit { retry_after: denied.retry_after() })?;
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.arrival.standing = if is_counted { Standing::Counted } else { Standing::Exempt };
        }
        self.settle_hosts();
        Ok(())
    }

    /// Refuses a connection for its address. Few of those are waited for until they have read the answer, and
    /// few in a second: whoever comes often must not keep places from others, nor have each answer encrypted.
    pub(super) fn turn_away(&mut self, id: ConnectionId, refusal: Refusal, form: AnswerForm<'_>) {
        self.refuse(id, refusal, form);
        let now = self.now.tick;
        if self.refusals.allows_at() <= now && self.put_outside(id) {
            self.refusals.spend(1, now);
        } else if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.cut(&mut self.pool, now);
        }
    }

    /// Waits for the request of a connection that is not let in, because it may ask for the relay's health: a
    /// supervisor that restarts sick relays must not take a full one for sick, nor one that does not serve
    /// loopback. At most [`REFUSALS_MAX`] are waited for; one more is refused at once.
    pub(super) fn keep_outside(&mut self, id: ConnectionId, refusal: Refusal) {
        if self.put_outside(id) {
            debug!("conn={id} refusal={refusal:?} Not let in, but for a question of the relay's health");
        } else {
            self.turn_away(id, refusal, AnswerForm::default());
        }
    }

    /// Takes a connection's place from it, if there are not too many without one. Whether it is without one now.
    fn put_outside(&mut self, id: ConnectionId) -> bool {
        let Some(slot) = self.slots.get_mut(id) else { return false };
        let standing = &mut slot.connection.arrival.standing;
        if standing.is_outside() {
            return true;
        }
        let is_room = self.outside < REFUSALS_MAX;
        if is_room {
            *standing = Standing::Outside { is_counted: standing.is_counted() };
            self.outside += 1;
        }
        is_room
    }

    /// Why nothing but the relay's health is told to a connection, if that is so.
    pub(super) fn refusal_outside(&self, id: ConnectionId) -> Option<Refusal> {
        let arrival = self.slots.get(id).map(|slot| &slot.connection.arrival);
        let client = arrival.filter(|arrival| arrival.standing.is_outside())?.client;
        Some(if self.is_served(client) { Refusal::ConnectionLimit } else { Refusal::Address })
    }

    /// Whether the address rules let it in; a proxy is always let in, for they are for those it speaks for.
    fn is_served(&self, client: ClientAddress) -> bool {
        self.proxies.contains(client) || self.admission.lets_in(client)
    }

    /// A proxy has named its client. Returns why that client is not let in, if it is not. A client on loopback
    /// gets no exception here: a proxy can be made to name one.
    pub(super) fn identify(&mut self, id: ConnectionId, client: ClientAddress) -> Result<(), Refusal> {
        debug!("conn={id} address={client} Named by its proxy");
        let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
        let arrival = &mut slot.connection.arrival;
        arrival.client = client;
        if !arrival.standing.is_outside() {
            return self.let_in(id);
        }
        // It takes no place, and so counts nowhere.
        if !self.is_served(client) {
            return Err(Refusal::Address);
        }
        self.check_lock_out(id)
    }

    /// Judges what a client brings for the session that it wants to join.
    ///
    /// Whether there is such a session shows neither in the answer nor in the time it takes: a secret is always
    /// hashed if there is one, and always compared, if need be with a hash that no secret has.
    pub(super) fn authorize(&self, id: ConnectionId, upgrade: &Upgrade) -> Result<Pass, Refusal> {
        // It may have connected before it was locked out.
        self.check_lock_out(id)?;
        let (key_name, secret) = self.tell_apart(&upgrade.credentials);
        let hash = secret.map(|secret| self.secret_key.hash(secret));
        let session = self.sessions.find(&upgrade.session_id);
        let claimed = session.and_then(|key| self.sessions.get(key)).and_then(Session::claimed);
        // Where keys are needed, a Bearer token that is none may have been one: it proves a secret, and claims nothing.
        let may_claim = self.api_keys.is_none() || upgrade.credentials.secret.is_some();
        let hash = hash.filter(|_| may_claim || claimed.is_some());
        let none = self.secret_key.hash_of_none();
        let is_same = hash.as_ref().unwrap_or(none).is(claimed.unwrap_or(none));
        let is_proven = is_same && hash.is_some() && claimed.is_some();
        let has_keys = self.api_keys.is_some();
        let is_desktop = upgrade.client_type == ClientType::Desktop;
        // A mobile joins what exists.
        let is_nothing_to_join = has_keys && !is_desktop && session.is_none();
        let is_unproven =
            (claimed.is_some() && !is_proven) || (self.settings.require_secret && hash.is_none());
        if has_keys && is_desktop && key_name.is_none() && !is_proven {
            return Err(Refusal::ApiKey);
        }
        if is_nothing_to_join || is_unproven {
            return Err(Refusal::Secret);
        }
        if let Some(name) = key_name {
            info!("conn={id} key={name} API key accepted");
        }
        Ok(Pass { claim: hash.filter(|_| claimed.is_none()) })
    }

    /// How long the host of a connection is still locked out, if it is.
    pub(super) fn check_lock_out(&self, id: ConnectionId) -> Result<(), Refusal> {
        let client = self.slots.get(id).map(|slot| slot.connection.arrival.client);
        let client = client.filter(|client| !is_loopback(*client) && !self.proxies.contains(*client));
        let denied = client.and_then(|client| self.hosts.lock_out(client.host(), self.now.tick));
        denied.map_or(Ok(()), |denied| Err(Refusal::AddressLimit { retry_after: denied.retry_after() }))
    }

    /// The name of the API key among the credentials, if there is one, and the pairing secret.
    pub(super) fn tell_apart<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> (Option<&'a str>, Option<&'a Secret>) {
        let Credentials { secret, key, bearer } = credentials;
        let name_of = |key: &Option<Secret>| self.api_keys.as_ref()?.name_of(key.as_ref()?, &self.secret_key);
        let bearer_name = name_of(bearer);
        let bearer = bearer.as_ref().filter(|_| bearer_name.is_none());
        (name_of(key).or(bearer_name), secret.as_ref().or(bearer))
    }

    /// Refuses a client that could not prove what it should; one that fails too often is locked out.
    pub(super) fn refuse_unproven(&mut self, id: ConnectionId, refusal: Refusal, form: AnswerForm<'_>) {
        self.refuse(id, refusal, form);
        let Some(client) = self.slots.get(id).map(|slot| slot.connection.arrival.client) else { return };
        // One that is locked out is not judged again.
        if is_loopback(client) || self.proxies.contains(client) {
            return;
        }
        if let Some(lock_out) = self.hosts.note_failure(client.host(), self.now.tick) {
            warn!("address={client} seconds={} Locked out: failed to join too often", lock_out.as_secs());
        }
        self.settle_hosts();
    }
}
