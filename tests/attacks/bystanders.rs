//! A normal pair beside an attack.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::client::Client;
use crate::harness::Relay;

/// Two clients of a session that is not part of the attack.
pub(crate) struct Bystanders {
    desktop: Client,
    mobile: Client,
}

impl Bystanders {
    pub(crate) fn join(relay: &Relay) -> Self {
        let (desktop, mobile) = relay.pair("bystanders");
        Self { desktop, mobile }
    }

    /// Requires that one message passes in each direction, and that nothing else comes.
    pub(crate) fn are_served(&mut self) {
        self.desktop.send_text("{\"type\":\"there\"}");
        self.mobile.expect_text("{\"type\":\"there\"}");
        self.mobile.send_text("{\"type\":\"back\"}");
        self.desktop.expect_text("{\"type\":\"back\"}");
    }

    /// The number of exchanges, there and back, while `attack` runs.
    pub(crate) fn times_served_during(&mut self, attack: impl FnOnce() + Send) -> usize {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                attack();
                is_over.store(true, Ordering::Release);
            });
            let mut times = 0;
            while !is_over.load(Ordering::Acquire) {
                self.are_served();
                times += 1;
            }
            times
        })
    }
}
