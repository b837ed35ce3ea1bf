//! Compares the outbox with a simple twin, which holds whole frames and chooses the next one by rule.

use super::*;
use crate::relay::tests::random::Random;

/// One message or frame in the twin's queue.
#[derive(Clone)]
struct Entry {
    frames: Vec<Vec<u8>>,
    is_message: bool,
    is_large: bool,
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
        Self { frames: frames.collect(), is_message: true, is_large }
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

    fn flush(&mut self) {
        self.kept.clear();
        self.kept_bytes = 0;
    }

    fn take_messages(&mut self) -> VecDeque<Entry> {
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

/// An outbox, its twin, and the bytes that the socket took.
#[derive(Default)]
struct Pair {
    outbox: Box<Outbox>,
    twin: Twin,
    wire: Vec<u8>,
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
        self.twin.queue.push_back(Entry { frames: vec![frame], is_message: false, is_large: false });
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
    }

    fn write(&mut self, pool: &mut Pool, mut socket: Wire, allowance: usize) {
        let Wire { room, is_never_flushed, is_unflushed, .. } = socket;
        let (taken, end) = self.outbox.write_to(&mut socket, pool, None, allowance).unwrap();
        assert_eq!(taken, socket.from_relay.len());
        if !is_unflushed {
            self.twin.flush();
        }
        assert!(
            self.twin.take(taken) == socket.from_relay,
            "the next frames are those that the twin chooses"
        );
        if !is_unflushed && !is_never_flushed {
            self.twin.flush();
        }
        self.wire.append(&mut socket.from_relay);
        match end {
            WriteEnd::Drained => assert!(!self.twin.has_waiting()),
            WriteEnd::MessageIncomplete => panic!("every message is whole"),
            WriteEnd::Blocked => assert!(taken == if is_unflushed { 0 } else { room } || is_never_flushed),
            WriteEnd::Allowance => assert!(taken >= allowance && self.twin.has_waiting()),
        }
    }

    /// Checks the counts of the outbox against those of the twin.
    fn compare(&mut self) {
        let twin = &mut self.twin;
        let backlog = twin.backlog();
        assert_eq!(self.outbox.backlog(), backlog);
        assert_eq!(self.outbox.is_empty(), !twin.has_waiting());
    }

    /// Replaces the client: its messages move to another outbox, and it gets only its close frame.
    fn replace(&mut self, pool: &mut Pool, chance: &mut Random) {
        let undelivered = self.outbox.take_messages(None, pool);
        let moved = self.twin.take_messages();
        assert_eq!(undelivered.messages(), moved.len() as u64);
        self.compare();
        let mut next = Self { outbox: pool.take_outbox(), ..Self::default() };
        next.reply(pool, chance);
        next.outbox.append(undelivered, pool);
        next.twin.queue = moved;
        next.compare();
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
        self.compare();
        frames(&self.wire);
        if !self.twin.is_cut_short {
            messages(&self.wire);
        }
        pool.give_outbox(self.outbox);
    }
}

#[test]
fn outbox_writes_the_same_bytes_as_its_simple_twin() {
    for seed in 0..400 {
        let mut chance = Random(seed);
        let (mut pair, mut pool) = (Pair::default(), Pool::default());
        println!("seed {seed}");
        for _ in 0..60 {
            match chance.below(12) {
                0..=3 => pair.push_message(&mut pool, &mut chance),
                4 => pair.push_relay_frame(&mut chance),
                5 => pair.reply(&mut pool, &mut chance),
                6 => pair.control(&mut pool, &mut chance),
                7 if chance.below(4) == 0 => pair.replace(&mut pool, &mut chance),
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
            pair.compare();
        }
        pair.finish(&mut pool);
    }
}
