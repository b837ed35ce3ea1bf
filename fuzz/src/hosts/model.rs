//! Hosts as a list of all their actions since each was last forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use apptuner_relay::relay::internals::address::Host;
use apptuner_relay::relay::internals::hosts::{Denied, HostKey};
use apptuner_relay::relay::internals::limits::{IDLE_HOSTS_MAX, LOCK_OUT_MAX, LOCK_OUT_MIN};
use apptuner_relay::relay::{Settings, Tick};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// All hosts that are known.
pub struct Model {
    connections_max: Option<usize>,
    connection_rate: Option<u32>,
    failed_joins_max: Option<u32>,
    known: BTreeMap<Host, Known>,
    /// Hosts without a connection, by the number of their last action.
    idle: BTreeMap<u64, Host>,
    /// The number of all actions so far.
    heard: u64,
}

/// The actions of one host.
#[derive(Default)]
struct Known {
    /// The number of its last action.
    heard: u64,
    /// Its key, once it has been without a connection.
    key: Option<HostKey>,
    /// Current connections.
    connections: usize,
    /// When it was accepted.
    openings: Vec<u64>,
    /// When it failed without being locked out.
    failures: Vec<u64>,
    /// When it was locked out, and until when.
    lock_outs: Vec<(u64, u64)>,
}

impl Model {
    pub fn new(settings: &Settings) -> Self {
        assert_eq!(LOCK_OUT_MIN, Duration::from_secs(60));
        assert_eq!(LOCK_OUT_MAX, Duration::from_secs(60 * 60));
        Self {
            connections_max: settings.max_connections_per_ip,
            connection_rate: settings.max_connection_rate,
            failed_joins_max: settings.max_failed_joins,
            known: BTreeMap::new(),
            idle: BTreeMap::new(),
            heard: 0,
        }
    }

    pub fn admit(&mut self, host: Host, now: Tick) -> Result<bool, Denied> {
        let rate = self.connection_rate;
        let is_counted = self.connections_max.is_some();
        if let Some(known) = self.find(host) {
            let wait = known.locked_until().saturating_sub(now.0);
            if wait > 0 {
                return Err(Denied::LockedOut { wait: Duration::from_millis(wait) });
            }
            if self.connections_max.is_some_and(|max| known.connections >= max) {
                return Err(Denied::TooMany);
            }
            let wait = wait_of(&known.openings, rate, SECOND, now);
            if wait > 0 {
                return Err(Denied::TooOften { wait: Duration::from_millis(wait) });
            }
        }
        if !is_counted && rate.is_none() {
            return Ok(false);
        }
        let known = self.hear_of(host);
        known.openings.push(now.0);
        known.connections += usize::from(is_counted);
        self.note_idle(host);
        Ok(is_counted)
    }

    /// Whether it has a connection to release.
    pub fn release(&mut self, host: Host) -> bool {
        let Some(known) = self.known.get_mut(&host).filter(|known| known.connections > 0) else {
            return false;
        };
        known.connections -= 1;
        self.hear_of(host);
        self.note_idle(host);
        true
    }

    pub fn note_failure(&mut self, host: Host, now: Tick) -> Option<Duration> {
        let units = self.failed_joins_max;
        units?;
        self.hear_of(host);
        self.note_idle(host);
        if self.is_locked_out(host, now) {
            return None;
        }
        let known = self.known.get_mut(&host).expect("its action was just noted");
        if wait_of(&known.failures, units, MINUTE, now) == 0 {
            known.failures.push(now.0);
            return None;
        }
        // A lock-out follows another if that one ended less than an hour before.
        let mut before = 0;
        let mut next = now.0;
        for &(begin, end) in known.lock_outs.iter().rev() {
            if end + HOUR <= next {
                break;
            }
            before += 1;
            next = begin;
        }
        let lock_out = (0..before).fold(MINUTE, |length: u64, _| HOUR.min(length * 2));
        known.lock_outs.push((now.0, now.0 + lock_out));
        Some(Duration::from_millis(lock_out))
    }

    /// `None` while it has a connection.
    pub fn due(&self, host: Host) -> Option<Tick> {
        let known = self.find(host).filter(|known| known.connections == 0)?;
        let openings = paid_at(&known.openings, self.connection_rate, SECOND).div_ceil(1_000_000);
        let failures = paid_at(&known.failures, self.failed_joins_max, MINUTE).div_ceil(1_000_000);
        let lock_outs = known.lock_outs.last().map_or(0, |(_, end)| u128::from(end + HOUR));
        let due = openings.max(failures).max(lock_outs);
        Some(Tick(u64::try_from(due).expect("time does not end")))
    }

    /// Whether an unknown host would be treated just as well.
    pub fn is_blank(&self, host: Host, now: Tick) -> bool {
        let Some(known) = self.find(host) else { return true };
        let is_over = |&(_, end): &(u64, u64)| end + HOUR <= now.0;
        let is_paid =
            |times: &[u64], units, window| paid_at(times, units, window) <= u128::from(now.0) * 1_000_000;
        known.connections == 0
            && known.lock_outs.iter().all(is_over)
            && is_paid(&known.openings, self.connection_rate, SECOND)
            && is_paid(&known.failures, self.failed_joins_max, MINUTE)
    }

    pub fn is_locked_out(&self, host: Host, now: Tick) -> bool {
        self.find(host).is_some_and(|known| known.locked_until() > now.0)
    }

    pub fn forget(&mut self, host: Host) {
        if let Some(known) = self.find(host).filter(|known| known.connections == 0) {
            let heard = known.heard;
            self.idle.remove(&heard);
            self.known.remove(&host);
        }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn last_idle(&self) -> Option<Host> {
        self.idle.values().next_back().copied()
    }

    /// The first host without a connection, if there are too many.
    pub fn surplus(&self) -> Option<Host> {
        self.idle.values().next().copied().filter(|_| self.idle.len() > IDLE_HOSTS_MAX)
    }

    /// Notes the key of a host, which never changes while the host is known.
    pub fn name(&mut self, host: Host, key: HostKey) {
        let known = self.known.get_mut(&host).expect("a known host");
        assert_eq!(*known.key.get_or_insert(key), key, "{host:?} goes under two names");
    }

    pub fn key(&self, host: Host) -> Option<HostKey> {
        self.find(host)?.key
    }

    fn find(&self, host: Host) -> Option<&Known> {
        self.known.get(&host)
    }

    /// Notes an action of a host, known or not, and removes it from those without a connection.
    fn hear_of(&mut self, host: Host) -> &mut Known {
        let known = self.known.entry(host).or_default();
        self.idle.remove(&known.heard);
        self.heard += 1;
        known.heard = self.heard;
        known
    }

    /// Adds it at the end of those without a connection, if it has none.
    fn note_idle(&mut self, host: Host) {
        if let Some(known) = self.find(host).filter(|known| known.connections == 0) {
            let heard = known.heard;
            self.idle.insert(heard, host);
        }
    }
}

impl Known {
    fn locked_until(&self) -> u64 {
        self.lock_outs.last().map_or(0, |&(_, end)| end)
    }
}

/// The time in nanoseconds at which all uses are paid for. Each use costs its part of the window, one after the other.
fn paid_at(times: &[u64], units: Option<u32>, window: u64) -> u128 {
    let Some(units) = units else { return 0 };
    let price = u128::from(window) * 1_000_000 / u128::from(units);
    times.iter().fold(0, |paid, &time| paid.max(u128::from(time) * 1_000_000) + price)
}

/// Milliseconds until one more use is allowed.
fn wait_of(times: &[u64], units: Option<u32>, window: u64, now: Tick) -> u64 {
    let Some(units) = units else { return 0 };
    let with_another = paid_at(times, Some(units), window) + paid_at(&[0], Some(units), window);
    let allowed = with_another.saturating_sub(u128::from(window) * 1_000_000).div_ceil(1_000_000);
    let wait = u64::try_from(allowed.saturating_sub(u128::from(now.0))).expect("time does not end");
    // Independent of the meter's arithmetic: only a window's worth of uses leads to a refusal, and fewer than two pass.
    let since = |time: u64| times.iter().filter(|&&at| at >= time).count();
    let units = units as usize;
    if wait > 0 {
        assert!(since(now.0.saturating_sub(window + 1)) >= units, "refused without having used its share");
    } else {
        assert!(since((now.0 + 1).saturating_sub(window)) < 2 * units, "twice its share in one window");
    }
    wait
}
