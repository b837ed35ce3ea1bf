//! Who gets room for what it sends, and when: the relay's side of the [budget](super::budget).

use std::io::{Read, Write};

use log::{debug, warn};

use super::budget::{Ask, Room};
use super::ids::ConnectionId;
use super::inbound::Refused;
use super::limits::{CONNECTIONS_PER_TURN, PAGE_BYTES};
use super::message::CloseReason;
use super::{Relay, Timer};

impl<S: Read + Write> Relay<S> {
    /// Gives a client the room that its message needs, or puts it in line; whether it has it.
    pub(super) fn ask_for_room(&mut self, id: ConnectionId, ask: Ask) -> bool {
        self.settle(id);
        if let Some(room) = self.budget.try_reserve(ask) {
            self.give_room(id, ask, room);
            return true;
        }
        debug!("conn={id} room_bytes={} Waits for room", ask.bytes);
        self.counters.room_awaited += 1;
        if !self.budget.is_awaited() {
            self.note_line_moved();
        }
        self.budget.wait(id, ask);
        if let Some(slot) = self.slots.get_mut(id) {
            let claim = slot.claim_mut();
            (claim.asked, claim.asked_at) = (Some(ask.order), self.now.tick);
            slot.connection.keep_rest(&mut self.receiver, self.now.tick);
        }
        false
    }

    fn give_room(&mut self, id: ConnectionId, ask: Ask, room: Room) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        debug!("conn={id} room_bytes={} Has room", ask.bytes);
        if ask.is_fragmented {
            slot.claim_mut().fragments = Some(ask.order);
        }
        let given = slot.connection.inbound.give_room(room, &mut self.pool.blocks);
        if let Err(Refused { reason, error, is_framing_intact }) = given {
            self.fail(id, &reason, error.as_ref(), is_framing_intact);
        }
    }

    /// Brings the budget up to date with what a connection holds and asks for.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        // A connection whose small memory does not fit 32 bits is not worth eight bytes of every other.
        let bytes = u32::try_from(slot.connection.small_bytes()).unwrap_or(u32::MAX);
        if bytes != slot.charged_bytes {
            self.budget.charge_small(slot.charged_bytes, bytes);
            slot.charged_bytes = bytes;
        }
        let check_bytes = slot.connection.inbound.check_bytes();
        if check_bytes > 0 {
            slot.claim_mut();
        }
        let Some(claim) = &mut slot.claim else { return };
        let inbound = &slot.connection.inbound;
        self.budget.charge_checks(claim.check_bytes, check_bytes);
        claim.check_bytes = check_bytes;
        if inbound.asked().is_none()
            && let Some(order) = claim.asked.take()
        {
            self.budget.forget(order);
        }
        if let Some(order) = claim.fragments.take_if(|order| inbound.fragments_order() != Some(*order)) {
            self.budget.end_fragments(order);
        }
        if claim.is_empty() {
            slot.claim = None;
        }
    }

    /// Notes a client that is not read for want of room for small messages.
    pub(super) fn starve(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(id)
            && !slot.is_starved
        {
            slot.is_starved = true;
            self.starved.push_back(id);
        }
        // Those that are gone are taken out once they are as many as all others.
        if self.starved.len() > 2 * self.slots.len() {
            self.starved.retain(|&id| self.slots.get(id).is_some());
        }
    }

    /// Hands out the room that has come free. Bounded; whoever could go on and is not reached is told in the
    /// next turn.
    pub(super) fn hand_out_room(&mut self) {
        for _ in 0..CONNECTIONS_PER_TURN {
            let Some((id, ask, room)) = self.budget.poll_granted() else { break };
            self.note_line_moved();
            self.give_room(id, ask, room);
            self.settle(id);
            self.make_ready(id);
            self.touch(id);
        }
        for _ in 0..CONNECTIONS_PER_TURN {
            if !self.budget.has_small_room() {
                break;
            }
            let Some(id) = self.starved.pop_front() else { break };
            if let Some(slot) = self.slots.get_mut(id) {
                slot.is_starved = false;
            }
            self.make_ready(id);
            self.touch(id);
        }
    }

    pub(super) const fn note_line_moved(&mut self) {
        self.line_moved_at = self.now.tick;
    }

    /// Sets the timer of the line while there is one.
    pub(super) fn watch_line(&mut self) {
        if self.budget.is_awaited() {
            let deadline = self.line_moved_at.after(self.settings.stall_timeout);
            self.line_timer = self.rearm(self.line_timer, deadline, Timer::Line);
        } else if let Some((_, timer)) = self.line_timer.take() {
            self.wheel.cancel(timer);
        }
    }

    /// Ends those who have waited for the stall timeout in a line that has not moved for as long, who began last
    /// first, until another can be served.
    pub(super) fn end_line_that_stands(&mut self) {
        let (now, timeout) = (self.now.tick, self.settings.stall_timeout);
        if now < self.line_moved_at.after(timeout) {
            return;
        }
        warn!(
            "waiting={} The line for room does not move: ending those who came last",
            self.budget.line_len()
        );
        for id in self.budget.line() {
            if self.budget.is_grantable() {
                break;
            }
            // Those that hold themselves back have a time of their own.
            let held = self.slots.get(id).filter(|slot| slot.connection.is_noted_held());
            let asked_at = held.and_then(|slot| slot.claim.as_ref()).map(|claim| claim.asked_at);
            if asked_at.is_some_and(|asked_at| now >= asked_at.after(timeout)) {
                self.counters.room_given_up += 1;
                self.fail(id, &CloseReason::NoRoom, None, true);
                self.settle(id);
                // What it kept behind its frame goes now.
                self.serve(id);
            }
        }
        self.note_line_moved();
    }

    /// Ends a client whose text, by its nesting, takes more than there is: no room was asked for that.
    pub(super) fn refuse_nesting_over_budget(&mut self, id: ConnectionId) {
        let check_bytes = self.slots.get(id).map_or(0, |slot| slot.connection.inbound.check_bytes());
        if check_bytes > PAGE_BYTES && self.budget.is_over() {
            self.fail(id, &CloseReason::NoRoom, None, true);
            self.settle(id);
        }
    }

    /// Whether [`hand_out_room`](Self::hand_out_room) has something left to do.
    pub(super) fn is_room_due(&self) -> bool {
        self.budget.is_grantable() || (!self.starved.is_empty() && self.budget.has_small_room())
    }
}
