//! A line of entries that stand in a slab: joined at its end, left from anywhere, in constant time.

/// A slab whose entries can stand in a line.
pub(crate) trait Ordered {
    /// Names an entry.
    type Key: Copy;

    /// The place of an entry in the line.
    fn place_mut(&mut self, key: Self::Key) -> Option<&mut Links<Self::Key>>;
}

/// Who stands before and behind an entry; means nothing while it is not in the line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links<K> {
    before: Option<K>,
    behind: Option<K>,
}

impl<K> Default for Links<K> {
    fn default() -> Self {
        Self { before: None, behind: None }
    }
}

/// The ends of a line.
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
    /// Puts an entry that is not in the line at its end.
    pub(crate) fn join(&mut self, key: K, entries: &mut impl Ordered<Key = K>) {
        let before = self.last.replace(key);
        match before.and_then(|before| entries.place_mut(before)) {
            Some(before) => before.behind = Some(key),
            None => self.first = Some(key),
        }
        if let Some(place) = entries.place_mut(key) {
            *place = Links { before, behind: None };
        }
    }

    /// Takes an entry that is in the line out of it.
    pub(crate) fn leave(&mut self, key: K, entries: &mut impl Ordered<Key = K>) {
        let Some(&mut Links { before, behind }) = entries.place_mut(key) else { return };
        match before.and_then(|before| entries.place_mut(before)) {
            Some(before) => before.behind = behind,
            None => self.first = behind,
        }
        match behind.and_then(|behind| entries.place_mut(behind)) {
            Some(behind) => behind.before = before,
            None => self.last = before,
        }
    }
}
