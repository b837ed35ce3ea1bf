//! One client, from the first byte of its request head to the end of its stream.
//!
//! | phase | its input | it ends when | next phase |
//! | --- | --- | --- | --- |
//! | `Head` | the request head | the head asks for an upgrade, and the relay accepts it | `Open` |
//! | | | the head asks for anything else or is late, or the stream ends | `Ending` |
//! | `Open` | frames | the client is replaced, the session times out, the relay shuts down | `Closing` |
//! | | | a message is too large, late or not UTF-8; too many notices are unread | `Closing` |
//! | | | the client sends a close frame, breaks the framing or ends its stream | `Ending` |
//! | | | the client is silent, or its socket takes nothing | `Ending`, cut off |
//! | `Closing` | frames; data frames are skipped | the client answers the close frame, or does not in time | `Ending` |
//! | | | any reason for which `Open` goes to `Ending` | `Ending` |
//! | `Ending` | bytes that are discarded | all is written and the client has ended its stream | removed |
//!
//! `Closing` and `Ending` have a deadline. Input postpones it, up to a fixed limit. At the deadline, or once the client
//! has sent more than [`LINGER_BYTES_MAX`], the connection is removed whatever is left. A client that is cut off is
//! removed after one more write, and a client whose stream failed is removed at once.

mod backpressure;
mod confirming;
mod due;
mod frames;
mod phase;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::time::Duration;

use super::inbound::{Inbound, Receiver};
use super::outbox::{Keeping, Outbox, Pool, RemovedMessage, Unconfirmed, WriteEnd};
use super::pace::Pace;
use super::traffic::{ClientCounts, ClientMeters};
use crate::relay::access::remote::Remote;
use crate::relay::http::HeadReader;
use crate::relay::limits::{
    CLOSE_ANSWER_TIMEOUT, CLOSE_TIMEOUT, LATE_LINGER_TIME_MAX, LINGER_BYTES_MAX, LINGER_TIME_MAX,
    WRITE_BYTES_PER_TURN,
};
use crate::relay::readiness::Readiness;
use crate::relay::settings::Settings;
use crate::relay::time::Tick;
use crate::relay::transit::{TransitKey, Transits};
use crate::relay::wire::close_reason::CloseReason;
pub use backpressure::Hold;
pub use confirming::Evicted;
use phase::AfterShortRead;
pub use phase::{Due, Ending, FlushEnd, Linger, Phase, ReadEnd};

/// One client's stream, and all that the relay knows about it except its session.
///
/// [`Relay`](crate::relay::Relay) drives it; so does the operator's listener. The calls, in order:
///
/// 1. [`note`](Self::note) the readiness that the host reported.
/// 2. While it [`is_readable`](Self::is_readable), [`read`](Self::read). In the phase `Head`, give the bytes to the
///    phase's reader; after queueing the answer to an upgrade, [`open`](Self::open).
/// 3. Take [`next_incoming`](Self::next_incoming) until `None`. Answer a ping with [`pong`](Self::pong), a close frame
///    with [`answer_close`](Self::answer_close), a violation with [`fail`](Self::fail), and anything else through the
///    [outbox](Self::outbox_mut).
/// 4. [`flush`](Self::flush), and do what the result asks for.
///
/// An idle connection owns no buffer: it has no inbound bytes, no outbox and, after the upgrade, no request head.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a stream")]
pub struct Connection<S> {
    /// The stream, as it was accepted.
    pub stream: S,
    /// The current phase.
    pub phase: Phase,
    /// The part of a message or frame that has arrived so far.
    pub inbound: Inbound,
    /// The client's address. It takes the least memory here.
    pub(crate) remote: Remote,
    outbox: Option<Box<Outbox>>,
    /// What was written in full and is to be confirmed; `None` if there is nothing.
    unconfirmed: Option<Box<Unconfirmed>>,
    meters: Option<Box<ClientMeters>>,
    /// A read may return bytes or the end of the stream. Events are edge-triggered: this stays set until a read proves
    /// that the socket is empty.
    is_readable: bool,
    /// A write may succeed. Stays set until the socket refuses bytes.
    is_writable: bool,
    /// The stream holds bytes that its socket has not taken, as a TLS stream does.
    is_unflushed: bool,
    after_short_read: AfterShortRead,
    /// The stream failed. What the kernel received before can still be read.
    is_failed: bool,
    /// Reading is paused; see [`Hold`].
    is_held: bool,
    /// Reading is paused because memory is short. Valid only while `is_held`.
    is_starved: bool,
    /// A ping was sent and its pong has not come.
    is_pong_awaited: bool,
    /// Messages count as delivered once the client has confirmed them. If not, once they are written.
    is_keeping: bool,
    /// The number of the last ping that asked for a confirmation.
    asked: u32,
    /// When bytes last came from the client, or reading was last resumed.
    received_at: Tick,
    /// When the last ping was due, or the connection was accepted.
    pinged_at: Tick,
    /// When the socket last took a part of what waited, or began to refuse bytes. A write that the socket takes in full
    /// does not count: the kernel buffers bytes even for a client that has vanished.
    progress_at: Tick,
    /// When it was accepted, in tenths of a second modulo 2³²: a `Tick` would take twice the memory.
    accepted_at: u32,
    /// When the current hold began. Valid only while `is_held`.
    held_since: Tick,
}

impl<S: Read + Write> Connection<S> {
    /// A connection just accepted.
    pub fn new(stream: S, now: Tick) -> Self {
        Self {
            stream,
            phase: Phase::Head(HeadReader::default()),
            inbound: Inbound::default(),
            remote: Remote::default(),
            outbox: None,
            unconfirmed: None,
            meters: None,
            is_readable: false,
            is_writable: true,
            is_unflushed: false,
            after_short_read: AfterShortRead::Nothing,
            is_failed: false,
            is_held: false,
            is_starved: false,
            is_pong_awaited: false,
            is_keeping: false,
            asked: 0,
            received_at: now,
            pinged_at: now,
            progress_at: now,
            accepted_at: tenths(now),
            held_since: now,
        }
    }

    /// The time since it was accepted, in steps of a tenth of a second.
    pub(crate) fn age(&self, now: Tick) -> Duration {
        Duration::from_millis(u64::from(tenths(now).wrapping_sub(self.accepted_at)) * 100)
    }

    /// What the client has sent and received.
    pub(crate) fn counts(&self) -> ClientCounts {
        self.meters.as_ref().map_or(ClientCounts::default(), |meters| meters.counts)
    }

    /// The same, to add to. Allocates the counters on the first call.
    pub(crate) fn counts_mut(&mut self) -> &mut ClientCounts {
        &mut self.meters.get_or_insert_default().counts
    }

    /// Asks for notices of what was delivered of its messages.
    pub(crate) fn want_receipts(&mut self) {
        self.meters.get_or_insert_default().wants_receipts = true;
    }

    /// Whether it gets notices of what was delivered of its messages.
    pub(crate) fn wants_receipts(&self) -> bool {
        self.meters.as_ref().is_some_and(|meters| meters.wants_receipts)
    }

    fn pace(&self) -> Option<&Pace> {
        self.meters.as_ref()?.pace.as_deref()
    }

    /// Records the readiness that the host reported. It is added to what is known already; only reads and writes clear
    /// it.
    pub fn note(&mut self, readiness: Readiness) {
        self.is_readable |= readiness.is_readable || readiness.is_read_closed || readiness.is_failed;
        self.is_writable |= readiness.is_writable;
        // The end of the stream is final. Urgent data is a weaker reason to read on, and must not replace it.
        if readiness.is_read_closed {
            self.after_short_read = AfterShortRead::End;
        } else if readiness.is_urgent && self.after_short_read == AfterShortRead::Nothing {
            self.after_short_read = AfterShortRead::More;
        }
        self.is_failed |= readiness.is_failed;
    }

    /// Whether a read may return bytes or the end of the stream.
    pub const fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Whether the client has ended its stream; bytes before that end may still be unread.
    pub(crate) const fn is_read_closed(&self) -> bool {
        matches!(self.after_short_read, AfterShortRead::End)
    }

    /// Heap memory in bytes, without messages in transit.
    pub(crate) fn small_bytes(&self) -> usize {
        let head = if let Phase::Head(reader) = &self.phase { reader.kept_bytes() } else { 0 };
        head + self.inbound.small_bytes() + self.outbox().map_or(0, Outbox::small_bytes)
    }

    /// Whether the stream has failed. Bytes that came before may still be read.
    pub(crate) const fn is_failed(&self) -> bool {
        self.is_failed
    }

    /// Whether a write may make progress: bytes wait, and the socket is not known to refuse them.
    pub(crate) const fn wants_write(&self) -> bool {
        self.is_writable && !self.is_drained()
    }

    /// Whether the socket has taken everything.
    const fn is_drained(&self) -> bool {
        self.outbox.is_none() && !self.is_unflushed
    }

    /// Records that the stream holds bytes which its socket refuses for now.
    pub(crate) const fn note_unflushed(&mut self) {
        self.is_unflushed = true;
        self.is_writable = false;
    }

    /// What waits for the client. Takes an outbox from the pool if there is none.
    pub fn outbox_mut(&mut self, pool: &mut Pool) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| pool.take_outbox())
    }

    /// What waits for the client; `None` if nothing does.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_deref()
    }

    /// Removes a message that will never be complete from the queue; see [`Outbox::remove_incomplete`].
    pub(crate) fn remove_incomplete_message(
        &mut self,
        key: TransitKey,
        pool: &mut Pool,
    ) -> Option<RemovedMessage> {
        self.outbox.as_mut()?.remove_incomplete(key, pool)
    }

    /// Enters the phase `Open`, after the answer to the upgrade was queued. All later bytes are frames.
    pub fn open(&mut self, settings: &Settings) {
        self.phase = Phase::Open;
        self.meters = ClientMeters::new(settings);
        self.is_keeping = !settings.redelivery_window.is_zero();
    }

    /// Reads once: at most `bytes_max` bytes into `receiver`, or into the memory of a message in transit.
    pub fn read(
        &mut self,
        receiver: &mut Receiver,
        transits: &mut Transits,
        bytes_max: usize,
        now: Tick,
    ) -> ReadEnd {
        let result = loop {
            match self.inbound.read_from(&mut self.stream, receiver, transits, bytes_max) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            // After a failure the kernel may report the end of the stream instead of the error.
            Ok((0, _)) if self.is_failed => ReadEnd::Failed,
            Ok((0, _)) => {
                self.is_readable = false;
                ReadEnd::Ended
            }
            Ok((count, may_have_more)) => {
                // After a short read the socket is empty, and an event tells of more. There are two exceptions without
                // a further event: the end of the stream, and bytes behind urgent data, at which a read stops.
                self.is_readable =
                    may_have_more || self.after_short_read != AfterShortRead::Nothing || self.is_failed;
                self.received_at = now;
                if let Some(unconfirmed) = &mut self.unconfirmed {
                    unconfirmed.note_heard();
                }
                ReadEnd::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_readable = false;
                // The socket is empty, so no bytes are left behind the urgent data. The end of the stream stays known.
                if self.after_short_read == AfterShortRead::More {
                    self.after_short_read = AfterShortRead::Nothing;
                }
                if self.is_failed { ReadEnd::Failed } else { ReadEnd::Blocked }
            }
            Err(_) => ReadEnd::Failed,
        }
    }

    /// Counts what was read against the rate limits.
    pub(crate) fn spend(&mut self, messages: u64, bytes: usize, now: Tick) {
        if let Some(pace) = self.meters.as_mut().and_then(|meters| meters.pace.as_mut()) {
            pace.spend(messages, bytes as u64, now);
        }
    }

    /// Writes what waits, up to about `bytes_max` bytes or until the socket refuses more.
    pub fn flush(&mut self, pool: &mut Pool, bytes_max: usize, now: Tick) -> FlushEnd {
        if self.wants_write()
            && let Some(outbox) = &mut self.outbox
        {
            let was_blocked = outbox.is_blocked();
            let has_messages = self.unconfirmed.is_some() || outbox.backlog().messages > 0;
            let keeping = (self.is_keeping && has_messages).then(|| Keeping {
                unconfirmed: self.unconfirmed.get_or_insert_default(),
                asked: &mut self.asked,
                now,
            });
            let Ok((taken, end)) = outbox.write_to(&mut self.stream, pool, keeping, bytes_max) else {
                self.note_write_failed();
                return FlushEnd::Idle;
            };
            // A write that the socket takes in full does not show that the client reads, unless it is as long as the
            // allowance of a whole turn; see `progress_at`.
            let is_progress = match end {
                WriteEnd::Drained | WriteEnd::MessageIncomplete => was_blocked,
                WriteEnd::Blocked => taken > 0 || !was_blocked,
                WriteEnd::Allowance => was_blocked || taken >= WRITE_BYTES_PER_TURN,
            };
            if is_progress {
                self.progress_at = now;
            }
            match end {
                WriteEnd::Allowance => return FlushEnd::More,
                WriteEnd::Blocked => self.is_writable = false,
                WriteEnd::MessageIncomplete => {}
                WriteEnd::Drained => {
                    if let Some(outbox) = self.outbox.take() {
                        pool.give_outbox(outbox);
                    }
                }
            }
        }
        if self.is_writable {
            self.flush_stream(now);
        }
        self.after_flush(now)
    }

    /// Flushes the stream. A TLS stream passes the bytes that it holds to its socket; a plain stream does nothing.
    fn flush_stream(&mut self, now: Tick) {
        match self.stream.flush() {
            Ok(()) => {
                if std::mem::take(&mut self.is_unflushed) {
                    self.progress_at = now;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The stall timeout starts when the socket begins to refuse, and not again with each attempt.
                if !self.is_unflushed {
                    self.progress_at = now;
                }
                self.note_unflushed();
            }
            Err(_) => self.note_write_failed(),
        }
    }

    /// Records that a write failed. The stream is read once more: bytes that came before the failure are still valid,
    /// and the read reports the failure.
    const fn note_write_failed(&mut self) {
        self.is_failed = true;
        self.is_readable = true;
    }

    /// Moves the closing or ending connection on, now that a flush has ended.
    fn after_flush(&mut self, now: Tick) -> FlushEnd {
        let is_drained = self.is_drained();
        match &mut self.phase {
            Phase::Closing(linger) if is_drained => {
                // The close frame is written: from now on the client has less time to answer it.
                linger.deadline = linger.deadline.min(now.after(CLOSE_ANSWER_TIMEOUT));
                FlushEnd::Idle
            }
            Phase::Ending(ending) if ending.is_cut || (is_drained && ending.is_input_over) => FlushEnd::Gone,
            // Not while input is unread. A client that is still sending may close at the end of our stream and lose
            // what it has not read, such as the close frame.
            Phase::Ending(ending) if is_drained && !ending.is_shut && !self.is_readable => {
                ending.is_shut = true;
                FlushEnd::Shut
            }
            Phase::Head(_) | Phase::Open | Phase::Closing(_) | Phase::Ending(_) => FlushEnd::Idle,
        }
    }

    /// Starts the closing handshake: queues the close frame behind everything that waits, and gives the client until
    /// `deadline` to answer it (RFC 6455, section 7.1.2).
    pub(crate) fn close(&mut self, reason: &CloseReason, pool: &mut Pool, deadline: Tick, now: Tick) {
        self.outbox_mut(pool).push_relay_frame(|out| reason.write_frame(out));
        let linger_max = if matches!(reason, CloseReason::MessageTimeout) {
            LATE_LINGER_TIME_MAX
        } else {
            LINGER_TIME_MAX
        };
        // Input of a closing client is discarded, so reading it never has to pause.
        self.phase = Phase::Closing(Box::new(Linger::until(deadline, now, linger_max)));
        self.inbound.abandon(&mut pool.transits);
        self.is_held = false;
    }

    /// Ends the connection once what waits is written. Input is discarded from now on.
    pub fn end(&mut self, pool: &mut Pool, now: Tick) {
        self.end_with(pool, now, false, false);
    }

    /// Like [`end`](Self::end), for a client that will send nothing more: the relay does not wait for the client to end
    /// its stream.
    pub fn end_after_input(&mut self, pool: &mut Pool, now: Tick) {
        match &mut self.phase {
            Phase::Ending(ending) => ending.is_input_over = true,
            Phase::Head(_) | Phase::Open | Phase::Closing(_) => self.end_with(pool, now, true, false),
        }
    }

    /// Ends the connection after one more write, whether or not that write sends everything.
    pub(crate) fn cut(&mut self, pool: &mut Pool, now: Tick) {
        self.end_with(pool, now, false, true);
    }

    fn end_with(&mut self, pool: &mut Pool, now: Tick, is_input_over: bool, is_cut: bool) {
        self.inbound.abandon(&mut pool.transits);
        self.inbound = Inbound::default();
        if let Some(meters) = &mut self.meters {
            meters.pace = None;
        }
        self.is_held = false;
        let mut linger = Linger::until(now.after(CLOSE_TIMEOUT), now, LINGER_TIME_MAX);
        match &self.phase {
            // Both phases together stay within the limits that began with `Closing`.
            Phase::Closing(earlier) => {
                linger.latest_deadline = earlier.latest_deadline;
                linger.deadline = linger.deadline.min(earlier.latest_deadline);
                linger.discarded_bytes = earlier.discarded_bytes;
            }
            // The request was answered in HTTP. Its sender gets only the time to read the answer; input does not extend
            // it.
            Phase::Head(_) => linger.latest_deadline = linger.deadline,
            Phase::Open | Phase::Ending(_) => {}
        }
        self.phase = Phase::Ending(Box::new(Ending { linger, is_input_over, is_shut: false, is_cut }));
    }

    /// Counts bytes that were discarded from a closing or ending client, and postpones its deadline because it is
    /// active. Returns whether it has sent more than [`LINGER_BYTES_MAX`]. Does nothing in other phases.
    pub fn is_discarding_too_much(&mut self, count: usize, now: Tick) -> bool {
        let (linger, timeout) = match &mut self.phase {
            Phase::Closing(linger) => (linger.as_mut(), CLOSE_ANSWER_TIMEOUT),
            Phase::Ending(ending) => (&mut ending.linger, CLOSE_TIMEOUT),
            Phase::Head(_) | Phase::Open => return false,
        };
        linger.deadline = linger.deadline.max(now.after(timeout).min(linger.latest_deadline));
        linger.discarded_bytes = linger.discarded_bytes.saturating_add(count);
        linger.discarded_bytes > LINGER_BYTES_MAX
    }

    /// Lets the next flush try a socket that refused bytes before. The kernel reports a socket as writable only when
    /// much of its buffer is free, so a slow client may have taken some bytes without an event.
    pub(crate) const fn probe(&mut self) {
        self.is_writable = true;
    }

    /// Records that a ping was due, and whether it `was_sent`.
    pub(crate) fn note_pinged(&mut self, was_sent: bool, now: Tick) {
        self.pinged_at = now;
        self.is_pong_awaited = was_sent;
    }

    /// Records a pong. Returns the time since the last ping if this is the first pong after it.
    pub(crate) fn note_pong(&mut self, now: Tick) -> Option<Duration> {
        std::mem::take(&mut self.is_pong_awaited).then(|| now.since(self.pinged_at))
    }
}

/// A time in tenths of a second modulo 2³², which is 13 years.
#[expect(clippy::cast_possible_truncation, reason = "wrapping subtraction gives the right difference")]
const fn tenths(tick: Tick) -> u32 {
    (tick.0 / 100) as u32
}
