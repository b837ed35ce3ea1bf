//! What the system asks of the process, in a build without the program: there the host alone says when to stop.

use mio::Registry;

use super::SignalsTaken;

/// There are none.
#[derive(Debug)]
pub(in crate::net) enum ProcessSignals {}

impl ProcessSignals {
    pub(in crate::net) const fn has_terminal(&self) -> bool {
        match *self {}
    }

    pub(in crate::net) const fn take(&mut self, _: &Registry) -> SignalsTaken {
        match *self {}
    }
}
