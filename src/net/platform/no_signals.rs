//! Replaces the signals in a build without the program: there only the host stops the server.

use mio::Registry;

use super::SignalsTaken;

/// Has no values: no signals are caught.
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
