//! Sessions without a client, in the order in which they end to make room for other sessions.
//!
//! Each is attributed to a host, its *holder*: the one whose client left last, or that had the session issued. If
//! there is no room for another session, a holder of more than its share loses sessions first. Nothing is scanned:
//! holders over their share are in a list of their own.

use hashbrown::HashTable;
use slab::Slab;

use super::SessionKey;
use crate::relay::address::Host;
use crate::relay::tables::idle_order::{IdleOrder, Links, Ordered};
use crate::relay::tables::keyed_hash::KeyedHash;

/// Identifies an empty session while it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EmptyKey(u32);

/// Identifies a host while it holds an empty session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HolderKey(u32);

/// The kinds of empty sessions. Those of an earlier kind end first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmptyKind {
    /// It was issued, and no client has joined it.
    Unused,
    /// It is not claimed: any client can begin it again.
    Open,
    /// It is claimed. If it ended, another client could begin it again and claim it.
    Claimed,
    /// Messages were kept in it when it became empty.
    Keeping,
}

/// One list for each [`EmptyKind`], in the order in which the sessions became empty.
type Lists = [IdleOrder<EmptyKey>; 4];

#[derive(Debug)]
struct EmptySession {
    session: SessionKey,
    kind: EmptyKind,
    holder: HolderKey,
    links: Links<EmptyKey>,
    /// Its links in the holder's own list.
    links_of_holder: Links<EmptyKey>,
}

#[derive(Debug)]
struct Holder {
    host: Host,
    count: usize,
    lists: Lists,
    /// In the list of holders over their share. Undefined for any other holder.
    links: Links<HolderKey>,
}

/// All empty sessions.
#[derive(Debug)]
pub(super) struct Empties {
    entries: Slab<EmptySession>,
    lists: Lists,
    holders: Slab<Holder>,
    by_host: HashTable<HolderKey>,
    hash: KeyedHash,
    over_share: IdleOrder<HolderKey>,
    /// The most empty sessions of one host before it loses them first.
    share: usize,
}

impl Empties {
    pub(super) fn new(share: usize, hash: KeyedHash) -> Self {
        Self {
            entries: Slab::new(),
            lists: Lists::default(),
            holders: Slab::new(),
            by_host: HashTable::new(),
            hash,
            over_share: IdleOrder::default(),
            share,
        }
    }

    /// Adds a session that has become empty. Pass the key to [`leave`](Self::leave) when the session is joined or
    /// ends.
    #[expect(clippy::cast_possible_truncation, reason = "at most as many as sessions, which fit")]
    pub(super) fn join(&mut self, session: SessionKey, kind: EmptyKind, host: Host) -> EmptyKey {
        let holder = self.find_or_add(host);
        let (links, links_of_holder) = (Links::default(), Links::default());
        let entry = EmptySession { session, kind, holder, links, links_of_holder };
        let key = EmptyKey(self.entries.insert(entry) as u32);
        if let Some(list) = self.lists.get_mut(kind as usize) {
            list.push_back(key, &mut AmongAll(&mut self.entries));
        }
        let Some(known) = self.holders.get_mut(holder.0 as usize) else { return key };
        if let Some(list) = known.lists.get_mut(kind as usize) {
            list.push_back(key, &mut AmongSameHolder(&mut self.entries));
        }
        known.count += 1;
        // Exactly when the share is crossed, so that each holder is in the list at most once.
        if known.count == self.share + 1 {
            self.over_share.push_back(holder, &mut self.holders);
        }
        key
    }

    /// Removes a session that was joined or has ended.
    pub(super) fn leave(&mut self, key: EmptyKey) {
        let Some(&EmptySession { kind, holder, .. }) = self.entries.get(key.0 as usize) else { return };
        if let Some(list) = self.lists.get_mut(kind as usize) {
            list.remove(key, &mut AmongAll(&mut self.entries));
        }
        if let Some(known) = self.holders.get_mut(holder.0 as usize) {
            if let Some(list) = known.lists.get_mut(kind as usize) {
                list.remove(key, &mut AmongSameHolder(&mut self.entries));
            }
            // The holder's record is deleted with its last empty session.
            known.count -= 1;
            let count = known.count;
            // Exactly when it comes back to its share: it was in the list until now.
            if count == self.share {
                self.over_share.remove(holder, &mut self.holders);
            }
            if count == 0 {
                self.forget(holder);
            }
        }
        self.entries.try_remove(key.0 as usize);
    }

    /// The session to end for one that is being joined: of the earliest kind, the one that has been empty for
    /// longest. Those of a holder over its share come first.
    pub(super) fn first(&self) -> Option<SessionKey> {
        let lists = self.lists_of_host_over_share().unwrap_or(&self.lists);
        self.session(lists.iter().find_map(|list| list.first)?)
    }

    /// The session to end for one that is being issued: one that was never joined, or any of a holder over its share.
    pub(super) fn first_for_issue(&self) -> Option<SessionKey> {
        if self.over_share.first.is_some() {
            return self.first();
        }
        // The lists are in the order of the kinds.
        let [unused, ..] = &self.lists;
        self.session(unused.first?)
    }

    fn lists_of_host_over_share(&self) -> Option<&Lists> {
        self.holders.get(self.over_share.first?.0 as usize).map(|holder| &holder.lists)
    }

    fn session(&self, key: EmptyKey) -> Option<SessionKey> {
        self.entries.get(key.0 as usize).map(|entry| entry.session)
    }

    /// The key of the host's entry, which is added if there is none.
    #[expect(clippy::cast_possible_truncation, reason = "at most as many as sessions, which fit")]
    fn find_or_add(&mut self, host: Host) -> HolderKey {
        let is_it =
            |key: &HolderKey| self.holders.get(key.0 as usize).is_some_and(|known| known.host == host);
        if let Some(&key) = self.by_host.find(self.hash.of(&host), is_it) {
            return key;
        }
        let holder = Holder { host, count: 0, lists: Lists::default(), links: Links::default() };
        let key = HolderKey(self.holders.insert(holder) as u32);
        let (hash, holders) = (self.hash, &self.holders);
        // The table has only keys, so it looks the hosts up when it grows.
        let rehash = |key: &HolderKey| holders.get(key.0 as usize).map_or(0, |known| hash.of(&known.host));
        self.by_host.insert_unique(hash.of(&host), key, rehash);
        key
    }

    fn forget(&mut self, key: HolderKey) {
        let Some(holder) = self.holders.try_remove(key.0 as usize) else { return };
        if let Ok(found) = self.by_host.find_entry(self.hash.of(&holder.host), |other| *other == key) {
            found.remove();
        }
    }

    /// Checks what must hold between two calls; `count` sessions are empty. Visits every entry: for debug builds.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self, count: usize) {
        assert_eq!(self.entries.len(), count, "each empty session has an entry");
        let held: usize = self.holders.iter().map(|(_, holder)| holder.count).sum();
        assert_eq!(held, count, "each entry has a holder");
        assert!(
            self.holders.iter().all(|(_, holder)| holder.count > 0),
            "a host without empty sessions has no entry"
        );
        assert_eq!(self.by_host.len(), self.holders.len());
        let is_any_over = self.holders.iter().any(|(_, holder)| holder.count > self.share);
        assert_eq!(
            self.over_share.first.is_some(),
            is_any_over,
            "holders over their share are in their list"
        );
    }
}

/// The links in the lists of all empty sessions.
struct AmongAll<'a>(&'a mut Slab<EmptySession>);

/// The links in the lists of one holder.
struct AmongSameHolder<'a>(&'a mut Slab<EmptySession>);

impl Ordered for AmongAll<'_> {
    type Key = EmptyKey;

    fn links_mut(&mut self, key: EmptyKey) -> Option<&mut Links<EmptyKey>> {
        self.0.get_mut(key.0 as usize).map(|entry| &mut entry.links)
    }
}

impl Ordered for AmongSameHolder<'_> {
    type Key = EmptyKey;

    fn links_mut(&mut self, key: EmptyKey) -> Option<&mut Links<EmptyKey>> {
        self.0.get_mut(key.0 as usize).map(|entry| &mut entry.links_of_holder)
    }
}

impl Ordered for Slab<Holder> {
    type Key = HolderKey;

    fn links_mut(&mut self, key: HolderKey) -> Option<&mut Links<HolderKey>> {
        self.get_mut(key.0 as usize).map(|holder| &mut holder.links)
    }
}
