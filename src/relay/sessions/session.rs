//! One session: its clients, its times, and what few sessions have.

use super::away::AwayKey;
use super::census::SessionState;
use super::contest::Contest;
use super::empties::EmptyKey;
use crate::relay::access::secret::SecretHash;
use crate::relay::ids::{ClientType, ConnectionId, SessionId};
use crate::relay::tables::wheel::Alarm;
use crate::relay::time::Tick;

/// One session: a place for a desktop and one for a mobile.
#[derive(Debug)]
pub struct Session {
    /// The session ID.
    pub id: SessionId,
    /// The timer that ends the session. It is due no later than [`Sessions::due`](super::Sessions::due) says.
    pub timer: Option<Alarm>,
    pub(super) desktop: Seat,
    pub(super) mobile: Seat,
    pub(super) last_activity: Tick,
    /// When the last client left. Undefined while there is a client.
    pub(super) empty_since: Tick,
    /// Whether a client has ever joined it.
    pub(super) was_joined: bool,
    /// In seconds of the monotonic clock, wrapping.
    pub(super) begun_at: u32,
    /// Its key in the table of empty sessions while it is empty.
    pub(super) empty: Option<EmptyKey>,
    pub(super) extras: Option<Box<Extras>>,
}

/// What few sessions have. Kept outside `Session`, so that the others take less memory.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Joining needs the secret with this hash.
    pub(super) claim: Option<SecretHash>,
    /// The traffic of clients that have left.
    pub(super) traffic: Traffic,
    /// One for each place, once one of them has changed hands.
    pub(super) contests: Option<Box<[Contest; 2]>>,
}

/// Application messages that were accepted in a session, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Number of messages.
    pub messages: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

impl Session {
    /// The connection of this client type, if there is one.
    #[must_use]
    pub const fn client(&self, client_type: ClientType) -> Option<ConnectionId> {
        match client_type {
            ClientType::Desktop => self.desktop.taken(),
            ClientType::Mobile => self.mobile.taken(),
        }
    }

    /// The key of the place of this client type while its client is away.
    pub(super) const fn away(&self, client_type: ClientType) -> Option<AwayKey> {
        match client_type {
            ClientType::Desktop => self.desktop.away(),
            ClientType::Mobile => self.mobile.away(),
        }
    }

    /// The hash of the secret that joining needs. `None` if the session is not claimed.
    #[must_use]
    pub fn claimed(&self) -> Option<&SecretHash> {
        self.extras.as_ref()?.claim.as_ref()
    }

    /// Adds the traffic of a client that leaves.
    pub fn keep_traffic(&mut self, traffic: Traffic) {
        // A client that sent nothing must not cost the session an allocation.
        if traffic != Traffic::default() {
            let kept = &mut self.extras.get_or_insert_default().traffic;
            kept.messages += traffic.messages;
            kept.bytes += traffic.bytes;
        }
    }

    /// The traffic of clients that have left. Clients that are still connected count their own.
    #[must_use]
    pub fn kept_traffic(&self) -> Traffic {
        self.extras.as_ref().map_or(Traffic::default(), |kept| kept.traffic)
    }

    /// Seconds since the session began.
    #[must_use]
    pub const fn age_seconds(&self, now: Tick) -> u32 {
        seconds(now).wrapping_sub(self.begun_at)
    }

    pub(super) const fn state(&self) -> SessionState {
        match (self.desktop.taken(), self.mobile.taken()) {
            (None, None) => SessionState::Empty,
            (Some(_), None) | (None, Some(_)) => SessionState::Waiting,
            (Some(_), Some(_)) => SessionState::Paired,
        }
    }

    /// Whether it has no client.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.desktop.taken().is_none() && self.mobile.taken().is_none()
    }

    pub(super) const fn seat_mut(&mut self, client_type: ClientType) -> &mut Seat {
        match client_type {
            ClientType::Desktop => &mut self.desktop,
            ClientType::Mobile => &mut self.mobile,
        }
    }
}

/// Whole seconds, modulo 2³²: differences of up to 136 years are right.
#[expect(clippy::cast_possible_truncation, reason = "only differences are used, which are right modulo 2³²")]
pub(super) const fn seconds(tick: Tick) -> u32 {
    (tick.0 / 1000) as u32
}

/// The connection in one place, or the key of the place while its client is away. It takes a third less memory than
/// an enum: no connection has the slot `u32::MAX`, because there are always fewer, so the generation beside it can be
/// a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat(pub(super) ConnectionId);

impl Seat {
    /// No client, and none is expected. No place has this key, for the same reason.
    pub(super) const FREE: Self = Self::of_away(AwayKey(u32::MAX));

    /// The place with this key, whose client is away.
    pub(super) const fn of_away(AwayKey(key): AwayKey) -> Self {
        Self(ConnectionId { slot: u32::MAX, generation: key })
    }

    pub(super) const fn away(self) -> Option<AwayKey> {
        let is_away = self.0.slot == u32::MAX && self.0.generation != Self::FREE.0.generation;
        if is_away { Some(AwayKey(self.0.generation)) } else { None }
    }

    pub(super) const fn taken(self) -> Option<ConnectionId> {
        if self.0.slot == u32::MAX { None } else { Some(self.0) }
    }
}
