//! That the relay never stands still: while some client would read and some client has sent, bytes move, or somebody is
//! ended, within the stall timeout. How the relay shares its memory is not known here, and does not matter.

use std::time::Duration;

use apptuner_relay::relay::Tick;

#[derive(Debug)]
pub struct Motion {
    /// A paused client whose rate is used up may stand still for longer.
    stall_timeout: Option<Duration>,
    moved_at: Tick,
    /// Since when somebody has sent what the relay has not taken, and somebody would read.
    awaited_since: Option<Tick>,
}

impl Motion {
    pub const fn new(stall_timeout: Option<Duration>, now: Tick) -> Self {
        Self { stall_timeout, moved_at: now, awaited_since: None }
    }

    /// Bytes of more than a sign of life were read or written, or somebody was ended.
    pub const fn note(&mut self, now: Tick) {
        self.moved_at = now;
    }

    /// The relay rests; whether anything is expected to move.
    pub fn rest(&mut self, is_awaited: bool, now: Tick) {
        self.awaited_since = is_awaited.then(|| self.awaited_since.unwrap_or(now));
    }

    /// The relay's process stood still itself.
    pub fn freeze(&mut self, time: Duration) {
        self.moved_at = self.moved_at.after(time);
        self.awaited_since = self.awaited_since.map(|since| since.after(time));
    }

    /// To be called before time moves on to `next`: until then nothing happens.
    pub fn expect(&self, next: Tick) -> Result<(), String> {
        let (Some(stall_timeout), Some(since)) = (self.stall_timeout, self.awaited_since) else {
            return Ok(());
        };
        let since = since.max(self.moved_at);
        if next <= since.after(stall_timeout) {
            return Ok(());
        }
        Err(format!("somebody has sent, somebody would read, and nothing moves from {since:?} to {next:?}"))
    }
}
