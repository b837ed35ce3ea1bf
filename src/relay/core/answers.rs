//! What the relay itself sends to one client: answers in HTTP before the upgrade, replies and errors after it.

use std::io::{Read, Write};

use log::debug;

use super::record::End;
use super::relay::Relay;
use crate::relay::client::outbox::{Outbox, Pool};
use crate::relay::counts::end_reason::EndReason;
use crate::relay::http::{Answer, AnswerForm, Refusal, RefusalReason, write_refusal};
use crate::relay::ids::ConnectionId;
use crate::relay::wire::message::{ClientError, Logged, SystemMessage};

impl<S: Read + Write> Relay<S> {
    /// Answers in HTTP and ends the connection.
    pub(super) fn answer(&mut self, id: ConnectionId, write_answer: impl FnOnce(&mut Vec<u8>)) {
        self.queue(id, |outbox, pool| outbox.reply(pool, write_answer));
        self.end(id);
    }

    /// Refuses a request, or a connection before it has made one.
    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: Refusal, form: AnswerForm<'_>) {
        let reason = RefusalReason::from(refusal);
        let Answer { status, sentence, .. } = refusal.answer();
        debug!(
            "conn={id} status={status} reason={} path={} Request refused: {sentence}",
            reason.as_str(),
            Logged(form.path.unwrap_or("-"))
        );
        self.counters.requests_refused.add(&reason, 1);
        self.note_request_end(id, End::of_request(EndReason::Refused, status));
        self.answer(id, |out| write_refusal(refusal, form, out));
    }

    /// Tells a client what went wrong with what it sent.
    pub(super) fn tell(&mut self, id: ConnectionId, error: &ClientError) {
        self.note_error(id, error);
        self.reply(id, SystemMessage::Error(error));
    }

    pub(super) fn tell_undelivered(&mut self, sender: ConnectionId, count: u64) {
        if count > 0 {
            self.tell(sender, &ClientError::Undelivered(count));
        }
    }

    /// Sends a reply to a client, ahead of the messages that wait for it.
    pub(super) fn reply(&mut self, id: ConnectionId, message: SystemMessage<'_>) {
        let now = self.now.unix_millis;
        self.queue(id, |outbox, pool| outbox.reply(pool, |out| message.write_frame(now, out)));
    }

    /// Puts something into a client's outbox. The flush at the end of the turn writes it.
    pub(super) fn queue(&mut self, id: ConnectionId, put: impl FnOnce(&mut Outbox, &mut Pool)) {
        if let Some(slot) = self.slots.get_mut(id) {
            put(slot.connection.outbox_mut(&mut self.pool), &mut self.pool);
            self.touch(id);
        }
    }

    /// Ends a connection as soon as everything that waits for it is written.
    pub(super) fn end(&mut self, id: ConnectionId) {
        let now = self.now.tick;
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.end(&mut self.pool, now);
            self.touch(id);
        }
    }
}
