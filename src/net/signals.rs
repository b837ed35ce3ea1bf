//! SIGTERM and SIGINT as events of the loop.

use std::fmt;
use std::io;

use mio::{Interest, Registry};
use rustix::process::Signal;
use signal_hook_mio::v1_0::Signals;

use super::token;

/// The signals that stop the process, caught.
pub(super) struct StopSignals(Signals);

impl fmt::Debug for StopSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopSignals")
    }
}

impl StopSignals {
    pub(super) fn catch(registry: &Registry) -> io::Result<Self> {
        let mut signals = Signals::new([Signal::TERM.as_raw(), Signal::INT.as_raw()])?;
        registry.register(&mut signals, token::SIGNALS, Interest::READABLE)?;
        Ok(Self(signals))
    }

    /// How many have come since the last call.
    pub(super) fn take(&mut self) -> usize {
        self.0.pending().count()
    }
}
