//! The relay never stalls: while some client reads and some client has sent, bytes move or a connection is ended within
//! the stall timeout. How the relay divides its memory does not matter here.

use std::time::Duration;

use apptuner_relay::relay::Tick;

#[derive(Debug)]
pub struct Motion {
    /// `None`: a paused client whose rate is used up may wait longer.
    stall_timeout: Option<Duration>,
    moved_at: Tick,
    /// Since when a client has sent what the relay has not taken, and another client reads.
    awaited_since: Option<Tick>,
}

impl Motion {
    pub const fn new(stall_timeout: Option<Duration>, now: Tick) -> Self {
        Self { stall_timeout, moved_at: now, awaited_since: None }
    }

    /// Bytes other than pongs were read or written, or a connection was ended.
    pub const fn note(&mut self, now: Tick) {
        self.moved_at = now;
    }

    /// The relay rests. `is_awaited` says whether anything is expected to move.
    pub fn rest(&mut self, is_awaited: bool, now: Tick) {
        self.awaited_since = is_awaited.then(|| self.awaited_since.unwrap_or(now));
    }

    /// The relay's process was stopped for this long.
    pub fn freeze(&mut self, time: Duration) {
        self.moved_at = self.moved_at.after(time);
        self.awaited_since = self.awaited_since.map(|since| since.after(time));
    }

    /// Call before time moves to `next`. Until then nothing happens.
    pub fn expect(&self, next: Tick) -> Result<(), String> {
        let (Some(stall_timeout), Some(since)) = (self.stall_timeout, self.awaited_since) else {
            return Ok(());
        };
        let since = since.max(self.moved_at);
        if next <= since.after(stall_timeout) {
            return Ok(());
        }
        Err(format!("a client has sent, a client reads, and nothing moves from {since:?} to {next:?}"))
    }
}
