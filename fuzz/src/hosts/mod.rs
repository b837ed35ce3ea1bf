//! Hosts act in any order and at any time. Each is accepted, refused, locked out, remembered and forgotten as the list
//! of its actions says. Hosts without a connection are ordered by their last action.

mod model;

use apptuner_relay::relay::internals::address::Host;
use apptuner_relay::relay::internals::hosts::Hosts;
use apptuner_relay::relay::internals::limits::IDLE_HOSTS_MAX;
use apptuner_relay::relay::{Settings, Tick};

use super::choices::Choices;
use model::Model;

/// Hosts that act. Further ones only fill the table.
const HOSTS: [Host; 6] =
    [Host::V4(0), Host::V4(1), Host::V4(u32::MAX), Host::V6(0), Host::V6(1), Host::V6(u64::MAX)];
/// Steps of one input. Few, because the model reads all of a host's actions each time.
const STEPS_MAX: usize = 300;
/// Steps of the clock, in milliseconds: around the windows of the meters and the lengths of lock-outs.
const LEAPS: [u64; 16] =
    [1, 2, 33, 249, 250, 333, 334, 999, 1_000, 2_000, 30_000, 59_999, 60_000, 120_000, 3_599_999, 3_600_000];

/// Runs the plan in `data`.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let settings = Settings {
        max_connections_per_ip: choices.pick([None, Some(1), Some(2), Some(3)]),
        max_connection_rate: choices.pick([None, Some(1), Some(3), Some(4), Some(7)]),
        max_failed_joins: choices.pick([None, Some(1), Some(2), Some(7), Some(100_000)]),
        ..Settings::default()
    };
    let mut both = Both {
        hosts: Hosts::new(&settings, [3, 5]),
        model: Model::new(&settings),
        now: Tick(choices.pick([0, 1, 1_000, 1_000_000_000_000])),
        is_flood_to_come: choices.byte() == u8::MAX,
    };
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            return;
        }
        both.step(&mut choices);
        both.compare();
    }
}

struct Both {
    hosts: Hosts,
    model: Model,
    now: Tick,
    /// The table may be filled once. Few inputs do it, because it takes time.
    is_flood_to_come: bool,
}

impl Both {
    fn step(&mut self, choices: &mut Choices<'_>) {
        let host = choices.pick(HOSTS);
        match choices.byte() % 12 {
            0..=2 => self.admit(host),
            3 => self.release(host),
            4 | 5 => self.fail(host),
            6 | 7 => self.pass(choices.pick(LEAPS)),
            8 => self.pass_to_due(host, choices.below(3)),
            9 => self.forget_due(),
            10 => self.forget(host),
            _ => self.do_something_rare(choices),
        }
        self.settle();
    }

    fn admit(&mut self, host: Host) {
        let admitted = self.hosts.admit(host, self.now);
        assert_eq!(admitted, self.model.admit(host, self.now), "{host:?} comes at {:?}", self.now);
        if let Err(denied) = admitted {
            let seconds = denied.retry_after();
            let again = Tick(self.now.0 + seconds * 1_000);
            assert!(seconds > 0, "the wait is never zero");
            assert!(!self.model.is_locked_out(host, again), "{host:?} is not told to wait long enough");
        }
    }

    /// Each counted connection is released once.
    fn release(&mut self, host: Host) {
        if self.model.release(host) {
            self.hosts.release(host);
        }
    }

    fn fail(&mut self, host: Host) {
        let lock_out = self.hosts.note_failure(host, self.now);
        assert_eq!(lock_out, self.model.note_failure(host, self.now), "{host:?} fails at {:?}", self.now);
    }

    fn pass(&mut self, millis: u64) {
        self.now = Tick(self.now.0 + millis);
    }

    /// Moves to the time at which a host can be forgotten, or next to it.
    fn pass_to_due(&mut self, host: Host, beside: usize) {
        let due = self.model.key(host).and_then(|key| self.hosts.due(key));
        if let Some(due) = due {
            self.now = self.now.max(Tick((due.0 + beside as u64).saturating_sub(1)));
        }
    }

    /// Does what the timers do, for hosts that act.
    fn forget_due(&mut self) {
        for host in HOSTS {
            let due = self.model.key(host).and_then(|key| self.hosts.due(key));
            if due.is_some_and(|due| due <= self.now) {
                assert!(self.model.is_blank(host, self.now), "{host:?} is forgotten too soon");
                self.forget(host);
            }
        }
    }

    /// A host with a connection stays known.
    fn forget(&mut self, host: Host) {
        if let Some(key) = self.model.key(host) {
            assert!(self.hosts.forget(key).is_none(), "no timer was set");
            self.model.forget(host);
        }
    }

    fn do_something_rare(&mut self, choices: &mut Choices<'_>) {
        let is_flood = choices.flag() && std::mem::take(&mut self.is_flood_to_come);
        let count = if is_flood { IDLE_HOSTS_MAX - 2 } else { 3 };
        for number in 1_000..1_000 + count {
            self.fail(Host::V6(number as u64));
            self.settle();
        }
    }

    /// What follows each action: the key of the last host is noted, and a surplus host is forgotten.
    fn settle(&mut self) {
        assert_eq!(self.hosts.last_idle().is_some(), self.model.last_idle().is_some());
        if let (Some(key), Some(host)) = (self.hosts.last_idle(), self.model.last_idle()) {
            self.model.name(host, key);
        }
        let surplus = self.model.surplus();
        assert_eq!(self.hosts.surplus(), surplus.and_then(|host| self.model.key(host)));
        if let Some(host) = surplus {
            self.forget(host);
        }
        assert_eq!(self.hosts.surplus(), None, "there is at most one too many");
    }

    fn compare(&mut self) {
        assert_eq!(self.hosts.len(), self.model.len());
        assert_eq!(self.hosts.is_empty(), self.model.len() == 0);
        for host in HOSTS {
            let Some(key) = self.model.key(host) else { continue };
            assert_eq!(self.hosts.due(key), self.model.due(host), "when {host:?} can be forgotten");
            assert!(self.hosts.timer_mut(key).is_some_and(|timer| timer.is_none()), "{host:?} has a place");
        }
    }
}
