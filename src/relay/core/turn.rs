//! One turn: serves ready connections, fires due timers, writes what is queued. Each step is bounded.

use std::io::{Read, Write};

use log::{Level, log_enabled};

use super::record::MESSAGES;
use super::relay::Relay;
use crate::relay::client::connection::ReadEnd;
use crate::relay::ids::ConnectionId;
use crate::relay::limits::{CONNECTIONS_PER_TURN, LEAST_READ_BYTES, READ_BYTES_PER_TURN, TIMERS_PER_TURN};
use crate::relay::time::Now;

impl<S: Read + Write> Relay<S> {
    /// Reads from ready connections and routes what they sent, fires the timers due at `now`, and flushes every
    /// touched connection. Bounded; [`has_work`](Self::has_work) is true if something is left for the next turn.
    pub fn handle_turn(&mut self, now: Now) {
        // Messages of the turn before are measured here if the host did not measure that turn.
        self.measure_delivered(self.now);
        self.now = now;
        self.is_logging_messages = log_enabled!(target: MESSAGES, Level::Info);
        self.catch_up.begin_turn(now.tick, self.ready.len());
        let served = self.ready.len().min(CONNECTIONS_PER_TURN);
        for _ in 0..served {
            if let Some(id) = self.ready.pop_front() {
                self.serve(id);
            }
        }
        self.catch_up.note_served(served);
        self.wheel.advance(now.tick);
        for _ in 0..TIMERS_PER_TURN {
            let Some((_, timer)) = self.wheel.poll_expired() else { break };
            self.fire(timer);
        }
        self.flush_touched();
        self.serve_starved();
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Reads from one connection until nothing is left, it is held, or its share of the turn is used up.
    fn serve(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.find_mut(id) else { return };
        slot.is_ready = false;
        let mut allowance = READ_BYTES_PER_TURN;
        while self.may_read(id) {
            if allowance == 0 {
                self.make_ready(id);
                break;
            }
            self.make_room();
            let Some(slot) = self.slots.get_mut(id) else { break };
            let transits = &mut self.pool.transits;
            let bytes_max = slot.connection.read_bytes_max(&transits.memory);
            match slot.connection.read(&mut self.receiver, transits, bytes_max, self.now.tick) {
                ReadEnd::Bytes(count) => {
                    // A read costs a system call, however little it brings.
                    allowance = allowance.saturating_sub(count.max(LEAST_READ_BYTES));
                    self.take_in(id, count);
                    self.settle(id);
                    self.flush_early(id, count);
                    if !self.slots.find(id).is_some_and(|slot| slot.connection.is_readable()) {
                        // Nothing is left to read. The flush works out whether it is held.
                        break;
                    }
                }
                ReadEnd::Blocked => break,
                ReadEnd::Ended => {
                    self.end_of_stream(id);
                    break;
                }
                ReadEnd::Failed => {
                    self.lose(id);
                    break;
                }
            }
        }
        self.touch(id);
    }
}
