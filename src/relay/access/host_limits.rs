//! How much each host has used of the limits per address, and which hosts are locked out.
//!
//! A host has a record while it has a connection that counts, or while anything about it must be remembered. Records
//! without a connection are in the idle list. If the list is too long, the record that has not changed for longest is
//! deleted.

use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use crate::relay::address::Host;
use crate::relay::limits::{IDLE_HOSTS_MAX, LOCK_OUT_MAX, LOCK_OUT_MIN, RETRY_AFTER_SECONDS};
use crate::relay::settings::Settings;
use crate::relay::tables::idle_order::{IdleOrder, Links, Ordered};
use crate::relay::tables::keyed_hash::KeyedHash;
use crate::relay::tables::meter::Meter;
use crate::relay::tables::wheel::{Alarm, TimerKey};
use crate::relay::time::Tick;

/// Identifies the record of a host. Its timer is cancelled before the record is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostKey(u32);

impl HostKey {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a host may not connect now (RFC 6585, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has as many connections at once as it may.
    TooMany,
    /// It connects too often.
    TooOften {
        /// How long until it may connect again.
        wait: Duration,
    },
    /// It failed to join too often.
    LockedOut {
        /// How much longer the lock-out lasts.
        wait: Duration,
    },
}

impl Denied {
    /// The value of `Retry-After`, in seconds, rounded up (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(self) -> u64 {
        match self {
            Self::TooMany => RETRY_AFTER_SECONDS.into(),
            Self::TooOften { wait } | Self::LockedOut { wait } => {
                wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
            }
        }
    }
}

/// The record of one host.
#[derive(Debug)]
struct HostRecord {
    host: Host,
    /// Connections that count, as in `Standing::Counted`.
    connections: usize,
    openings: Meter,
    failures: Meter,
    locked_until: Tick,
    /// How often it was locked out, until that is forgotten.
    lock_outs: u32,
    timer: Option<Alarm>,
    /// In the idle list. Undefined while the host has a connection.
    links: Links<HostKey>,
}

/// The records of all hosts.
#[derive(Debug)]
pub struct Hosts {
    by_host: HashTable<HostKey>,
    hash: KeyedHash,
    entries: Slab<HostRecord>,
    /// Hosts without a connection, the one that changed least recently first.
    idle: IdleOrder<HostKey>,
    /// Length of `idle`.
    idle_count: usize,
    connections_max: Option<usize>,
    connection_rate: Option<u64>,
    failed_joins_max: Option<u64>,
}

impl Hosts {
    /// No records. `seed` keys the hash of the table.
    #[must_use]
    pub fn new(settings: &Settings, seed: [u64; 2]) -> Self {
        Self {
            by_host: HashTable::new(),
            hash: KeyedHash(seed),
            entries: Slab::new(),
            idle: IdleOrder::default(),
            idle_count: 0,
            connections_max: settings.max_connections_per_ip,
            connection_rate: settings.max_connection_rate.map(u64::from),
            failed_joins_max: settings.max_failed_joins.map(u64::from),
        }
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Counts one more connection of a host. If the result is true, call [`release`](Self::release) when it ends.
    ///
    /// # Errors
    /// Why the host may not connect now. Nothing was counted.
    pub fn admit(&mut self, host: Host, now: Tick) -> Result<bool, Denied> {
        // Checked before a record is added: a refused connection changes nothing.
        if let Some(entry) = self.find(host).and_then(|key| self.entries.get(key.index())) {
            entry.check(self.connections_max, now)?;
        }
        // No limit needs a record.
        if self.connections_max.is_none() && self.connection_rate.is_none() {
            return Ok(false);
        }
        let key = self.find_or_add(host);
        if let Some(entry) = self.entries.get_mut(key.index()) {
            entry.openings.spend(1, now);
            if self.connections_max.is_some() {
                entry.connections += 1;
                return Ok(true);
            }
        }
        // Only its rate is recorded: no connection counts.
        self.mark_idle(key);
        Ok(false)
    }

    /// A connection has ended for which [`admit`](Self::admit) returned true.
    pub fn release(&mut self, host: Host) {
        let Some(key) = self.find(host) else { return };
        let Some(entry) = self.entries.get_mut(key.index()) else { return };
        entry.connections = entry.connections.saturating_sub(1);
        if entry.connections == 0 {
            self.mark_idle(key);
        }
    }

    /// The lock-out of the host, if it is locked out now.
    #[must_use]
    pub fn lock_out(&self, host: Host, now: Tick) -> Option<Denied> {
        let entry = self.find(host).and_then(|key| self.entries.get(key.index()))?;
        (entry.locked_until > now).then(|| Denied::LockedOut { wait: entry.locked_until.since(now) })
    }

    /// Counts a failed join. Returns the duration of the lock-out if this one locks the host out.
    pub fn note_failure(&mut self, host: Host, now: Tick) -> Option<Duration> {
        // Without this limit, failures are not recorded.
        self.failed_joins_max?;
        let key = self.find_or_add(host);
        let lock_out = self.entries.get_mut(key.index()).and_then(|entry| entry.note_failure(now));
        // `find_or_add` took it out of the list.
        if self.entries.get(key.index()).is_some_and(|entry| entry.connections == 0) {
            self.mark_idle(key);
        }
        lock_out
    }

    /// The last host in the idle list. The caller sets its timer, because its record has just changed.
    #[must_use]
    pub fn last_idle(&self) -> Option<HostKey> {
        self.idle.last
    }

    /// The host to [forget](Self::forget) if the idle list is longer than [`IDLE_HOSTS_MAX`].
    #[must_use]
    pub fn surplus(&self) -> Option<HostKey> {
        self.idle.first.filter(|_| self.idle_count > IDLE_HOSTS_MAX)
    }

    /// When the host can be forgotten. `None` while it has a connection.
    #[must_use]
    pub fn due(&self, key: HostKey) -> Option<Tick> {
        let entry = self.entries.get(key.index()).filter(|entry| entry.connections == 0)?;
        // The number of lock-outs must be remembered for longer, because it makes the next one longer.
        let remembered = if entry.lock_outs > 0 { entry.locked_until.after(LOCK_OUT_MAX) } else { Tick(0) };
        Some(entry.openings.forgets_at().max(entry.failures.forgets_at()).max(remembered))
    }

    /// The host's timer. It must be due no later than [`due`](Self::due) says.
    pub fn timer_mut(&mut self, key: HostKey) -> Option<&mut Option<Alarm>> {
        self.entries.get_mut(key.index()).map(|entry| &mut entry.timer)
    }

    /// Deletes the record of a host, unless it has a connection. Returns its timer, which the caller must cancel.
    pub fn forget(&mut self, key: HostKey) -> Option<TimerKey> {
        self.entries.get(key.index()).filter(|entry| entry.connections == 0)?;
        self.idle.remove(key, &mut self.entries);
        self.idle_count -= 1;
        let entry = self.entries.try_remove(key.index())?;
        if let Ok(found) = self.by_host.find_entry(self.hash.of(&entry.host), |other| *other == key) {
            found.remove();
        }
        entry.timer.map(|alarm| alarm.key)
    }

    fn find(&self, host: Host) -> Option<HostKey> {
        let is_it = |key: &HostKey| self.entries.get(key.index()).is_some_and(|entry| entry.host == host);
        self.by_host.find(self.hash.of(&host), is_it).copied()
    }

    /// The key of the host's record, which is added if there is none. The record is in no list then: the caller
    /// counts a connection, or calls [`mark_idle`](Self::mark_idle).
    fn find_or_add(&mut self, host: Host) -> HostKey {
        if let Some(key) = self.find(host) {
            // An idle host moves to the end of the list: `mark_idle` adds it again.
            if self.entries.get(key.index()).is_some_and(|entry| entry.connections == 0) {
                self.idle.remove(key, &mut self.entries);
                self.idle_count -= 1;
            }
            return key;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most the connections and IDLE_HOSTS_MAX")]
        let key = HostKey(self.entries.insert(HostRecord {
            host,
            connections: 0,
            openings: Meter::new(self.connection_rate, Duration::from_secs(1)),
            failures: Meter::new(self.failed_joins_max, Duration::from_secs(60)),
            locked_until: Tick(0),
            lock_outs: 0,
            timer: None,
            links: Links::default(),
        }) as u32);
        let (hash, entries) = (self.hash, &self.entries);
        // The table has only keys, so it looks the hosts up when it grows.
        let rehash = |key: &HostKey| entries.get(key.index()).map_or(0, |entry| hash.of(&entry.host));
        self.by_host.insert_unique(hash.of(&host), key, rehash);
        key
    }

    /// Adds a host without a connection at the end of the idle list.
    fn mark_idle(&mut self, key: HostKey) {
        self.idle.push_back(key, &mut self.entries);
        self.idle_count += 1;
    }

    /// Checks what must hold between two inputs; `connections` is how many count. Visits every record: for debug
    /// builds.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self, connections: usize) {
        let counted: usize = self.entries.iter().map(|(_, entry)| entry.connections).sum();
        assert_eq!(counted, connections, "each connection that counts is counted once");
        let idle = self.entries.iter().filter(|(_, entry)| entry.connections == 0);
        assert!(
            idle.clone().all(|(_, entry)| entry.timer.is_some()),
            "each host without a connection has a timer"
        );
        assert_eq!(idle.count(), self.idle_count, "each host without a connection is in the idle list");
        assert!(self.idle_count <= IDLE_HOSTS_MAX);
        assert_eq!(self.by_host.len(), self.entries.len());
    }
}

impl Ordered for Slab<HostRecord> {
    type Key = HostKey;

    fn links_mut(&mut self, key: HostKey) -> Option<&mut Links<HostKey>> {
        self.get_mut(key.index()).map(|entry| &mut entry.links)
    }
}

impl HostRecord {
    /// Whether one more connection is allowed.
    fn check(&self, connections_max: Option<usize>, now: Tick) -> Result<(), Denied> {
        let opens_at = self.openings.allows_at();
        if self.locked_until > now {
            Err(Denied::LockedOut { wait: self.locked_until.since(now) })
        } else if connections_max.is_some_and(|max| self.connections >= max) {
            Err(Denied::TooMany)
        } else if opens_at > now {
            Err(Denied::TooOften { wait: opens_at.since(now) })
        } else {
            Ok(())
        }
    }

    /// See [`Hosts::note_failure`].
    fn note_failure(&mut self, now: Tick) -> Option<Duration> {
        // Connections that were open before the lock-out may fail during it: one lock-out covers them all.
        if self.locked_until > now {
            return None;
        }
        // The first failure over the limit locks the host out.
        if self.failures.allows_at() <= now {
            self.failures.spend(1, now);
            return None;
        }
        // The last lock-out is long enough ago to be forgotten.
        if self.locked_until.after(LOCK_OUT_MAX) <= now {
            self.lock_outs = 0;
        }
        // The bound keeps the shift valid; `LOCK_OUT_MAX` is reached far below it.
        let lock_out = LOCK_OUT_MIN.saturating_mul(1 << self.lock_outs.min(30)).min(LOCK_OUT_MAX);
        self.lock_outs += 1;
        self.locked_until = now.after(lock_out);
        Some(lock_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn hosts(settings: &Settings) -> Hosts {
        Hosts::new(settings, [1, 2])
    }

    fn after_seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn without_limits_no_host_is_remembered() {
        let mut all = hosts(&Settings { max_failed_joins: None, ..Settings::default() });
        assert_eq!(all.admit(Host::V4(1), Tick(0)), Ok(false));
        assert_eq!(all.note_failure(Host::V4(1), Tick(0)), None);
        assert!(all.is_empty());
    }

    #[test]
    fn each_host_has_its_own_limit_of_connections_at_once() {
        let mut all = hosts(&Settings { max_connections_per_ip: Some(2), ..Settings::default() });
        for host in [Host::V4(1), Host::V6(1)] {
            assert_eq!(all.admit(host, Tick(0)), Ok(true));
            assert_eq!(all.admit(host, Tick(0)), Ok(true));
            assert_eq!(all.admit(host, Tick(0)), Err(Denied::TooMany));
        }
        all.release(Host::V4(1));
        assert_eq!(all.admit(Host::V4(1), Tick(0)), Ok(true));
        assert_eq!(all.admit(Host::V4(1), Tick(0)), Err(Denied::TooMany));
        assert_eq!(Denied::TooMany.retry_after(), 5);
    }

    #[test]
    fn a_host_is_limited_in_new_connections_per_second() {
        let mut all = hosts(&Settings { max_connection_rate: Some(4), ..Settings::default() });
        for _ in 0..4 {
            assert_eq!(all.admit(Host::V4(1), Tick(9_000)), Ok(false));
        }
        let denied = Denied::TooOften { wait: Duration::from_millis(250) };
        assert_eq!(all.admit(Host::V4(1), Tick(9_000)), Err(denied), "a refused connection does not count");
        assert_eq!(all.admit(Host::V4(1), Tick(9_000)), Err(denied));
        assert_eq!(denied.retry_after(), 1);
        assert_eq!(all.admit(Host::V4(2), Tick(9_000)), Ok(false));
        assert_eq!(all.admit(Host::V4(1), Tick(9_250)), Ok(false));
        assert!(all.admit(Host::V4(1), Tick(9_499)).is_err());
        assert_eq!(all.admit(Host::V4(1), Tick(60_000)), Ok(false));
    }

    #[test]
    fn a_host_that_fails_too_often_is_locked_out_for_twice_as_long_each_time() {
        let mut all = hosts(&Settings { max_failed_joins: Some(2), ..Settings::default() });
        let host = Host::V4(1);
        let mut now = Tick(0);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(all.admit(host, now), Ok(false));
            assert_eq!(all.note_failure(host, now), None);
            assert_eq!(all.note_failure(host, now), None);
            assert_eq!(all.note_failure(host, now), Some(after_seconds(60 * minutes)));
            assert_eq!(
                all.admit(host, Tick(now.0 + 1)),
                Err(Denied::LockedOut { wait: Duration::from_millis(minutes * MINUTE - 1) })
            );
            assert_eq!(all.admit(Host::V4(2), now), Ok(false));
            now = Tick(now.0 + minutes * MINUTE);
        }
        let key = all.find(host).unwrap();
        assert_eq!(all.due(key), Some(Tick(now.0 + 60 * MINUTE)), "remembered for an hour");
        let later = Tick(now.0 + 60 * MINUTE);
        let lock_outs: Vec<_> = (0..3).map(|_| all.note_failure(host, later)).collect();
        assert_eq!(lock_outs, [None, None, Some(after_seconds(60))], "and no longer");
    }

    #[test]
    fn failures_during_a_lock_out_do_not_prolong_it() {
        let mut all = hosts(&Settings { max_failed_joins: Some(2), ..Settings::default() });
        let host = Host::V4(1);
        // Ten clients of one host with a wrong secret, all connected before the first is refused.
        let lock_outs: Vec<_> = (0..10).filter_map(|_| all.note_failure(host, Tick(0))).collect();
        assert_eq!(lock_outs, [after_seconds(60)]);
        assert_eq!(all.note_failure(host, Tick(MINUTE - 1)), None);
        let wait = Duration::from_millis(1);
        assert_eq!(all.admit(host, Tick(MINUTE - 1)), Err(Denied::LockedOut { wait }));
        assert_eq!(all.admit(host, Tick(MINUTE)), Ok(false));
        let lock_outs: Vec<_> = (0..3).filter_map(|_| all.note_failure(host, Tick(MINUTE))).collect();
        assert_eq!(lock_outs, [after_seconds(120)], "the next one is twice as long");
    }

    #[test]
    fn a_host_is_forgotten_once_nothing_about_it_must_be_remembered() {
        let settings =
            Settings { max_connections_per_ip: Some(9), max_failed_joins: Some(2), ..Settings::default() };
        let mut all = hosts(&settings);
        all.admit(Host::V4(1), Tick(0)).unwrap();
        let key = all.find(Host::V4(1)).unwrap();
        assert_eq!((all.due(key), all.last_idle()), (None, None));
        assert_eq!(all.forget(key), None, "not while it has a connection");
        all.note_failure(Host::V4(1), Tick(500));
        all.release(Host::V4(1));
        assert_eq!((all.due(key), all.last_idle()), (Some(Tick(30_500)), Some(key)));
        all.forget(key);
        assert!(all.is_empty() && all.by_host.is_empty() && all.idle.first.is_none());
    }

    #[test]
    fn of_too_many_idle_hosts_the_one_that_changed_least_recently_is_forgotten() {
        let mut all = hosts(&Settings::default());
        for host in 0..=IDLE_HOSTS_MAX {
            assert_eq!(all.surplus(), None);
            all.note_failure(Host::V6(host as u64), Tick(0));
            if host == 1 {
                all.note_failure(Host::V6(0), Tick(0));
            }
        }
        let surplus = all.surplus().unwrap();
        assert_eq!(surplus, all.find(Host::V6(1)).unwrap());
        all.forget(surplus);
        assert_eq!((all.surplus(), all.len()), (None, IDLE_HOSTS_MAX));
    }
}
