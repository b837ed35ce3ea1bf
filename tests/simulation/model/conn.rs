//! One client: what the relay has read of its bytes, and what must be written to it next.

use std::collections::VecDeque;
use std::net::IpAddr;

use apptuner_relay::relay::internals::limits::{
    CLOSE_TIMEOUT, FRAGMENT_BYTES_MAX, HIGH_WATER_BYTES, LINGER_TIME_MAX, LOW_WATER_BYTES,
    RETRY_AFTER_SECONDS, WRITE_BYTES_PER_TURN,
};
use apptuner_relay::relay::{ClientType, ConnectionId};
use apptuner_relay::relay::{Settings, Tick};

use super::access::HostName;
use super::delivery::Unconfirmed;
use super::expected::{Expected, Message, is_like, receipt_count, shown, shown_expected, wire_len};
use super::transit::Incoming;
use super::{Check, expect};
use crate::client::{Unit, What};
use crate::reader::{Piece, Reader};

/// The unknown part of a reply's length: an error's sentence, or an HTTP answer.
const REPLY_MARGIN: usize = 500;
/// Stands for the status if a head is late, or was not read because memory was short.
const LATE_OR_STARVED: u16 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Head,
    Open,
    /// The relay has sent its close. Only the client's close counts.
    Closing,
    /// Nothing that the client sends counts.
    Ending,
    Gone,
}

/// The queue from which the relay is writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Reply,
    Queue,
    Control,
    /// A piece that was begun when the client left. It is finished.
    Begun,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a connection")]
pub(super) struct Conn {
    pub id: ConnectionId,
    pub phase: Phase,
    pub session: Option<(String, ClientType)>,
    pub has_protocols: bool,
    pub wants_receipts: bool,
    pub address: Option<IpAddr>,
    /// The host that it is counted for.
    pub counted_for: Option<HostName>,
    /// It was refused, takes no place, and is one of the few that are waited for.
    pub is_turned_away: bool,
    /// The status of its answer, unless it asks for the relay's health.
    pub only_health: Option<u16>,
    /// It was refused because it sent no right secret or key.
    pub is_unproven: bool,
    /// The expected Retry-After, in seconds.
    pub retry_after: Option<u64>,
    /// The secret with which it claims its session.
    pub claiming: Option<String>,
    /// The session that it is issued, and when that lapses.
    pub issued: Option<(String, u64)>,
    /// Its last HTTP answer.
    pub answered: Option<(u16, String)>,
    accepted_at: Tick,
    /// What the client has sent and the relay has not read whole.
    pub units: VecDeque<Unit>,
    /// The offset of the first unit.
    pub(super) unit_start: u64,
    pub(super) read: u64,
    /// The relay has reason to read: an event was reported, and no later read found nothing.
    pub is_readable: bool,
    /// The message that it is sending.
    pub(super) incoming: Option<Incoming>,
    /// Whole messages of the last read, with their length. Long ones must be released in transit, short ones may be.
    pub(super) release_due: VecDeque<(u64, usize)>,
    /// Errors sent to it that the relay has not logged yet: without a peer, and invalid JSON.
    pub(super) told_due: [u64; 2],
    /// The least that could wait for its peer since it was last read, in small messages and in all.
    pub queue_limit: usize,
    pub bytes_limit: usize,
    pub heard_at: Tick,
    /// Since when, after a turn, the relay could have read its unread bytes.
    pub unread_since: Option<Tick>,
    /// When the first and the last byte of an incomplete message arrived.
    pub unfinished: Option<(Tick, Tick)>,
    /// The last data byte read belongs to a fragment that is not the last one.
    pub(super) in_message: bool,
    /// It was the header of a message that is too long. The payload is discarded.
    pub(super) is_in_refused: bool,
    pub close_answer: Option<(u16, Vec<u8>)>,
    /// Whether the end of its stream has reached the relay's kernel.
    pub has_ended_stream: bool,
    /// Whether the relay was told that the stream has failed.
    pub has_failed: bool,
    pub is_input_over: bool,
    pub has_said_close: bool,
    pub is_failed: bool,
    pub is_cut: bool,
    /// When it was ended because it was late, silent or took nothing.
    pub cut_at: Option<Tick>,

    pub replies: VecDeque<Expected>,
    pub pongs: VecDeque<Vec<u8>>,
    pub(super) unconfirmed: Unconfirmed,
    queue: VecDeque<Expected>,
    /// Bytes of everything in `queue`, as the relay counts them.
    queue_bytes: usize,
    messages: u64,
    /// Bytes on the wire of all queued items that are not messages in transit.
    queue_small_bytes: usize,
    /// The most bytes of replies and pongs queued for it since none were queued.
    pub(super) replies_bytes_given: usize,
    /// More than the high-water mark is queued, or was and has not fallen to the low-water mark since.
    is_congested: bool,
    /// The same for its replies, as far as it is certain.
    are_replies_congested: bool,
    pub(super) reader: Reader,
    lane: Lane,
    /// The message that is being written: opcode, and bytes so far.
    under_way: Option<(u8, usize)>,
    pub(super) begun: Option<Expected>,
    /// It has a part of a message that will not be completed. Only control frames may follow.
    pub is_cut_short: bool,
    has_close: bool,

    pub blocked_since: Option<Tick>,
    unblocked_at: Option<Tick>,
    pub last_take: Tick,
    /// When it last took some but not all bytes, or began to take none. If it took all bytes, that proves nothing: the
    /// kernel takes bytes even for a client that is gone.
    pub progress_at: Tick,
    pub pinged_at: Option<Tick>,
    /// When it may last have been held.
    pub held_at: Option<Tick>,
    pub was_held: bool,
    /// When the relay closed, when it was last done with the client, and when it ended its direction of the stream.
    closed_at: Option<Tick>,
    pub done_at: Tick,
    pub ended_at: Tick,
    pub turn_read: usize,
    pub turn_written: usize,
}

impl Conn {
    pub(super) fn new(id: ConnectionId, now: Tick) -> Self {
        Self {
            id,
            phase: Phase::Head,
            session: None,
            has_protocols: false,
            wants_receipts: false,
            address: None,
            counted_for: None,
            is_turned_away: false,
            only_health: None,
            is_unproven: false,
            retry_after: None,
            claiming: None,
            issued: None,
            answered: None,
            accepted_at: now,
            units: VecDeque::new(),
            unit_start: 0,
            read: 0,
            is_readable: false,
            incoming: None,
            release_due: VecDeque::new(),
            told_due: [0; 2],
            queue_limit: usize::MAX,
            bytes_limit: usize::MAX,
            heard_at: now,
            unread_since: None,
            unfinished: None,
            in_message: false,
            is_in_refused: false,
            close_answer: None,
            has_ended_stream: false,
            has_failed: false,
            is_input_over: false,
            has_said_close: false,
            is_failed: false,
            is_cut: false,
            cut_at: None,
            replies: VecDeque::new(),
            pongs: VecDeque::new(),
            unconfirmed: Unconfirmed::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            messages: 0,
            queue_small_bytes: 0,
            replies_bytes_given: 0,
            is_congested: false,
            are_replies_congested: false,
            reader: Reader::default(),
            lane: Lane::Control,
            under_way: None,
            begun: None,
            is_cut_short: false,
            has_close: false,
            blocked_since: None,
            unblocked_at: None,
            last_take: now,
            progress_at: now,
            pinged_at: None,
            held_at: None,
            was_held: false,
            closed_at: None,
            done_at: now,
            ended_at: now,
            turn_read: 0,
            turn_written: 0,
        }
    }

    /// Queues an HTTP answer and ends.
    pub(super) fn answer(&mut self, status: u16, now: Tick) {
        self.reply(Expected::Answer(status));
        self.end(now);
    }

    /// From now on nothing that the client sends counts.
    pub(super) fn end(&mut self, now: Tick) {
        self.abandon();
        if self.phase != Phase::Ending {
            self.phase = Phase::Ending;
            self.done_at = now;
        }
    }

    /// Which answer may come before the request is complete.
    pub(super) fn early_answer(
        &self,
        now: Tick,
        settings: &Settings,
        may_be_starved: bool,
    ) -> Result<u16, String> {
        let is_starved = may_be_starved && now >= self.heard_at.after(settings.stall_timeout);
        let deadline = self.head_deadline(settings);
        let is_late = now >= deadline && !self.is_unread(deadline);
        if is_starved {
            return Ok(if is_late && self.only_health.is_none() { LATE_OR_STARVED } else { 503 });
        }
        if is_late {
            return Ok(self.only_health.unwrap_or(408));
        }
        match self.units.front().map(|unit| &unit.what) {
            Some(What::Answered(status)) if self.read > 0 => Ok(self.only_health.unwrap_or(*status)),
            front => Err(format!("an answer to {front:?} of which {} bytes came", self.read)),
        }
    }

    /// Whether bytes that had arrived by `deadline` are unread.
    pub(super) fn is_unread(&self, deadline: Tick) -> bool {
        self.unread_since.is_some_and(|since| since < deadline)
    }

    pub(super) const fn head_deadline(&self, settings: &Settings) -> Tick {
        self.accepted_at.after(settings.handshake_timeout)
    }

    /// Whether the next `bytes` that the relay reads are more than pongs.
    pub(super) fn are_more_than_pongs(&self, bytes: u64) -> bool {
        let end = self.read + bytes;
        let ends = self.units.iter().take_while(|unit| unit.end < end).map(|unit| unit.end);
        let starts = std::iter::once(self.unit_start).chain(ends);
        let read = self.units.iter().zip(starts).filter(|(unit, _)| unit.end > self.read);
        let said = self.units.back().map_or(self.unit_start, |unit| unit.end);
        end > said || read.into_iter().any(|(unit, _)| !matches!(unit.what, What::Pong(_)))
    }

    /// The relay has read `bytes` more. A control frame between two fragments is no progress of the message. An
    /// incomplete one must be completed in time like a message.
    pub(super) fn heard(&mut self, bytes: u64, now: Tick) {
        let end = self.read + bytes;
        let mut start = self.unit_start;
        for unit in self.units.iter().take_while(|unit| unit.end > self.read || unit.is_data) {
            if start >= end {
                break;
            }
            start = unit.end;
            let is_whole = unit.end <= end;
            if unit.is_data && is_whole {
                self.in_message = matches!(unit.what, What::Fragment);
                self.is_in_refused = matches!(unit.what, What::Refused(1009));
            }
            let (since, moved_at) = self.unfinished.unwrap_or((now, now));
            let moved_at = if unit.is_data && unit.end > self.read { now } else { moved_at };
            self.unfinished = (!is_whole || self.in_message).then_some((since, moved_at));
        }
        self.read = end;
        self.heard_at = now;
        self.unconfirmed.note_heard();
    }

    /// Whether its next unit is a request to join this session.
    pub(super) fn asks_for(&self, session: &str) -> bool {
        let next = self.units.front().map(|unit| &unit.what);
        matches!(next, Some(What::Upgrade { caller, .. }) if caller.session == session)
    }

    /// The same, for a client of this type.
    pub(super) fn asks_for_place(&self, session: &str, client_type: ClientType) -> bool {
        let next = self.units.front().map(|unit| &unit.what);
        let is_it = matches!(next, Some(What::Upgrade { caller, .. }) if caller.client_type == client_type);
        self.phase == Phase::Head && is_it && self.asks_for(session)
    }

    pub(super) fn take_whole_unit(&mut self) -> Option<Unit> {
        self.units.front().filter(|unit| unit.end <= self.read)?;
        let unit = self.units.pop_front()?;
        self.unit_start = unit.end;
        Some(unit)
    }

    /// Whether the relay has read some of a unit that ends the connection with this code.
    pub(super) fn take_refused(&mut self, code: u16) -> bool {
        let is_next =
            self.units.front().is_some_and(|unit| matches!(unit.what, What::Refused(of) if of == code));
        let is_refused = is_next && self.read > self.unit_start;
        if is_refused {
            self.units.pop_front();
        }
        is_refused
    }

    pub(super) fn queue(&mut self, item: Expected) {
        self.queue_bytes += item.queued_bytes();
        self.queue_small_bytes += item.small_bytes();
        self.messages += u64::from(item.message().is_some());
        self.queue.push_back(item);
        self.mark();
    }

    /// Changes a message in its queue. Returns whether it is there.
    pub(super) fn change(&mut self, id: u64, change: impl FnOnce(&mut Message)) -> bool {
        let is_it = |item: &Expected| item.message().is_some_and(|message| message.id == id);
        let Some(index) = self.queue.iter().rposition(is_it) else { return false };
        let item = &mut self.queue[index];
        self.queue_bytes -= item.queued_bytes();
        self.queue_small_bytes -= item.small_bytes();
        if let Expected::Message(message) = item {
            change(message);
        }
        self.queue_bytes += item.queued_bytes();
        self.queue_small_bytes += item.small_bytes();
        self.mark();
        true
    }

    /// Whether this message is in its queue.
    pub(super) fn has_message(&self, id: u64) -> bool {
        self.queue.iter().any(|item| item.message().is_some_and(|message| message.id == id))
    }

    /// The start of the message that is being written is no longer in memory. Returns whether there is one.
    pub(super) fn lose_start(&mut self) -> bool {
        let is_begun = self.is_front_begun();
        match self.queue.front_mut() {
            Some(Expected::Message(message)) if is_begun && message.is_in_transit => {
                message.is_start_lost = true;
                true
            }
            _ => false,
        }
    }

    /// Removes a message that will never be whole. Returns whether the client has a part of it, or `None` if it is not
    /// queued.
    pub(super) fn cut(&mut self, id: u64) -> Option<bool> {
        let is_it = |item: &Expected| item.message().is_some_and(|of| of.id == id && !of.is_whole);
        let index = self.queue.iter().rposition(is_it)?;
        let is_begun = index == 0 && self.is_front_begun();
        if is_begun {
            self.finish_frame();
        }
        let item = self.queue.remove(index)?;
        self.queue_bytes -= item.queued_bytes();
        self.messages -= 1;
        self.mark();
        Some(is_begun)
    }

    /// Whether the client has some bytes of the first item in the queue.
    pub(super) fn is_front_begun(&self) -> bool {
        !self.is_cut_short
            && (self.under_way.is_some() || (self.lane == Lane::Queue && self.reader.len() > 0))
    }

    pub(super) fn queue_mut(&mut self) -> impl Iterator<Item = &mut Message> {
        self.queue.iter_mut().filter_map(|item| match item {
            Expected::Message(message) => Some(message),
            _ => None,
        })
    }

    /// Of the messages in transit in its queue: how many bytes must be in memory, and how many may be.
    pub(super) fn transit_bytes(&self) -> (usize, usize) {
        let (mut least, mut most) = (0, 0);
        for (index, item) in self.queue.iter().enumerate() {
            let Some(message) = item.message().filter(|message| message.is_in_transit) else { continue };
            let written = if index == 0 { self.written_bytes() } else { 0 };
            least += message.noted - written;
            // The start is kept as long as memory allows.
            let passed = if self.unconfirmed.is_start_kept { 0 } else { written };
            most += super::memory::transit_bytes_max(message.noted, passed);
        }
        (least, most)
    }

    /// Removes the first message, whose beginning is no longer in memory, from those that have moved here.
    pub(super) fn lose_first(&mut self) -> Option<Message> {
        match self.pop_queue()? {
            Expected::Message(message) => Some(message),
            _ => None,
        }
    }

    fn mark(&mut self) {
        let passes = |was: bool, bytes: usize| bytes > if was { LOW_WATER_BYTES } else { HIGH_WATER_BYTES };
        self.is_congested &= passes(true, self.queued_bytes());
        self.are_replies_congested = passes(self.are_replies_congested, self.replies_bytes_at_least());
    }

    // At the end of a turn the queue has been noticed. During a turn it may be written at once.
    pub(super) fn note_congestion(&mut self) {
        self.is_congested |= self.queued_bytes() > HIGH_WATER_BYTES;
    }

    /// Another client is now the sender, which was not held before.
    pub(super) const fn forget_congestion(&mut self) {
        self.is_congested = false;
    }

    /// Whether its peer must not be read.
    pub(super) const fn is_congested(&self) -> bool {
        self.is_congested
    }

    pub(super) fn close(&mut self, code: u16, reason: Option<&str>, phase: Phase, now: Tick) {
        self.abandon();
        self.queue(Expected::Close { code, reason: reason.map(str::to_owned) });
        self.has_close = true;
        self.phase = phase;
        self.closed_at = Some(now);
        self.done_at = now;
    }

    pub(super) const fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether it certainly must not be read, because it does not take its replies.
    pub(super) const fn are_replies_congested(&self) -> bool {
        self.are_replies_congested
    }

    /// Queued bytes that the client's socket has not taken.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue_bytes.saturating_sub(self.written_bytes())
    }

    /// Bytes of the first queued item that it has taken.
    fn written_bytes(&self) -> usize {
        if self.is_cut_short {
            return 0;
        }
        let is_of_queue = self.lane == Lane::Queue;
        if self.queue.front().is_some_and(Expected::is_in_transit) {
            let of_frame = if is_of_queue { self.reader.payload_len() } else { 0 };
            return self.under_way.map_or(0, |(_, bytes)| bytes) + of_frame;
        }
        if is_of_queue { self.reader.len() } else { 0 }
    }

    /// Bytes on the wire of queued items that are not messages in transit, including a frame that was begun.
    pub(super) const fn queued_small_bytes(&self) -> usize {
        self.queue_small_bytes
    }

    /// Queues a reply, which may overtake queued messages.
    pub(super) fn reply(&mut self, reply: Expected) {
        self.replies_bytes_given += REPLY_MARGIN + wire_len(&reply);
        self.replies.push_back(reply);
        self.mark();
    }

    /// Queues notices of delivered messages. The relay may tell them together, or one after another.
    pub(super) fn add_receipts(&mut self, messages: u64) {
        match self.replies.back_mut() {
            Some(Expected::Receipts(count)) => {
                *count += messages;
                self.replies_bytes_given += REPLY_MARGIN;
            }
            _ => self.reply(Expected::Receipts(messages)),
        }
    }

    pub(super) fn pong(&mut self, payload: Vec<u8>) {
        self.replies_bytes_given += 2 + payload.len();
        self.pongs.push_back(payload);
    }

    pub(super) fn replies_bytes_at_most(&self) -> usize {
        let replies: usize = self.replies.iter().map(|reply| REPLY_MARGIN + wire_len(reply)).sum();
        replies + self.pongs.iter().map(|pong| pong.len() + 2).sum::<usize>()
    }

    pub(super) fn replies_bytes_at_least(&self) -> usize {
        let replies: usize = self.replies.iter().map(wire_len).sum();
        replies.saturating_sub(self.reader.len())
    }

    /// Whether something queued can be written. The rest of a message that has not arrived cannot, nor what must wait
    /// for it.
    pub(super) fn is_writable(&self) -> bool {
        let is_expecting = self.reader.len() == 0
            && self.is_front_begun()
            && self.queue.front().and_then(Expected::message).is_some_and(|message| {
                !message.is_whole && message.noted == self.under_way.map_or(0, |(_, bytes)| bytes)
            });
        if is_expecting { !self.pongs.is_empty() } else { self.waiting() > 0 }
    }

    /// The number of items queued for it, including a piece that was begun.
    pub(super) fn waiting(&self) -> usize {
        self.replies.len() + self.pongs.len() + self.queue.len() + usize::from(self.reader.len() > 0)
    }

    /// Removes the messages that the client has not received whole. A frame that was begun is still finished.
    pub(super) fn take_messages(&mut self) -> Vec<Expected> {
        if self.is_front_begun() {
            self.finish_frame();
        }
        self.queue_bytes = 0;
        self.queue_small_bytes = 0;
        self.messages = 0;
        self.mark();
        let mut items: Vec<Expected> = std::mem::take(&mut self.queue).into();
        items.retain(|item| item.message().is_some());
        items
    }

    /// The first queued item is no longer for this client, except for the frame that was begun.
    fn finish_frame(&mut self) {
        self.begun = self.queue.front().cloned();
        if self.lane == Lane::Queue && self.reader.len() > 0 {
            self.lane = Lane::Begun;
        }
        if self.begun.as_ref().is_some_and(Expected::is_in_transit) {
            self.is_cut_short = true;
            self.replies.clear();
        }
    }

    /// The relay has written bytes. Returns the number of application messages that they completed.
    pub(super) fn wrote(&mut self, mut bytes: &[u8], now: Tick, settings: &Settings) -> Result<u64, String> {
        expect(self.phase != Phase::Gone, || "written to after its end".to_owned())?;
        let mut delivered = 0;
        while !bytes.is_empty() {
            if self.reader.len() == 0 {
                self.lane = self.lane_of(bytes[0])?;
            }
            let (used, piece) = self.reader.push(bytes)?;
            bytes = &bytes[used..];
            if let Some(piece) = piece {
                delivered += u64::from(self.complete(piece, now, settings)?);
            }
        }
        self.last_take = now;
        if self.blocked_since.is_some() || self.turn_written >= WRITE_BYTES_PER_TURN {
            self.progress_at = now;
        }
        self.mark();
        let is_drained = !self.is_writable();
        if self.replies.is_empty() && self.pongs.is_empty() {
            self.replies_bytes_given = 0;
        }
        if is_drained && self.blocked_since.take().is_some() {
            self.unblocked_at = Some(now);
        }
        Ok(delivered)
    }

    /// The queue that a piece with this first byte must come from.
    fn lane_of(&self, first: u8) -> Result<Lane, String> {
        if let Some(Expected::Answer(_)) = self.replies.front() {
            return Ok(Lane::Reply);
        }
        let opcode = first & 0x0F;
        let is_in_message = self.under_way.is_some();
        match opcode {
            8 => {
                let is_next = self.replies.is_empty() && self.pongs.is_empty();
                expect(is_next, || format!("a close before {:?} {:?}", self.replies, self.pongs))?;
                Ok(Lane::Queue)
            }
            9 | 10 => Ok(Lane::Control),
            0..=2 if self.is_cut_short => Err("data behind a message cut short".to_owned()),
            0..=2 if is_in_message != (opcode == 0) => Err("a message within a message".to_owned()),
            1 if !is_in_message && !self.replies.is_empty() => Ok(Lane::Reply),
            0..=2 => {
                let is_next = self.pongs.is_empty() && (is_in_message || self.replies.is_empty());
                expect(is_next, || {
                    format!("a message before replies {:?} and pongs {:?}", self.replies, self.pongs)
                })?;
                Ok(Lane::Queue)
            }
            _ => Err(format!("a frame with opcode {opcode}")),
        }
    }

    fn complete(&mut self, piece: Piece, now: Tick, settings: &Settings) -> Result<bool, String> {
        match piece {
            Piece::Answer { status, head, body } => {
                let expected = self.replies.pop_front();
                let is_right = match expected {
                    Some(Expected::Answer(LATE_OR_STARVED)) => matches!(status, 408 | 503),
                    Some(Expected::Answer(of)) => of == status,
                    _ => false,
                };
                expect(is_right, || format!("answered {status} instead of {expected:?}"))?;
                self.check_head(status, &head)?;
                self.answered = Some((status, head + &body));
                Ok(false)
            }
            Piece::Frame { opcode: 8, payload, .. } => self.complete_close(&payload).map(|()| false),
            Piece::Frame { opcode: 9, payload, .. } => {
                self.complete_ping(&payload, now, settings).map(|()| false)
            }
            Piece::Frame { opcode: 10, payload, .. } => {
                let expected = self.pongs.pop_front();
                expect(expected.as_ref() == Some(&payload), || {
                    format!("a pong with {payload:?} instead of {expected:?}")
                })?;
                Ok(false)
            }
            Piece::Frame { is_final, opcode, payload } => self.complete_data(is_final, opcode, &payload, now),
        }
    }

    fn check_head(&self, status: u16, head: &str) -> Check {
        let has = |line: &str| head.lines().any(|of| of.eq_ignore_ascii_case(line));
        let is_right = if status == 101 {
            has("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                && has("Sec-WebSocket-Protocol: apptuner") == self.has_protocols
        } else {
            let retry_after = head.lines().find_map(|line| line.strip_prefix("Retry-After: ")?.parse().ok());
            has(if status == 426 { "Connection: upgrade, close" } else { "Connection: close" })
                && retry_after
                    == if status == 503 { Some(RETRY_AFTER_SECONDS.into()) } else { self.retry_after }
                && has("Cache-Control: no-store") == matches!(status, 200 | 201)
                && has("WWW-Authenticate: Bearer") == (status == 401)
        };
        // An answer must not contain a secret, encoded or not.
        let is_right = is_right && !head.contains("apptuner.") && !head.contains("secret=");
        expect(is_right, || format!("a head that lacks something: {head:?}"))
    }

    fn complete_close(&mut self, payload: &[u8]) -> Check {
        let item = self.pop_queue();
        let Some(Expected::Close { code, reason }) = &item else {
            return Err(format!("a close with {payload:?} before {item:?}"));
        };
        let of = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        let text = payload.get(2..).and_then(|reason| std::str::from_utf8(reason).ok());
        let is_right =
            of == Some(*code) && text.is_some_and(|text| reason.as_ref().is_none_or(|of| of == text));
        expect(is_right, || format!("closed with {of:?} {text:?} instead of {item:?}"))
    }

    /// A ping asks for a confirmation, or comes after a ping interval without a sign of life.
    fn complete_ping(&mut self, payload: &[u8], now: Tick, settings: &Settings) -> Check {
        // A ping that had to wait was due earlier.
        let has_waited = self.blocked_since.is_some() || self.unblocked_at == Some(now);
        if !self.unconfirmed.take_ping(payload, now, has_waited)? {
            return Ok(());
        }
        let silent_since = self.heard_at.max(self.pinged_at.unwrap_or_default());
        let is_late = now >= silent_since.after(settings.ping_interval);
        self.pinged_at = Some(now);
        expect(is_late || has_waited, || format!("a ping after silence since {silent_since:?}"))
    }

    /// A data frame is complete. Returns whether it ends a message that counts as delivered now.
    fn complete_data(
        &mut self,
        is_final: bool,
        opcode: u8,
        payload: &[u8],
        now: Tick,
    ) -> Result<bool, String> {
        let (opcode, start) = self.under_way.take().unwrap_or((opcode, 0));
        let end = start + payload.len();
        let lane = self.lane;
        let item = match lane {
            Lane::Reply => self.replies.front(),
            Lane::Queue => self.queue.front(),
            Lane::Begun => self.begun.as_ref(),
            Lane::Control => None,
        };
        let is_right = match item {
            Some(Expected::Message(message)) => {
                let content = &message.content;
                let is_end = message.is_whole && end == content.payload.len();
                let may_be_part = message.is_in_transit && payload.len() <= FRAGMENT_BYTES_MAX;
                content.opcode == opcode
                    && content.payload.get(start..end) == Some(payload)
                    && end <= message.noted
                    && if is_final { is_end } else { may_be_part }
            }
            Some(Expected::System { start, end }) => is_final && opcode == 1 && is_like(payload, start, end),
            Some(Expected::Receipts(most)) => {
                let is_right = |count| (1..=*most).contains(&count);
                is_final && opcode == 1 && receipt_count(payload).is_some_and(is_right)
            }
            _ => false,
        };
        expect(is_right, || {
            let shown = shown(opcode, payload);
            format!("{shown} from {start} on, final: {is_final}, instead of {}", shown_expected(item))
        })?;
        if !is_final {
            self.under_way = Some((opcode, end));
            return Ok(false);
        }
        match lane {
            Lane::Reply => {
                if let Some(Expected::Receipts(left)) = self.replies.front_mut() {
                    *left -= receipt_count(payload).unwrap_or(*left);
                    if *left > 0 {
                        return Ok(false);
                    }
                }
                self.replies.pop_front();
                Ok(false)
            }
            Lane::Queue => match self.pop_queue() {
                Some(Expected::Message(message)) if self.unconfirmed.is_keeping && !message.is_start_lost => {
                    self.unconfirmed.note_written(message, now);
                    Ok(false)
                }
                done => Ok(done.is_some_and(|done| done.message().is_some())),
            },
            Lane::Begun | Lane::Control => {
                self.begun = None;
                Ok(false)
            }
        }
    }

    fn pop_queue(&mut self) -> Option<Expected> {
        let item = self.queue.pop_front()?;
        self.queue_bytes -= item.queued_bytes();
        self.queue_small_bytes -= item.small_bytes();
        self.messages -= u64::from(item.message().is_some());
        Some(item)
    }

    /// When it is cut off if it takes nothing until then.
    pub(super) fn stall_deadline(&self, settings: &Settings) -> Option<Tick> {
        Some(self.blocked_since?.max(self.last_take).after(settings.stall_timeout))
    }

    /// Whether the relay may remove it now, sessions aside.
    pub(super) fn may_be_gone(&self, now: Tick) -> bool {
        let is_over = self.waiting() == 0 && (self.is_input_over || self.has_said_close);
        // It ends after a time, even if it still sends and takes bytes.
        let is_overdue = matches!(self.phase, Phase::Ending | Phase::Closing)
            && (now >= self.done_at.max(self.accepted_at).after(CLOSE_TIMEOUT)
                || self.closed_at.is_some_and(|at| now >= at.after(LINGER_TIME_MAX)));
        is_over || self.is_failed || self.is_cut || is_overdue
    }
}
