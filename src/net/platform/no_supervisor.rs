//! A supervisor with systemd's protocol, where there is none: on Windows, and in a build without the program.

use std::time::Duration;

use crate::relay::Tick;

/// Nobody wants to be told.
#[derive(Debug, Default)]
pub(in crate::net) struct Supervisor(());

#[expect(clippy::unused_self, reason = "as where there may be one")]
impl Supervisor {
    #[cfg(feature = "cli")]
    pub(in crate::net) const fn of_process() -> Self {
        Self(())
    }

    pub(in crate::net) const fn ready(&self) {}

    pub(in crate::net) const fn reloading(&self) {}

    pub(in crate::net) const fn stopping(&self) {}

    pub(in crate::net) const fn note_turn(&mut self, _: Tick) {}

    pub(in crate::net) const fn wait_max(&self) -> Option<Duration> {
        None
    }
}
