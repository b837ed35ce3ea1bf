//! Checks what must hold between any two inputs. For tests and debug builds.

use std::io::{Read, Write};

use super::relay::Relay;
use super::slots::Slot;
use crate::relay::client::connection::Phase;
use crate::relay::client::outbox::{Outbox, Unconfirmed};
use crate::relay::counts::counters::ByClientType;
use crate::relay::ids::ClientType;
use crate::relay::memory::SmallBytes;

impl<S: Read + Write> Relay<S> {
    /// Checks that the counters add up.
    fn check_counters(&self) {
        let counters = &self.counters;
        let live = |slot: &Slot<S>| match slot.connection.phase {
            Phase::Head(_) | Phase::Open => 1,
            Phase::Closing(_) | Phase::Ending(_) => 0,
        };
        let (mut unended, mut waiting) = (0, ByClientType::default());
        for slot in self.slots.ids().into_iter().filter_map(|id| self.slots.get(id)) {
            unended += live(slot);
            let unwritten = slot.connection.outbox().map_or(0, |outbox| outbox.backlog().messages);
            let messages = unwritten + slot.connection.unconfirmed().map_or(0, Unconfirmed::messages);
            waiting.add(&slot.client_type().peer(), messages);
        }
        for (receiver, kept) in self.sessions.all_kept() {
            waiting.add(&receiver.peer(), kept.messages());
        }
        let ended: u64 = counters.connections_ended.iter().sum();
        assert_eq!(counters.connections_accepted, ended + unended, "each connection ends once");
        for sender in ClientType::ALL {
            let ended = counters.messages_delivered.of(&sender)
                + counters.messages_undelivered.of(&sender)
                + counters.messages_cut_short.of(&sender);
            let accepted = counters.messages_accepted.of(&sender);
            assert_eq!(accepted, ended + waiting.of(&sender), "no message is lost uncounted");
        }
        let messages: u64 = counters.messages_accepted.iter().sum();
        let bytes: u64 = counters.bytes_accepted.iter().sum();
        let sizes = &counters.message_bytes;
        let (open, open_bytes) = self.pool.transits.unmeasured();
        let measured = (sizes.count() + open, sizes.sum() + open_bytes);
        assert_eq!(measured, (messages, bytes), "each message has a size");
        let unmeasured: u64 = self.pool.delivered.iter().map(|arrived| u64::from(arrived.messages)).sum();
        let measured = counters.relay_micros.count() + unmeasured;
        let delivered = counters.messages_delivered.iter().sum::<u64>();
        if self.pool.transits.keeps_written() {
            assert!(delivered <= measured, "each is measured when it is first written");
        } else {
            assert_eq!(delivered, measured, "each is measured once");
        }
        let confirmed: u64 = counters.messages_confirmed.iter().sum();
        assert_eq!(counters.confirm_millis.count(), confirmed, "each confirmation is measured");
    }

    /// Checks what must hold between any two inputs. Walks everything: for tests and debug builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn check_invariants(&self) {
        self.wheel.check_invariants();
        self.check_counters();
        let (mut members, mut charged_bytes, mut senders, mut starved) = (0, 0, 0, 0);
        let (mut cursors, mut keepers, mut cached_bytes, mut returned_bytes) = (Vec::new(), Vec::new(), 0, 0);
        let (mut counted, mut outside) = (0, 0);
        for id in self.slots.ids() {
            let Some(slot) = self.slots.get(id) else { continue };
            charged_bytes += slot.charged_bytes as usize;
            counted += usize::from(slot.connection.remote.standing.is_counted());
            outside += usize::from(slot.connection.remote.standing.is_outside());
            starved += usize::from(slot.is_starved);
            senders += usize::from(slot.connection.inbound.transit().is_some());
            cursors.extend(slot.connection.outbox().into_iter().flat_map(Outbox::cursors));
            returned_bytes += slot.connection.outbox().map_or(0, Outbox::returned_bytes);
            if let Some(unconfirmed) = slot.connection.unconfirmed() {
                let (of_it, bytes) = unconfirmed.kept();
                keepers.extend(of_it);
                cached_bytes += bytes;
            }
            if !slot.is_touched {
                assert_eq!(
                    slot.charged_bytes as usize,
                    slot.connection.small_bytes(),
                    "{id}: what it holds is charged"
                );
            }
            let is_open = matches!(slot.connection.phase, Phase::Open);
            assert_eq!(is_open, slot.membership().is_some(), "{id}: in a session exactly while open");
            if let Some(membership) = slot.membership() {
                let session = self.sessions.get(membership.session);
                let client = session.and_then(|session| session.client(membership.client_type));
                assert_eq!(client, Some(id), "the session knows its member");
                members += 1;
            }
            if let Some((deadline, _)) = slot.connection.due(&self.settings, self.now.tick)
                && !slot.is_touched
            {
                assert!(slot.timer.is_some_and(|alarm| alarm.at <= deadline), "{id}: its timer is set");
            }
        }
        let census = self.sessions.census();
        self.sessions.check_invariants();
        assert_eq!(census.clients.iter().sum::<u64>(), members, "sessions have no other members");
        self.check_drain();
        self.gate.hosts.check_invariants(counted);
        assert_eq!(self.gate.outside(), outside, "connections outside are counted");
        assert_eq!(self.starved_clients, starved, "clients that wait for memory are counted");
        for (_, kept) in self.sessions.all_kept() {
            let (of_it, bytes) = kept.kept();
            keepers.extend(of_it);
            cached_bytes += bytes;
        }
        let small = SmallBytes { claimed: charged_bytes, returned: returned_bytes, cached: cached_bytes };
        self.pool.transits.check_invariants(&cursors, &keepers, senders, small);
    }
}
