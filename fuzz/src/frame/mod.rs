//! A client's bytes, cut in any way, give exactly the messages and the refusal that tungstenite finds when it reads
//! them whole. The exceptions, where the relay is stricter or refuses earlier on purpose, are listed in `reference`.

mod reference;

use apptuner_relay::relay::Tick;
use apptuner_relay::relay::internals::close_reason::CloseReason;
use apptuner_relay::relay::internals::inbound::{Content, Inbound, Incoming, Receiver, Rules};
use apptuner_relay::relay::internals::limits::{LEAST_READ_BYTES, SMALL_MESSAGE_BYTES_MAX};
use apptuner_relay::relay::internals::memory::Memory;
#[cfg(debug_assertions)]
use apptuner_relay::relay::internals::memory::SmallBytes;
use apptuner_relay::relay::internals::transit::Transits;
use serde_json::Value;

use super::choices::Choices;
use super::frames::{CLOSE, LengthForm, frame_with, monotonous_frame};
use super::wire::Wire;
use reference::Reference;

/// Largest messages allowed: below a control frame's length, below a small frame's, and above.
const SIZES_MAX: [usize; 6] = [100, 1_000, 16_384, 20_000, 70_000, 1 << 20];
/// Lengths around the bounds of the length's forms and of the relay's buffers.
const LENGTHS: [usize; 16] = [
    0, 1, 124, 125, 126, 127, 1_000, 16_384, 16_385, 16_399, 20_000, 65_535, 65_536, 70_001, 131_072, 270_000,
];
/// Bytes of all long payloads of one input.
const LONG_BYTES_MAX: usize = 1 << 20;

/// One result of a client's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// The code, 1005 if there was none, and the reason.
    Close(u16, Vec<u8>),
    /// A message that is not kept: a text that is not JSON, or one without a receiver.
    Skipped {
        is_invalid_json: bool,
    },
    /// The close code of the refusal.
    Refused(u16),
}

/// How the bytes arrive.
#[derive(Debug)]
struct Plan {
    size_max: usize,
    /// Up to this many bytes an incomplete message is not a message in transit.
    small_bytes_max: usize,
    /// Bytes of memory for messages: unlimited, a few chunks, or none.
    memory_bytes: usize,
    /// The longest read, in bytes.
    read_bytes_max: usize,
    /// After this many reads inside messages in transit, the current message loses its receiver.
    reads_until_skip: Option<usize>,
    /// A text that is not JSON is not kept.
    requires_json: bool,
    /// Bytes of each read, in a cycle. At 0 the read blocks.
    steps: Vec<usize>,
    /// Data is discarded after this many bytes, as after the relay's own close.
    discard_from: Option<usize>,
    bytes: Vec<u8>,
}

/// Compares both readings of the bytes in `data`.
pub fn check(data: &[u8]) {
    let plan = plan(data);
    let (events, discarded_from, is_unfinished) = read_in_pieces(&plan);
    let mut reference = Reference::new(plan.size_max, plan.small_bytes_max);
    reference.read(&plan.bytes, discarded_from);
    let expected: Vec<Event> = reference
        .events
        .iter()
        .enumerate()
        .map(|(at, event)| as_seen(event, events.get(at), &plan))
        .collect();
    assert_eq!(events, expected, "this reader's events, and the reference's");
    if let Some(expected) = reference.is_unfinished() {
        assert_eq!(is_unfinished, expected, "something is unfinished exactly between two messages");
    }
}

/// The expected event of a reader that keeps nothing of a skipped message, if it may skip this one.
fn as_seen(expected: &Event, found: Option<&Event>, plan: &Plan) -> Event {
    let Some(Event::Skipped { is_invalid_json }) = found else { return expected.clone() };
    let is_text_of_no_json = plan.requires_json
        && matches!(expected, Event::Text(text) if serde_json::from_str::<Value>(text).is_err());
    let is_message = matches!(expected, Event::Text(_) | Event::Binary(_));
    let may_skip = is_text_of_no_json || plan.reads_until_skip.is_some();
    if is_message && may_skip && (is_text_of_no_json || !is_invalid_json) {
        Event::Skipped { is_invalid_json: *is_invalid_json }
    } else {
        expected.clone()
    }
}

fn plan(data: &[u8]) -> Plan {
    let mut choices = Choices::new(data);
    let bits = choices.byte();
    let is_raw = bits & 1 != 0;
    let small_bytes_max = [SMALL_MESSAGE_BYTES_MAX, LEAST_READ_BYTES][usize::from(bits >> 1 & 1)];
    let memory_bytes = [usize::MAX / 2, 300_000, 100_000, 0][usize::from(bits >> 2 & 3)];
    let read_bytes_max = [usize::MAX, 1_000][usize::from(bits >> 4 & 1)];
    let reads_until_skip = (bits >> 5 & 3 > 0).then_some(usize::from(bits >> 5 & 3));
    let requires_json = bits & 0x80 == 0;
    let size_max = choices.pick(SIZES_MAX);
    let discard_from = choices.flag().then(|| choices.word().into());
    let step_count = choices.below(8);
    let mut steps: Vec<usize> = choices.bytes(step_count).iter().map(|&byte| step(byte)).collect();
    if steps.iter().all(|&step| step == 0) {
        steps.push(usize::MAX);
    }
    let bytes = if is_raw { choices.rest().to_vec() } else { frames(&mut choices) };
    Plan {
        size_max,
        small_bytes_max,
        memory_bytes,
        read_bytes_max,
        reads_until_skip,
        requires_json,
        steps,
        discard_from,
        bytes,
    }
}

fn step(byte: u8) -> usize {
    match byte {
        0..200 => byte.into(),
        200..210 => 4_096,
        210..220 => 16_384,
        220..230 => 65_536,
        _ => usize::MAX,
    }
}

/// Frames from a list of operations: most are correct, some have a changed byte.
fn frames(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut long_bytes = LONG_BYTES_MAX;
    while !choices.is_empty() {
        let kind = choices.byte();
        let (first, mask) = (choices.byte(), [kind, choices.byte(), 0, 255]);
        let form = match kind >> 4 {
            0 => LengthForm::Two,
            1 => LengthForm::Eight,
            _ => LengthForm::Shortest,
        };
        let mut frame = match kind % 8 {
            0 => {
                let content = choices.byte();
                let length = choices.pick(LENGTHS).min(long_bytes);
                long_bytes -= length;
                monotonous_frame(first, mask, form, content, length)
            }
            1 => {
                let pieces = ["€", "ä", "𝄞", "\u{7FF}", "\u{FFFF}", "\u{10FFFF}", "x", "\0"];
                let text = choices.pick(pieces).repeat(choices.below(4) + 1);
                frame_with(first, mask, form, text.as_bytes())
            }
            2 => {
                let payload = [&choices.word().to_be_bytes()[..], choices.string()].concat();
                frame_with(CLOSE, mask, form, &payload)
            }
            3 => choices.string().to_vec(),
            _ => frame_with(first, mask, form, choices.string()),
        };
        if kind >> 4 == 2 {
            let at = choices.below(frame.len());
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= 1 << choices.below(8);
            }
        }
        bytes.append(&mut frame);
    }
    bytes
}

/// Reads like a connection. Returns the events, the number of bytes after which data was discarded because of the plan,
/// and whether a part of something is kept at the end.
fn read_in_pieces(plan: &Plan) -> (Vec<Event>, Option<usize>, bool) {
    let mut reader = Reader {
        inbound: Inbound::default(),
        receiver: Receiver::default(),
        transits: Transits::new(Memory::new(plan.memory_bytes), false),
        rules: Rules {
            size_max: plan.size_max,
            wants_type: false,
            requires_json: plan.requires_json,
            small_bytes_max: plan.small_bytes_max,
            discard: false,
        },
        reads_until_skip: plan.reads_until_skip,
        events: Vec::new(),
    };
    let (discarded_from, is_unfinished) = reader.read(plan);
    reader.inbound.abandon(&mut reader.transits);
    reader.receiver.renew(&mut reader.transits.memory);
    assert!(reader.transits.is_empty(), "no message outlives the connection that it comes from");
    assert_eq!(reader.transits.memory.used_bytes(), 0, "bytes left on the account");
    (reader.events, discarded_from, is_unfinished)
}

struct Reader {
    inbound: Inbound,
    receiver: Receiver,
    transits: Transits,
    rules: Rules,
    reads_until_skip: Option<usize>,
    events: Vec<Event>,
}

impl Reader {
    fn read(&mut self, plan: &Plan) -> (Option<usize>, bool) {
        let mut stream = Wire {
            read_steps: plan.steps.iter().copied().collect(),
            are_read_steps_repeated: true,
            is_client_done: true,
            ..Wire::sending(&plan.bytes)
        };
        let mut discarded_from = None;
        loop {
            let read_bytes = plan.bytes.len() - stream.to_relay.len();
            if discarded_from.is_none() && plan.discard_from.is_some_and(|from| read_bytes >= from) {
                discarded_from = Some(read_bytes);
                self.rules.discard = true;
            }
            let (receiver, transits) = (&mut self.receiver, &mut self.transits);
            match self.inbound.read_from(&mut stream, receiver, transits, plan.read_bytes_max) {
                Ok((0, _)) => return (discarded_from, self.inbound.unfinished_since().is_some()),
                Ok(_) => {}
                Err(_) => continue,
            }
            if self.take_all() {
                return (discarded_from, false);
            }
            self.inbound.keep_rest(&mut self.receiver, Tick(1));
            assert!(self.receiver.bytes().is_empty(), "the buffer is free for the next connection");
            self.check();
            self.maybe_skip();
        }
    }

    /// Takes everything that is complete. Returns whether reading is over.
    fn take_all(&mut self) -> bool {
        loop {
            match self.inbound.next(&mut self.receiver, &mut self.transits, self.rules) {
                Ok(Some(incoming)) => {
                    let event = self.event(incoming);
                    let is_close = matches!(event, Event::Close(..));
                    self.events.push(event);
                    if is_close {
                        return true;
                    }
                }
                Ok(None) => return false,
                Err(refused) => {
                    self.events.push(Event::Refused(refused.reason.code()));
                    self.rules.discard = true;
                    if !refused.is_framing_intact {
                        return true;
                    }
                }
            }
        }
    }

    fn check(&self) {
        #[cfg(debug_assertions)]
        self.transits.check_invariants(
            &[],
            &[],
            self.inbound.transit().iter().count(),
            SmallBytes::default(),
        );
    }

    /// Makes the current message lose its receiver, if the plan says so.
    fn maybe_skip(&mut self) {
        let Some((key, _)) = self.inbound.transit() else { return };
        let Some(reads) = &mut self.reads_until_skip else { return };
        *reads -= 1;
        if *reads == 0 {
            self.reads_until_skip = None;
            self.inbound.skip_transit(true);
            self.transits.detach_sender(key);
        }
    }

    fn event(&mut self, incoming: Incoming) -> Event {
        match incoming {
            Incoming::Text(content, _) => {
                Event::Text(String::from_utf8(self.bytes(&content)).expect("texts are UTF-8"))
            }
            Incoming::Binary(content) => Event::Binary(self.bytes(&content)),
            Incoming::Ping(payload) => Event::Ping(payload.to_vec()),
            Incoming::Pong(_) => Event::Pong,
            Incoming::Close { code, answer: CloseReason::Echo(answer, reason) } => {
                assert_eq!(
                    answer,
                    if code == 1005 { 1000 } else { code },
                    "a close is answered with its code"
                );
                Event::Close(code, reason)
            }
            Incoming::Skipped(error) => Event::Skipped { is_invalid_json: error.is_some() },
            other @ Incoming::Close { .. } => panic!("{other:?}"),
        }
    }

    /// The bytes of a message, which is then freed.
    fn bytes(&mut self, content: &Content) -> Vec<u8> {
        let bytes = content.to_vec(&self.receiver, &self.transits);
        assert_eq!(bytes.len(), content.len(), "all of it is there");
        if let Content::InTransit(key, _) = content {
            self.transits.detach_sender(*key);
        }
        bytes
    }
}
