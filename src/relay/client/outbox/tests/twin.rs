//! Compares the outbox with a simple twin, which holds whole frames and chooses the next one by rule. In half of the
//! runs the client is to confirm what it is sent.

use std::io::{IoSlice, Write};

use super::*;
use crate::relay::limits::{CONFIRM_BYTES, CONFIRM_DELAY};
use crate::relay::memory::{Memory, SmallBytes};
use crate::relay::tests::random::Random;
use crate::relay::time::Tick;

/// One message or frame in the twin's queue.
#[derive(Clone)]
struct Entry {
    frames: Vec<Vec<u8>>,
    is_message: bool,
    is_large: bool,
    /// On how many connections it was written in full.
    written: usize,
    /// Its start is no longer in memory.
    is_lost: bool,
}

impl Entry {
    fn message(opcode: Opcode, payload: &[u8]) -> Self {
        let is_large = payload.len() > SMALL_MESSAGE_BYTES_MAX;
        let parts: Vec<&[u8]> =
            if is_large { payload.chunks(FRAGMENT_BYTES_MAX).collect() } else { vec![payload] };
        let frames = parts.iter().enumerate().map(|(index, part)| {
            let opcode = if index == 0 { opcode } else { Opcode::Continuation };
            frame(opcode, index + 1 == parts.len(), part)
        });
        Self { frames: frames.collect(), is_message: true, is_large, written: 0, is_lost: false }
    }

    fn of_relay(frame: Vec<u8>) -> Self {
        Self { frames: vec![frame], is_message: false, is_large: false, written: 0, is_lost: false }
    }

    /// Its bytes as far as they count for when to ask.
    fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| self.waiting_bytes(frame, frame.len())).sum()
    }

    /// The bytes that count as waiting if `left` bytes of one of its frames are left: of a large message, only the
    /// payload.
    fn waiting_bytes(&self, frame: &[u8], left: usize) -> usize {
        if self.is_large { left.min(payload_of(frame)) } else { left }
    }
}

/// Length of a frame's payload.
fn payload_of(frame: &[u8]) -> usize {
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame.len() - header
}

/// The frame that carries `part`.
fn frame(opcode: Opcode, is_final: bool, part: &[u8]) -> Vec<u8> {
    [ServerHeader::new(opcode, is_final, part.len()).as_bytes(), part].concat()
}

#[derive(Default)]
struct Twin {
    controls: VecDeque<Vec<u8>>,
    replies: VecDeque<Vec<u8>>,
    queue: VecDeque<Entry>,
    /// Entries that the stream has completely taken and not flushed.
    kept: Vec<Entry>,
    /// Bytes of the queue that the stream has taken and not flushed.
    kept_bytes: usize,
    /// Completely taken frames of the queue's front.
    front_frames: usize,
    /// The rest of the current frame.
    begun: Vec<u8>,
    /// The current frame is one of the queue's front.
    is_front_begun: bool,
    is_cut_short: bool,
    /// `None` if what is written is forgotten.
    keeping: Option<Kept>,
    /// How many messages were written for the first time.
    first_written: u64,
    /// How many messages were written, and not kept although they should be.
    unkept: u64,
}

/// What is written and not confirmed.
#[derive(Default)]
struct Kept {
    messages: VecDeque<Entry>,
    /// The number of the last ping, and of how many messages it asks for while it is outstanding.
    asked: u32,
    covered: Option<usize>,
    /// When the first message was written that no ping covers, and the bytes of all these.
    since: Option<Tick>,
    bytes: usize,
}

impl Kept {
    /// The oldest messages are no longer kept.
    fn forget(&mut self, count: usize) {
        self.messages.drain(..count);
        if self.messages.is_empty() {
            (self.since, self.bytes) = (None, 0);
        }
    }
}

impl Twin {
    fn is_in_message(&self) -> bool {
        let has_part = self.front_frames > 0 || self.is_front_begun;
        self.is_cut_short || (has_part && self.queue.front().is_some_and(|front| front.is_large))
    }

    fn reply(&mut self, frame: Vec<u8>) {
        if !self.is_cut_short {
            self.replies.push_back(frame);
        }
    }

    fn control(&mut self, frame: Vec<u8>) {
        let lane = if self.is_in_message() { &mut self.controls } else { &mut self.replies };
        lane.push_back(frame);
    }

    /// Chooses the next frame after the last one is complete, in this order: control frames, the rest of a message that
    /// has begun, replies, the queue.
    fn begin_frame(&mut self) {
        let overtaking = self.controls.pop_front().or_else(|| {
            let is_reply_next = !self.is_in_message() || self.queue.is_empty();
            if is_reply_next { self.replies.pop_front() } else { None }
        });
        self.is_front_begun = overtaking.is_none() && !self.queue.is_empty();
        self.begun = overtaking.unwrap_or_else(|| {
            self.queue.front().map_or_else(Vec::new, |front| front.frames[self.front_frames].clone())
        });
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < bytes {
            if self.begun.is_empty() {
                self.begin_frame();
                assert!(!self.begun.is_empty(), "more was written than waits");
            }
            let part = self.begun.len().min(bytes - taken.len());
            taken.extend(self.begun.drain(..part));
            if self.is_front_begun {
                let (entry, left) = (&self.queue[0], self.begun.len());
                let waiting = |left| entry.waiting_bytes(&entry.frames[self.front_frames], left);
                self.kept_bytes += waiting(left + part) - waiting(left);
            }
            if self.begun.is_empty() && std::mem::take(&mut self.is_front_begun) {
                self.front_frames += 1;
                if self.front_frames == self.queue[0].frames.len() {
                    self.front_frames = 0;
                    self.kept.extend(self.queue.pop_front());
                }
            }
        }
        taken
    }

    fn flush(&mut self, now: Tick) {
        self.kept_bytes = 0;
        for entry in std::mem::take(&mut self.kept).into_iter().filter(|entry| entry.is_message) {
            self.first_written += u64::from(entry.written == 0);
            let Some(kept) = &mut self.keeping else { continue };
            if entry.is_lost {
                self.unkept += 1;
                continue;
            }
            kept.since.get_or_insert(now);
            kept.bytes += entry.bytes();
            kept.messages.push_back(entry);
        }
        self.maybe_ask(now);
    }

    /// Asks whether the client has everything, if it is time.
    fn maybe_ask(&mut self, now: Tick) {
        let Some(kept) = &mut self.keeping else { return };
        let is_time = |since: Tick| kept.bytes > CONFIRM_BYTES || since.after(CONFIRM_DELAY) <= now;
        if kept.covered.is_none() && kept.since.is_some_and(is_time) {
            kept.asked += 1;
            kept.covered = Some(kept.messages.len());
            (kept.since, kept.bytes) = (None, 0);
            let ping = frame(Opcode::Ping, true, kept.asked.to_string().as_bytes());
            self.control(ping);
        }
    }

    /// The first entry that is not flushed.
    fn front_mut(&mut self) -> Option<&mut Entry> {
        self.kept.first_mut().or(self.queue.front_mut())
    }

    /// The messages to be sent again, and how many are given up.
    fn take_messages(&mut self) -> (VecDeque<Entry>, u64) {
        let mut written = self.keeping.take().map(|kept| kept.messages).unwrap_or_default();
        for entry in &mut written {
            entry.written += 1;
        }
        let waiting = self.take_waiting();
        let all = written.len() + waiting.len();
        let is_kept = |entry: &Entry| !entry.is_lost && entry.written < 3;
        let kept: VecDeque<Entry> = written.into_iter().chain(waiting).filter(is_kept).collect();
        let given_up = (all - kept.len()) as u64;
        (kept, given_up)
    }

    fn take_waiting(&mut self) -> VecDeque<Entry> {
        if self.is_in_message() {
            self.is_cut_short = true;
            self.replies.clear();
        }
        self.is_front_begun = false;
        self.front_frames = 0;
        self.kept_bytes = 0;
        let kept = std::mem::take(&mut self.kept).into_iter();
        kept.chain(std::mem::take(&mut self.queue)).filter(|entry| entry.is_message).collect()
    }

    fn backlog(&self) -> Backlog {
        let messages = self.kept.iter().chain(&self.queue).filter(|entry| entry.is_message).count();
        let bytes = self.queue.iter().enumerate().map(|(index, entry)| {
            let taken = if index == 0 { self.front_frames } else { 0 };
            let frames = entry.frames.iter().enumerate().skip(taken);
            let waiting = frames.map(|(number, frame)| {
                let is_begun = index == 0 && number == taken && self.is_front_begun;
                let left = if is_begun { self.begun.len() } else { frame.len() };
                entry.waiting_bytes(frame, left)
            });
            waiting.sum::<usize>()
        });
        Backlog { messages: messages as u64, bytes: bytes.sum::<usize>() + self.kept_bytes }
    }

    fn has_waiting(&self) -> bool {
        !(self.controls.is_empty()
            && self.replies.is_empty()
            && self.queue.is_empty()
            && self.kept.is_empty()
            && self.begun.is_empty())
    }
}

/// A stream that remembers how much it had taken at each flush.
struct Flushed {
    wire: Wire,
    flushed_at: Vec<usize>,
}

impl Write for Flushed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.wire.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()?;
        self.flushed_at.push(self.wire.from_relay.len());
        Ok(())
    }
}

/// An outbox, its twin, and the bytes that the socket took.
#[derive(Default)]
struct Pair {
    outbox: Box<Outbox>,
    twin: Twin,
    wire: Vec<u8>,
    unconfirmed: Unconfirmed,
    asked: u32,
    now: Tick,
}

impl Pair {
    fn relay_frame(chance: &mut Random) -> Vec<u8> {
        frame(Opcode::Text, true, &vec![b'o'; chance.below(130)])
    }

    fn reply(&mut self, pool: &mut Pool, chance: &mut Random) {
        let frame = Self::relay_frame(chance);
        self.outbox.reply(pool, |out| out.extend_from_slice(&frame));
        self.twin.reply(frame);
    }

    fn control(&mut self, pool: &mut Pool, chance: &mut Random) {
        let frame = frame(Opcode::Pong, true, &vec![b'c'; chance.below(126)]);
        self.outbox.control(pool, |out| out.extend_from_slice(&frame));
        self.twin.control(frame);
    }

    fn push_relay_frame(&mut self, chance: &mut Random) {
        let frame = Self::relay_frame(chance);
        self.outbox.push_relay_frame(|out| out.extend_from_slice(&frame));
        self.twin.queue.push_back(Entry::of_relay(frame));
    }

    fn push_message(&mut self, pool: &mut Pool, chance: &mut Random) {
        let length = match chance.below(8) {
            0..=4 => chance.below(300),
            5 => SMALL_MESSAGE_BYTES_MAX - 1 + chance.below(3),
            6 => FRAGMENT_BYTES_MAX * (1 + chance.below(3)) - 1 + chance.below(3),
            _ => chance.below(4 * FRAGMENT_BYTES_MAX),
        };
        let first = chance.below(256);
        let payload: Vec<u8> = (first..first + length).map(|value| (value % 251).to_le_bytes()[0]).collect();
        self.twin.queue.push_back(Entry::message(Opcode::Binary, &payload));
        push_message(&mut self.outbox, pool, Opcode::Binary, &payload);
        // The time of a large message is that of its end.
        if payload.len() <= SMALL_MESSAGE_BYTES_MAX {
            self.outbox.note_arrivals(1, 0);
        }
    }

    fn write(&mut self, pool: &mut Pool, socket: Wire, allowance: usize) {
        let Wire { room, is_never_flushed, is_unflushed, .. } = socket;
        let mut socket = Flushed { wire: socket, flushed_at: Vec::new() };
        let (unconfirmed, asked, now) = (&mut self.unconfirmed, &mut self.asked, self.now);
        let keeping = self.twin.keeping.is_some().then_some(Keeping { unconfirmed, asked, now });
        let (taken, end) = self.outbox.write_to(&mut socket, pool, keeping, allowance).unwrap();
        let Flushed { wire: mut socket, flushed_at } = socket;
        assert_eq!(taken, socket.from_relay.len());
        let mut chosen = Vec::new();
        for bytes in flushed_at {
            chosen.extend(self.twin.take(bytes - chosen.len()));
            self.twin.flush(now);
        }
        chosen.extend(self.twin.take(taken - chosen.len()));
        assert!(chosen == socket.from_relay, "the next frames are those that the twin chooses");
        self.wire.append(&mut socket.from_relay);
        match end {
            WriteEnd::Drained => assert!(!self.twin.has_waiting()),
            WriteEnd::MessageIncomplete => panic!("every message is whole"),
            WriteEnd::Blocked => assert!(taken == if is_unflushed { 0 } else { room } || is_never_flushed),
            WriteEnd::Allowance => assert!(taken >= allowance && self.twin.has_waiting()),
        }
    }

    /// The client answers the outstanding ping.
    fn confirm(&mut self, pool: &mut Pool) {
        let Some(kept) = &mut self.twin.keeping else { return };
        assert_eq!(self.unconfirmed.asked(), kept.covered.map(|_| kept.asked));
        let covered = kept.covered.take();
        let confirmed = self.unconfirmed.confirm(kept.asked, pool);
        assert_eq!(confirmed, covered.map(|covered| covered as u64), "what its ping follows");
        kept.forget(covered.unwrap_or(0));
        let measured: u64 = pool.confirmed.drain(..).map(|group| u64::from(group.messages)).sum();
        assert_eq!(measured, confirmed.unwrap_or(0), "each confirmation is measured");
    }

    /// Memory is needed: the oldest item, or the start of a message that is being written, gives way.
    fn evict(&mut self, pool: &mut Pool) {
        let evicted = self.unconfirmed.evict(pool).map(|messages| usize::try_from(messages).unwrap());
        if let Some((kept, evicted)) = self.twin.keeping.as_mut().zip(evicted) {
            assert!(evicted > 0 && kept.covered.is_none_or(|covered| covered == 0 || evicted <= covered));
            kept.covered = kept.covered.map(|covered| covered.saturating_sub(evicted));
            kept.forget(evicted);
        } else if let Some(key) = self.outbox.front_message()
            && pool.transits.free_passed(key)
        {
            self.twin.front_mut().expect("it is in the queue").is_lost = true;
        }
    }

    /// Checks the counts of the outbox against those of the twin.
    fn compare(&mut self, pool: &mut Pool) {
        let twin = &mut self.twin;
        let backlog = twin.backlog();
        assert_eq!(self.outbox.backlog(), backlog);
        assert_eq!(self.outbox.is_empty(), !twin.has_waiting());
        let kept = twin.keeping.as_ref().map_or(0, |kept| kept.messages.len());
        assert_eq!(self.unconfirmed.messages(), kept as u64, "what is unconfirmed");
        let delivered: u64 = pool.delivered.drain(..).map(|group| u64::from(group.messages)).sum();
        assert_eq!(delivered, std::mem::take(&mut twin.first_written), "measured when it is first written");
        assert_eq!(std::mem::take(&mut pool.unkept), std::mem::take(&mut twin.unkept), "not kept");
    }

    /// Checks the account of memory, of which only this pair uses any.
    fn check_memory(&self, pool: &Pool) {
        let cursors: Vec<&Cursor> = self.outbox.cursors().collect();
        let (keepers, cached) = self.unconfirmed.kept();
        let returned = self.outbox.returned_bytes();
        let small = SmallBytes { claimed: 0, returned, cached };
        pool.transits.check_invariants(&cursors, &keepers, 0, small);
    }

    /// Takes what is to be sent again, and compares it.
    fn take(&mut self, pool: &mut Pool) -> (Undelivered, VecDeque<Entry>) {
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        let unconfirmed = self.twin.keeping.is_some().then_some(unconfirmed);
        let undelivered = self.outbox.take_messages(unconfirmed, pool);
        let (moved, given_up) = self.twin.take_messages();
        assert_eq!((undelivered.messages(), undelivered.given_up), (moved.len() as u64, given_up));
        let written = [1, 2].map(|least| moved.iter().filter(|entry| entry.written >= least).count() as u64);
        assert_eq!(undelivered.written(), written, "how often which were written");
        assert_eq!(undelivered.bytes(), moved.iter().map(Entry::bytes).sum::<usize>());
        (undelivered, moved)
    }

    /// Replaces the client: its messages move to another outbox, and it gets only its close frame.
    fn replace(&mut self, pool: &mut Pool, chance: &mut Random) {
        let is_keeping = self.twin.keeping.is_some();
        let (undelivered, moved) = self.take(pool);
        let mut next = Self { outbox: pool.take_outbox(), now: self.now, ..Self::default() };
        next.reply(pool, chance);
        next.unconfirmed.note_returned(undelivered.written());
        next.outbox.append(undelivered, pool);
        next.twin.queue = moved;
        next.twin.keeping = is_keeping.then(Kept::default);
        next.compare(pool);
        let mut old = std::mem::replace(self, next);
        if chance.below(2) == 0 {
            old.reply(pool, chance);
            old.control(pool, chance);
        }
        old.push_relay_frame(chance);
        old.finish(pool);
    }

    fn finish(mut self, pool: &mut Pool) {
        self.write(pool, Wire::with_room(usize::MAX), usize::MAX);
        while !self.unconfirmed.is_idle() {
            self.confirm(pool);
            while self.unconfirmed.messages() > 0 {
                self.evict(pool);
            }
            self.unconfirmed.note_returned([0; 2]);
        }
        self.compare(pool);
        frames(&self.wire);
        if !self.twin.is_cut_short {
            messages(&self.wire);
        }
        pool.give_outbox(self.outbox);
    }
}

#[test]
fn outbox_writes_the_same_bytes_as_its_simple_twin() {
    for seed in 0..800 {
        let is_keeping = seed % 2 == 1;
        let mut chance = Random(seed);
        let mut pool = Pool::new(Transits::new(Memory::default(), is_keeping));
        let mut pair = Pair::default();
        pair.twin.keeping = is_keeping.then(Kept::default);
        println!("seed {seed}");
        for _ in 0..60 {
            pair.now.0 += chance.below(100) as u64;
            match chance.below(14) {
                0..=3 => pair.push_message(&mut pool, &mut chance),
                4 => pair.push_relay_frame(&mut chance),
                5 => pair.reply(&mut pool, &mut chance),
                6 => pair.control(&mut pool, &mut chance),
                7 if chance.below(4) == 0 => pair.replace(&mut pool, &mut chance),
                12 if is_keeping => pair.confirm(&mut pool),
                13 if is_keeping && chance.below(2) == 0 => pair.evict(&mut pool),
                _ => {
                    let sizes = [1, 7, 300, 20_000, FRAGMENT_BYTES_MAX + 10, 4 * FRAGMENT_BYTES_MAX];
                    let [room, step, allowance] = [(); 3].map(|()| {
                        let below = sizes[chance.below(sizes.len())];
                        1 + chance.below(below)
                    });
                    // At most 50 calls, to keep the test fast.
                    let step = step.max(room / 50);
                    let (is_never_flushed, is_unflushed) = (chance.below(3) == 0, chance.below(8) == 0);
                    let socket =
                        Wire { step_max: step, is_never_flushed, is_unflushed, ..Wire::with_room(room) };
                    pair.write(&mut pool, socket, allowance);
                }
            }
            pair.compare(&mut pool);
            pair.check_memory(&pool);
        }
        pair.finish(&mut pool);
        assert_eq!(pool.transits.memory.used_bytes(), 0, "bytes left on the account");
    }
}
