//! Replaces the supervisor on Windows and in a build without the program. Does nothing.

use std::time::Duration;

use crate::relay::Tick;

/// No supervisor.
#[derive(Debug, Default)]
pub(in crate::net) struct Supervisor(());

#[expect(clippy::unused_self, reason = "the same signatures as with a supervisor")]
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
