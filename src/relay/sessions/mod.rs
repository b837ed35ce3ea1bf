//! The table of sessions: they begin, pair their clients, and end.
//!
//! | a session ends | measured from |
//! | --- | --- |
//! | after the session timeout | the last application message or join |
//! | after the reconnect window | the moment its last client left |
//!
//! A client that leaves is *expected* for the redelivery window, and messages may be kept for it. A session with kept
//! messages does not end before the window of each of its clients is over.
//!
//! An issued session begins empty. A claimed session needs its secret for its whole life; `access::gate` checks it.
//!
//! If there is no room for another session, an empty one ends. The order is: sessions that were issued and never
//! joined; sessions that are not claimed; claimed ones; those in which messages were kept when they became empty;
//! within each of these, the one that has been empty for longest. Issuing a session ends only sessions that were
//! never joined. But sessions of a host that holds more than its share of empty ones always end first.

use std::num::NonZeroU32;
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use crate::relay::access::secret::SecretHash;
use crate::relay::address::Host;
use crate::relay::client::outbox::Undelivered;
use crate::relay::ids::{ClientType, ConnectionId, SessionId};
use crate::relay::limits::{EMPTY_SHARE, TABLE_CAPACITY};
use crate::relay::settings::Settings;
use crate::relay::tables::keyed_hash::KeyedHash;
use crate::relay::time::Tick;
use away::Aways;
pub use census::{Census, SessionState};
use empties::{Empties, EmptyKind};
use session::{Seat, seconds};
pub use session::{Session, Traffic};

mod away;
mod census;
mod contest;
mod empties;
mod kept;
mod session;

/// Identifies a session while it lives; cheaper than its ID. A later session may get the same key.
///
/// So every holder drops its key when the session is removed: connections leave first, and the session's timer either
/// removes it or is cancelled. A shutdown keeps keys of sessions that have ended; that is safe, because no session
/// begins in a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey(NonZeroU32);

impl SessionKey {
    /// The key of the session at `index` of the slab; there are fewer than 2³² - 1.
    #[expect(clippy::cast_possible_truncation, reason = "fewer sessions than `max`, which fits")]
    const fn of(index: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index as u32))
    }

    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// No application message and no join for the session timeout.
    Inactive,
    /// No client for the reconnect window.
    Empty,
}

/// What becomes due in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionDue {
    /// The session ends.
    End(Expiry),
    /// The redelivery window of the client of this type is over.
    Kept(ClientType),
}

/// The result of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The session joined.
    pub session: SessionKey,
    /// The connection that had this place before, and is replaced now.
    pub replaced: Option<ConnectionId>,
    /// The peer, if it is connected.
    pub peer: Option<ConnectionId>,
}

/// The result of a leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The connection had been replaced before, so nothing has changed.
    WasReplaced,
    /// The client is gone. Its peer, if there is one, must be told.
    Gone(Option<ConnectionId>),
}

/// The limit of sessions is reached. Nothing was changed. [`Sessions::longest_empty`] could make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsFull;

/// All sessions. A join finds a session by its ID; everything else uses the key.
#[derive(Debug)]
pub struct Sessions {
    /// Keys by the hash of the session ID. The ID itself is stored only in the slot.
    by_id: HashTable<SessionKey>,
    hash: KeyedHash,
    slots: Slab<Session>,
    /// The sessions without a client.
    empties: Empties,
    census: Census,
    /// How many slots of the slab have ever been used. Keys are below it.
    slot_count: usize,
    max: usize,
    /// The places whose client is away.
    aways: Aways,
    times: SessionTimes,
}

/// How long a session, and what is kept in it, outlives its clients and messages.
#[derive(Clone, Copy, Debug)]
pub struct SessionTimes {
    /// See [`Settings::session_timeout`](crate::relay::Settings::session_timeout).
    pub session_timeout: Duration,
    /// See [`Settings::reconnect_window`](crate::relay::Settings::reconnect_window).
    pub reconnect_window: Duration,
    /// See [`Settings::redelivery_window`](crate::relay::Settings::redelivery_window).
    pub redelivery_window: Duration,
}

impl SessionTimes {
    /// The times of these settings.
    #[must_use]
    pub const fn of(settings: &Settings) -> Self {
        let &Settings { session_timeout, reconnect_window, redelivery_window, .. } = settings;
        Self { session_timeout, reconnect_window, redelivery_window }
    }
}

impl Sessions {
    /// No session, and room for `max`. `seed` keys the hash of the table, so that no client can choose session IDs
    /// that collide. It has no other influence.
    #[must_use]
    pub fn new(max: usize, times: SessionTimes, seed: [u64; 2]) -> Self {
        // A key is the index plus one, in 32 bits.
        let max = max.min(u32::MAX as usize - 1);
        Self {
            by_id: HashTable::new(),
            hash: KeyedHash(seed),
            slots: Slab::with_capacity(TABLE_CAPACITY.min(max)),
            empties: Empties::new((max / EMPTY_SHARE).max(1), KeyedHash(seed)),
            census: Census::default(),
            slot_count: 0,
            max,
            aways: Aways::default(),
            times,
        }
    }

    /// The number of sessions, including empty ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no session at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The session of a key. It must not have ended.
    #[must_use]
    #[track_caller]
    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        let session = self.slots.get(key.index());
        debug_assert!(session.is_some(), "{key:?}: a session in the relay's tables is there");
        session
    }

    /// As [`get`](Self::get), to change it.
    #[track_caller]
    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        let session = self.slots.get_mut(key.index());
        debug_assert!(session.is_some(), "{key:?}: a session in the relay's tables is there");
        session
    }

    /// Whether the session of a key has not ended. Right only if no session has begun since it might have ended.
    #[must_use]
    pub fn contains(&self, key: SessionKey) -> bool {
        self.slots.contains(key.index())
    }

    /// Puts a client into its place, where it replaces an older connection. Begins the session if there is none with
    /// this ID. The caller has [taken](Self::take_kept) what was kept for the place.
    ///
    /// # Errors
    /// [`SessionsFull`] if the session would have to begin and there is no room.
    pub fn join(
        &mut self,
        id: &SessionId,
        client_type: ClientType,
        connection: ConnectionId,
        now: Tick,
    ) -> Result<Joined, SessionsFull> {
        let key = match self.find(id) {
            Some(key) => {
                // It may be empty now, but has a client from here on.
                self.leave_empty(key);
                key
            }
            None => self.begin(id, now)?,
        };
        let session = self.slots.get_mut(key.index()).ok_or(SessionsFull)?;
        // Out of the census before the change, and in again after it.
        self.census.remove(session);
        session.was_joined = true;
        session.last_activity = now;
        let replaced = session.client(client_type);
        debug_assert!(session.away(client_type).is_none(), "what was kept for the place is taken");
        *session.seat_mut(client_type) = Seat(connection);
        self.census.add(session);
        Ok(Joined { session: key, replaced, peer: session.client(client_type.peer()) })
    }

    fn begin(&mut self, id: &SessionId, now: Tick) -> Result<SessionKey, SessionsFull> {
        if self.slots.len() >= self.max {
            return Err(SessionsFull);
        }
        let key = SessionKey::of(self.slots.insert(Session {
            id: id.clone(),
            timer: None,
            desktop: Seat::FREE,
            mobile: Seat::FREE,
            last_activity: now,
            empty_since: now,
            was_joined: false,
            begun_at: seconds(now),
            empty: None,
            extras: None,
        }));
        self.slot_count = self.slot_count.max(key.index() + 1);
        if let Some(session) = self.slots.get(key.index()) {
            self.census.add(session);
        }
        let (hash, slots) = (self.hash, &self.slots);
        // The table has only keys, so it looks the IDs up when it grows.
        let rehash = |key: &SessionKey| slots.get(key.index()).map_or(0, |session| hash.of(&session.id));
        self.by_id.insert_unique(hash.of(id), key, rehash);
        Ok(key)
    }

    /// Begins an empty session for `host` that is claimed with this secret. `None` if there is a session with this
    /// ID.
    ///
    /// # Errors
    /// [`SessionsFull`] if there is no room.
    pub fn issue(
        &mut self,
        id: &SessionId,
        claim: SecretHash,
        host: Host,
        now: Tick,
    ) -> Result<Option<SessionKey>, SessionsFull> {
        if self.find(id).is_some() {
            return Ok(None);
        }
        let key = self.begin(id, now)?;
        self.claim(key, claim);
        self.join_empty(key, host);
        Ok(Some(key))
    }

    /// Claims a session: joining needs this secret from now on. Does nothing if the session is claimed already.
    pub fn claim(&mut self, key: SessionKey, claim: SecretHash) {
        if let Some(session) = self.get_mut(key) {
            // The first claim stays for the session's life.
            session.extras.get_or_insert_default().claim.get_or_insert(claim);
        }
    }

    /// The key of the session with this ID.
    #[must_use]
    pub fn find(&self, id: &SessionId) -> Option<SessionKey> {
        let is_it = |key: &SessionKey| self.get(*key).is_some_and(|session| session.id == *id);
        self.by_id.find(self.hash.of(id), is_it).copied()
    }

    /// Removes a client from its place, if the place is still its own. `host` is the client's, and holds the session
    /// if that is empty now. `kept` is what is kept for the client if it is expected to come back.
    pub fn leave(
        &mut self,
        key: SessionKey,
        client_type: ClientType,
        connection: ConnectionId,
        (host, kept): (Host, Option<Undelivered>),
        now: Tick,
    ) -> Left {
        let Some(session) = self.slots.get_mut(key.index()) else { return Left::WasReplaced };
        // A replaced client has lost its place to the newcomer, so its late close changes nothing.
        if session.client(client_type) != Some(connection) {
            return Left::WasReplaced;
        }
        self.census.remove(session);
        let away = kept.map(|kept| self.aways.add(key, client_type, kept, now));
        *session.seat_mut(client_type) = away.map_or(Seat::FREE, Seat::of_away);
        self.census.add(session);
        let peer = session.client(client_type.peer());
        if peer.is_none() {
            // Both places are free now.
            session.empty_since = now;
            self.join_empty(key, host);
        }
        Left::Gone(peer)
    }

    /// Records an application message as activity.
    pub fn note_activity(&mut self, key: SessionKey, now: Tick) {
        if let Some(session) = self.slots.get_mut(key.index()) {
            session.last_activity = now;
        }
    }

    /// The peer of the client of this type.
    #[must_use]
    pub fn peer(&self, key: SessionKey, client_type: ClientType) -> Option<ConnectionId> {
        self.get(key)?.client(client_type.peer())
    }

    /// What becomes due next in a session if nothing happens until then, and when.
    #[must_use]
    pub fn due(&self, key: SessionKey) -> Option<(Tick, SessionDue)> {
        let session = self.get(key)?;
        // The session timeout runs in an empty session, too, and may end it first.
        let inactive = (session.last_activity.after(self.times.session_timeout), Expiry::Inactive);
        let empty = (session.empty_since.after(self.times.reconnect_window), Expiry::Empty);
        let (at, expiry) = if session.is_empty() && empty.0 < inactive.0 { empty } else { inactive };
        let end = (at, SessionDue::End(expiry));
        // With something kept, the end of a window always comes first.
        let kept = ClientType::ALL.into_iter().filter_map(|client_type| {
            let away = session.away(client_type)?;
            self.aways.kept(away).filter(|kept| kept.messages() > 0)?;
            Some((self.expected_until(away), SessionDue::Kept(client_type)))
        });
        Some(kept.min_by_key(|(until, _)| *until).unwrap_or(end))
    }

    /// Removes a session and returns it. The caller has [taken](Self::take_kept) what was kept in it, and must close
    /// its clients.
    pub fn remove(&mut self, key: SessionKey) -> Option<Session> {
        // Checked first, because `leave_empty` expects the session to be there.
        if !self.contains(key) {
            return None;
        }
        self.leave_empty(key);
        let session = self.slots.try_remove(key.index())?;
        let is_anything_kept = ClientType::ALL.iter().any(|&client_type| session.away(client_type).is_some());
        debug_assert!(!is_anything_kept, "what was kept in the session is taken");
        self.census.remove(&session);
        if let Ok(entry) = self.by_id.find_entry(self.hash.of(&session.id), |other| *other == key) {
            entry.remove();
        }
        Some(session)
    }

    /// The empty session that ends first to make room for one that is being joined: see the module's documentation.
    #[must_use]
    pub fn longest_empty(&self) -> Option<SessionKey> {
        self.empties.first()
    }

    /// The empty session that ends first to make room for one that is being issued: see the module's documentation.
    #[must_use]
    pub fn longest_unused(&self) -> Option<SessionKey> {
        self.empties.first_for_issue()
    }

    fn join_empty(&mut self, key: SessionKey, host: Host) {
        let empty = self.empties.join(key, self.empty_kind(key), host);
        if let Some(session) = self.get_mut(key) {
            session.empty = Some(empty);
        }
    }

    fn leave_empty(&mut self, key: SessionKey) {
        if let Some(empty) = self.get_mut(key).and_then(|session| session.empty.take()) {
            self.empties.leave(empty);
        }
    }

    /// Its kind if it is empty. The kind does not change while the session is empty.
    fn empty_kind(&self, key: SessionKey) -> EmptyKind {
        match self.get(key) {
            Some(session) if !session.was_joined => EmptyKind::Unused,
            Some(session) if self.kept_bytes(session) > 0 => EmptyKind::Keeping,
            Some(session) if session.claimed().is_some() => EmptyKind::Claimed,
            Some(_) | None => EmptyKind::Open,
        }
    }

    /// How many sessions and clients there are.
    #[must_use]
    pub const fn census(&self) -> Census {
        self.census
    }

    /// The same, by visiting every session: for debug builds.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn count(&self) -> Census {
        let mut census = Census::default();
        self.slots.iter().for_each(|(_, session)| census.add(session));
        census
    }

    /// Checks what must hold between two inputs. Visits every session: for debug builds.
    ///
    /// # Panics
    /// If the counts, or the table of empty sessions, disagree with the sessions.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        assert_eq!(self.count(), self.census, "sessions and their clients are counted");
        let is_empty = |session: &Session| session.is_empty();
        let sessions = || self.slots.iter().map(|(_, session)| session);
        assert!(
            sessions().all(|session| session.empty.is_some() == is_empty(session)),
            "exactly the empty sessions are in the table of empty ones"
        );
        self.empties.check_invariants(sessions().filter(|session| is_empty(session)).count());
    }

    /// The number of indices for [`at_slot`](Self::at_slot): the most sessions that there were at once.
    #[must_use]
    pub const fn slot_count(&self) -> usize {
        self.slot_count
    }

    /// The session at this index of the table, if there is one. A session keeps its index for its life.
    #[must_use]
    pub fn at_slot(&self, index: usize) -> Option<&Session> {
        self.slots.get(index)
    }

    /// The keys of all sessions, in ascending order. Visits every slot; a shutdown calls it once.
    pub fn keys(&self) -> impl Iterator<Item = SessionKey> {
        self.slots.iter().map(|(index, _)| SessionKey::of(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::client::outbox::Pool;
    use crate::relay::wire::frame::Opcode;

    const DESKTOP: ClientType = ClientType::Desktop;
    const MOBILE: ClientType = ClientType::Mobile;
    const MINUTE: u64 = 60_000;
    const HOST: Host = Host::V4(1);

    fn sessions(max: usize) -> Sessions {
        Sessions::new(max, SessionTimes::of(&Settings::default()), [1, 2])
    }

    fn connection(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: slot }
    }

    fn id(text: &str) -> SessionId {
        SessionId::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_client_begins_a_session_and_the_second_finds_its_peer() {
        let mut all = sessions(10);
        let desktop = all.join(&id("a"), DESKTOP, connection(1), Tick(0)).unwrap();
        assert_eq!((desktop.replaced, desktop.peer), (None, None));
        let mobile = all.join(&id("a"), MOBILE, connection(2), Tick(0)).unwrap();
        assert_eq!(mobile, Joined { session: desktop.session, replaced: None, peer: Some(connection(1)) });
        assert_eq!(all.peer(desktop.session, DESKTOP), Some(connection(2)));
        assert_eq!(all.peer(desktop.session, MOBILE), Some(connection(1)));
        let other = all.join(&id("A"), MOBILE, connection(3), Tick(0)).unwrap();
        assert_eq!((other.replaced, other.peer), (None, None), "another session, case-sensitive");
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_late_leave_of_a_replaced_client_changes_nothing() {
        let mut all = sessions(10);
        let session = all.join(&id("a"), DESKTOP, connection(1), Tick(0)).unwrap().session;
        all.join(&id("a"), MOBILE, connection(2), Tick(0)).unwrap();
        let again = all.join(&id("a"), DESKTOP, connection(3), Tick(0)).unwrap();
        assert_eq!((again.replaced, again.peer), (Some(connection(1)), Some(connection(2))));
        assert_eq!(all.leave(session, DESKTOP, connection(1), (HOST, None), Tick(0)), Left::WasReplaced);
        assert_eq!(all.peer(session, MOBILE), Some(connection(3)));
        assert_eq!(
            all.leave(session, DESKTOP, connection(3), (HOST, None), Tick(0)),
            Left::Gone(Some(connection(2)))
        );
        assert_eq!(
            all.leave(session, DESKTOP, connection(3), (HOST, None), Tick(0)),
            Left::WasReplaced,
            "only once"
        );
        assert_eq!(all.leave(session, MOBILE, connection(2), (HOST, None), Tick(0)), Left::Gone(None));
    }

    #[test]
    fn a_session_ends_at_the_earlier_of_its_two_timeouts() {
        let mut all = sessions(10);
        let session = all.join(&id("a"), DESKTOP, connection(1), Tick(0)).unwrap().session;
        assert_eq!(all.due(session), Some((Tick(30 * MINUTE), SessionDue::End(Expiry::Inactive))));
        all.note_activity(session, Tick(MINUTE));
        assert_eq!(all.due(session), Some((Tick(31 * MINUTE), SessionDue::End(Expiry::Inactive))));
        all.leave(session, DESKTOP, connection(1), (HOST, None), Tick(2 * MINUTE));
        assert_eq!(all.due(session), Some((Tick(7 * MINUTE), SessionDue::End(Expiry::Empty))));
        all.join(&id("a"), MOBILE, connection(2), Tick(3 * MINUTE)).unwrap();
        assert_eq!(
            all.due(session),
            Some((Tick(33 * MINUTE), SessionDue::End(Expiry::Inactive))),
            "a join counts as activity"
        );
        all.leave(session, MOBILE, connection(2), (HOST, None), Tick(30 * MINUTE));
        assert_eq!(
            all.due(session),
            Some((Tick(33 * MINUTE), SessionDue::End(Expiry::Inactive))),
            "the session timeout comes before the end of the window"
        );
    }

    #[test]
    fn the_session_that_is_empty_for_longest_makes_room_and_one_with_a_client_never_does() {
        let mut all = sessions(3);
        let join = |all: &mut Sessions, name: &str, now| {
            all.join(&id(name), DESKTOP, connection(1), Tick(now)).map(|joined| joined.session)
        };
        let [first, second, _third] = ["a", "b", "c"].map(|name| join(&mut all, name, 0).unwrap());
        assert!(all.longest_empty().is_none());
        all.leave(second, DESKTOP, connection(1), (HOST, None), Tick(1));
        all.leave(first, DESKTOP, connection(1), (HOST, None), Tick(2));
        join(&mut all, "b", 3).unwrap();
        all.leave(second, DESKTOP, connection(1), (HOST, None), Tick(4));
        assert_eq!(join(&mut all, "d", 5), Err(SessionsFull));
        let end = |all: &mut Sessions| all.longest_empty().and_then(|key| all.remove(key)).unwrap().id;
        assert_eq!(end(&mut all), id("a"));
        assert!(join(&mut all, "d", 5).is_ok());
        assert_eq!(end(&mut all), id("b"));
        assert!(all.longest_empty().is_none());
        all.check_invariants();
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_removed_session_leaves_nothing_and_its_id_can_begin_again() {
        let mut all = sessions(1);
        let session = all.join(&id("a"), DESKTOP, connection(1), Tick(0)).unwrap().session;
        assert_eq!(all.join(&id("b"), DESKTOP, connection(2), Tick(0)), Err(SessionsFull));
        assert!(all.join(&id("a"), MOBILE, connection(3), Tick(0)).is_ok(), "joining needs no room");
        let removed = all.remove(session).unwrap();
        assert_eq!(
            (removed.client(DESKTOP), removed.client(MOBILE)),
            (Some(connection(1)), Some(connection(3)))
        );
        assert!(all.is_empty() && all.by_id.is_empty());
        assert!(all.remove(session).is_none() && !all.contains(session));
        assert_eq!(all.join(&id("a"), DESKTOP, connection(4), Tick(0)).unwrap().peer, None);
    }
    /// What is kept for a client: so many messages.
    fn kept(pool: &mut Pool, messages: u64) -> Undelivered {
        let mut kept = Undelivered::default();
        for _ in 0..messages {
            kept.push_small(&mut pool.transits, Opcode::Text, b"kept", 0);
        }
        kept
    }

    const WINDOW: SessionTimes = SessionTimes {
        session_timeout: Duration::from_secs(30 * 60),
        reconnect_window: Duration::from_secs(5 * 60),
        redelivery_window: Duration::from_secs(10 * 60),
    };

    #[test]
    fn a_client_that_has_left_is_expected_for_the_redelivery_window() {
        let (mut all, mut pool) = (Sessions::new(10, WINDOW, [1, 2]), Pool::default());
        let session = all.join(&id("a"), DESKTOP, connection(1), Tick(0)).unwrap().session;
        all.join(&id("a"), MOBILE, connection(2), Tick(0)).unwrap();
        assert!(all.expected(session, MOBILE, Tick(0)).is_none(), "it is there");
        let left = Tick(MINUTE);
        let with = (HOST, Some(kept(&mut pool, 0)));
        assert_eq!(all.leave(session, MOBILE, connection(2), with, left), Left::Gone(Some(connection(1))));
        assert_eq!(all.peer(session, DESKTOP), None, "a client that is expected is no peer");
        assert!(all.kept_mut(session, MOBILE).is_none(), "nothing is kept");
        for at in [left, Tick(11 * MINUTE - 1)] {
            assert_eq!(all.expected(session, MOBILE, at).map(|kept| kept.messages()), Some(0));
        }
        assert!(all.expected(session, MOBILE, Tick(11 * MINUTE)).is_none(), "its window is over");
        assert!(all.expected(session, DESKTOP, left).is_none(), "the other one is there");
        all.leave(session, DESKTOP, connection(1), (HOST, None), left);
        assert!(all.expected(session, DESKTOP, left).is_none(), "a client that is not to come back");
        assert_eq!(all.take_kept(session, DESKTOP).messages(), 0);
        assert_eq!(all.take_kept(session, MOBILE).messages(), 0);
        assert!(all.expected(session, MOBILE, left).is_none(), "it is back, or is no longer expected");
        all.check_invariants();
        assert!(all.remove(session).is_some() && all.is_empty());
    }

    #[test]
    fn a_session_with_kept_messages_does_not_end_before_the_windows_of_its_clients_are_over() {
        let (mut all, mut pool) = (Sessions::new(10, WINDOW, [1, 2]), Pool::default());
        let session = all.join(&id("a"), DESKTOP, connection(1), Tick(0)).unwrap().session;
        all.join(&id("a"), MOBILE, connection(2), Tick(0)).unwrap();
        let empty = kept(&mut pool, 0);
        all.leave(session, MOBILE, connection(2), (HOST, Some(empty)), Tick(MINUTE));
        let inactive = |from: u64| Some((Tick((from + 30) * MINUTE), SessionDue::End(Expiry::Inactive)));
        assert_eq!(all.due(session), inactive(0), "nothing is kept");
        let of_mobile = all.expected(session, MOBILE, Tick(2 * MINUTE)).unwrap();
        of_mobile.push_small(&mut pool.transits, Opcode::Text, b"kept", 0);
        let over = |client_type, minute: u64| Some((Tick(minute * MINUTE), SessionDue::Kept(client_type)));
        assert_eq!(all.due(session), over(MOBILE, 11), "counted from when it left");
        let unconfirmed = kept(&mut pool, 2);
        all.leave(session, DESKTOP, connection(1), (HOST, Some(unconfirmed)), Tick(3 * MINUTE));
        assert_eq!(all.due(session), over(MOBILE, 11), "the earlier one, and not the reconnect window");
        assert_eq!(all.take_kept(session, MOBILE).discard(&mut pool), 1);
        assert_eq!(all.due(session), over(DESKTOP, 13));
        let of_desktop = all.kept_mut(session, DESKTOP).unwrap();
        assert_eq!(of_desktop.evict(&mut pool), 2);
        let empty = Some((Tick(8 * MINUTE), SessionDue::End(Expiry::Empty)));
        assert_eq!(all.due(session), empty, "what gave way keeps no session");
        assert_eq!(all.take_kept(session, DESKTOP).messages(), 0);
        assert_eq!(pool.transits.memory.used_bytes(), 0);
        all.check_invariants();
    }

    #[test]
    fn an_inactive_session_with_kept_messages_does_not_end_either() {
        let times = SessionTimes { redelivery_window: Duration::from_secs(60 * 60), ..WINDOW };
        let (mut all, mut pool) = (Sessions::new(10, times, [1, 2]), Pool::default());
        let session = all.join(&id("a"), DESKTOP, connection(1), Tick(0)).unwrap().session;
        all.join(&id("a"), MOBILE, connection(2), Tick(0)).unwrap();
        let unconfirmed = kept(&mut pool, 1);
        all.leave(session, MOBILE, connection(2), (HOST, Some(unconfirmed)), Tick(MINUTE));
        assert_eq!(all.due(session), Some((Tick(61 * MINUTE), SessionDue::Kept(MOBILE))));
        assert_eq!(all.take_kept(session, MOBILE).discard(&mut pool), 1);
        assert_eq!(all.due(session), Some((Tick(30 * MINUTE), SessionDue::End(Expiry::Inactive))));
    }

    #[test]
    fn a_session_in_which_messages_are_kept_makes_room_last() {
        let (mut all, mut pool) = (Sessions::new(3, WINDOW, [1, 2]), Pool::default());
        for (at, (name, messages)) in [("kept", 1), ("first", 0), ("second", 0)].into_iter().enumerate() {
            let now = Tick(at as u64);
            let session = all.join(&id(name), DESKTOP, connection(1), now).unwrap().session;
            let kept = kept(&mut pool, messages);
            all.leave(session, DESKTOP, connection(1), (Host::V6(at as u64), Some(kept)), now);
            assert_eq!(all.kept_bytes(all.get(session).unwrap()) > 0, messages > 0);
        }
        let end = |all: &mut Sessions| {
            let key = all.longest_empty().unwrap();
            let messages = all.take_kept(key, DESKTOP).messages();
            (all.remove(key).unwrap().id, messages)
        };
        assert_eq!(end(&mut all), (id("first"), 0));
        assert_eq!(end(&mut all), (id("second"), 0));
        assert_eq!(all.longest_gone().map(|(_, client_type)| client_type), Some(DESKTOP));
        assert_eq!(end(&mut all), (id("kept"), 1));
        assert_eq!(all.longest_gone(), None);
        all.check_invariants();
    }
}
