//! What a client was sent and has not confirmed, and when it is asked.

use std::io::{Read, Write};

use super::{Connection, Due, Phase};
use crate::relay::client::outbox::{Keeping, Outbox, Pool, Unconfirmed, Undelivered};
use crate::relay::settings::Settings;
use crate::relay::time::Tick;

/// What was given up to get memory back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// This many messages, which count as delivered.
    Messages(u64),
    /// The start of a message that is being written: it cannot begin again.
    Start,
}

impl<S: Read + Write> Connection<S> {
    /// What was written in full and is to be confirmed; `None` if there is nothing.
    pub fn unconfirmed(&self) -> Option<&Unconfirmed> {
        self.unconfirmed.as_deref()
    }

    /// As [`unconfirmed`](Self::unconfirmed), to change it.
    pub fn unconfirmed_mut(&mut self) -> Option<&mut Unconfirmed> {
        self.unconfirmed.as_deref_mut()
    }

    /// Whether messages count as delivered only once the client has confirmed them.
    pub const fn is_keeping(&self) -> bool {
        self.is_keeping
    }

    /// Takes the messages that the client has not confirmed, or not received in full; see
    /// [`Outbox::take_messages`].
    pub fn take_messages(&mut self, pool: &mut Pool) -> Undelivered {
        // If it is not asked, what is written counts as delivered.
        let unconfirmed = self.unconfirmed.take().filter(|_| self.is_keeping).map(|unconfirmed| *unconfirmed);
        if unconfirmed.is_some() || self.outbox.is_some() {
            return self.outbox_mut(pool).take_messages(unconfirmed, pool);
        }
        Undelivered::default()
    }

    /// Queues messages for a client that has come back, or has replaced another one.
    pub fn append(&mut self, undelivered: Undelivered, pool: &mut Pool) {
        let written = undelivered.written();
        if self.is_keeping && written != [0; 2] {
            self.unconfirmed.get_or_insert_default().note_returned(written);
        }
        self.outbox_mut(pool).append(undelivered, pool);
    }

    /// Handles a pong. Returns how many messages it confirms, if it answers the outstanding ping.
    pub fn confirm(&mut self, payload: &[u8], pool: &mut Pool) -> Option<u64> {
        let unconfirmed = self.unconfirmed.as_mut()?;
        let number = unconfirmed.asked()?;
        // The payload as it was sent: a number has one spelling.
        if payload != number.to_string().as_bytes() {
            return None;
        }
        unconfirmed.confirm(number, pool)
    }

    /// Asks the client whether it has what was written.
    pub fn ask(&mut self, pool: &mut Pool, now: Tick) {
        self.outbox_mut(pool);
        if let Some((unconfirmed, outbox)) = self.unconfirmed.as_mut().zip(self.outbox.as_mut()) {
            outbox.ask(&mut Keeping { unconfirmed, asked: &mut self.asked, now }, pool);
        }
    }

    /// Sends a ping to a client that is silent. If a ping is outstanding it gets the same number, because a client may
    /// answer only the last ping (RFC 6455, section 5.5.3).
    pub fn ping(&mut self, pool: &mut Pool) {
        let number = self.unconfirmed().and_then(Unconfirmed::asked);
        self.outbox_mut(pool).ping(number, pool);
    }

    /// From now on messages count as delivered once they are written. Returns how many this makes at once.
    pub fn stop_keeping(&mut self, pool: &mut Pool) -> u64 {
        self.is_keeping = false;
        let Some(mut unconfirmed) = self.unconfirmed.take() else { return 0 };
        let messages = unconfirmed.messages();
        while unconfirmed.evict(pool).is_some() {}
        messages
    }

    /// Drops what is remembered of confirmations if there is nothing to remember.
    pub fn drop_idle_unconfirmed(&mut self) {
        self.unconfirmed = self.unconfirmed.take().filter(|unconfirmed| !unconfirmed.is_idle());
    }

    /// Has a record of what gives way if there is none and a message in transit is being written: its start is kept,
    /// even if nothing is unconfirmed.
    pub fn remember_start(&mut self) {
        if self.outbox().and_then(Outbox::front_message).is_some() {
            self.unconfirmed.get_or_insert_default();
        }
    }

    /// Gives up the oldest cached memory of the client. `None` if there is none.
    pub fn evict(&mut self, pool: &mut Pool) -> Option<Evicted> {
        if let Some(messages) = self.unconfirmed.as_mut().and_then(|unconfirmed| unconfirmed.evict(pool)) {
            return Some(Evicted::Messages(messages));
        }
        let key = self.outbox().and_then(Outbox::front_message)?;
        pool.transits.free_passed(key).then_some(Evicted::Start)
    }

    /// When to ask for a confirmation, or when the client has proved that it gives none.
    pub(super) fn confirm_due(&self, settings: &Settings) -> Option<(Tick, Due)> {
        let unconfirmed = self.unconfirmed().filter(|_| matches!(self.phase, Phase::Open))?;
        if let Some(at) = unconfirmed.ask_at() {
            return Some((at, Due::Ask));
        }
        // Its pong is not read while it is held, and the ping may not have left while its socket is blocked.
        let is_judged = !self.is_held && !self.outbox().is_some_and(Outbox::is_blocked);
        let asked_at = unconfirmed.ignored_since().filter(|_| is_judged)?;
        // If its socket refused bytes meanwhile, the ping may have left only when it took them.
        let unanswered_since = asked_at.max(self.progress_at);
        Some((unanswered_since.after(settings.ping_interval.saturating_mul(2)), Due::NoConfirmation))
    }
}
