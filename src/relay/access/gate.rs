//! The gate: judges connections by their address, and clients by their credentials.
//!
//! It returns verdicts and knows no connections or sessions. The caller passes the [`Remote`] of a connection, in
//! which the gate records how the limits treat it, and the [`SessionAccess`] of the session that a client wants to
//! join.

use std::time::Duration;

use ipnet::IpNet;

use super::address_rules::{AddressRules, ServedAddresses};
use super::api_keys::{ApiKeys, KeyNames};
use super::credentials::Credentials;
use super::host_limits::{Denied, Hosts};
use super::remote::{Remote, Standing};
use super::secret::{Secret, SecretHash, SecretKey};
use crate::relay::address::{ClientAddress, Networks, is_loopback};
use crate::relay::ids::ClientType;
use crate::relay::limits::REFUSALS_MAX;
use crate::relay::settings::Settings;
use crate::relay::tables::meter::Meter;
use crate::relay::time::Tick;

/// Why a connection is not served, or a client may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAllowed {
    /// The address is not served.
    Address,
    /// The host is over a limit, or locked out.
    Host(Denied),
    /// The pairing secret is wrong or missing, or a mobile needs a session that does not exist.
    Secret,
    /// The API key is wrong or missing.
    ApiKey,
}

/// The state of the session that a client wants to join.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SessionAccess<'a> {
    /// There is no session with this ID.
    Missing,
    /// It exists, and joining it needs no secret.
    Unclaimed,
    /// It exists, and joining it needs the secret with this hash.
    Claimed(&'a SecretHash),
}

impl<'a> SessionAccess<'a> {
    const fn claimed(self) -> Option<&'a SecretHash> {
        match self {
            Self::Claimed(hash) => Some(hash),
            Self::Missing | Self::Unclaimed => None,
        }
    }
}

/// What the gate found out about a client that may join.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    /// The hash of the secret with which the client claims the session. `None` if it sent none, or the session is
    /// claimed already.
    pub(crate) claim: Option<SecretHash>,
    /// The name of the client's API key, if it sent one.
    pub(crate) key_name: Option<&'a str>,
}

/// All that decides who may connect: address rules, proxies, limits per host, secrets and API keys.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The ranges of the settings. Those of the rules file are added to them in `served`.
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    served: ServedAddresses,
    /// The trusted proxies.
    proxies: Networks,
    has_proxy_protocol: bool,
    is_secret_required: bool,
    api_keys: Option<KeyNames>,
    secret_key: SecretKey,
    /// How much each host has used of its limits. The caller schedules the timers of the hosts.
    pub(crate) hosts: Hosts,
    /// Connections with [`Standing::Outside`], at most [`REFUSALS_MAX`].
    outside: usize,
    /// Rate of refused connections that may stay open until their answer is read.
    waits: Meter,
}

impl Gate {
    /// A gate with these settings. `seed` keys its hashes, and determines the IDs and secrets that it issues.
    pub(crate) fn new(settings: &Settings, seed: [u64; 2]) -> Self {
        Self {
            allow: settings.allow.clone(),
            deny: settings.deny.clone(),
            served: ServedAddresses::new(&settings.allow, &settings.deny, &AddressRules::default()),
            proxies: settings.proxies(),
            has_proxy_protocol: settings.proxy_protocol,
            is_secret_required: settings.require_secret,
            api_keys: None,
            secret_key: SecretKey::new(seed),
            hosts: Hosts::new(settings, seed),
            outside: 0,
            waits: Meter::new(Some(REFUSALS_MAX as u64), Duration::from_secs(1)),
        }
    }

    /// From now on, beginning a session needs one of these API keys. Replaces the keys that were set before.
    pub(crate) fn set_api_keys(&mut self, keys: ApiKeys) {
        self.api_keys = Some(KeyNames::new(keys, &self.secret_key));
    }

    /// From now on, serves the addresses that these rules and the settings allow. Replaces the rules that were set
    /// before.
    pub(crate) fn set_address_rules(&mut self, rules: &AddressRules) {
        self.served = ServedAddresses::new(&self.allow, &self.deny, rules);
    }

    /// Whether a connection from this address must begin with a PROXY protocol header.
    pub(crate) fn expects_proxy_header(&self, address: ClientAddress) -> bool {
        self.has_proxy_protocol && self.proxies.contains(address)
    }

    /// The trusted proxies, if a request from this address may name its client in header fields. With the PROXY
    /// protocol it may not: proxies then name the client only in that protocol's header.
    pub(crate) fn proxies_believed_in_head(&self, address: ClientAddress) -> Option<&Networks> {
        Some(&self.proxies).filter(|proxies| !self.has_proxy_protocol && proxies.contains(address))
    }

    /// Counts a new connection against the limits of its host.
    ///
    /// # Errors
    /// Why the connection is not served. It is not counted.
    pub(crate) fn admit(&mut self, remote: &mut Remote, now: Tick) -> Result<(), NotAllowed> {
        if !self.is_served(remote.address) {
            return Err(NotAllowed::Address);
        }
        if self.is_exempt(remote.address) {
            return Ok(());
        }
        // `Hosts` does not count connections if there is no limit for them.
        let is_counted = self.hosts.admit(remote.address.host(), now).map_err(NotAllowed::Host)?;
        remote.standing = if is_counted { Standing::Counted } else { Standing::Exempt };
        Ok(())
    }

    /// Records the client that a proxy has named for a connection. Loopback gets no exception here, because a client
    /// can make a proxy name a loopback address.
    ///
    /// # Errors
    /// Why this client is not served.
    pub(crate) fn identify(
        &mut self,
        remote: &mut Remote,
        address: ClientAddress,
        now: Tick,
    ) -> Result<(), NotAllowed> {
        remote.address = address;
        if !remote.standing.is_outside() {
            return self.admit(remote, now);
        }
        // A connection that is outside already takes no client's room, so it is not counted.
        if !self.is_served(address) {
            return Err(NotAllowed::Address);
        }
        self.check_lock_out(address, now)
    }

    /// Takes a connection that has ended out of all counts.
    pub(crate) fn release(&mut self, remote: &Remote) {
        self.outside -= usize::from(remote.standing.is_outside());
        if remote.standing.is_counted() {
            self.hosts.release(remote.address.host());
        }
    }

    /// Whether this address is served. Proxies always are: the address rules are for their clients.
    pub(crate) fn is_served(&self, address: ClientAddress) -> bool {
        self.proxies.contains(address) || self.served.contains(address)
    }

    /// How many connections are [outside](Standing::Outside).
    pub(crate) const fn outside(&self) -> usize {
        self.outside
    }

    /// Makes a connection [outside](Standing::Outside), unless too many are outside already. Returns whether it is
    /// outside now.
    pub(crate) const fn put_outside(&mut self, remote: &mut Remote) -> bool {
        if remote.standing.is_outside() {
            return true;
        }
        let has_room = self.outside < REFUSALS_MAX;
        if has_room {
            // Its host's count stays until the connection ends.
            remote.standing = Standing::Outside { is_counted: remote.standing.is_counted() };
            self.outside += 1;
        }
        has_room
    }

    /// Whether a refused connection may stay open until its answer is read: at most [`REFUSALS_MAX`] at once, and as
    /// many per second. The rest are cut at once, so that they keep no room from others and cost no encryption.
    pub(crate) fn may_wait(&mut self, remote: &mut Remote, now: Tick) -> bool {
        let may_wait = self.waits.allows_at() <= now && self.put_outside(remote);
        if may_wait {
            self.waits.spend(1, now);
        }
        may_wait
    }

    /// Checks that the host of this address is not locked out.
    ///
    /// # Errors
    /// The lock-out.
    pub(crate) fn check_lock_out(&self, address: ClientAddress, now: Tick) -> Result<(), NotAllowed> {
        if self.is_exempt(address) {
            return Ok(());
        }
        let denied = self.hosts.lock_out(address.host(), now);
        denied.map_or(Ok(()), |denied| Err(NotAllowed::Host(denied)))
    }

    /// Counts a failed join against the host of this address. Returns the duration of the lock-out if this one locks
    /// the host out. The requests of a host that is locked out are not judged, so they do not count.
    pub(crate) fn note_failure(&mut self, address: ClientAddress, now: Tick) -> Option<Duration> {
        if self.is_exempt(address) {
            return None;
        }
        self.hosts.note_failure(address.host(), now)
    }

    /// Judges the credentials of a client for the session that it wants to join.
    ///
    /// Neither the answer nor its time shows whether the session exists: a secret that was sent is always hashed and
    /// always compared, if necessary with a hash that no secret has.
    ///
    /// # Errors
    /// Why the client may not join.
    pub(crate) fn judge_join(
        &self,
        client_type: ClientType,
        credentials: &Credentials,
        session: SessionAccess<'_>,
    ) -> Result<Pass<'_>, NotAllowed> {
        let (key_name, secret) = self.tell_apart(credentials);
        let hash = secret.map(|secret| self.secret_key.hash(secret));
        let claimed = session.claimed();
        let has_keys = self.api_keys.is_some();
        // With API keys, a Bearer token that is not a key may be a mistyped or removed one. So it can prove a secret,
        // but not claim a session.
        let may_claim = !has_keys || credentials.secret.is_some();
        let hash = hash.filter(|_| may_claim || claimed.is_some());
        let none = self.secret_key.hash_of_none();
        // Always one comparison; `hash_of_none` equals no hash of a secret.
        let is_same = hash.as_ref().unwrap_or(none).is(claimed.unwrap_or(none));
        let is_proven = is_same && hash.is_some() && claimed.is_some();
        let is_desktop = client_type == ClientType::Desktop;
        // With API keys, a mobile can join only an existing session.
        let has_nothing_to_join = has_keys && !is_desktop && matches!(session, SessionAccess::Missing);
        // A claimed session needs its own secret; an unclaimed one needs any secret if secrets are required.
        let is_unproven = (claimed.is_some() && !is_proven) || (self.is_secret_required && hash.is_none());
        // The API key first: this answer is the same whether or not the session exists.
        if has_keys && is_desktop && key_name.is_none() && !is_proven {
            return Err(NotAllowed::ApiKey);
        }
        if has_nothing_to_join || is_unproven {
            return Err(NotAllowed::Secret);
        }
        Ok(Pass { claim: hash.filter(|_| claimed.is_none()), key_name })
    }

    /// Judges a request for a new session. Returns the name of its API key, if keys are in use.
    ///
    /// # Errors
    /// If the request needs an API key and has none.
    pub(crate) fn judge_issue(&self, credentials: &Credentials) -> Result<Option<&str>, NotAllowed> {
        let (key_name, _) = self.tell_apart(credentials);
        if self.api_keys.is_some() && key_name.is_none() {
            return Err(NotAllowed::ApiKey);
        }
        Ok(key_name)
    }

    /// A new random text of 128 bits. Never the same twice.
    pub(crate) fn draw(&mut self) -> String {
        self.secret_key.draw()
    }

    /// The hash of a secret, to claim a session with.
    pub(crate) fn hash(&self, secret: &Secret) -> SecretHash {
        self.secret_key.hash(secret)
    }

    /// Whether the limits per address do not apply: to loopback and to trusted proxies.
    fn is_exempt(&self, address: ClientAddress) -> bool {
        is_loopback(address) || self.proxies.contains(address)
    }

    /// Finds the name of the API key and the pairing secret among the credentials. A Bearer token may be either.
    fn tell_apart<'g, 'c>(&'g self, credentials: &'c Credentials) -> (Option<&'g str>, Option<&'c Secret>) {
        let Credentials { secret, key, bearer } = credentials;
        let name_of = |key: &Option<Secret>| self.api_keys.as_ref()?.name_of(key.as_ref()?, &self.secret_key);
        let bearer_name = name_of(bearer);
        // A token that is an API key is not a pairing secret as well.
        let bearer = bearer.as_ref().filter(|_| bearer_name.is_none());
        (name_of(key).or(bearer_name), secret.as_ref().or(bearer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: &str = "192.0.2.7";
    const PROXY: &str = "10.0.0.1";
    const LOOPBACK: &str = "127.0.0.1";

    fn address(text: &str) -> ClientAddress {
        ClientAddress::new(text.parse().unwrap())
    }

    fn remote(text: &str) -> Remote {
        Remote { address: address(text), ..Remote::default() }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).unwrap()
    }

    fn gate(settings: Settings) -> Gate {
        Gate::new(&Settings { trust_proxy: vec!["10.0.0.0/8".parse().unwrap()], ..settings }, [1, 2])
    }

    #[test]
    fn settings_and_rules_decide_which_addresses_are_served_and_proxies_always_are() {
        let mut gate = gate(Settings { deny: vec!["192.0.2.0/24".parse().unwrap()], ..Settings::default() });
        assert_eq!(gate.admit(&mut remote(STRANGER), Tick(0)), Err(NotAllowed::Address));
        assert_eq!(gate.admit(&mut remote("198.51.100.1"), Tick(0)), Ok(()));
        gate.set_address_rules(&AddressRules::parse("deny 198.51.100.0/24\ndeny 10.0.0.0/8\n").unwrap());
        assert_eq!(gate.admit(&mut remote("198.51.100.1"), Tick(0)), Err(NotAllowed::Address));
        assert_eq!(
            gate.admit(&mut remote(STRANGER), Tick(0)),
            Err(NotAllowed::Address),
            "the settings still count"
        );
        assert_eq!(gate.admit(&mut remote(PROXY), Tick(0)), Ok(()));
    }

    #[test]
    fn connections_of_a_host_are_counted_until_released_except_for_loopback_and_proxies() {
        let mut gate = gate(Settings { max_connections_per_ip: Some(1), ..Settings::default() });
        let mut first = remote(STRANGER);
        assert_eq!(gate.admit(&mut first, Tick(0)), Ok(()));
        assert_eq!(first.standing, Standing::Counted);
        let over = Err(NotAllowed::Host(Denied::TooMany));
        assert_eq!(gate.admit(&mut remote(STRANGER), Tick(0)), over);
        for exempt in [LOOPBACK, PROXY, LOOPBACK, PROXY] {
            let mut connection = remote(exempt);
            assert_eq!(gate.admit(&mut connection, Tick(0)), Ok(()));
            assert_eq!(connection.standing, Standing::Exempt);
        }
        gate.release(&first);
        assert_eq!(gate.admit(&mut remote(STRANGER), Tick(0)), Ok(()));
    }

    #[test]
    fn a_client_that_a_proxy_names_is_judged_by_its_own_address() {
        let settings = Settings { max_connections_per_ip: Some(1), ..Settings::default() };
        let mut gate = gate(Settings { deny: vec!["127.0.0.0/8".parse().unwrap()], ..settings });
        let mut through_proxy = [remote(PROXY), remote(PROXY), remote(PROXY)];
        let [first, second, third] = &mut through_proxy;
        assert_eq!(gate.identify(first, address(STRANGER), Tick(0)), Ok(()));
        let over = Err(NotAllowed::Host(Denied::TooMany));
        assert_eq!(gate.identify(second, address(STRANGER), Tick(0)), over);
        assert_eq!(gate.identify(third, address(LOOPBACK), Tick(0)), Err(NotAllowed::Address));
    }

    #[test]
    fn connections_outside_are_limited_and_each_is_counted_once() {
        let mut gate = gate(Settings { max_connections_per_ip: Some(usize::MAX), ..Settings::default() });
        let mut outside: Vec<Remote> = (0..=REFUSALS_MAX).map(|_| remote(STRANGER)).collect();
        for connection in &mut outside {
            gate.admit(connection, Tick(0)).unwrap();
        }
        let put: Vec<bool> = outside.iter_mut().map(|connection| gate.put_outside(connection)).collect();
        assert_eq!(put.iter().filter(|&&is_outside| is_outside).count(), REFUSALS_MAX);
        assert!(gate.put_outside(&mut outside[0]), "it is already outside");
        assert_eq!(gate.outside(), REFUSALS_MAX);
        assert_eq!(outside[0].standing, Standing::Outside { is_counted: true });
        for connection in &outside {
            gate.release(connection);
        }
        assert_eq!(gate.outside(), 0);
    }

    #[test]
    fn only_a_limited_number_of_refused_connections_per_second_stay_open() {
        let mut gate = gate(Settings::default());
        let waiting = |gate: &mut Gate, now| {
            let may_wait = |_: &usize| {
                let mut connection = remote(STRANGER);
                let may_wait = gate.may_wait(&mut connection, now);
                gate.release(&connection);
                may_wait
            };
            (0..3 * REFUSALS_MAX).filter(may_wait).count()
        };
        assert_eq!(waiting(&mut gate, Tick(0)), REFUSALS_MAX);
        assert_eq!(waiting(&mut gate, Tick(0)), 0);
        assert_eq!(waiting(&mut gate, Tick(60_000)), REFUSALS_MAX);
    }

    #[test]
    fn a_host_that_fails_too_often_is_locked_out_and_loopback_is_not() {
        let mut gate = gate(Settings { max_failed_joins: Some(2), ..Settings::default() });
        let lock_outs =
            |gate: &mut Gate, text| (0..3).filter_map(|_| gate.note_failure(address(text), Tick(0))).count();
        assert!(lock_outs(&mut gate, STRANGER) > 0);
        assert_eq!(lock_outs(&mut gate, LOOPBACK) + lock_outs(&mut gate, PROXY), 0);
        let locked_out = gate.check_lock_out(address(STRANGER), Tick(0));
        assert!(matches!(locked_out, Err(NotAllowed::Host(Denied::LockedOut { .. }))), "{locked_out:?}");
        assert_eq!(gate.check_lock_out(address(LOOPBACK), Tick(0)), Ok(()));
    }

    #[test]
    fn a_claimed_session_needs_its_secret_and_the_first_secret_claims_an_unclaimed_one() {
        let gate = gate(Settings::default());
        let hash = gate.hash(&secret("correct horse battery"));
        let right =
            || Credentials { secret: Some(secret("correct horse battery")), ..Credentials::default() };
        let wrong =
            || Credentials { secret: Some(secret("correct horse batterx")), ..Credentials::default() };
        let claimed = SessionAccess::Claimed(&hash);
        // Credentials, session, and whether the client claims it; `Err` if it may not join.
        let table = [
            (Credentials::default(), SessionAccess::Missing, Ok(false)),
            (Credentials::default(), SessionAccess::Unclaimed, Ok(false)),
            (Credentials::default(), claimed, Err(NotAllowed::Secret)),
            (right(), SessionAccess::Missing, Ok(true)),
            (right(), SessionAccess::Unclaimed, Ok(true)),
            (right(), claimed, Ok(false)),
            (wrong(), claimed, Err(NotAllowed::Secret)),
        ];
        for (row, (credentials, session, expected)) in table.into_iter().enumerate() {
            for client_type in ClientType::ALL {
                let pass = gate.judge_join(client_type, &credentials, session);
                assert_eq!(pass.map(|pass| pass.claim.is_some()), expected, "row {row}, {client_type:?}");
            }
        }
    }

    #[test]
    fn with_api_keys_a_desktop_needs_a_key_or_the_secret_and_a_mobile_needs_a_session() {
        let mut gate = gate(Settings::default());
        gate.set_api_keys(ApiKeys::parse("alice 0123456789abcdef").unwrap());
        let hash = gate.hash(&secret("correct horse battery"));
        let claimed = SessionAccess::Claimed(&hash);
        let key = || Credentials { bearer: Some(secret("0123456789abcdef")), ..Credentials::default() };
        let proof =
            || Credentials { secret: Some(secret("correct horse battery")), ..Credentials::default() };
        let (desktop, mobile) = (ClientType::Desktop, ClientType::Mobile);
        let table = [
            (desktop, key(), SessionAccess::Missing, Ok(Some("alice"))),
            (desktop, Credentials::default(), SessionAccess::Missing, Err(NotAllowed::ApiKey)),
            (desktop, Credentials::default(), SessionAccess::Unclaimed, Err(NotAllowed::ApiKey)),
            (desktop, proof(), claimed, Ok(None)),
            (desktop, key(), claimed, Err(NotAllowed::Secret)),
            (mobile, Credentials::default(), SessionAccess::Missing, Err(NotAllowed::Secret)),
            (mobile, Credentials::default(), SessionAccess::Unclaimed, Ok(None)),
            (mobile, proof(), claimed, Ok(None)),
        ];
        for (row, (client_type, credentials, session, expected)) in table.into_iter().enumerate() {
            let pass = gate.judge_join(client_type, &credentials, session);
            assert_eq!(pass.map(|pass| pass.key_name), expected, "row {row}");
        }
        assert_eq!(gate.judge_issue(&key()), Ok(Some("alice")));
        assert_eq!(gate.judge_issue(&proof()), Err(NotAllowed::ApiKey));
    }

    #[test]
    fn either_the_proxy_protocol_or_header_fields_name_the_client_but_never_both() {
        for has_proxy_protocol in [false, true] {
            let gate = gate(Settings { proxy_protocol: has_proxy_protocol, ..Settings::default() });
            assert_eq!(gate.expects_proxy_header(address(PROXY)), has_proxy_protocol);
            assert_eq!(gate.proxies_believed_in_head(address(PROXY)).is_some(), !has_proxy_protocol);
            assert!(!gate.expects_proxy_header(address(STRANGER)));
            assert!(gate.proxies_believed_in_head(address(STRANGER)).is_none());
        }
    }
}
