//! Reads what clients send: request heads, frames, the messages in them.

use std::io::{Read, Write};

use log::debug;

use super::record::End;
use super::relay::Relay;
use crate::relay::client::connection::Phase;
use crate::relay::client::inbound::{Incoming, Rules};
use crate::relay::counts::end_reason::EndReason;
use crate::relay::http::{
    AnswerForm, HeadProgress, HeadRules, Verdict, write_health, write_nothing, write_preflight,
};
use crate::relay::ids::ConnectionId;
use crate::relay::limits::{LINGER_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};
use crate::relay::wire::frame::Opcode;
use crate::relay::wire::message::ClientError;

impl<S: Read + Write> Relay<S> {
    /// Takes in what one read brought: `count` bytes, most of them in the receive buffer.
    pub(super) fn take_in(&mut self, id: ConnectionId, count: usize) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        match &mut slot.connection.phase {
            Phase::Head(reader) => {
                let rules = HeadRules {
                    proxies: self.gate.proxies_believed_in_head(slot.connection.remote.address),
                    origins: &self.settings.allow_origin,
                };
                let mut refused_path = None;
                let progress = reader.push_and_note(self.receiver.bytes(), rules, &mut refused_path);
                self.take_head(id, progress, refused_path.as_deref());
            }
            Phase::Open => self.take_frames(id, count),
            Phase::Closing(_) | Phase::Ending(_) => {
                if slot.connection.is_discarding_too_much(count, self.now.tick) {
                    debug!("conn={id} bytes={LINGER_BYTES_MAX} Still sending after its end");
                    self.remove(id);
                } else {
                    self.take_frames(id, count);
                }
            }
        }
    }

    fn take_head(&mut self, id: ConnectionId, progress: HeadProgress, refused_path: Option<&str>) {
        match progress {
            HeadProgress::NeedMore => {}
            HeadProgress::Proxied { consumed, client } => {
                self.receiver.consume(consumed);
                if let Some(Err(refusal)) = client.map(|client| self.identify(id, client)) {
                    self.turn_away(id, refusal, AnswerForm::default());
                } else if !self.receiver.bytes().is_empty() {
                    self.take_in(id, 0);
                }
            }
            HeadProgress::Done { consumed, client, origin, verdict } => {
                self.receiver.consume(consumed);
                let head_only = verdict.is_head_only();
                let form = AnswerForm { head_only, origin: origin.as_deref(), path: refused_path };
                match client.map_or(Ok(()), |client| self.identify(id, client)) {
                    Ok(()) => self.follow(id, verdict, form),
                    Err(refusal) => self.turn_away(id, refusal, form),
                }
            }
        }
    }

    /// Does what a request asks for.
    fn follow(&mut self, id: ConnectionId, verdict: Verdict, form: AnswerForm<'_>) {
        if !verdict.is_for_everybody()
            && let Some(refusal) = self.refusal_outside(id)
        {
            return self.refuse(id, refusal, form);
        }
        match verdict {
            Verdict::Upgrade(upgrade) => {
                self.admit(id, &upgrade);
                self.take_frames(id, 0);
            }
            Verdict::Issue(credentials) => self.issue(id, &credentials, form),
            Verdict::Health { .. } => {
                let body = self.health();
                self.note_request_end(id, End::of_request(EndReason::Answered, 200));
                self.answer(id, |out| write_health(&body, form, out));
            }
            Verdict::Preflight { methods } => {
                self.note_request_end(id, End::of_request(EndReason::Answered, 204));
                self.answer(id, |out| write_preflight(methods, form.origin, out));
            }
            Verdict::Nothing => {
                self.note_request_end(id, End::of_request(EndReason::Answered, 204));
                self.answer(id, write_nothing);
            }
            Verdict::Refuse { refusal, .. } => self.refuse(id, refusal, form),
        }
    }

    fn health(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let timestamp = self.now.unix_millis;
        // The connection that asks does not count.
        let (connections, sessions) = (self.connections().saturating_sub(1), self.sessions());
        format!(
            concat!(
                r#"{{"status":"healthy","service":"apptuner-relay","version":"{}","timestamp":{},"#,
                r#""connections":{},"sessions":{}}}"#
            ),
            version, timestamp, connections, sessions
        )
    }

    /// Takes all whole frames and messages out of what was read, and keeps the rest for the next read.
    fn take_frames(&mut self, id: ConnectionId, count: usize) {
        let now = self.now.tick;
        let mut messages = 0;
        while let Some(slot) = self.slots.get_mut(id) {
            let transits = &mut self.pool.transits;
            let rules = Rules {
                size_max: self.settings.max_message_size,
                wants_type: self.settings.answer_pings || self.is_logging_messages,
                requires_json: true,
                // A message that the relay may have to answer itself must not reach the peer before it is whole.
                small_bytes_max: if self.settings.answer_pings {
                    SMALL_MESSAGE_BYTES_MAX
                } else {
                    transits.memory.small_message_bytes_max()
                },
                discard: false,
            };
            match slot.connection.next_incoming(&mut self.receiver, transits, rules, now) {
                Ok(Some(incoming)) => {
                    messages += u64::from(incoming.is_message());
                    self.take_incoming(id, incoming);
                }
                Ok(None) => break,
                Err(violation) => self.fail_for(id, &violation),
            }
        }
        self.receiver.clear();
        self.advance_transit(id);
        self.credit();
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.spend(messages, count, now);
        }
    }

    fn take_incoming(&mut self, id: ConnectionId, incoming: Incoming) {
        match incoming {
            Incoming::Text(content, checked) => self.take_text(id, content, checked),
            Incoming::Binary(content) => {
                self.forward(id, Opcode::Binary, content, None);
            }
            Incoming::Ping(payload) => self.pong(id, &payload),
            Incoming::Pong(payload) => self.note_pong(id, &payload),
            Incoming::Skipped(None) => {}
            Incoming::Skipped(Some(error)) => self.tell(id, &ClientError::InvalidJson(error)),
            Incoming::Close { code, answer } => self.close_from_client(id, code, &answer),
        }
    }

    fn note_pong(&mut self, id: ConnectionId, payload: &[u8]) {
        let now = self.now.tick;
        let round_trip = self.slots.get_mut(id).and_then(|slot| slot.connection.note_pong(now));
        if let Some(round_trip) = round_trip {
            let millis = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
            self.counters.ping_millis.observe(millis, 1);
        }
        self.confirm(id, payload);
    }

    fn pong(&mut self, id: ConnectionId, payload: &[u8]) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.pong(payload, &mut self.pool);
            self.touch(id);
        }
    }
}
