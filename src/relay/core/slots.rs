//! The slab of connections. Every look-up compares the generation, so that an identifier of an ended connection never
//! reaches the next connection in its slot.

use std::io::{Read, Write};

use slab::Slab;

use crate::relay::client::connection::Connection;
use crate::relay::hook::Member;
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::limits::TABLE_CAPACITY;
use crate::relay::sessions::SessionKey;
use crate::relay::tables::idle_order::{Links, Ordered};
use crate::relay::tables::wheel::Alarm;

/// A connection, and what the relay knows of it beyond its stream.
#[derive(Debug)]
pub(super) struct Slot<S> {
    pub(super) connection: Connection<S>,
    generation: u32,
    /// Its session, from the upgrade until it closes, is closed or is replaced.
    session: Option<SessionKey>,
    client_type: ClientType,
    /// The only timer of the connection. It fires no later than [`Connection::due`] says.
    pub(super) timer: Option<Alarm>,
    /// Bytes that the memory account was last charged for it.
    pub(super) charged_bytes: u32,
    pub(super) is_ready: bool,
    pub(super) is_touched: bool,
    pub(super) is_starved: bool,
}

impl<S> Slot<S> {
    pub(super) fn membership(&self) -> Option<Membership> {
        self.session.map(|session| Membership { session, client_type: self.client_type })
    }

    /// Its side of the session, also after it has left.
    pub(super) const fn client_type(&self) -> ClientType {
        self.client_type
    }

    /// The client as the host's hook sees it.
    pub(super) fn as_member<'a>(
        &self,
        connection: ConnectionId,
        client_type: ClientType,
        session_id: &'a str,
    ) -> Member<'a> {
        let address = self.connection.remote.address.plain();
        Member { connection, client_type, session_id, address, key_name: None }
    }

    pub(super) const fn join(&mut self, Membership { session, client_type }: Membership) {
        self.session = Some(session);
        self.client_type = client_type;
    }

    /// Takes it out of its session. Returns the membership that it had.
    pub(super) fn leave(&mut self) -> Option<Membership> {
        let membership = self.membership();
        self.session = None;
        membership
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) session: SessionKey,
    pub(super) client_type: ClientType,
}

#[derive(Debug)]
pub(super) struct Slots<S> {
    entries: Slab<Slot<S>>,
    next_generation: u32,
}

impl<S: Read + Write> Ordered for Slots<S> {
    type Key = ConnectionId;

    fn links_mut(&mut self, key: ConnectionId) -> Option<&mut Links<ConnectionId>> {
        Some(&mut self.get_mut(key)?.connection.unconfirmed_mut()?.links)
    }
}

impl<S> Slots<S> {
    pub(super) fn new() -> Self {
        Self { entries: Slab::with_capacity(TABLE_CAPACITY), next_generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the host has fewer descriptors")]
    pub(super) fn insert(&mut self, connection: Connection<S>) -> ConnectionId {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1) & ConnectionId::GENERATION_MAX;
        let slot = self.entries.insert(Slot {
            connection,
            generation,
            session: None,
            client_type: ClientType::Desktop,
            timer: None,
            charged_bytes: 0,
            is_ready: false,
            is_touched: false,
            is_starved: false,
        });
        ConnectionId { slot: slot as u32, generation }
    }

    /// The slot of a connection that is there: its identifier comes from the relay's own tables.
    #[track_caller]
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Slot<S>> {
        let slot = self.find(id);
        debug_assert!(slot.is_some(), "{id}: a connection in the relay's tables is there");
        slot
    }

    /// As [`get`](Self::get), to change it.
    #[track_caller]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Slot<S>> {
        let slot = self.find_mut(id);
        debug_assert!(slot.is_some(), "{id}: a connection in the relay's tables is there");
        slot
    }

    /// The slot of a connection that may have ended: its identifier comes from the host, or was kept for later.
    pub(super) fn find(&self, id: ConnectionId) -> Option<&Slot<S>> {
        self.entries.get(id.slot as usize).filter(|slot| slot.generation == id.generation)
    }

    /// As [`find`](Self::find), to change it.
    pub(super) fn find_mut(&mut self, id: ConnectionId) -> Option<&mut Slot<S>> {
        self.entries.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)
    }

    /// The slot of a connection, and that of its peer.
    pub(super) fn with_peer(
        &mut self,
        id: ConnectionId,
        peer: Option<ConnectionId>,
    ) -> Option<(&mut Slot<S>, Option<&Slot<S>>)> {
        let Some(peer) = peer else { return self.find_mut(id).map(|slot| (slot, None)) };
        let (slot, peer_slot) = self.entries.get2_mut(id.slot as usize, peer.slot as usize)?;
        debug_assert_eq!(peer_slot.generation, peer.generation, "{peer}: a peer is there");
        (slot.generation == id.generation).then_some((slot, Some(peer_slot)))
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Slot<S>> {
        self.find(id)?;
        self.entries.try_remove(id.slot as usize)
    }

    /// Identifiers of all connections. Walks all slots: for a shutdown, which happens once, and for checks.
    #[expect(clippy::cast_possible_truncation, reason = "inserted as such")]
    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        let id = |(slot, entry): (usize, &Slot<S>)| ConnectionId {
            slot: slot as u32,
            generation: entry.generation,
        };
        self.entries.iter().map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::sessions::Session;

    #[test]
    fn idle_client_takes_no_more_memory_than_it_was_found_to_need() {
        // `[u8; 4]` stands for a socket. One more flag would make every connection eight bytes larger.
        #[cfg(target_pointer_width = "64")]
        assert_eq!((size_of::<Slot<[u8; 4]>>(), size_of::<Session>()), (152, 96));
    }
}
