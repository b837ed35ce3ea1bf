//! What systemd, or another supervisor with its protocol, is told (`sd_notify(3)`).

use std::time::Duration;

use log::warn;
use sd_notify::NotifyState;

use crate::relay::time::Tick;

/// The supervisor of this process, if it has said that it wants to be told.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    is_there: bool,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
    /// When the last one went out.
    alive_at: Tick,
}

impl Supervisor {
    /// Reads from the environment whether there is one.
    pub(super) fn of_process() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty());
        Self { is_there, watchdog: sd_notify::watchdog_enabled().filter(|_| is_there), alive_at: Tick(0) }
    }

    /// The relay serves.
    pub(super) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// Files are being read again, after which it is [`ready`](Self::ready).
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The relay has begun to stop.
    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Gives a sign of life if it is time. Called in every turn of the loop, so that a loop that hangs gives none.
    pub(super) fn note_turn(&mut self, now: Tick) {
        if self.watchdog.is_some_and(|interval| now >= self.alive_at.after(interval / 2)) {
            self.alive_at = now;
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// How long the loop may wait at most, so that the next sign of life is in time.
    pub(super) fn wait_max(&self) -> Option<Duration> {
        self.watchdog.map(|interval| interval / 4)
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.is_there
            && let Err(error) = sd_notify::notify(states)
        {
            warn!("The supervisor cannot be told: {error}");
        }
    }
}
