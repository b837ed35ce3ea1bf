//! Messages arrive, leave for several receivers, are kept, are cut short and begin again, in any order and with little
//! memory. Each receiver is sent exactly the bytes that a plain list of them holds, in frames that RFC 6455 allows.
//! Memory use stays within its limit, what is cached can always be freed, and nothing is left at the end.

mod keeping;
mod receiver;

use apptuner_relay::relay::internals::frame::Opcode;
use apptuner_relay::relay::internals::limits::{
    BUFFERED_BYTES_MIN, CHUNK_BYTES, FRAGMENT_BYTES_MAX, HIGH_WATER_BYTES, LEAST_READ_BYTES,
    RECEIVE_BUFFER_BYTES, SMALL_MESSAGE_BYTES_MAX, SMALL_SHARE,
};
use apptuner_relay::relay::internals::memory::Memory;
#[cfg(debug_assertions)]
use apptuner_relay::relay::internals::memory::SmallBytes;
use apptuner_relay::relay::internals::transit::{Cursor, Keeper, TransitKey, Transits};

use super::choices::Choices;
use receiver::Receiver;

/// Limits of memory, in bytes: one or two chunks, the smallest allowed, one that is not a multiple of a chunk, and one
/// that the plan does not reach.
const LIMITS: [usize; 5] = [160_000, BUFFERED_BYTES_MIN, 2 << 20, (1 << 20) + 12_345, 64 << 20];
/// Lengths around the bounds of chunks, pieces and fragments.
const LENGTHS: [usize; 12] = [
    1,
    2,
    125,
    LEAST_READ_BYTES,
    4_096,
    SMALL_MESSAGE_BYTES_MAX,
    CHUNK_BYTES / 2,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    FRAGMENT_BYTES_MAX + 10,
    1 << 20,
];
/// Messages at once.
const MESSAGES_MAX: usize = 8;
/// Receivers of one message, and those that are away.
const RECEIVERS_MAX: usize = 4;
/// Bytes of all messages of one input.
const SENT_BYTES_MAX: usize = 8 << 20;

/// Runs the plan in `data`.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let setting = choices.byte();
    let bytes_max = LIMITS[usize::from(setting) % LIMITS.len()];
    let mut world = World {
        transits: Transits::new(Memory::new(bytes_max), setting >= 128),
        bytes_max,
        small_bytes: 0,
        cached_bytes: 0,
        returned_bytes: 0,
        messages: Vec::new(),
        next_number: 0,
        sendable_bytes: SENT_BYTES_MAX,
    };
    while !choices.is_empty() {
        world.step(&mut choices);
        world.check();
    }
    world.finish();
}

/// A message as a list of bytes.
struct Message {
    key: TransitKey,
    opcode: Opcode,
    /// All of its bytes so far.
    bytes: Vec<u8>,
    /// Makes its bytes different from those of others.
    number: u8,
    noted_bytes: usize,
    is_released: bool,
    is_whole: bool,
    has_sender: bool,
    receivers: Vec<Receiver>,
    /// Those that are away, or have not confirmed the message.
    keepers: Vec<Keeper>,
}

impl Message {
    const fn is_wanted(&self) -> bool {
        !self.receivers.is_empty() || !self.keepers.is_empty()
    }

    const fn has_place(&self) -> bool {
        self.receivers.len() + self.keepers.len() < RECEIVERS_MAX
    }

    /// What one more receiver gets although others had it, or although it was read while all were away.
    fn repeated_bytes(&self) -> usize {
        let passed = |receiver: &Receiver| receiver.repeated_bytes + receiver.payload_bytes();
        let read = if self.is_released { self.bytes.len() } else { 0 };
        self.receivers.iter().map(passed).max().unwrap_or(read)
    }

    /// Its next `count` bytes.
    fn next_bytes(&self, count: usize) -> Vec<u8> {
        let start = self.bytes.len();
        // A chunk is not a multiple of 251 bytes, so a wrong chunk is noticed.
        (start..start + count).map(|at| ((at % 251) as u8).wrapping_add(self.number)).collect()
    }
}

struct World {
    transits: Transits,
    bytes_max: usize,
    /// Memory used by everything else.
    small_bytes: usize,
    /// Memory of small messages that are kept, and of those that wait for a client that has come back.
    cached_bytes: usize,
    returned_bytes: usize,
    messages: Vec<Message>,
    next_number: u8,
    sendable_bytes: usize,
}

impl World {
    fn step(&mut self, choices: &mut Choices<'_>) {
        let operation = choices.byte() % 20;
        // Before a read, and before a client comes back.
        if matches!(operation, 2..=4 | 8 | 10 | 15 | 18 | 19) {
            self.make_room();
        }
        match operation {
            0 => return self.begin(choices.pick([Opcode::Text, Opcode::Binary])),
            1 => return self.charge(choices.word()),
            18 => return self.charge_kept(choices.word()),
            19 => return self.return_kept(choices.flag()),
            _ => {}
        }
        let index = choices.below(self.messages.len());
        if index >= self.messages.len() {
            return;
        }
        match operation {
            2 | 3 => self.send(index, choices.pick(LENGTHS), choices.byte()),
            4 => self.release(index),
            5 | 6 => self.write(index, choices),
            7 => self.with_receiver(index, choices, |receiver, transits| receiver.cursor.release(transits)),
            8 => self.end(index, choices.flag()),
            9 => self.cut_short(index, choices.flag()),
            10 => self.rewind(index, choices),
            11 => self.give_up(index, choices),
            12 => self.compare_memory(index),
            13 => self.keep(index),
            14 => {
                let which = choices.below(self.messages[index].receivers.len());
                if which < self.messages[index].receivers.len() {
                    self.park(index, which, self.is_all_there(index));
                }
            }
            15 => self.resume(index, choices.below(RECEIVERS_MAX)),
            16 => self.drop_keeper(index, choices.below(RECEIVERS_MAX)),
            _ => _ = self.free_passed(index),
        }
        self.forget_gone();
    }

    fn forget_gone(&mut self) {
        self.messages.retain(|message| message.has_sender || message.is_wanted());
    }

    fn begin(&mut self, opcode: Opcode) {
        if self.messages.len() < MESSAGES_MAX {
            self.next_number = self.next_number.wrapping_add(1);
            self.messages.push(Message {
                key: self.transits.begin(opcode),
                opcode,
                bytes: Vec::new(),
                number: self.next_number,
                noted_bytes: 0,
                is_released: false,
                is_whole: false,
                has_sender: true,
                receivers: Vec::new(),
                keepers: Vec::new(),
            });
        }
    }

    /// Everything else uses up to 64 times this many bytes, as far as there is room.
    fn charge(&mut self, units: u16) {
        let others = self.transits.memory.used_bytes() - self.small_bytes;
        let room = self.bytes_max.saturating_sub(others).min(self.bytes_max / 2);
        self.charge_small((usize::from(units) * 64).min(room));
    }

    fn charge_small(&mut self, bytes: usize) {
        let as_u32 = |bytes: usize| u32::try_from(bytes).expect("little");
        self.transits.memory.charge_small(as_u32(self.small_bytes), as_u32(bytes));
        self.small_bytes = bytes;
    }

    /// More of a message arrives, unless its sender is held and not read.
    fn send(&mut self, index: usize, length: usize, way: u8) {
        let message = &self.messages[index];
        let memory = &self.transits.memory;
        let transit = self.transits.get(message.key);
        let waits = |receiver: &Receiver| receiver.cursor.waiting_bytes(transit);
        let most_waiting = message.receivers.iter().map(waits).max().unwrap_or(0);
        let is_held = !message.is_released && message.bytes.len() >= memory.hold_bytes();
        let is_read = message.has_sender && !is_held && memory.has_least_room();
        if !is_read || most_waiting > memory.receiver_bytes_max() {
            return;
        }
        let is_short = memory.is_short_of_chunks();
        let bytes_max = if is_short { memory.piece_bytes_max() } else { RECEIVE_BUFFER_BYTES };
        let count = length.min(bytes_max).min(self.sendable_bytes);
        if count > 0 {
            self.sendable_bytes -= count;
            let bytes = self.messages[index].next_bytes(count);
            let count = self.add(index, &bytes, way);
            self.messages[index].bytes.extend_from_slice(&bytes[..count]);
            self.note_news(index);
        }
    }

    /// Adds bytes in one of the ways in which they arrive. Returns how many.
    fn add(&mut self, index: usize, bytes: &[u8], way: u8) -> usize {
        let key = self.messages[index].key;
        match way % 4 {
            // In the receive buffer, which is passed on as it is.
            0 => {
                let start = usize::from(way) * 16 % (CHUNK_BYTES - bytes.len() + 1);
                if let Some(mut chunk) = self.transits.memory.try_take_chunk() {
                    chunk.as_mut_slice()[start..start + bytes.len()].copy_from_slice(bytes);
                    self.transits.append_chunk(key, chunk, start, start + bytes.len());
                    return bytes.len();
                }
            }
            // Read in place, if there is memory for it.
            1 | 2 => {
                if let Some(place) = self.transits.free_mut(key, bytes.len()) {
                    let count = place.len();
                    assert!(count > 0 && count <= bytes.len(), "memory for {count} of {} bytes", bytes.len());
                    // The stream blocks from time to time.
                    if way % 16 >= 12 {
                        self.transits.give_back_free(key);
                        return 0;
                    }
                    let count = count.div_ceil(usize::from(way) / 64 + 1);
                    place[..count].copy_from_slice(&bytes[..count]);
                    assert!(self.transits.read_mut(key, count) == &bytes[..count], "what was read is there");
                    self.transits.extend(key, count);
                    return count;
                }
            }
            _ => {}
        }
        self.transits.append(key, bytes);
        bytes.len()
    }

    /// Counts what has arrived of a released message. Forgets a message without receivers.
    fn note_news(&mut self, index: usize) {
        let message = &mut self.messages[index];
        if !message.is_released {
            return;
        }
        let news = self.transits.take_news(message.key);
        assert_eq!(news as usize, message.bytes.len() - message.noted_bytes, "what has arrived is news");
        message.noted_bytes = message.bytes.len();
        if !message.is_wanted() && message.has_sender {
            message.has_sender = false;
            self.transits.detach_sender(message.key);
        }
    }

    /// The bytes of a message that are in memory.
    fn memory_bytes(&self, key: TransitKey) -> usize {
        self.transits.get(key).bytes().map(<[u8]>::len).sum()
    }

    fn is_all_there(&self, index: usize) -> bool {
        self.memory_bytes(self.messages[index].key) == self.messages[index].bytes.len()
    }

    /// Gives a message to one more receiver, if all of it is in memory.
    fn release(&mut self, index: usize) {
        let is_all_there = self.is_all_there(index);
        let message = &mut self.messages[index];
        if is_all_there && message.has_place() {
            let repeated_bytes = message.repeated_bytes();
            message.receivers.push(Receiver::new(self.transits.release(message.key), repeated_bytes));
            message.is_released = true;
            self.note_news(index);
        }
    }

    /// A receiver's stream takes some of a message. It may keep the bytes instead of sending them.
    fn write(&mut self, index: usize, choices: &mut Choices<'_>) {
        let (room, keeps) = (choices.pick(LENGTHS), choices.flag());
        let is_all_there = self.is_all_there(index);
        let message = &mut self.messages[index];
        let which = choices.below(message.receivers.len());
        let Some(receiver) = message.receivers.get_mut(which) else { return };
        receiver.write(&self.transits, room);
        receiver.compare(message.opcode, &message.bytes, message.is_whole);
        if !keeps {
            receiver.cursor.release(&mut self.transits);
            if receiver.cursor.is_done() {
                let whole_at = self.transits.get(message.key).whole_at();
                assert_eq!(whole_at, Some(message.number.into()), "when it was whole");
                if self.transits.keeps_written() {
                    self.park(index, which, is_all_there);
                } else {
                    self.transits.give_up(message.receivers.swap_remove(which).cursor);
                }
            }
        }
    }

    fn with_receiver(
        &mut self,
        index: usize,
        choices: &mut Choices<'_>,
        act: impl FnOnce(&mut Receiver, &mut Transits),
    ) {
        let receivers = &mut self.messages[index].receivers;
        let which = choices.below(receivers.len());
        if let Some(receiver) = receivers.get_mut(which) {
            act(receiver, &mut self.transits);
        }
    }

    /// The last byte of a message has arrived. There may be no receiver.
    fn end(&mut self, index: usize, is_peer_there: bool) {
        if !self.messages[index].has_sender {
            return;
        }
        if !self.messages[index].is_released && is_peer_there {
            self.release(index);
        }
        let message = &mut self.messages[index];
        self.transits.end(message.key, message.number.into());
        self.transits.detach_sender(message.key);
        (message.is_whole, message.has_sender) = (true, false);
    }

    /// An incomplete message ends: none of its receivers gets more.
    fn cut_short(&mut self, index: usize, is_sender_first: bool) {
        let message = &mut self.messages[index];
        if !message.has_sender {
            return;
        }
        if is_sender_first {
            self.transits.detach_sender(message.key);
        }
        for receiver in message.receivers.drain(..) {
            self.transits.give_up(receiver.cursor);
        }
        for keeper in message.keepers.drain(..) {
            self.transits.drop_keeper(keeper);
        }
        if !is_sender_first {
            self.transits.detach_sender(message.key);
        }
        message.has_sender = false;
    }

    fn give_up(&mut self, index: usize, choices: &mut Choices<'_>) {
        let message = &mut self.messages[index];
        let which = choices.below(message.receivers.len());
        if which < message.receivers.len() {
            self.transits.give_up(message.receivers.swap_remove(which).cursor);
        }
    }

    /// The bytes in memory are the end of the message.
    fn compare_memory(&self, index: usize) {
        let message = &self.messages[index];
        let in_memory = self.transits.get(message.key).bytes().collect::<Vec<_>>().concat();
        assert!(message.bytes.ends_with(&in_memory), "other bytes than were sent");
    }

    /// Checks what must hold after every step.
    fn check(&self) {
        let receivers = || self.messages.iter().flat_map(|message| &message.receivers);
        let cursors: Vec<&Cursor> = receivers().map(|receiver| &receiver.cursor).collect();
        #[cfg(debug_assertions)]
        {
            let senders = self.messages.iter().filter(|message| message.has_sender).count();
            let keepers: Vec<&Keeper> = self.messages.iter().flat_map(|message| &message.keepers).collect();
            let small = SmallBytes {
                claimed: self.small_bytes,
                returned: self.returned_bytes,
                cached: self.cached_bytes,
            };
            self.transits.check_invariants(&cursors, &keepers, senders, small);
        }
        assert_eq!(self.transits.len(), self.messages.len(), "no message outlives those that need it");
        for message in &self.messages {
            let transit = self.transits.get(message.key);
            assert_eq!(transit.arrived_bytes(), message.bytes.len() as u64);
            for receiver in &message.receivers {
                let waiting = receiver.cursor.waiting_bytes(transit);
                assert_eq!(waiting, message.bytes.len() - receiver.payload_bytes(), "what waits");
                // The sender is not read while more than the mark waits. What a receiver gets that begins later, or again, was
                // read before.
                let waiting_max = HIGH_WATER_BYTES + RECEIVE_BUFFER_BYTES + receiver.repeated_bytes;
                assert!(waiting <= waiting_max, "{waiting} bytes wait");
            }
        }
        drop(cursors);
        self.check_thresholds();
    }

    fn check_thresholds(&self) {
        let memory = &self.transits.memory;
        let used = memory.used_bytes();
        assert!(
            used <= self.bytes_max + RECEIVE_BUFFER_BYTES,
            "{used} bytes on an account of {}",
            self.bytes_max
        );
        let threshold = memory.receiver_bytes_max();
        assert!((LEAST_READ_BYTES..=HIGH_WATER_BYTES).contains(&threshold), "{threshold} may wait");
        let claimed = memory.claimed_bytes();
        assert!(claimed <= used, "{claimed} of {used} bytes do not give way");
        // What is cached counts as free.
        let free = self.bytes_max.saturating_sub(claimed);
        assert!(
            memory.is_short_of_chunks() || threshold <= free,
            "{threshold} may wait where {free} are free"
        );
        assert!(memory.small_message_bytes_max() <= SMALL_MESSAGE_BYTES_MAX);
        assert!(memory.piece_bytes_max() >= LEAST_READ_BYTES, "some of every message goes on");
    }

    /// Each sender sends a little more, and every receiver takes all that it is sent, also one that was away.
    fn finish(mut self) {
        self.charge_small(0);
        for is_back in [true, false] {
            self.make_room();
            self.return_kept(is_back);
        }
        self.sendable_bytes = self.messages.len();
        while !self.messages.is_empty() {
            self.make_room();
            if !self.messages.is_empty() {
                self.send(0, 1, 3);
            }
            self.forget_gone();
            self.check();
            if !self.messages.is_empty() {
                self.end(0, true);
                self.finish_first();
            }
        }
        assert!(self.transits.is_empty(), "messages left");
        let memory = &self.transits.memory;
        assert_eq!((memory.used_bytes(), memory.claimed_bytes()), (0, 0), "bytes left on the account");
        let chunk_share = self.bytes_max - self.bytes_max / SMALL_SHARE;
        assert_eq!(memory.receiver_bytes_max(), chunk_share.min(HIGH_WATER_BYTES), "all is free again");
    }

    /// The receivers of the first message take the rest of it.
    fn finish_first(&mut self) {
        while !self.messages[0].keepers.is_empty() {
            self.resume(0, 0);
        }
        let message = self.messages.remove(0);
        for mut receiver in message.receivers {
            while !receiver.cursor.is_done() {
                let before = receiver.payload_bytes();
                receiver.write(&self.transits, 100_000);
                receiver.cursor.release(&mut self.transits);
                let is_more = receiver.payload_bytes() > before || receiver.cursor.is_done();
                assert!(is_more, "nothing more comes of a message that is whole");
            }
            receiver.compare(message.opcode, &message.bytes, true);
            if let Some(keeper) = self.transits.park(receiver.cursor) {
                self.transits.drop_keeper(keeper);
            }
        }
    }
}
