//! What a client's frames do to its connection: all that RFC 6455 asks of an endpoint, whatever the
//! messages are for.

use std::io::{Read, Write};

use super::{Connection, Phase};
use crate::relay::client::inbound::{Incoming, Receiver, Rules, Violation};
use crate::relay::client::outbox::Pool;
use crate::relay::limits::CLOSE_TIMEOUT;
use crate::relay::time::Tick;
use crate::relay::transit::Transits;
use crate::relay::wire::frame::{Opcode, ServerHeader};
use crate::relay::wire::message::CloseReason;

impl<S: Read + Write> Connection<S> {
    /// Takes the next whole thing out of what was read; at `None` the rest of it is kept for the
    /// next read, or thrown away if nothing that comes is looked at any more.
    ///
    /// A refusal is the caller's to act on, with [`fail`](Self::fail); there may be more to take even then.
    pub fn next_incoming(
        &mut self,
        receiver: &mut Receiver,
        transits: &mut Transits,
        rules: Rules,
        now: Tick,
    ) -> Result<Option<Incoming>, Violation> {
        let discard = match self.phase {
            Phase::Open => false,
            Phase::Closing(_) => true,
            Phase::Head(_) | Phase::Ending(_) => {
                receiver.clear();
                return Ok(None);
            }
        };
        let incoming = self.inbound.next(receiver, transits, Rules { discard, ..rules })?;
        if incoming.is_none() {
            self.inbound.keep_rest(receiver, now);
        }
        Ok(incoming)
    }

    /// Answers a ping, ahead of what waits (RFC 6455, section 5.5.2).
    pub fn pong(&mut self, payload: &[u8], pool: &mut Pool) {
        // Behind the relay's own close frame nothing more is said.
        if matches!(self.phase, Phase::Open) {
            let header = ServerHeader::new(Opcode::Pong, true, payload.len());
            self.outbox_mut(pool).control(pool, |out| {
                out.extend_from_slice(header.as_bytes());
                out.extend_from_slice(payload);
            });
        }
    }

    /// Answers the client's close, unless that is itself an answer, and lets the stream end
    /// (RFC 6455, section 5.5.1). What came behind the close is still in `receiver`.
    pub fn answer_close(&mut self, answer: &CloseReason, receiver: &Receiver, pool: &mut Pool, now: Tick) {
        if matches!(self.phase, Phase::Open) {
            self.outbox_mut(pool).push_relay_frame(|out| answer.write_frame(out));
        }
        if receiver.bytes().is_empty() && !self.is_readable {
            self.end_after_input(pool, now);
        } else {
            self.end(pool, now);
        }
    }

    /// Closes because of what the client did, or did not do in time (RFC 6455, section 7.1.7).
    ///
    /// As long as frames can be told apart, it is given the chance to answer the close: behind a
    /// proxy, it would not get to read it otherwise.
    pub fn fail(&mut self, reason: &CloseReason, is_framing_intact: bool, pool: &mut Pool, now: Tick) {
        // Behind the relay's own close frame nothing more is said.
        if matches!(self.phase, Phase::Open) {
            self.close(reason, pool, now.after(CLOSE_TIMEOUT), now);
        }
        if !is_framing_intact {
            self.end(pool, now);
        }
    }
}
