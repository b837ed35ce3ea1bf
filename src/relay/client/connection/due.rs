//! Which timeout of a connection ends next, and when.

use std::io::{Read, Write};

use super::{Connection, Due, Phase};
use crate::relay::client::outbox::Outbox;
use crate::relay::client::pace::Pace;
use crate::relay::settings::Settings;
use crate::relay::time::Tick;

impl<S: Read + Write> Connection<S> {
    /// What becomes due next if nothing happens before, and when. Takes constant time.
    ///
    /// The result depends on `now` only for the rate limits: a pause that is over is not due any more.
    pub fn due(&self, settings: &Settings, now: Tick) -> Option<(Tick, Due)> {
        match &self.phase {
            // Without memory for the head the relay does not read it, so the handshake timeout does not apply. The
            // stall timeout still bounds how long the client is kept.
            Phase::Head(_) if self.is_held => self.starved_due(settings),
            Phase::Head(_) => Some((self.pinged_at.after(settings.handshake_timeout), Due::Head)),
            Phase::Ending(ending) => Some((ending.linger.deadline, Due::End)),
            Phase::Closing(linger) => {
                let due = if self.is_drained() { Due::CloseAnswer } else { Due::End };
                Some(earlier((linger.deadline, due), self.stall_due(settings)))
            }
            Phase::Open => {
                // Once the rate allows reading again, it needs no timer.
                let pace = self.pace().map(Pace::resumes_at).filter(|&at| now < at);
                let pace = pace.map(|at| (at, Due::Pace));
                // An unfinished message may hold memory that other clients need, so its wait is bounded. A client
                // between two messages holds none and may wait.
                let starved = self.starved_due(settings).filter(|_| self.inbound.missing_bytes().is_some());
                let dues = [self.message_due(settings), self.stall_due(settings)];
                let pace = [pace, self.confirm_due(settings)].into_iter().flatten().min_by_key(|due| due.0);
                // At equal times `Stall` wins over `Message`, and `Message` over `Silence`.
                let first = dues.into_iter().fold(self.silence_due(settings), earlier_or_same);
                Some(earlier(earlier(first, starved), pace))
            }
        }
    }

    /// Whether there are unread bytes that may postpone what is due, so that the caller must read before it acts.
    ///
    /// The answer is no for a client whose reading is paused, and for a closing or ending client whose deadline cannot
    /// move any further.
    pub fn may_input_postpone(&self, due: Due) -> bool {
        let may_help = match (&self.phase, due) {
            (Phase::Closing(linger), Due::CloseAnswer | Due::End) => linger.may_move(),
            (Phase::Ending(ending), _) => ending.linger.may_move(),
            (_, _) => !self.is_held,
        };
        self.is_readable && may_help
    }

    fn stall_due(&self, settings: &Settings) -> Option<(Tick, Due)> {
        // Bytes that the stream cannot flush wait in the same way as bytes that the outbox cannot write.
        let is_blocked = self.is_unflushed || self.outbox().is_some_and(Outbox::is_blocked);
        is_blocked.then(|| (self.progress_at.after(settings.stall_timeout), Due::Stall))
    }

    fn silence_due(&self, settings: &Settings) -> (Tick, Due) {
        // A client that takes bytes after a stall is alive, even if it sends none.
        let silent_since = self.received_at.max(self.progress_at);
        let interval = settings.ping_interval;
        if self.is_held {
            // Its pong would not be read, so silence must not end it. It is still pinged, because a proxy in between
            // may drop a connection without traffic.
            (silent_since.max(self.pinged_at).after(interval), Due::Ping)
        } else if self.pinged_at > silent_since {
            // A ping may go out late, for example after a pause. The client has a full interval to answer it.
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

/// `other` if it comes before `due`, otherwise `due`.
fn earlier(due: (Tick, Due), other: Option<(Tick, Due)>) -> (Tick, Due) {
    other.filter(|other| other.0 < due.0).unwrap_or(due)
}

/// `other` if it comes before `due` or at the same time, otherwise `due`.
fn earlier_or_same(due: (Tick, Due), other: Option<(Tick, Due)>) -> (Tick, Due) {
    other.filter(|other| other.0 <= due.0).unwrap_or(due)
}
