//! What a client's frames do to its connection: the duties of an RFC 6455 endpoint, apart from what the messages
//! mean.

use std::io::{Read, Write};

use super::{Connection, Phase};
use crate::relay::client::inbound::{Incoming, Receiver, Rules, Violation};
use crate::relay::client::outbox::Pool;
use crate::relay::limits::CLOSE_TIMEOUT;
use crate::relay::time::Tick;
use crate::relay::transit::Transits;
use crate::relay::wire::close_reason::CloseReason;
use crate::relay::wire::frame::{Opcode, ServerHeader};

impl<S: Read + Write> Connection<S> {
    /// Takes the next complete message or control frame out of what was read. At `None` none is left: the rest is
    /// stored for the next read, or dropped if the connection is ending.
    ///
    /// At a violation the caller calls [`fail`](Self::fail). After that it may call this again: frames that came
    /// behind the violation may follow.
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

    /// Answers a ping, ahead of the messages that wait (RFC 6455, section 5.5.2).
    pub fn pong(&mut self, payload: &[u8], pool: &mut Pool) {
        // The relay sends nothing behind its own close frame.
        if matches!(self.phase, Phase::Open) {
            let header = ServerHeader::new(Opcode::Pong, true, payload.len());
            self.outbox_mut(pool).control(pool, |out| {
                out.extend_from_slice(header.as_bytes());
                out.extend_from_slice(payload);
            });
        }
    }

    /// Handles the client's close frame: answers it, unless it is itself the answer to the relay's close, and ends the
    /// stream (RFC 6455, section 5.5.1). Bytes that came behind the close frame are still in `receiver`.
    pub fn answer_close(&mut self, answer: &CloseReason, receiver: &Receiver, pool: &mut Pool, now: Tick) {
        if matches!(self.phase, Phase::Open) {
            self.outbox_mut(pool).push_relay_frame(|out| answer.write_frame(out));
        }
        // If the close frame was the last thing to read, the relay closes the stream as soon as the answer is written.
        // With unread bytes in the socket, closing it would reset the connection, and the client could lose the
        // answer.
        if receiver.bytes().is_empty() && !self.is_readable {
            self.end_after_input(pool, now);
        } else {
            self.end(pool, now);
        }
    }

    /// Closes because the client broke a rule or missed a timeout (RFC 6455, section 7.1.7).
    ///
    /// If `is_framing_intact`, the relay goes on reading until the client answers the close. If it did not, a client
    /// behind a proxy might not receive the close frame: some proxies drop what is left once one side has ended.
    pub fn fail(&mut self, reason: &CloseReason, is_framing_intact: bool, pool: &mut Pool, now: Tick) {
        // The relay sends at most one close frame, and it may have sent it already.
        if matches!(self.phase, Phase::Open) {
            self.close(reason, pool, now.after(CLOSE_TIMEOUT), now);
        }
        if !is_framing_intact {
            self.end(pool, now);
        }
    }
}
