//! SIGTERM, SIGINT and SIGHUP as events of the loop.

use std::fmt;
use std::io;

use mio::{Interest, Registry};
use rustix::process::Signal;
use signal_hook_mio::v1_0::Signals;

use super::token;

/// The signals that stop the process, or have it read its files again, caught.
pub(super) struct ProcessSignals(Signals);

/// What signals ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// How often to stop.
    pub(super) stops: usize,
    pub(super) is_reload: bool,
}

impl fmt::Debug for ProcessSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessSignals")
    }
}

impl ProcessSignals {
    pub(super) fn catch(registry: &Registry) -> io::Result<Self> {
        let mut signals = Signals::new([Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw))?;
        registry.register(&mut signals, token::SIGNALS, Interest::READABLE)?;
        Ok(Self(signals))
    }

    /// What those ask for that have come since the last call.
    pub(super) fn take(&mut self) -> Asked {
        let mut asked = Asked::default();
        for signal in self.0.pending() {
            if signal == Signal::HUP.as_raw() {
                asked.is_reload = true;
            } else {
                asked.stops += 1;
            }
        }
        asked
    }
}
