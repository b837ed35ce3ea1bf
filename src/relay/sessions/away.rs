//! Places whose client has left and may come back, and what is kept for them.
//!
//! The places for which something is kept are in the order in which their clients left. If memory is needed, the one
//! whose client has been gone for longest loses what is kept for it first. A place for which nothing is kept any more
//! leaves the order when its turn comes, so nothing is scanned.

use std::collections::BTreeSet;

use slab::Slab;

use super::SessionKey;
use crate::relay::client::outbox::Undelivered;
use crate::relay::ids::ClientType;
use crate::relay::time::Tick;

/// Identifies a place while its client is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AwayKey(pub(super) u32);

#[derive(Debug)]
struct Away {
    session: SessionKey,
    client_type: ClientType,
    left_at: Tick,
    /// `None` if nothing is kept. Boxed because that is the usual case.
    kept: Option<Box<Undelivered>>,
}

/// All places whose client is away.
#[derive(Debug, Default)]
pub(super) struct Aways {
    entries: Slab<Away>,
    /// When the client left, and the key, of each place for which something is kept, and perhaps of others. Not a list,
    /// because something may be kept later for a client that left earlier.
    order: BTreeSet<(Tick, AwayKey)>,
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
        let kept = (kept.messages() > 0).then(|| Box::new(kept));
        let is_listed = kept.is_some();
        let key = AwayKey(self.entries.insert(Away { session, client_type, left_at: now, kept }) as u32);
        if is_listed {
            self.order.insert((now, key));
        }
        key
    }

    /// Forgets a place. Returns what was kept for it.
    pub(super) fn remove(&mut self, key: AwayKey) -> Undelivered {
        let away = self.entries.try_remove(key.0 as usize);
        debug_assert!(away.is_some(), "a place is forgotten once");
        let Some(Away { left_at, kept, .. }) = away else { return Undelivered::default() };
        self.order.remove(&(left_at, key));
        kept.map_or_else(Undelivered::default, |kept| *kept)
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
        if away.kept.as_ref().is_none_or(|kept| kept.messages() == 0) {
            self.order.insert((away.left_at, key));
        }
        Some(away.kept.get_or_insert_default())
    }

    /// The place with something kept whose client has been gone for longest.
    pub(super) fn longest_gone(&mut self) -> Option<(SessionKey, ClientType)> {
        loop {
            let &(_, key) = self.order.first()?;
            let away = self.entries.get(key.0 as usize)?;
            if away.kept.as_ref().is_some_and(|kept| kept.messages() > 0) {
                return Some((away.session, away.client_type));
            }
            self.order.pop_first();
        }
    }

    /// What is kept for all places, for the check of invariants.
    #[cfg(debug_assertions)]
    pub(super) fn all_kept(&self) -> impl Iterator<Item = (ClientType, &Undelivered)> {
        self.entries.iter().filter_map(|(_, away)| Some((away.client_type, away.kept.as_deref()?)))
    }
}
