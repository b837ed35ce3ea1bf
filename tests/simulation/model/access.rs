//! Which clients may connect, derived only from the rules.

use std::net::IpAddr;

use apptuner_relay::relay::internals::limits::{
    CONTEST_WINDOW, LOCK_OUT_MAX, LOCK_OUT_MIN, REFUSALS_MAX, RETRY_AFTER_SECONDS,
};
use apptuner_relay::relay::{ClientType, Settings, Tick};
use ipnet::IpNet;

use super::conn::Phase;
use super::sessions::{Session, due};
use super::{Check, Model, expect};
use crate::client::issued_in;
use crate::journal::Event;
use crate::visit::{Caller, Credentials};

/// One host: a whole IPv4 address, or the upper half of an IPv6 address.
pub(super) type HostName = (u8, u128);

/// What the relay remembers of a host, besides its connections.
#[derive(Debug)]
pub(super) struct Host {
    openings: Bucket,
    failures: Bucket,
    locked_until: Tick,
    lock_outs: u32,
}

/// A bucket of `size` tokens, which are refilled evenly within `window` milliseconds.
#[derive(Debug)]
struct Bucket {
    size: u64,
    window: u64,
    /// In parts: one token is `window` parts, and `size` parts are refilled per millisecond.
    parts: u64,
    at: Tick,
}

impl Bucket {
    const fn full(size: u64, window: u64, now: Tick) -> Self {
        Self { size, window, parts: size * window, at: now }
    }

    fn parts(&self, now: Tick) -> u64 {
        (self.parts + (now.0 - self.at.0) * self.size).min(self.size * self.window)
    }

    /// Milliseconds until there is a whole token.
    fn wait(&self, now: Tick) -> u64 {
        self.window.saturating_sub(self.parts(now)).div_ceil(self.size)
    }

    fn take(&mut self, now: Tick) {
        self.parts = self.parts(now) - self.window;
        self.at = now;
    }

    fn is_full(&self, now: Tick) -> bool {
        self.parts(now) == self.size * self.window
    }
}

impl Host {
    fn new(settings: &Settings, now: Tick) -> Self {
        Self {
            openings: Bucket::full(settings.max_connection_rate.unwrap_or(0).into(), 1_000, now),
            failures: Bucket::full(settings.max_failed_joins.unwrap_or(0).into(), 60_000, now),
            locked_until: Tick(0),
            lock_outs: 0,
        }
    }

    fn is_worth_knowing(&self, now: Tick) -> bool {
        let is_remembered = self.lock_outs > 0 && now < self.locked_until.after(LOCK_OUT_MAX);
        is_remembered || !self.openings.is_full(now) || !self.failures.is_full(now)
    }
}

/// The result of checking a new connection's address.
pub(super) enum Admission {
    Free,
    Counted,
    /// Refused with this status; when to come back, in seconds.
    Denied(u16, Option<u64>),
}

fn host_name(address: IpAddr) -> HostName {
    match address {
        IpAddr::V4(address) => (4, address.to_bits().into()),
        IpAddr::V6(address) => (6, address.to_bits() >> 64),
    }
}

impl Model {
    /// Checks a new connection from this address, and notes it if it is accepted.
    pub(super) fn admit(&mut self, address: IpAddr) -> Admission {
        let (address, now) = (address.to_canonical(), self.now.tick);
        let settings = &self.settings;
        let is_allowed = settings.allow.is_empty() || is_in(&settings.allow, address);
        if is_in(&settings.deny, address) || !is_allowed {
            return Admission::Denied(403, None);
        }
        let (connections_max, rate) = (settings.max_connections_per_ip, settings.max_connection_rate);
        if address.is_loopback() {
            return Admission::Free;
        }
        let name = host_name(address);
        let counted = self.counted(name);
        let host = self.hosts.entry(name).or_insert_with(|| Host::new(settings, now));
        let locked = host.locked_until.0.saturating_sub(now.0);
        if locked > 0 {
            return Admission::Denied(429, Some(locked.div_ceil(1_000)));
        }
        if connections_max.is_some_and(|max| counted >= max) {
            return Admission::Denied(429, Some(RETRY_AFTER_SECONDS.into()));
        }
        if rate.is_some() {
            let wait = host.openings.wait(now);
            if wait > 0 {
                return Admission::Denied(429, Some(wait.div_ceil(1_000)));
            }
            host.openings.take(now);
        }
        if connections_max.is_some() { Admission::Counted } else { Admission::Free }
    }

    fn counted(&self, name: HostName) -> usize {
        let is_counted = |conn: &&super::Conn| conn.phase != Phase::Gone && conn.counted_for == Some(name);
        self.conns.iter().filter(is_counted).count()
    }

    /// Notes the address of a new connection. A refused one is answered, and a few of them are waited for. If the relay
    /// is full, or does not serve this machine's own addresses, the request is read first.
    pub(super) fn receive(&mut self, wire: usize, address: IpAddr, is_over_limit: bool) {
        let name = host_name(address.to_canonical());
        let admission = self.admit(address);
        let turned_away =
            self.conns.iter().filter(|conn| conn.phase != Phase::Gone && conn.is_turned_away).count();
        let conn = &mut self.conns[wire];
        conn.address = Some(address);
        let is_waited_for = turned_away < REFUSALS_MAX;
        match admission {
            Admission::Denied(status @ 403, _) if address.to_canonical().is_loopback() && is_waited_for => {
                conn.is_turned_away = true;
                conn.only_health = Some(status);
            }
            Admission::Denied(status, retry_after) => {
                conn.retry_after = retry_after;
                conn.is_turned_away = is_waited_for;
                conn.is_cut = !conn.is_turned_away;
                self.answer(wire, status);
                self.turned_away += 1;
            }
            Admission::Free | Admission::Counted => {
                conn.counted_for = matches!(admission, Admission::Counted).then_some(name);
                if self.drain.is_some() {
                    self.answer(wire, 503);
                } else if is_over_limit {
                    conn.is_turned_away = true;
                    conn.only_health = Some(503);
                }
            }
        }
    }

    /// The secret by which a caller claims the session, or the status with which it is refused.
    fn judge(&self, caller: &Caller) -> Result<Option<String>, u16> {
        let (secret, has_key) = caller.credentials.tell_apart(self.has_keys);
        let session = self.sessions.get(&caller.session);
        let claim = session.and_then(|session| session.claim.as_deref());
        let is_proven = claim.is_some() && secret == claim;
        if self.has_keys {
            match caller.client_type {
                ClientType::Desktop if !has_key && !is_proven => return Err(401),
                ClientType::Mobile if session.is_none() => return Err(403),
                ClientType::Desktop | ClientType::Mobile => {}
            }
        }
        match (claim, secret) {
            (Some(_), _) if !is_proven => Err(403),
            (Some(_), _) => Ok(None),
            (None, _) => {
                // With API keys a Bearer token claims nothing, because it may have been a key.
                let is_bearer =
                    caller.credentials.query.is_none() && caller.credentials.subprotocol.is_none();
                let claim = secret.filter(|_| !self.has_keys || !is_bearer);
                if claim.is_none() && self.settings.require_secret {
                    return Err(403);
                }
                Ok(claim.map(str::to_owned))
            }
        }
    }

    /// Whether the place that a caller wants changes hands too often.
    fn is_place_contested(&mut self, caller: &Caller) -> bool {
        let (client_type, now) = (caller.client_type, self.now.tick);
        let session = self.sessions.get_mut(&caller.session);
        session.is_some_and(|session| {
            session.client(client_type).is_some()
                && session.contests[client_type as usize].refuses_new_client(now)
        })
    }

    /// Whether a caller would be accepted now.
    pub fn would_let_in(&self, caller: &Caller) -> bool {
        self.judge(caller).is_ok()
    }

    /// Whether a session has been claimed.
    pub fn is_claimed(&self, session: &str) -> bool {
        self.sessions.get(session).is_some_and(|session| session.claim.is_some())
    }

    /// A caller's request was read: next it joins or is refused.
    pub(super) fn take_upgrade(&mut self, wire: usize, caller: Caller) {
        if self.is_locked_out(wire) {
            return;
        }
        match self.judge(&caller) {
            Ok(None) if self.is_place_contested(&caller) => {
                self.conns[wire].retry_after = Some(CONTEST_WINDOW.as_secs());
                self.answer(wire, 429);
                self.contested += 1;
            }
            Ok(claim) => {
                if claim.is_some() {
                    self.give_up_for_claim(&caller.session);
                    self.expel_unproven(&caller.session);
                }
                let conn = &mut self.conns[wire];
                conn.claiming = claim;
                let (conn, client_type) = (conn.id.to_string(), caller.client_type);
                self.awaited.push_back(Event::Joined { conn, client_type, session: caller.session });
            }
            Err(status) => self.refuse_unproven(wire, status),
        }
    }

    /// Clients that are in a session when it is claimed came in without its secret, and are closed.
    fn expel_unproven(&mut self, id: &str) {
        for client_type in [ClientType::Desktop, ClientType::Mobile] {
            let client = self.sessions.get(id).and_then(|session| session.client(client_type));
            if let Some(client) = client {
                let conn = self.conns[client].id.to_string();
                self.awaited.push_back(Event::Left { conn, client_type, session: id.to_owned(), code: 1008 });
            }
        }
    }

    /// Whether a client that connected before its host was locked out is refused now.
    fn is_locked_out(&mut self, wire: usize) -> bool {
        let address = self.conns[wire].address.expect("it was accepted").to_canonical();
        let host = self.hosts.get(&host_name(address)).filter(|_| !address.is_loopback());
        let locked = host.map_or(0, |host| host.locked_until.0.saturating_sub(self.now.tick.0));
        if locked > 0 {
            self.conns[wire].retry_after = Some(locked.div_ceil(1_000));
            self.answer(wire, 429);
        }
        locked > 0
    }

    pub(super) fn take_issue(&mut self, wire: usize, credentials: &Credentials) {
        if self.is_locked_out(wire) {
            return;
        }
        let (_, has_key) = credentials.tell_apart(self.has_keys);
        if self.has_keys && !has_key {
            self.refuse_unproven(wire, 401);
        } else {
            self.issuing = Some(wire);
        }
    }

    fn refuse_unproven(&mut self, wire: usize, status: u16) {
        self.answer(wire, status);
        let conn = &mut self.conns[wire];
        conn.is_unproven = true;
        self.unproven += 1;
        let address = conn.address.expect("it was accepted").to_canonical();
        if !address.is_loopback() && self.settings.max_failed_joins.is_some() {
            self.fail_to_join(host_name(address));
        }
    }

    /// One failure more than allowed locks a host out. Each time takes twice as long as the one before.
    fn fail_to_join(&mut self, name: HostName) {
        let (settings, now) = (&self.settings, self.now.tick);
        let host = self.hosts.entry(name).or_insert_with(|| Host::new(settings, now));
        if now < host.locked_until {
            return;
        }
        if host.failures.wait(now) == 0 {
            host.failures.take(now);
            return;
        }
        if now >= host.locked_until.after(LOCK_OUT_MAX) {
            host.lock_outs = 0;
        }
        let length = (LOCK_OUT_MIN * 2_u32.pow(host.lock_outs)).min(LOCK_OUT_MAX);
        host.lock_outs += 1;
        host.locked_until = now.after(length);
        self.lock_outs += 1;
    }

    /// The relay has issued a session, and logs its ID.
    pub(super) fn issued(&mut self, wire: usize, id: &str) -> Check {
        expect(self.issuing.take() == Some(wire), || format!("wire {wire} was issued {id} unasked"))?;
        let now = self.now.tick;
        // The secret is known only after the answer was written.
        let claim = Some(String::new());
        let session = Session { last_activity: now, empty_since: Some(now), claim, ..Session::default() };
        let (deadline, _) = due(&session, &self.settings);
        let is_new = self.sessions.insert(id.to_owned(), session).is_none();
        expect(is_new && id.len() == 22, || format!("issued {id}, which is there or can be guessed"))?;
        self.conns[wire].issued = Some((id.to_owned(), self.now.unix_millis + deadline.0 - now.0));
        self.conns[wire].answer(201, now);
        self.progress(wire)
    }

    /// An HTTP answer was written whole.
    pub(super) fn answered(&mut self, wire: usize) -> Check {
        let Some((status, answer)) = self.conns[wire].answered.take() else { return Ok(()) };
        if self.conns[wire].is_unproven {
            // Equal byte for byte, whether the session exists or not.
            let before = self.unproven_answers.entry(status).or_insert_with(|| answer.clone());
            return expect(*before == answer, || {
                format!("wire {wire} can tell by {answer:?} from {before:?}")
            });
        }
        if status != 201 {
            return Ok(());
        }
        let (id, expires_at) = self.conns[wire].issued.take().ok_or("201 for nothing")?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let secret = issued_in(body).filter(|(of, _)| *of == id).map(|(_, secret)| secret);
        let secret = secret.ok_or_else(|| format!("{body} for session {id}"))?;
        let expected = format!(
            "{{\"sessionId\":\"{id}\",\"secret\":\"{secret}\",\"desktopUrl\":\"/desktop/{id}?secret={secret}\",\
             \"mobileUrl\":\"/mobile/{id}?secret={secret}\",\"expiresAt\":{expires_at}}}"
        );
        let is_known = self.sessions.values().any(|session| session.claim.as_ref() == Some(&secret));
        expect(body == expected && !is_known && secret.len() == 22, || {
            format!("{body} instead of {expected}")
        })?;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.claim = Some(secret);
        }
        Ok(())
    }

    /// The number of hosts that the relay must remember.
    pub(super) fn hosts_known(&self) -> usize {
        let now = self.now.tick;
        let mut known: Vec<HostName> = self
            .conns
            .iter()
            .filter(|conn| conn.phase != Phase::Gone)
            .filter_map(|conn| conn.counted_for)
            .collect();
        known.extend(self.hosts.iter().filter(|(_, host)| host.is_worth_knowing(now)).map(|(&name, _)| name));
        known.sort_unstable();
        known.dedup();
        known.len()
    }
}

/// Whether an address is in one of the ranges. A mapped address is the same as its IPv4 address.
fn is_in(ranges: &[IpNet], address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    ranges.iter().any(|range| {
        let prefix = u32::from(range.prefix_len()) + if range.addr().is_ipv4() { 96 } else { 0 };
        (bits(range.addr()) ^ bits(address)).checked_shr(128 - prefix).unwrap_or(0) == 0
    })
}
