//! What an operator may see of the relay and of each session. It never shows content, and no more of a session ID
//! than its start.

use std::io::{Read, Write};

use super::relay::Relay;
use crate::relay::ids::ClientType;
use crate::relay::limits::REPORT_SLOTS_MAX;
use crate::relay::sessions::{Census, Session, Traffic};

/// Most characters of a session ID that are shown: enough to recognise a session, too few to join it.
const ID_START_CHARS_MAX: usize = 4;

/// One session, without anything that would let a reader join it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionReport {
    /// The first characters of its ID, at most half of them.
    pub id_start: String,
    /// How long ago it began, in seconds.
    pub age_seconds: u32,
    /// Its desktop is connected.
    pub has_desktop: bool,
    /// Its mobile is connected.
    pub has_mobile: bool,
    /// Messages accepted in it, in both directions.
    pub traffic: Traffic,
    /// Bytes that wait for its clients, or are kept for those that are away.
    pub waiting_bytes: usize,
}

/// Whether a new client is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// New clients are served.
    Ready,
    /// New clients are refused or have to wait: the limit of connections or of open files is reached.
    Full,
    /// New clients are refused: the relay is shutting down.
    Draining,
}

impl Service {
    /// The word for it in the metrics and on the status page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Draining => "draining",
        }
    }
}

impl<S: Read + Write> Relay<S> {
    /// Whether a new client would be served now.
    #[must_use]
    pub fn service(&self) -> Service {
        if self.drain.is_some() {
            Service::Draining
        } else if self.is_at_connection_limit() || self.accept_retry.is_some() {
            Service::Full
        } else {
            Service::Ready
        }
    }

    /// Most connections that are served at once; `None` if there is no limit.
    #[must_use]
    pub const fn max_connections(&self) -> Option<usize> {
        self.settings.max_connections
    }

    /// Most bytes on the [memory account](Self::buffered_bytes).
    #[must_use]
    pub const fn max_buffered(&self) -> usize {
        self.settings.max_buffered
    }

    /// Clients that are not read now because the memory for messages is used up.
    #[must_use]
    pub const fn starved_clients(&self) -> usize {
        self.starved_clients
    }

    /// Number of sessions and clients of each kind. Constant time.
    #[must_use]
    pub const fn census(&self) -> Census {
        self.sessions.census()
    }

    /// Reports on at most `count_max` sessions, beginning at the place `from`, which is 0 at first. Also returns the
    /// place to go on from, if there is one. A session that begins or ends between two calls may be missed; no other
    /// session is. Bounded: a call may return fewer sessions, or none, and still a place to go on from.
    #[must_use]
    pub fn report_sessions(&self, from: usize, count_max: usize) -> (Vec<SessionReport>, Option<usize>) {
        let mut reports = Vec::new();
        let end = self.sessions.slot_count();
        let places = from..end.min(from.saturating_add(REPORT_SLOTS_MAX));
        for place in places.clone() {
            if reports.len() == count_max {
                return (reports, Some(place));
            }
            reports.extend(self.sessions.at_slot(place).map(|session| self.report(session)));
        }
        (reports, Some(places.end).filter(|&next| next < end))
    }

    fn report(&self, session: &Session) -> SessionReport {
        let [desktop, mobile] = ClientType::ALL.map(|client_type| session.client(client_type));
        let mut traffic = session.kept_traffic();
        let mut waiting_bytes = self.sessions.kept_bytes(session);
        for slot in [desktop, mobile].into_iter().flatten().filter_map(|id| self.slots.get(id)) {
            let counts = slot.connection.counts();
            traffic.messages += counts.messages_in;
            traffic.bytes += counts.bytes_in;
            waiting_bytes += slot.connection.outbox().map_or(0, |outbox| outbox.backlog().bytes);
        }
        SessionReport {
            id_start: start_of(session.id.as_str()).to_owned(),
            age_seconds: session.age_seconds(self.now.tick),
            has_desktop: desktop.is_some(),
            has_mobile: mobile.is_some(),
            traffic,
            waiting_bytes,
        }
    }
}

/// The part of a session ID (ASCII) that may be shown: at most half of it, so that enough is left to guess.
fn start_of(id: &str) -> &str {
    id.get(..ID_START_CHARS_MAX.min(id.len() / 2)).unwrap_or_default()
}
