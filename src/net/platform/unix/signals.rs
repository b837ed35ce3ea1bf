//! SIGTERM, SIGINT and SIGHUP as events of the loop.

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use log::warn;
use mio::{Interest, Registry, Waker};
use rustix::process::Signal;
use signal_hook_mio::v1_0::Signals;

use super::super::SignalsTaken;
use super::super::edges::IS_EDGE_TRIGGERED;
use crate::net::token;

/// Catches the signals that stop the process or make it read its files again.
pub(in crate::net) struct ProcessSignals {
    signals: Signals,
    has_terminal: bool,
}

impl fmt::Debug for ProcessSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessSignals")
    }
}

impl ProcessSignals {
    pub(in crate::net) fn catch(registry: &Registry, _: &Arc<Waker>) -> io::Result<Self> {
        // Before the signals are caught: afterwards SIGHUP is not ignored any more.
        let has_terminal = has_terminal();
        let mut signals = Signals::new([Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw))?;
        registry.register(&mut signals, token::SIGNALS, Interest::READABLE)?;
        Ok(Self { signals, has_terminal })
    }

    /// Whether the process was started from a terminal and must end with it.
    pub(in crate::net) const fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Takes the signals received since the last call.
    pub(in crate::net) fn take(&mut self, registry: &Registry) -> SignalsTaken {
        let mut asked = SignalsTaken::default();
        // `pending` reads the pipe without mio, so mio does not learn that it must report again.
        if !IS_EDGE_TRIGGERED
            && let Err(error) = registry.reregister(&mut self.signals, token::SIGNALS, Interest::READABLE)
        {
            warn!("Further signals cannot be waited for: {error}");
        }
        for signal in self.signals.pending() {
            if signal == Signal::HUP.as_raw() {
                asked.is_hangup = true;
            } else {
                asked.stops += 1;
            }
        }
        asked
    }
}

/// Whether the process was started from a terminal and must end with it: not so under nohup.
fn has_terminal() -> bool {
    match is_hangup_ignored() {
        Some(is_ignored) => !is_ignored && (io::stdin().is_terminal() || io::stderr().is_terminal()),
        // nohup redirects standard error from a terminal to a file.
        None => io::stderr().is_terminal(),
    }
}

/// Whether the process ignores SIGHUP. Call before the signal is caught. `None` on systems other than Linux.
fn is_hangup_ignored() -> Option<bool> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let bits = u64::from_str_radix(ignored.trim(), 16).ok()?;
    Some(bits >> (Signal::HUP.as_raw() - 1) & 1 == 1)
}
