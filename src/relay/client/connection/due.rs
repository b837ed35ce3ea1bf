//! What becomes due for a connection, and when.

use std::io::{Read, Write};

use super::{Connection, Due, Phase};
use crate::relay::client::outbox::Outbox;
use crate::relay::client::pace::Pace;
use crate::relay::settings::Settings;
use crate::relay::time::Tick;

impl<S: Read + Write> Connection<S> {
    /// What becomes due next if nothing happens before, and when. Never a scan.
    pub fn due(&self, settings: &Settings, now: Tick) -> Option<(Tick, Due)> {
        match &self.phase {
            // A head for which there is no memory is not read, and not late.
            Phase::Head(_) if self.is_held => self.starved_due(settings),
            Phase::Head(_) => Some((self.pinged_at.after(settings.handshake_timeout), Due::Head)),
            Phase::Ending(ending) => Some((ending.linger.deadline, Due::End)),
            Phase::Closing(linger) => {
                let due = if self.is_drained() { Due::CloseAnswer } else { Due::End };
                Some(earlier((linger.deadline, due), self.stall_due(settings)))
            }
            Phase::Open => {
                // Once its rate allows it to be read, only others hold it back.
                let pace = self.pace().map(Pace::resumes_at).filter(|&at| now < at);
                let pace = pace.map(|at| (at, Due::Pace));
                // What has begun may hold memory that others wait for; the rest can wait until there is some.
                let starved = self.starved_due(settings).filter(|_| self.inbound.missing_bytes().is_some());
                let dues = [self.message_due(settings), self.stall_due(settings)];
                // Of two at the same time the one that stands first here counts.
                let first = dues.into_iter().fold(self.silence_due(settings), earlier_or_same);
                Some(earlier(earlier(first, starved), pace))
            }
        }
    }

    /// Whether something is to be read that may put off what is due. What is held back is not waited for, nor is what
    /// cannot move the last deadline of a client that the relay has done with.
    pub fn may_input_postpone(&self, due: Due) -> bool {
        let may_help = match (&self.phase, due) {
            (Phase::Closing(linger), Due::CloseAnswer | Due::End) => linger.may_move(),
            (Phase::Ending(ending), _) => ending.linger.may_move(),
            (_, _) => !self.is_held,
        };
        self.is_readable && may_help
    }

    fn stall_due(&self, settings: &Settings) -> Option<(Tick, Due)> {
        let is_blocked = self.is_unflushed || self.outbox().is_some_and(Outbox::is_blocked);
        is_blocked.then(|| (self.progress_at.after(settings.stall_timeout), Due::Stall))
    }

    fn silence_due(&self, settings: &Settings) -> (Tick, Due) {
        let silent_since = self.received_at.max(self.progress_at);
        let interval = settings.ping_interval;
        if self.is_held {
            // Its pong would not be read: it is pinged, for a proxy between may need to see a sign
            // of life, and not judged.
            (silent_since.max(self.pinged_at).after(interval), Due::Ping)
        } else if self.pinged_at > silent_since {
            // However late the ping went out, the answer has its time.
            let asked = self.pinged_at.after(interval);
            (silent_since.after(interval.saturating_mul(2)).max(asked), Due::Silence)
        } else {
            (silent_since.after(interval), Due::Ping)
        }
    }

    fn starved_due(&self, settings: &Settings) -> Option<(Tick, Due)> {
        let is_starved = self.is_held && self.is_starved;
        is_starved.then(|| (self.held_since.after(settings.stall_timeout), Due::Starved))
    }

    fn message_due(&self, settings: &Settings) -> Option<(Tick, Due)> {
        let (since, moved_at) = self.inbound.unfinished_since().filter(|_| !self.is_held)?;
        let whole = since.after(settings.message_timeout);
        Some((whole.min(moved_at.after(settings.stall_timeout)), Due::Message))
    }
}

/// `other` if it comes before `due`, which else stays.
fn earlier(due: (Tick, Due), other: Option<(Tick, Due)>) -> (Tick, Due) {
    other.filter(|other| other.0 < due.0).unwrap_or(due)
}

/// `other` if it does not come after `due`, which else stays.
fn earlier_or_same(due: (Tick, Due), other: Option<(Tick, Due)>) -> (Tick, Due) {
    other.filter(|other| other.0 <= due.0).unwrap_or(due)
}
