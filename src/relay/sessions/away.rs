//! Places whose client has left and may come back, and what is kept for them.
//!
//! The places are in the order in which their clients left. If memory is needed, the one whose client has been gone for
//! longest loses what is kept for it first. A place for which nothing is kept leaves the order when its turn comes, so
//! nothing is scanned.

use slab::Slab;

use super::SessionKey;
use crate::relay::client::outbox::Undelivered;
use crate::relay::ids::ClientType;
use crate::relay::tables::idle_order::{IdleOrder, Links, Ordered};
use crate::relay::time::Tick;

/// Identifies a place while its client is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AwayKey(pub(super) u32);

#[derive(Debug)]
struct Away {
    session: SessionKey,
    client_type: ClientType,
    left_at: Tick,
    /// `None` if nothing is kept. Boxed because that is the usual case.
    kept: Option<Box<Undelivered>>,
    links: Links<AwayKey>,
    /// Whether it is in the order.
    is_listed: bool,
}

/// All places whose client is away.
#[derive(Debug, Default)]
pub(super) struct Aways {
    entries: Slab<Away>,
    order: IdleOrder<AwayKey>,
}

impl Ordered for Slab<Away> {
    type Key = AwayKey;

    fn links_mut(&mut self, key: AwayKey) -> Option<&mut Links<AwayKey>> {
        Some(&mut self.get_mut(key.0 as usize)?.links)
    }
}

impl Aways {
    /// Records that the client of a place has left now.
    #[expect(clippy::cast_possible_truncation, reason = "fewer than two for each session, which fits")]
    pub(super) fn add(
        &mut self,
        session: SessionKey,
        client_type: ClientType,
        kept: Undelivered,
        now: Tick,
    ) -> AwayKey {
        let key = AwayKey(self.entries.insert(Away {
            session,
            client_type,
            left_at: now,
            kept: (kept.messages() > 0).then(|| Box::new(kept)),
            links: Links::default(),
            is_listed: true,
        }) as u32);
        self.order.push_back(key, &mut self.entries);
        key
    }

    /// Forgets a place. Returns what was kept for it.
    pub(super) fn remove(&mut self, key: AwayKey) -> Undelivered {
        if self.entries.get(key.0 as usize).is_some_and(|away| away.is_listed) {
            self.order.remove(key, &mut self.entries);
        }
        let away = self.entries.try_remove(key.0 as usize);
        debug_assert!(away.is_some(), "a place is forgotten once");
        away.and_then(|away| away.kept).map_or_else(Undelivered::default, |kept| *kept)
    }

    /// When the client of a place left.
    pub(super) fn left_at(&self, key: AwayKey) -> Tick {
        self.entries.get(key.0 as usize).map_or(Tick::default(), |away| away.left_at)
    }

    /// What is kept for a place; `None` if that is nothing.
    pub(super) fn kept(&self, key: AwayKey) -> Option<&Undelivered> {
        self.entries.get(key.0 as usize)?.kept.as_deref()
    }

    /// What is kept for a place, to add to it or to take from it.
    pub(super) fn kept_mut(&mut self, key: AwayKey) -> Option<&mut Undelivered> {
        let away = self.entries.get_mut(key.0 as usize)?;
        if !std::mem::replace(&mut away.is_listed, true) {
            // It left the order when nothing was kept for it, as the first of those that were in it then. So its client
            // has been gone for longer than theirs.
            self.order.push_front(key, &mut self.entries);
        }
        Some(self.entries.get_mut(key.0 as usize)?.kept.get_or_insert_default())
    }

    /// The place with something kept whose client has been gone for longest.
    pub(super) fn longest_gone(&mut self) -> Option<(SessionKey, ClientType)> {
        loop {
            let key = self.order.first?;
            let away = self.entries.get_mut(key.0 as usize)?;
            if away.kept.as_ref().is_some_and(|kept| kept.messages() > 0) {
                return Some((away.session, away.client_type));
            }
            away.is_listed = false;
            self.order.remove(key, &mut self.entries);
        }
    }

    /// What is kept for all places, for the check of invariants.
    #[cfg(debug_assertions)]
    pub(super) fn all_kept(&self) -> impl Iterator<Item = (ClientType, &Undelivered)> {
        self.entries.iter().filter_map(|(_, away)| Some((away.client_type, away.kept.as_deref()?)))
    }
}
