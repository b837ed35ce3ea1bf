//! A linked list of entries of a slab. Adding at the end and removing anywhere take constant time.

/// A slab whose entries can be in a list. An entry has one [`Links`] for each list that it can be in.
pub(crate) trait Ordered {
    /// Identifies an entry.
    type Key: Copy;

    /// The links of an entry for this list. `None` if there is no such entry.
    fn links_mut(&mut self, key: Self::Key) -> Option<&mut Links<Self::Key>>;
}

/// The neighbours of an entry in the list. Undefined while the entry is not in the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links<K> {
    previous: Option<K>,
    next: Option<K>,
}

impl<K> Default for Links<K> {
    fn default() -> Self {
        Self { previous: None, next: None }
    }
}

/// Both ends of the list, which is ordered by time: the entry that has been in it for longest comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleOrder<K> {
    pub(crate) first: Option<K>,
    pub(crate) last: Option<K>,
}

impl<K> Default for IdleOrder<K> {
    fn default() -> Self {
        Self { first: None, last: None }
    }
}

impl<K: Copy> IdleOrder<K> {
    /// Adds an entry at the end. It must not be in the list.
    pub(crate) fn push_back(&mut self, key: K, entries: &mut impl Ordered<Key = K>) {
        let previous = self.last.replace(key);
        match previous.and_then(|previous| entries.links_mut(previous)) {
            Some(previous) => previous.next = Some(key),
            None => self.first = Some(key),
        }
        if let Some(links) = entries.links_mut(key) {
            *links = Links { previous, next: None };
        }
    }

    /// Removes an entry, which must be in the list. Its own links keep their values: the next `push_back` sets them.
    pub(crate) fn remove(&mut self, key: K, entries: &mut impl Ordered<Key = K>) {
        let Some(&mut Links { previous, next }) = entries.links_mut(key) else { return };
        match previous.and_then(|previous| entries.links_mut(previous)) {
            Some(previous) => previous.next = next,
            None => self.first = next,
        }
        match next.and_then(|next| entries.links_mut(next)) {
            Some(next) => next.previous = previous,
            None => self.last = previous,
        }
    }
}
