//! An echo over the relay's own connections: every message comes back to its sender.
//!
//! All code between stream and message is the relay's, so pings, closes and violations are answered as by the relay.
//! There are no timeouts, because no client here is slow.

use std::io::{Read, Write};

use apptuner_relay::relay::internals::connection::{Connection, FlushEnd, Phase, ReadEnd};
use apptuner_relay::relay::internals::frame::Opcode;
use apptuner_relay::relay::internals::http::{
    AnswerForm, HeadProgress, HeadRules, Verdict, write_health, write_issued, write_nothing, write_refusal,
    write_switching_protocols,
};
use apptuner_relay::relay::internals::inbound::{Content, Incoming, Receiver, Rules, Violation};
use apptuner_relay::relay::internals::limits::SMALL_MESSAGE_BYTES_MAX;
use apptuner_relay::relay::internals::outbox::Pool;
use apptuner_relay::relay::{Settings, Tick};

/// What all connections share, as in a relay.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) settings: Settings,
    receiver: Receiver,
    pub(crate) pool: Pool,
}

impl Echo {
    /// Reads what a connection has, echoes it, and writes what the stream takes. If the result is not `Idle`, the host
    /// must do what it says.
    pub(crate) fn serve<S: Read + Write>(&mut self, connection: &mut Connection<S>, now: Tick) -> FlushEnd {
        loop {
            while connection.is_readable() {
                match connection.read(&mut self.receiver, &mut self.pool.transits, usize::MAX, now) {
                    ReadEnd::Bytes(_) => self.take_in(connection, now),
                    ReadEnd::Blocked => {}
                    ReadEnd::Ended => connection.end_after_input(&mut self.pool, now),
                    ReadEnd::Failed => return FlushEnd::Gone,
                }
            }
            match connection.flush(&mut self.pool, usize::MAX, now) {
                FlushEnd::More => {}
                // If a write has failed, the next read reports it.
                FlushEnd::Idle if connection.is_readable() => {}
                end @ (FlushEnd::Idle | FlushEnd::Shut | FlushEnd::Gone) => return end,
            }
        }
    }

    fn take_in<S: Read + Write>(&mut self, connection: &mut Connection<S>, now: Tick) {
        if let Phase::Head(reader) = &mut connection.phase {
            let HeadProgress::Done { consumed, verdict, .. } =
                reader.push(self.receiver.bytes(), HeadRules::default())
            else {
                return;
            };
            self.receiver.consume(consumed);
            self.answer(connection, verdict, now);
        }
        let rules = Rules {
            size_max: self.settings.max_message_size,
            wants_type: false,
            // An echo accepts texts that are not JSON.
            requires_json: false,
            small_bytes_max: SMALL_MESSAGE_BYTES_MAX,
            discard: false,
        };
        let mut refusals = 0;
        loop {
            match connection.next_incoming(&mut self.receiver, &mut self.pool.transits, rules, now) {
                Ok(Some(incoming)) => self.echo(connection, incoming, now),
                Ok(None) => return,
                Err(Violation { reason, is_framing_intact, .. }) => {
                    refusals += 1;
                    assert!(refusals <= 2, "a client is refused once, and once more for what it sends then");
                    connection.fail(&reason, is_framing_intact, &mut self.pool, now);
                }
            }
        }
    }

    fn answer<S: Read + Write>(&mut self, connection: &mut Connection<S>, verdict: Verdict, now: Tick) {
        let pool = &mut self.pool;
        let outbox = connection.outbox_mut(pool);
        let form = AnswerForm { head_only: verdict.is_head_only(), ..AnswerForm::default() };
        match verdict {
            Verdict::Upgrade(upgrade) => {
                outbox.reply(pool, |out| write_switching_protocols(&upgrade, out));
                return connection.open(&self.settings);
            }
            Verdict::Issue(_) => outbox.reply(pool, |out| write_issued("{}", form, out)),
            Verdict::Health { .. } => outbox.reply(pool, |out| write_health("{}", form, out)),
            Verdict::Preflight { .. } | Verdict::Nothing => outbox.reply(pool, write_nothing),
            Verdict::Refuse { refusal, .. } => {
                outbox.reply(pool, |out| write_refusal(refusal, form, out));
            }
        }
        connection.end(&mut self.pool, now);
    }

    fn echo<S: Read + Write>(&mut self, connection: &mut Connection<S>, incoming: Incoming, now: Tick) {
        let pool = &mut self.pool;
        match incoming {
            // An echo accepts texts that are not JSON.
            Incoming::Text(content, _) => self.echo_message(connection, Opcode::Text, content),
            Incoming::Binary(content) => self.echo_message(connection, Opcode::Binary, content),
            Incoming::Skipped(_) | Incoming::Pong(_) => {}
            Incoming::Ping(payload) => connection.pong(&payload, pool),
            Incoming::Close { answer, .. } => connection.answer_close(&answer, &self.receiver, pool, now),
        }
    }

    fn echo_message<S: Read + Write>(
        &mut self,
        connection: &mut Connection<S>,
        opcode: Opcode,
        content: Content,
    ) {
        let outbox = connection.outbox_mut(&mut self.pool);
        match content {
            Content::Received(range) => outbox.push_small(&mut self.pool, opcode, self.receiver.range(range)),
            Content::Joined(bytes) => outbox.push_small(&mut self.pool, opcode, &bytes),
            Content::InTransit(key, bytes) => {
                let transits = &mut self.pool.transits;
                outbox.push_transit(transits.release(key), bytes);
                transits.end(key, 0);
                transits.detach_sender(key);
            }
        }
    }
}
