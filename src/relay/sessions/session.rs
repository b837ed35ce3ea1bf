//! One session: its clients, its times and what not every session has.

use super::census::SessionState;
use super::contest::Contest;
use super::empties::EmptyKey;
use crate::relay::access::secret::SecretHash;
use crate::relay::ids::{ClientType, ConnectionId, SessionId};
use crate::relay::tables::wheel::Alarm;
use crate::relay::time::Tick;

/// One pair of clients.
#[derive(Debug)]
pub struct Session {
    /// Its name in the path.
    pub id: SessionId,
    /// The timer that ends it, set no later than [`Sessions::due`](super::Sessions::due) says.
    pub timer: Option<Alarm>,
    pub(super) desktop: Seat,
    pub(super) mobile: Seat,
    pub(super) last_activity: Tick,
    /// Means nothing while there is a client.
    pub(super) empty_since: Tick,
    /// Somebody has been in it.
    pub(super) was_joined: bool,
    /// In seconds.
    pub(super) begun_at: u32,
    /// Its key among those that are empty, as long as it is.
    pub(super) empty: Option<EmptyKey>,
    pub(super) extras: Option<Box<Extras>>,
}

/// What not every session has.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Whoever joins needs this secret.
    pub(super) claim: Option<SecretHash>,
    /// What clients sent that have left.
    pub(super) traffic: Traffic,
    /// Of both places, once one has changed hands.
    pub(super) contests: Option<Box<[Contest; 2]>>,
}

/// Application messages that were accepted in a session, either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// How many.
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

    /// The secret that joining needs, if it was claimed.
    #[must_use]
    pub fn claimed(&self) -> Option<&SecretHash> {
        self.extras.as_ref()?.claim.as_ref()
    }

    /// Keeps account of what a client sent that leaves.
    pub fn keep_traffic(&mut self, traffic: Traffic) {
        if traffic != Traffic::default() {
            let kept = &mut self.extras.get_or_insert_default().traffic;
            kept.messages += traffic.messages;
            kept.bytes += traffic.bytes;
        }
    }

    /// What clients sent that have left.
    #[must_use]
    pub fn kept_traffic(&self) -> Traffic {
        self.extras.as_ref().map_or(Traffic::default(), |kept| kept.traffic)
    }

    /// How long ago it began, in seconds.
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

/// Enough for 136 years.
#[expect(clippy::cast_possible_truncation, reason = "differences are right all the same")]
pub(super) const fn seconds(tick: Tick) -> u32 {
    (tick.0 / 1000) as u32
}

/// One client's place in a session, a third smaller than an `Option`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat(pub(super) ConnectionId);

impl Seat {
    /// No connection has this slot: there are fewer.
    pub(super) const FREE: Self = Self(ConnectionId { slot: u32::MAX, generation: 0 });

    pub(super) const fn taken(self) -> Option<ConnectionId> {
        if self.0.slot == Self::FREE.0.slot { None } else { Some(self.0) }
    }
}
