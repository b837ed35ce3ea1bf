//! One client, from the first byte of its request head to the end of its stream.
//!
//! | phase | what its bytes are | leaves when | to |
//! | --- | --- | --- | --- |
//! | `Head` | the request head | it asks for an upgrade, and there is room | `Open` |
//! | | | it asks for anything else, takes too long, or the stream ends | `Ending` |
//! | `Open` | frames | replaced, session timeout, shutdown; message too large, late, not UTF-8 | `Closing` |
//! | | | the client closes, breaks the framing, ends its stream, is silent or takes nothing | `Ending` |
//! | `Closing` | frames; data is skipped | the close is answered, or was not in time; as from `Open` | `Ending` |
//! | `Ending` | read, not looked at | what waits is written and the client has ended its stream | gone |
//!
//! `Closing` and `Ending` have a deadline, which moves while bytes come, within bounds; whoever is
//! still there then, or has sent too much, is gone all the same. A client that was cut off for its
//! silence or for taking nothing is gone with the next write, and a failed stream at once.

mod due;
mod frames;
mod holding;
mod phase;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::time::Duration;

use super::inbound::{Inbound, Receiver};
use super::outbox::{Outbox, Pool, RemovedMessage, Undelivered, WriteEnd};
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
use crate::relay::wire::message::CloseReason;
pub use holding::Hold;
use phase::AfterShortRead;
pub use phase::{Due, Ending, FlushEnd, Linger, Phase, ReadEnd};

/// One client's stream and all that is known about it but its session.
///
/// [`Relay`](crate::relay::Relay) drives it, or whoever speaks the protocol for another purpose:
///
/// 1. [`note`](Self::note) what the host saw of the stream;
/// 2. while it [`is_readable`](Self::is_readable), [`read`](Self::read); as long as the phase is
///    `Head`, give what came to its reader, and [`open`](Self::open) behind the answer to an
///    upgrade;
/// 3. take [`next_incoming`](Self::next_incoming) until `None`, and answer it: with
///    [`pong`](Self::pong), with [`answer_close`](Self::answer_close), with
///    [`fail`](Self::fail) where it is refused, or through the [outbox](Self::outbox_mut);
/// 4. [`flush`](Self::flush), and do what that asks for.
///
/// At rest it has no buffer of its own: neither inbound bytes nor an outbox nor, once the upgrade
/// is through, a request head.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a stream")]
pub struct Connection<S> {
    /// The stream, as it was accepted.
    pub stream: S,
    /// Where the connection is in its life.
    pub phase: Phase,
    /// What has arrived of something whose end has not.
    pub inbound: Inbound,
    /// Where it comes from. Here it takes the least memory.
    pub(crate) remote: Remote,
    outbox: Option<Box<Outbox>>,
    meters: Option<Box<ClientMeters>>,
    /// There may be something to read.
    is_readable: bool,
    is_writable: bool,
    /// The stream keeps something that its socket has not taken.
    is_unflushed: bool,
    after_short_read: AfterShortRead,
    is_failed: bool,
    is_held: bool,
    /// It is held because memory is short; means nothing unless `is_held`.
    is_starved: bool,
    is_pong_awaited: bool,
    /// When something last came from the client.
    received_at: Tick,
    /// When it was last pinged, or was accepted.
    pinged_at: Tick,
    /// When the socket last took bytes while more waited than it took, or began to refuse. That it
    /// took all there was proves nothing: the kernel takes bytes for a client long gone.
    progress_at: Tick,
    /// When it was accepted, in tenths of a second, for which there is no room in milliseconds.
    accepted_at: u32,
    /// Since when the relay has not read although it might have; means nothing unless `is_held`.
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
            meters: None,
            is_readable: false,
            is_writable: true,
            is_unflushed: false,
            after_short_read: AfterShortRead::Nothing,
            is_failed: false,
            is_held: false,
            is_starved: false,
            is_pong_awaited: false,
            received_at: now,
            pinged_at: now,
            progress_at: now,
            accepted_at: tenths(now),
            held_since: now,
        }
    }

    /// How long ago it was accepted, to the tenth of a second.
    pub(crate) fn age(&self, now: Tick) -> Duration {
        Duration::from_millis(u64::from(tenths(now).wrapping_sub(self.accepted_at)) * 100)
    }

    /// What it has sent and been sent.
    pub(crate) fn counts(&self) -> ClientCounts {
        self.meters.as_ref().map_or(ClientCounts::default(), |meters| meters.counts)
    }

    pub(crate) fn counts_mut(&mut self) -> &mut ClientCounts {
        &mut self.meters.get_or_insert_default().counts
    }

    fn pace(&self) -> Option<&Pace> {
        self.meters.as_ref()?.pace.as_deref()
    }

    /// Notes what the host saw of the stream.
    pub fn note(&mut self, readiness: Readiness) {
        self.is_readable |= readiness.is_readable || readiness.is_read_closed || readiness.is_failed;
        self.is_writable |= readiness.is_writable;
        if readiness.is_read_closed {
            self.after_short_read = AfterShortRead::End;
        } else if readiness.is_urgent && self.after_short_read == AfterShortRead::Nothing {
            self.after_short_read = AfterShortRead::More;
        }
        self.is_failed |= readiness.is_failed;
    }

    /// Whether a read may bring something.
    pub const fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Whether the end of the stream lies behind what can still be read.
    pub(crate) const fn is_read_closed(&self) -> bool {
        matches!(self.after_short_read, AfterShortRead::End)
    }

    /// Bytes of memory that it holds beyond its own, those of messages in transit left out.
    pub(crate) fn small_bytes(&self) -> usize {
        let head = if let Phase::Head(reader) = &self.phase { reader.kept_bytes() } else { 0 };
        head + self.inbound.small_bytes() + self.outbox().map_or(0, Outbox::small_bytes)
    }

    /// Whether the stream has failed; what can still be read of it may be.
    pub(crate) const fn is_failed(&self) -> bool {
        self.is_failed
    }

    /// Whether a write may do something: something waits, and the socket takes it.
    pub(crate) const fn wants_write(&self) -> bool {
        self.is_writable && !self.is_drained()
    }

    /// Whether everything is with the socket.
    const fn is_drained(&self) -> bool {
        self.outbox.is_none() && !self.is_unflushed
    }

    /// Notes that the stream keeps something that its socket does not take for now.
    pub(crate) const fn note_unflushed(&mut self) {
        self.is_unflushed = true;
        self.is_writable = false;
    }

    /// What waits for the client, made if nothing did.
    pub fn outbox_mut(&mut self, pool: &mut Pool) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| pool.take_outbox())
    }

    /// What waits for the client.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_deref()
    }

    /// Takes a message that will never be whole from those that wait.
    pub(crate) fn remove_incomplete_message(
        &mut self,
        key: TransitKey,
        pool: &mut Pool,
    ) -> Option<RemovedMessage> {
        self.outbox.as_mut()?.remove_incomplete(key, pool)
    }

    /// Takes the messages that the client did not get.
    pub(crate) fn take_messages(&mut self, pool: &mut Pool) -> Undelivered {
        let outbox = self.outbox.as_mut();
        outbox.map(|outbox| outbox.take_messages(&mut pool.transits)).unwrap_or_default()
    }

    /// The request head asked for an upgrade: from here on these are frames.
    pub fn open(&mut self, settings: &Settings) {
        self.phase = Phase::Open;
        self.meters = ClientMeters::new(settings);
    }

    /// Reads once, into `receiver`, at most `bytes_max`, or into the memory of a message in transit.
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
            Ok((0, _)) if self.is_failed => ReadEnd::Failed,
            Ok((0, _)) => {
                self.is_readable = false;
                ReadEnd::Ended
            }
            Ok((count, may_have_more)) => {
                // A short read empties the socket, unless the end of the stream lies behind it, or it
                // ended where urgent data was: for what is behind that no further event comes.
                self.is_readable =
                    may_have_more || self.after_short_read != AfterShortRead::Nothing || self.is_failed;
                self.received_at = now;
                ReadEnd::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_readable = false;
                if self.after_short_read == AfterShortRead::More {
                    self.after_short_read = AfterShortRead::Nothing;
                }
                if self.is_failed { ReadEnd::Failed } else { ReadEnd::Blocked }
            }
            Err(_) => ReadEnd::Failed,
        }
    }

    /// Reckons what was read against the rate limits.
    pub(crate) fn spend(&mut self, messages: u64, bytes: usize, now: Tick) {
        if let Some(pace) = self.meters.as_mut().and_then(|meters| meters.pace.as_mut()) {
            pace.spend(messages, bytes as u64, now);
        }
    }

    /// Hands the socket what waits, about `bytes_max` of it, as far as it takes it.
    pub fn flush(&mut self, pool: &mut Pool, bytes_max: usize, now: Tick) -> FlushEnd {
        if self.wants_write()
            && let Some(outbox) = &mut self.outbox
        {
            let was_blocked = outbox.is_blocked();
            let Ok((taken, end)) = outbox.write_to(&mut self.stream, pool, bytes_max) else {
                self.note_write_failed();
                return FlushEnd::Idle;
            };
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

    /// Lets the stream hand on what it keeps, as one does that encrypts; another makes nothing of it.
    fn flush_stream(&mut self, now: Tick) {
        match self.stream.flush() {
            Ok(()) => {
                if std::mem::take(&mut self.is_unflushed) {
                    self.progress_at = now;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !self.is_unflushed {
                    self.progress_at = now;
                }
                self.note_unflushed();
            }
            Err(_) => self.note_write_failed(),
        }
    }

    /// What came before the failure can still be read.
    const fn note_write_failed(&mut self) {
        self.is_failed = true;
        self.is_readable = true;
    }

    fn after_flush(&mut self, now: Tick) -> FlushEnd {
        let is_drained = self.is_drained();
        match &mut self.phase {
            Phase::Closing(linger) if is_drained => {
                linger.deadline = linger.deadline.min(now.after(CLOSE_ANSWER_TIMEOUT));
                FlushEnd::Idle
            }
            Phase::Ending(ending) if ending.is_cut || (is_drained && ending.is_input_over) => FlushEnd::Gone,
            // A client in the middle of sending may take our end of the stream for its own, and
            // not get to read what stands before it.
            Phase::Ending(ending) if is_drained && !ending.is_shut && !self.is_readable => {
                ending.is_shut = true;
                FlushEnd::Shut
            }
            Phase::Head(_) | Phase::Open | Phase::Closing(_) | Phase::Ending(_) => FlushEnd::Idle,
        }
    }

    /// Closes from the relay's side: the close frame goes behind everything that waits, and the
    /// client has until `deadline` to answer it (RFC 6455, section 7.1.2).
    pub(crate) fn close(&mut self, reason: &CloseReason, pool: &mut Pool, deadline: Tick, now: Tick) {
        self.outbox_mut(pool).push_relay_frame(|out| reason.write_frame(out));
        let linger_max = if matches!(reason, CloseReason::MessageTimeout) {
            LATE_LINGER_TIME_MAX
        } else {
            LINGER_TIME_MAX
        };
        self.phase = Phase::Closing(Box::new(Linger::until(deadline, now, linger_max)));
        self.inbound.abandon(&mut pool.transits);
        self.is_held = false;
    }

    /// Ends the connection once what waits is written; nothing the client says matters any more.
    pub fn end(&mut self, pool: &mut Pool, now: Tick) {
        self.end_with(pool, now, false, false);
    }

    /// Ends it like [`end`](Self::end), knowing that the client will send nothing more.
    pub fn end_after_input(&mut self, pool: &mut Pool, now: Tick) {
        match &mut self.phase {
            Phase::Ending(ending) => ending.is_input_over = true,
            Phase::Head(_) | Phase::Open | Phase::Closing(_) => self.end_with(pool, now, true, false),
        }
    }

    /// Ends it with the next write, however far that goes.
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
            Phase::Closing(earlier) => {
                linger.latest_deadline = earlier.latest_deadline;
                linger.deadline = linger.deadline.min(earlier.latest_deadline);
                linger.discarded_bytes = earlier.discarded_bytes;
            }
            // Whoever never was a client gets no more than the time to read its answer.
            Phase::Head(_) => linger.latest_deadline = linger.deadline,
            Phase::Open | Phase::Ending(_) => {}
        }
        self.phase = Phase::Ending(Box::new(Ending { linger, is_input_over, is_shut: false, is_cut }));
    }

    /// Reckons bytes that came from a client that the relay has done with: they move its deadline.
    /// Returns whether it has sent too much.
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

    /// Lets the next flush try a socket that is not known to take anything: a slow client makes
    /// room long before its socket counts as writable again.
    pub(crate) const fn probe(&mut self) {
        self.is_writable = true;
    }

    /// Notes that a ping was due; whether it `was_sent`.
    pub(crate) fn note_pinged(&mut self, was_sent: bool, now: Tick) {
        self.pinged_at = now;
        self.is_pong_awaited = was_sent;
    }

    /// Notes a pong; how long it took if it is the answer to the last ping.
    pub(crate) fn note_pong(&mut self, now: Tick) -> Option<Duration> {
        std::mem::take(&mut self.is_pong_awaited).then(|| now.since(self.pinged_at))
    }
}

/// Enough for 13 years.
#[expect(clippy::cast_possible_truncation, reason = "differences are right all the same")]
const fn tenths(tick: Tick) -> u32 {
    (tick.0 / 100) as u32
}
