//! Who may come in: addresses, limits per host, pairing secrets, API keys; and sessions that the relay issues.

use std::io::{Read, Write};

use log::{debug, info, warn};

use super::record::End;
use super::relay::{Relay, Timer};
use crate::relay::access::address_rules::{AddressRules, Admission};
use crate::relay::access::api_keys::{ApiKeys, KeyNames};
use crate::relay::access::hosts::HostKey;
use crate::relay::access::secret::{Secret, SecretHash};
use crate::relay::address::{ClientAddress, Host, is_loopback};
use crate::relay::client::standing::Standing;
use crate::relay::counts::end_reason::EndReason;
use crate::relay::http::{AnswerForm, Credentials, Refusal, Upgrade, write_issued};
use crate::relay::ids::{ClientType, ConnectionId, SessionId};
use crate::relay::limits::REFUSALS_MAX;
use crate::relay::sessions::{Session, SessionKey, SessionsFull};
use crate::relay::wire::message::{CloseReason, Logged};

/// Where sessions are issued, as the log shows it.
const SESSIONS_PATH: &str = "/sessions";

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

    /// Whether the place that a client asks for changes hands so often that whoever is there stays.
    pub(super) fn is_place_contested(&mut self, id: ConnectionId, upgrade: &Upgrade) -> bool {
        let (client_type, now) = (upgrade.client_type, self.now.tick);
        let Some(key) = self.sessions.find(&upgrade.session_id) else { return false };
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(there) = session.client(client_type) else { return false };
        let is_contested = session.refuses_newcomer(client_type, now);
        if is_contested {
            self.warn_of_contest(id, there, key, client_type);
        }
        is_contested
    }

    /// Notes that a client took the place of another one.
    pub(super) fn note_replacement(
        &mut self,
        id: ConnectionId,
        old: ConnectionId,
        key: SessionKey,
        client_type: ClientType,
    ) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.note_replacement(client_type, self.now.tick);
        }
        self.warn_of_contest(id, old, key, client_type);
    }

    /// Tells the operator, now and then, that two clients want the same place.
    fn warn_of_contest(
        &mut self,
        id: ConnectionId,
        there: ConnectionId,
        key: SessionKey,
        client_type: ClientType,
    ) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if !session.is_contest_warning_due(client_type, self.now.tick) {
            return;
        }
        let address =
            |id| self.slots.get(id).map_or(ClientAddress::default(), |slot| slot.connection.arrival.client);
        warn!(
            "conn={id} session={} client={} address={} other_address={} Two clients take one place from each other: \
             give each pair a session ID of its own",
            Logged(session.id.as_str()),
            client_type.as_str(),
            address(id),
            address(there),
        );
    }

    /// Closes the clients of a session that is about to be claimed: they were let in without its secret. What they
    /// sent, and nobody has got, is dropped with them.
    pub(super) fn expel_unproven(&mut self, session_id: &SessionId) {
        let Some(session) = self.sessions.find(session_id) else { return };
        for client_type in [ClientType::Desktop, ClientType::Mobile] {
            let client = self.sessions.get(session).and_then(|session| session.client(client_type));
            if let Some(client) = client {
                self.fail(client, &CloseReason::Claimed, None, true);
            }
        }
    }

    /// How long the host of a connection is still locked out, if it is.
    fn check_lock_out(&self, id: ConnectionId) -> Result<(), Refusal> {
        let client = self.slots.get(id).map(|slot| slot.connection.arrival.client);
        let client = client.filter(|client| !is_loopback(*client) && !self.proxies.contains(*client));
        let denied = client.and_then(|client| self.hosts.lock_out(client.host(), self.now.tick));
        denied.map_or(Ok(()), |denied| Err(Refusal::AddressLimit { retry_after: denied.retry_after() }))
    }

    /// The name of the API key among the credentials, if there is one, and the pairing secret.
    fn tell_apart<'a>(&'a self, credentials: &'a Credentials) -> (Option<&'a str>, Option<&'a Secret>) {
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

    /// Begins a session for somebody, with an ID and a secret that nobody can guess.
    pub(super) fn issue(&mut self, id: ConnectionId, credentials: &Credentials, form: AnswerForm<'_>) {
        let form = AnswerForm { path: Some(SESSIONS_PATH), ..form };
        if let Err(refusal) = self.check_lock_out(id) {
            return self.refuse(id, refusal, form);
        }
        let (key_name, _) = self.tell_apart(credentials);
        if self.api_keys.is_some() && key_name.is_none() {
            return self.refuse_unproven(id, Refusal::ApiKey, form);
        }
        if let Some(name) = key_name {
            info!("conn={id} key={name} API key accepted");
        }
        let secret = self.secret_key.draw();
        let host = self.slots.get(id).map(|slot| slot.connection.arrival.client.host());
        let issued = host.and_then(|host| self.begin_issued(&secret, host));
        let Some((key, session_id)) = issued else {
            return self.refuse(id, Refusal::ConnectionLimit, form);
        };
        self.arm_session(key);
        info!("conn={id} session={session_id} Session {session_id} issued");
        let lapses_in =
            self.sessions.due(key).map_or(0, |(deadline, _)| deadline.0.saturating_sub(self.now.tick.0));
        let expires_at = self.now.unix_millis.saturating_add(lapses_in);
        let body = format!(
            concat!(
                r#"{{"sessionId":"{id}","secret":"{secret}","desktopUrl":"/desktop/{id}?secret={secret}","#,
                r#""mobileUrl":"/mobile/{id}?secret={secret}","expiresAt":{expires_at}}}"#
            ),
            id = session_id,
            secret = secret,
            expires_at = expires_at
        );
        self.note_end(id, None, End { reason: EndReason::Answered, code: 201, undelivered: 0 });
        self.answer(id, |out| write_issued(&body, form, out));
    }

    /// `None` if there is no room for one more session.
    fn begin_issued(&mut self, secret: &str, host: Host) -> Option<(SessionKey, String)> {
        debug_assert!(
            self.drain.is_none(),
            "no session begins during a shutdown: requests are refused by then"
        );
        let claim = self.secret_key.hash(&Secret::new(secret.as_bytes())?);
        // Of 128 random bits not even two tries are ever needed.
        for _ in 0..2 {
            let text = self.secret_key.draw();
            let session_id = SessionId::parse(text.as_bytes())?;
            let now = self.now.tick;
            let issued = self.sessions.issue(&session_id, claim.clone(), host, now).or_else(|SessionsFull| {
                self.end_longest_unused_session();
                self.sessions.issue(&session_id, claim.clone(), host, now)
            });
            if let Some(key) = issued.ok()? {
                return Some((key, text));
            }
        }
        None
    }

    /// Sees to the host that was heard of last, and to the one that is remembered beyond their number.
    pub(super) fn settle_hosts(&mut self) {
        if let Some(key) = self.hosts.last_idle() {
            self.arm_host(key);
        }
        if let Some(key) = self.hosts.surplus() {
            self.forget_host(key);
        }
    }

    /// Forgets a host if it is time, or sees again when it is.
    pub(super) fn fire_host(&mut self, key: HostKey) {
        if let Some(timer) = self.hosts.timer_mut(key) {
            *timer = None;
        }
        match self.hosts.due(key) {
            Some(deadline) if deadline <= self.now.tick => self.forget_host(key),
            Some(_) | None => self.arm_host(key),
        }
    }

    fn arm_host(&mut self, key: HostKey) {
        let Some(deadline) = self.hosts.due(key) else { return };
        let armed = self.hosts.timer_mut(key).and_then(|timer| *timer);
        let armed = self.rearm(armed, deadline, Timer::Host(key));
        if let Some(timer) = self.hosts.timer_mut(key) {
            *timer = armed;
        }
    }

    fn forget_host(&mut self, key: HostKey) {
        if let Some(timer) = self.hosts.forget(key) {
            self.wheel.cancel(timer);
        }
    }
}
