//! SIGTERM, SIGINT and SIGHUP as events of the loop.

use std::fmt;
use std::io;
use std::sync::Arc;

use log::warn;
use mio::{Interest, Registry, Waker};
use rustix::process::Signal;
use signal_hook_mio::v1_0::Signals;

use super::super::Asked;
use super::super::edges::ARE_EDGES_TRUE;
use crate::net::token;

/// The signals that stop the process, or have it read its files again, caught.
pub(in crate::net) struct ProcessSignals(Signals);

impl fmt::Debug for ProcessSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessSignals")
    }
}

impl ProcessSignals {
    pub(in crate::net) fn catch(registry: &Registry, _: &Arc<Waker>) -> io::Result<Self> {
        let mut signals = Signals::new([Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw))?;
        registry.register(&mut signals, token::SIGNALS, Interest::READABLE)?;
        Ok(Self(signals))
    }

    /// What those ask for that have come since the last call.
    pub(in crate::net) fn take(&mut self, registry: &Registry) -> Asked {
        let mut asked = Asked::default();
        // What reads the pipe does not go through mio.
        if !ARE_EDGES_TRUE
            && let Err(error) = registry.reregister(&mut self.0, token::SIGNALS, Interest::READABLE)
        {
            warn!("Further signals cannot be waited for: {error}");
        }
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
