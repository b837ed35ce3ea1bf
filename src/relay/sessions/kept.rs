//! What is kept in sessions for clients that are away.

use super::away::AwayKey;
use super::session::Seat;
use super::{Session, SessionKey, Sessions};
use crate::relay::client::outbox::Undelivered;
use crate::relay::ids::ClientType;
use crate::relay::time::Tick;

impl Sessions {
    /// When the redelivery window of a client that is away ends.
    pub(super) fn expected_until(&self, away: AwayKey) -> Tick {
        self.aways.left_at(away).after(self.times.redelivery_window)
    }

    /// What is kept for a client that is away and expected to come back; `None` if no client is expected.
    pub fn expected(
        &mut self,
        key: SessionKey,
        client_type: ClientType,
        now: Tick,
    ) -> Option<&mut Undelivered> {
        let away = self.get(key)?.away(client_type)?;
        if now >= self.expected_until(away) {
            return None;
        }
        self.aways.kept_mut(away)
    }

    /// What is kept for a client that is away; `None` if that is nothing.
    pub fn kept_mut(&mut self, key: SessionKey, client_type: ClientType) -> Option<&mut Undelivered> {
        let away = self.get(key)?.away(client_type)?;
        self.aways.kept(away)?;
        self.aways.kept_mut(away)
    }

    /// Bytes that are kept in a session.
    #[must_use]
    pub fn kept_bytes(&self, session: &Session) -> usize {
        let aways = ClientType::ALL.into_iter().filter_map(|client_type| session.away(client_type));
        aways.filter_map(|away| self.aways.kept(away)).map(Undelivered::bytes).sum()
    }

    /// No longer expects a client to come back. Returns what was kept for it.
    pub fn take_kept(&mut self, key: SessionKey, client_type: ClientType) -> Undelivered {
        let Some(session) = self.get_mut(key) else { return Undelivered::default() };
        let Some(away) = session.away(client_type) else { return Undelivered::default() };
        *session.seat_mut(client_type) = Seat::FREE;
        self.aways.remove(away)
    }

    /// The place with kept messages whose client has been gone for longest.
    pub fn longest_gone(&mut self) -> Option<(SessionKey, ClientType)> {
        self.aways.longest_gone()
    }

    /// What is kept in all sessions, by the type of the client that it is for. For debug builds.
    #[cfg(debug_assertions)]
    pub fn all_kept(&self) -> impl Iterator<Item = (ClientType, &Undelivered)> {
        self.aways.all_kept()
    }
}
