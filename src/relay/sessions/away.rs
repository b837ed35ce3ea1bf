//! Places whose client has left and may come back, and what is kept for them.
//!
//! If memory is needed, the place whose client has been gone for longest loses what is kept for it first. So the places
//! with something kept are in the order in which their clients left, however late the first message was kept for them.

use std::collections::BTreeMap;

use slab::Slab;

use super::SessionKey;
use crate::relay::client::outbox::Undelivered;
use crate::relay::ids::ClientType;
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
    /// How many clients had left before it.
    number: u64,
}

/// All places whose client is away.
#[derive(Debug, Default)]
pub(super) struct Aways {
    entries: Slab<Away>,
    /// Those for which something is kept, by their numbers. A place for which nothing is kept any more leaves it when
    /// its turn comes.
    order: BTreeMap<u64, AwayKey>,
    /// How many clients have left.
    count: u64,
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
        let number = self.count;
        self.count += 1;
        let away = Away { session, client_type, left_at: now, kept, number };
        let key = AwayKey(self.entries.insert(away) as u32);
        if is_listed {
            self.order.insert(number, key);
        }
        key
    }

    /// Forgets a place. Returns what was kept for it.
    pub(super) fn remove(&mut self, key: AwayKey) -> Undelivered {
        let away = self.entries.try_remove(key.0 as usize);
        debug_assert!(away.is_some(), "a place is forgotten once");
        let Some(Away { number, kept: Some(kept), .. }) = away else { return Undelivered::default() };
        self.order.remove(&number);
        *kept
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
        let Away { number, kept, .. } = self.entries.get_mut(key.0 as usize)?;
        if kept.is_none() {
            self.order.insert(*number, key);
        }
        Some(kept.get_or_insert_default())
    }

    /// The place with something kept whose client has been gone for longest.
    pub(super) fn longest_gone(&mut self) -> Option<(SessionKey, ClientType)> {
        loop {
            let first = self.order.first_entry()?;
            let away = self.entries.get_mut(first.get().0 as usize)?;
            if away.kept.as_ref().is_some_and(|kept| kept.messages() > 0) {
                return Some((away.session, away.client_type));
            }
            away.kept = None;
            first.remove();
        }
    }

    /// What is kept for all places, for the check of invariants.
    #[cfg(debug_assertions)]
    pub(super) fn all_kept(&self) -> impl Iterator<Item = (ClientType, &Undelivered)> {
        self.entries.iter().filter_map(|(_, away)| Some((away.client_type, away.kept.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::client::outbox::Pool;
    use crate::relay::wire::frame::Opcode;

    const DESKTOP: ClientType = ClientType::Desktop;

    fn kept(pool: &mut Pool, messages: u64) -> Undelivered {
        let mut kept = Undelivered::default();
        for _ in 0..messages {
            kept.push_small(&mut pool.transits, Opcode::Text, b"kept", 0);
        }
        kept
    }

    fn add(aways: &mut Aways, pool: &mut Pool, index: usize, messages: u64) -> AwayKey {
        aways.add(SessionKey::of(index), DESKTOP, kept(pool, messages), Tick(index as u64))
    }

    /// Keeps one more message for a place.
    fn keep(aways: &mut Aways, pool: &mut Pool, key: AwayKey) {
        let kept = aways.kept_mut(key).unwrap();
        kept.push_small(&mut pool.transits, Opcode::Text, b"kept", 0);
    }

    /// The places, the one that loses what is kept for it first.
    fn in_order(aways: &mut Aways, pool: &mut Pool, keys: &[AwayKey]) -> Vec<usize> {
        let mut order = Vec::new();
        while let Some((session, DESKTOP)) = aways.longest_gone() {
            let index = session.index();
            assert!(aways.kept_mut(keys[index]).unwrap().evict(pool) > 0);
            order.push(index);
        }
        order
    }

    #[test]
    fn a_client_that_left_earlier_loses_its_messages_earlier() {
        let (mut aways, mut pool) = (Aways::default(), Pool::default());
        let keys: Vec<AwayKey> = (0..4).map(|index| add(&mut aways, &mut pool, index, 1)).collect();
        keep(&mut aways, &mut pool, keys[0]);
        assert_eq!(aways.longest_gone(), Some((SessionKey::of(0), DESKTOP)));
        assert_eq!(aways.remove(keys[0]).discard(&mut pool), 2);
        assert_eq!(aways.remove(keys[2]).discard(&mut pool), 1);
        assert_eq!(in_order(&mut aways, &mut pool, &keys), [1, 3]);
        assert_eq!(aways.longest_gone(), None);
    }

    #[test]
    fn the_order_is_that_of_leaving_whenever_the_first_message_is_kept() {
        for (first, second) in [(0, 2), (2, 0), (3, 1)] {
            let (mut aways, mut pool) = (Aways::default(), Pool::default());
            // Nothing is kept for the odd ones when they leave.
            let keys: Vec<AwayKey> =
                (0..4).map(|index| add(&mut aways, &mut pool, index, 1 - index as u64 % 2)).collect();
            keep(&mut aways, &mut pool, keys[3]);
            keep(&mut aways, &mut pool, keys[1]);
            assert_eq!(in_order(&mut aways, &mut pool, &keys), [0, 1, 2, 3]);
            // All have lost everything, so none is in the order.
            keep(&mut aways, &mut pool, keys[first]);
            keep(&mut aways, &mut pool, keys[second]);
            let mut both = [first, second];
            both.sort_unstable();
            assert_eq!(in_order(&mut aways, &mut pool, &keys), both);
            for key in keys {
                assert_eq!(aways.remove(key).discard(&mut pool), 0);
            }
            assert!(aways.entries.is_empty() && aways.order.is_empty());
            assert_eq!(pool.transits.memory.used_bytes(), 0);
        }
    }

    #[test]
    fn a_place_for_which_nothing_is_kept_costs_little_and_is_never_in_the_way() {
        let (mut aways, mut pool) = (Aways::default(), Pool::default());
        let key = add(&mut aways, &mut pool, 0, 0);
        assert!(aways.kept(key).is_none() && aways.order.is_empty());
        assert_eq!((aways.longest_gone(), aways.left_at(key)), (None, Tick(0)));
        assert_eq!(aways.kept_mut(key).map(|kept| kept.messages()), Some(0), "a message may be kept for it");
        assert_eq!(aways.longest_gone(), None);
        assert!(aways.kept(key).is_none() && aways.order.is_empty(), "its turn has come");
        assert_eq!(aways.remove(key).messages(), 0);
        assert_eq!(aways.all_kept().count(), 0);
    }
}
